"""Notebooks as percent scripts: run, and written as pages of the site and as `.ipynb`.

A script in docs/notebooks is cells behind lines `# %%` (code) or `# %% [markdown]`, which editors
and jupytext open as a notebook. What a cell prints and the value of its last line are its outputs;
a figure is shown as a picture. Nothing but Python is needed: no kernel, no server.
"""

import ast
import base64
import contextlib
import hashlib
import io
import json
import pathlib
import re
from typing import Any, NamedTuple

KEPT = pathlib.Path(__file__).parents[1] / "build" / "notebooks"


class Cell(NamedTuple):
    """Text or code, and what came of it: printed text, and a picture as PNG."""

    code: bool
    source: str
    text: str = ""
    picture: bytes = b""


def read(script: str) -> list[Cell]:
    """The cells of a percent script."""
    cells = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        code = "[markdown]" not in head
        if not code:
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        cells.append(Cell(code, body.strip("\n")))
    return cells


def run(cells: list[Cell], scope: dict[str, Any]) -> list[Cell]:
    """The cells with their outputs; `scope` is what they define, one after another."""
    return [_ran(cell, scope) if cell.code else cell for cell in cells]


def _ran(cell: Cell, scope: dict[str, Any]) -> Cell:
    lines = ast.parse(cell.source).body
    last = None
    if lines and isinstance(lines[-1], ast.Expr):
        last = ast.Expression(lines.pop().value)
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(lines, []), "<cell>", "exec"), scope)
        if last is not None:
            value = eval(compile(last, "<cell>", "eval"), scope)
    if hasattr(value, "savefig"):
        return cell._replace(text=printed.getvalue(), picture=_png(value))
    if value is not None:
        printed.write(f"{value!r}\n")
    return cell._replace(text=printed.getvalue())


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, facecolor="white")
    return file.getvalue()


def page(cells: list[Cell], name: str) -> tuple[str, dict[str, bytes]]:
    """Markdown, and the pictures that it shows by their file names.

    The text of a picture, for those who do not see it, is the last comment of its cell.
    """
    parts = []
    pictures = {}
    for number, cell in enumerate(cells):
        if not cell.code:
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if cell.text:
            parts.append(f"```{{.text .output}}\n{cell.text.rstrip()}\n```")
        if cell.picture:
            file = f"{name}_{number}.png"
            pictures[file] = cell.picture
            parts.append(f"![{described(cell)}]({file})")
    return "\n\n".join(parts) + "\n", pictures


def described(cell: Cell) -> str:
    """What a cell says of its picture: its last comment."""
    comments = re.findall(r"^# (.*)$", cell.source, re.MULTILINE)
    return comments[-1] if comments else ""


def notebook(cells: list[Cell]) -> str:
    """The cells as a Jupyter notebook, with their outputs."""
    found = []
    for number, cell in enumerate(cells):
        entry: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}, "source": cell.source}
        entry["cell_type"] = "code" if cell.code else "markdown"
        if cell.code:
            entry |= {"execution_count": None, "outputs": _outputs(cell)}
        found.append(entry)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": found, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1)


def _outputs(cell: Cell) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    if cell.text:
        outputs.append({"output_type": "stream", "name": "stdout", "text": cell.text})
    if cell.picture:
        data = {"image/png": base64.b64encode(cell.picture).decode()}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    return outputs


def keep(script: str, cells: list[Cell]) -> None:
    """Keeps what came of a script, for the site."""
    rows = []
    for cell in cells:
        rows.append({**cell._asdict(), "picture": base64.b64encode(cell.picture).decode()})
    KEPT.mkdir(parents=True, exist_ok=True)
    _file(script).write_text(json.dumps(rows))


def kept(script: str) -> list[Cell] | None:
    """What came of a script as it is now, if it has been run."""
    if not _file(script).exists():
        return None
    cells = []
    for row in json.loads(_file(script).read_text()):
        cells.append(Cell(**{**row, "picture": base64.b64decode(row["picture"])}))
    return cells


def _file(script: str) -> pathlib.Path:
    return KEPT / f"{hashlib.sha256(script.encode()).hexdigest()[:16]}.json"
