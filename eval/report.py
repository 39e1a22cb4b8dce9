"""Runs to a report: Markdown tables, PNG plots, and one HTML page that needs no other file.

python -m eval.report runs/faithfulness runs/games --output reports

Writes `report.md` with its plots, and `report.html` with the plots inside. Every number comes from the runs' JSONs, or
from `eval/papers.py` where it is a paper's; means over photos, with 95 % bootstrap intervals. No photos are shown.
"""

import base64
import dataclasses
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from eval import papers, plots
from jaxcam.methods import WHOLE

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;display:block;overflow-x:auto;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}
img{max-width:100%}code{font-size:.85rem;overflow-wrap:anywhere}"""

_SHOWN = ("target", "student", "variant", "pairs", "independent")  # settings that a reader needs

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to report.

    Args:
        runs: folders of runs.
        output: folder of the report.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    output: Path


@dataclasses.dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; `code` for a command."""

    text: str
    code: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as they are printed."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG in the report's folder."""

    name: str
    title: str


Block = Heading | Text | Table | Picture


def report(runs: Sequence[Path], output: Path) -> Path:
    """Writes the report of runs.

    Args:
        runs: folders that hold a run's JSON.
        output: folder to write `report.md`, `report.html` and the plots to.

    Returns:
        The path of the HTML page.

    Raises:
        FileNotFoundError: a folder without a finished run.
        ValueError: no runs.
    """
    if not runs:
        raise ValueError("runs: got none, expected the folders of one or more runs")
    records = [record for folder in runs for record in read(folder)]
    output.mkdir(parents=True, exist_ok=True)
    blocks = [block for number, record in enumerate(records, 1) for block in _section(record, number, output)]
    (output / "report.md").write_text(markdown(blocks))
    page = output / "report.html"
    page.write_text(page_of(blocks, output))
    return page


def read(folder: Path) -> list[Record]:
    """The records of a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name != "settings.json"]
    records = [each for each in found if isinstance(each, dict) and {"protocol", "results"} <= set(each)]
    if not records:
        raise FileNotFoundError(f"runs: {folder} holds no finished run, expected the JSON that python -m eval.* writes")
    return records


def _section(record: Record, number: int, output: Path) -> Iterator[Block]:
    settings = record["settings"]
    yield Heading(f"{record['protocol']}: {settings.get('model', '?')} on {settings.get('data', '?')}")
    yield Text(_described(record))
    yield Text(record["command"], code=True)
    yield from _tables(record)
    name = f"{number:02d}_{record['protocol']}_{Path(settings.get('model', 'model')).stem}"
    yield from _pictures(record, name, output)


def _described(record: Record) -> str:
    settings, versions = record["settings"], record["versions"]
    parts = [
        f"{record['photos']} photos, seed {record['seed']}, top-1 accuracy {record['accuracy']:.1%}",
        *(f"{name.replace('_', ' ')}: {settings[name]}" for name in _SHOWN if settings.get(name)),
        f"jax {versions['jax']} on {record['devices']}, {record['seconds']:.0f} s, finished {record['finished']}",
        "means over photos with 95 % bootstrap intervals",
    ]
    return "; ".join(parts) + "."


# Tables ---------------------------------------------------------------


def _tables(record: Record) -> Iterator[Block]:
    columns = tuple(c for c in plots.columns(record) if "/" not in c)
    if columns:
        rows = ((m, layer, *(cell(found.get(c)) for c in columns)) for m, layer, found in plots.results(record))
        yield Table(("method", "layer", *columns), tuple(rows))
    if staged := plots.stages(record):
        yield _staged_table(record, staged)
    if rows := _beside(record):
        yield Text("Beside the papers' numbers:")
        header = ("paper", "method", "metric", "paper's layer", "paper's number", "our layer", "ours")
        yield Table(header, tuple(row for _, row in rows))
        yield Text(_differs(record, dict.fromkeys(source for source, _ in rows)))
    for layer, wins in record.get("win_rate", {}).items():
        if len(wins) > 1:
            yield Text(
                f"Win rate at {layer}: percent of photos on which the row's method drops less than the column's."
            )
            yield _win_table(wins)
    if record.get("skipped"):
        yield Text(_skipped(record["skipped"]))


def _skipped(reasons: Mapping[str, str]) -> str:
    """What was not applicable where, and why at the first such layer."""
    layers: dict[str, list[str]] = {}
    for key in reasons:
        method, layer = key.split("/", 1)
        layers.setdefault(method, []).append(layer)
    why = {method: " ".join(reasons[f"{method}/{found[0]}"].split()) for method, found in layers.items()}
    return "Not applicable: " + "; ".join(f"{m} at {', '.join(found)} ({why[m]})" for m, found in layers.items()) + "."


def _staged_table(record: Record, staged: Mapping[str, Sequence[str]]) -> Table:
    stages = dict.fromkeys(stage for found in staged.values() for stage in found)
    rows = (
        (method, layer, stage, *(cell(found.get(f"{stage}/{metric}")) for metric in staged))
        for method, layer, found in plots.results(record)
        for stage in stages
    )
    return Table(("method", "layer", "group", *staged), tuple(rows))


def cell(found: Mapping[str, Any] | None) -> str:
    """`mean [low, high]`, with how many photos have no value."""
    if not found or found.get("mean") is None:
        return "-"
    text = f"{found['mean']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"
    return f"{text}, {found['undefined']} undefined" if found.get("undefined") else text


def _win_table(wins: Mapping[str, Mapping[str, float]]) -> Table:
    rows = ((a, *("" if b == a else f"{wins[a][b]:.1f}" for b in wins)) for a in wins)
    return Table(("method", *wins), tuple(rows))


def _beside(record: Record) -> list[tuple[str, tuple[str, ...]]]:
    """The papers' numbers of this protocol that we have one for: source and cells."""
    order, rows = plots.depth(record), []
    for known in papers.PUBLISHED:
        if known.protocol != record["protocol"]:
            continue
        for method, layer, found in plots.results(record):
            at = known.layer in (layer, papers.ANY) or (known.layer == "last" and order and layer == order[-1])
            if at and known.method in (method, papers.ANY) and known.metric in found:
                title, place = papers.SOURCES[known.source].title, "" if known.layer == papers.ANY else known.layer
                cells = (title, method, known.metric, place, f"{known.value:g}", layer, cell(found[known.metric]))
                rows.append((known.source, cells))
    return rows


def _differs(record: Record, sources: Iterable[str]) -> str:
    """The papers' set-ups and ours, in a line."""
    settings = record["settings"]
    theirs = "; ".join(f"{papers.SOURCES[name].title}: {papers.SOURCES[name].setup}" for name in sources)
    return f"Set-ups. {theirs}. Ours: {settings.get('model')} on {record['photos']} photos of {settings.get('data')}."


# Pictures -------------------------------------------------------------


def _pictures(record: Record, name: str, output: Path) -> Iterator[Picture]:
    drawn = {"depth": plots.plot_depth(record), "stages": plots.plot_stages(record)}
    for layer in [*plots.depth(record), WHOLE]:
        drawn[f"curves_{layer}"] = plots.plot_curves(record, layer)
    titles = {
        "depth": "Metrics by layer, shallow to deep",
        "stages": "Metrics by replaced group of parameters, from the logits down",
    }
    for kind, figure in drawn.items():
        if figure is not None:
            file = f"{name}_{kind}".replace(" ", "_").replace("/", "_") + ".png"
            figure.savefig(output / file, dpi=110, metadata={"Software": None})
            yield Picture(file, titles.get(kind, f"Curves at {kind.removeprefix('curves_')}"))


# Documents ------------------------------------------------------------


def markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; pictures by their file names."""
    return "\n\n".join(["# Report", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Text(text, code):
            return f"```\n{text}\n```" if code else text
        case Picture(name, title):
            return f"![{title}]({name})"
        case Table(header, rows):
            bars = (f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in rows)
            return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *bars])


def page_of(blocks: Sequence[Block], folder: Path) -> str:
    """The report as one HTML page, with the pictures of `folder` inside."""
    body = "\n".join(_html(block, folder) for block in blocks)
    head = f'<meta charset="utf-8"><title>jaxcam report</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><h1>Report</h1>\n{body}\n</body></html>\n'


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Text(text, code):
            return f"<p>{'<code>' if code else ''}{html.escape(text)}{'</code>' if code else ''}</p>"
        case Picture(name, title):
            data = base64.b64encode((folder / name).read_bytes()).decode()
            return f'<p><img alt="{html.escape(title)}" src="data:image/png;base64,{data}"></p>'
        case Table(header, rows):
            line = lambda tag, cells: "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"
            return "<table>" + "\n".join([line("th", header), *(line("td", row) for row in rows)]) + "</table>"


def main(settings: Settings) -> None:
    """A report of runs."""
    print(report(settings.runs, settings.output))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
