"""The papers' numbers beside ours, by method and layer, and what differs in the set-ups."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from eval.reporting import papers
from eval.reporting.cells import Scale, cell
from eval.reporting.pages import Block, Cell, Table, Text
from eval.reporting.papers import Published
from eval.reporting.records import Record, Summary, depth, mean, results
from eval.subjects.methods import title
from jaxcam._ground.text import counted


class _Row(NamedTuple):
    """What a line of the table is of."""

    source: str
    method: str
    theirs: str  # the paper's layer
    ours: str


_Pairs = Mapping[str, tuple[float, Summary]]  # the paper's number and ours, by metric


def blocks(record: Record) -> Iterator[Block]:
    """The table, the set-ups, and what papers say otherwise; nothing if they say nothing."""
    pairs: dict[_Row, dict[str, tuple[float, Summary]]] = {}
    shown: dict[str, None] = {}
    for known, row, found in _matches(record):
        pairs.setdefault(row, {})[known.metric] = (known.value, found)
    for found in pairs.values():
        shown |= dict.fromkeys(found)
    if pairs:
        header = ["paper", "method", "its layer", "our layer"]
        for metric in shown:
            header += [f"{metric}, paper", f"{metric}, ours"]
        lines = [_line(row, found, shown) for row, found in pairs.items()]
        yield Table(tuple(header), tuple(lines), "The papers' numbers and ours")
        yield Text(_set_ups(record, dict.fromkeys(row.source for row in pairs)))
    if record["protocol"] in papers.NOTES:
        yield Text(papers.NOTES[record["protocol"]])


def _matches(record: Record) -> Iterator[tuple[Published, _Row, Summary]]:
    """Every number of a paper with every number of ours that stands beside it."""
    data = str(record["settings"].get("data"))
    for known in papers.PUBLISHED:
        if known.protocol != record["protocol"] or papers.SOURCES[known.source].data not in data:
            continue
        for method, layer, found in results(record):
            if not _is_at(record, known, layer) or known.metric not in found:
                continue
            if known.method in (method, papers.ANY):
                row = _Row(known.source, method, known.layer, layer)
                yield known, row, found[known.metric]


def _is_at(record: Record, known: Published, layer: str) -> bool:
    """Whether a paper's number is of this layer of ours."""
    if known.layer == papers.LAST:
        return depth(record)[-1:] == [layer]
    return known.layer in (layer, papers.ANY)


def _line(row: _Row, found: _Pairs, shown: Iterable[str]) -> tuple[str | Cell, ...]:
    theirs = row.theirs
    if theirs == papers.ANY:
        theirs = ""
    cells: list[str | Cell] = [
        papers.SOURCES[row.source].title,
        title(row.method),
        theirs,
        row.ours,
    ]
    for metric in shown:
        if metric not in found:
            cells += ["-", "-"]
            continue
        value, ours = found[metric]
        cells += [f"{value:g}", cell(ours, Scale([mean(ours), value]))]
    return tuple(cells)


def _set_ups(record: Record, sources: Iterable[str]) -> str:
    """The papers' set-ups and ours, in a line."""
    settings = record["settings"]
    theirs = []
    for name in sources:
        theirs.append(f"{papers.SOURCES[name].title}: {papers.SOURCES[name].setup}")
    photos = counted(record["photos"], "photo")
    return (
        f"Set-ups. {'; '.join(theirs)}. Ours: {settings.get('model')} on {photos} of "
        f"{settings.get('data')}."
    )
