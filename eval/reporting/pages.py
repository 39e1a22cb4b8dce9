"""A report's blocks and its two forms: Markdown, and an HTML page that needs no other file."""

import base64
import html
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxcam._ground.text import in_line

_STYLE = """:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;\
color:#212529}
h1{font-size:1.7rem}h2{margin-top:3rem;border-top:1px solid #dee2e6;padding-top:1rem;\
font-size:1.3rem}
table{border-collapse:collapse;display:block;overflow-x:auto;font-size:.82rem;margin:.3rem 0 1.4rem;
font-variant-numeric:tabular-nums}
th,td{padding:.16rem .7rem;border-bottom:1px solid #e9ecef;text-align:left;white-space:nowrap}
th{color:#495057;font-weight:600;border-bottom:1px solid #adb5bd}
td:first-child,th:first-child{position:sticky;left:0;background:#fff}
caption{text-align:left;padding:.3rem 0;font-size:.95rem}caption small{color:#868e96}
.range{color:#868e96}b .range{font-weight:400}
img{max-width:100%;margin:.6rem 0}code{font-size:.82rem;overflow-wrap:anywhere}
nav ul{columns:2;padding-left:1.1rem;font-size:.9rem}summary{cursor:pointer;color:#495057}\
a{color:#0b7285}"""


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` for a command."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Cell:
    """A number with its interval: bold if the best of its column; `shade` in [0, 1] colours it."""

    mean: str
    rest: str = ""
    best: bool = False
    shade: float | None = None


@dataclass(frozen=True)
class Table:
    """Cells as they are printed, below a title and a remark on it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    title: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG in the report's folder."""

    name: str
    title: str


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when they are asked for."""

    title: str
    blocks: "tuple[Content, ...]"


Content = Text | Table | Picture | Folded
Block = Heading | Content


# Markdown -------------------------------------------------------------


def markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; pictures by their file names."""
    return "\n\n".join(["# Report", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_escaped(text)}"
        case Text(text, code):
            if code:
                fence = _fence(text)
                return f"{fence}\n{text}\n{fence}"
            return _escaped(text)
        case Picture(name, title):
            return f"![{_escaped(title)}]({urllib.parse.quote(name)})"
        case Folded(title, blocks):
            inner = "\n\n".join(map(_markdown, blocks))
            return f"<details><summary>{html.escape(title)}</summary>\n\n{inner}\n\n</details>"
        case Table():
            return "\n".join(_markdown_lines(block))


def _markdown_lines(table: Table) -> Iterator[str]:
    if table.title and table.remark:
        yield f"**{_escaped(table.title)}** ({_escaped(table.remark)})\n"
    elif table.title:
        yield f"**{_escaped(table.title)}**\n"
    yield f"| {' | '.join(map(_escaped, table.header))} |"
    yield "|" + "---|" * len(table.header)
    for row in table.rows:
        yield f"| {' | '.join(map(_markdown_cell, row))} |"


def _markdown_cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _escaped(cell)
    mean = cell.mean
    if cell.best:
        mean = f"**{mean}**"
    return f"{mean} {cell.rest}".rstrip()


def _escaped(text: str) -> str:
    """Text in one line that Markdown takes literally, whatever classes and files are called.

    An underscore within a word is no mark, and stays as it is.
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", in_line(text)).replace("<", "&lt;")
    return re.sub(r"[\\`*|~]|(?<!\w)_|_(?!\w)|(?<=\])\(|^[#>+-](?=\s)", r"\\\g<0>", text)


def _fence(text: str) -> str:
    """Longer than any run of backticks in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


# HTML -----------------------------------------------------------------


def page_of(blocks: Sequence[Block], folder: Path) -> str:
    """The report as one HTML page, with the pictures of `folder` inside."""
    body = []
    links = []
    for block in blocks:
        if isinstance(block, Heading):
            title = html.escape(block.text)
            name = f"s{len(links)}"
            links.append(f'<li><a href="#{name}">{title}</a></li>')
            body.append(f'<h2 id="{name}">{title}</h2>')
        else:
            body.append(_html(block, folder))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>jaxcam '
        "report</title>"
    )
    start = f"<h1>Report</h1>\n<nav><ul>{''.join(links)}</ul></nav>"
    lines = "\n".join(body)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n'
        f"<body>{start}\n{lines}\n</body></html>\n"
    )


def _html(block: Content, folder: Path) -> str:
    match block:
        case Text(text, code):
            if code:
                return f"<p><code>{html.escape(text)}</code></p>"
            return f"<p>{html.escape(text)}</p>"
        case Picture(name, title):
            data = base64.b64encode((folder / name).read_bytes()).decode()
            kind = Path(name).suffix[1:].replace("jpg", "jpeg")
            return f'<p><img alt="{html.escape(title)}" src="data:image/{kind};base64,{data}"></p>'
        case Folded(title, blocks):
            inner = "\n".join(_html(each, folder) for each in blocks)
            return f"<details><summary>{html.escape(title)}</summary>\n{inner}\n</details>"
        case Table():
            return _html_table(block)


def _html_table(table: Table) -> str:
    caption = ""
    if table.title:
        caption = f"<caption><b>{html.escape(table.title)}</b>{_html_remark(table)}</caption>"
    header = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    lines = [f"<tr>{header}</tr>"]
    for row in table.rows:
        lines.append(f"<tr>{''.join(map(_html_cell, row))}</tr>")
    content = "\n".join(lines)
    return f"<table>{caption}\n{content}\n</table>"


def _html_remark(table: Table) -> str:
    if not table.remark:
        return ""
    return f" <small>{html.escape(table.remark)}</small>"


def _html_cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{html.escape(cell)}</td>"
    content = html.escape(cell.mean)
    if cell.best:
        content = f"<b>{content}</b>"
    if cell.rest:
        content += f' <span class="range">{html.escape(cell.rest)}</span>'
    if cell.shade is None:
        return f"<td>{content}</td>"
    colour = f"rgba(32,136,158,{0.28 * cell.shade:.2f})"
    return f'<td style="background:{colour}">{content}</td>'
