"""A report's tables: methods by layers for each measure, the papers' numbers, win rates."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from eval import papers, plots
from eval.measures import decimals, named, title
from eval.pages import Block, Cell, Folded, Table, Text
from eval.plots import Record

Summary = Mapping[str, Any]
_STAGED = ("spearman_abs", "ssim")  # of sanity's measures; the plot shows all


def tables(record: Record) -> Iterator[Block]:
    """All tables of a record, and what they leave out."""
    yield from _numbers(record)
    yield from _staged(record)
    yield from _beside(record)
    if wins := {layer: each for layer, each in record.get("win_rate", {}).items() if len(each) > 1}:
        about = (
            "Win rates: percent of photos on which the row's method drops less than the column's "
            "(soft mask)"
        )
        yield Folded(about, tuple(_win_table(layer, each) for layer, each in wins.items()))
    if record.get("skipped"):
        yield Text(_skipped(record["skipped"]))


def _numbers(record: Record) -> Iterator[Table]:
    """Methods by layers, a table for each measure; methods by measures if there is one layer."""
    shown, layers = [c for c in plots.columns(record) if "/" not in c], plots.places(record)
    if len(layers) == 1 and shown:
        found = {
            m: {c: record["results"][m].get(layers[0], {}).get(c) for c in shown}
            for m in plots.rows(record)
        }
        yield matrix(
            found, shown, {c: named(c).better for c in shown}, f"At {layers[0]}", each_column=True
        )
        return
    for metric in shown:
        found = {
            m: {at: each.get(metric) for at, each in record["results"][m].items()}
            for m in plots.rows(record)
        }
        about = named(metric)
        remark = ", ".join(part for part in (metric, about.direction) if part)
        yield matrix(found, layers, dict.fromkeys(layers, about.better), about.title, remark)


def _staged(record: Record) -> Iterator[Table]:
    """Methods by replaced groups, a table for each layer and measure."""
    staged = plots.stages(record)
    for metric in [m for m in _STAGED if m in staged] or staged:
        for layer in plots.places(record):
            found = {
                method: {
                    stage: by_layer.get(layer, {}).get(f"{stage}/{metric}")
                    for stage in staged[metric]
                }
                for method, by_layer in ((m, record["results"][m]) for m in plots.rows(record))
                if layer in by_layer
            }
            yield matrix(
                found, staged[metric], {}, f"{named(metric).title}, at {layer}", "by replaced group"
            )


def matrix(
    found: Mapping[str, Mapping[str, Summary | None]],
    columns: Sequence[str],
    better: Mapping[str, int],
    head: str,
    remark: str = "",
    each_column: bool = False,
) -> Table:
    """Methods by columns, the best of each column in bold where better is 1 or -1.

    Args:
        found: summaries by method and column.
        columns: in the order of the table.
        better: by column: 1 where higher is better, -1 where lower is, 0 or nothing where neither
            is.
        head: the table's title.
        remark: beside the title.
        each_column: whether columns are different measures, each with decimals and shades of its
            own.
    """
    numbers = {c: [_mean(row.get(c)) for row in found.values()] for c in columns}
    everything = [value for values in numbers.values() for value in values]
    header = tuple(named(c).title if each_column else c for c in columns)
    rows = []
    for number, (method, row) in enumerate(found.items()):
        cells = []
        for column in columns:
            scale, way = numbers[column] if each_column else everything, better.get(column, 0)
            best = way != 0 and _is_best(numbers[column], number, way)
            cells.append(
                _cell(
                    row.get(column),
                    decimals(scale),
                    best,
                    _shade(numbers[column][number], scale, way),
                )
            )
        rows.append((title(method), *cells))
    return Table(("method", *header), tuple(rows), head, remark)


def _mean(found: Summary | None) -> float | None:
    return found.get("mean") if found else None


def _is_best(values: Sequence[float | None], index: int, way: int) -> bool:
    """Whether a value is the best of at least two that are known."""
    known = [way * v for v in values if v is not None]
    return len(known) > 1 and values[index] is not None and way * values[index] == max(known)


def _shade(value: float | None, scale: Sequence[float | None], way: int) -> float | None:
    """From 0 for the worst to 1 for the best of a scale."""
    known = [v for v in scale if v is not None]
    if value is None or not way or min(known) == max(known):
        return None
    share = (value - min(known)) / (max(known) - min(known))
    return share if way > 0 else 1 - share


def _cell(
    found: Summary | None, form: str, best: bool = False, shade: float | None = None
) -> str | Cell:
    """`mean [low, high]`, with how many photos have no value."""
    if not found or found.get("mean") is None:
        return "-"
    rest = f"[{found['low']:{form}}, {found['high']:{form}}]"
    undefined = f", {found['undefined']} undefined" if found.get("undefined") else ""
    return Cell(f"{found['mean']:{form}}", rest + undefined, best, shade)


# Beside the papers ----------------------------------------------------


def _beside(record: Record) -> Iterator[Block]:
    """The papers' numbers that we have one beside, by method and layer, and the set-ups."""
    pairs: dict[tuple[str, str, str, str], dict[str, tuple[float, Summary]]] = {}
    for known, method, layer, found in _matches(record):
        key = (known.source, method, known.layer, layer)
        pairs.setdefault(key, {})[known.metric] = (known.value, found)
    if pairs:
        shown = list(dict.fromkeys(metric for row in pairs.values() for metric in row))
        header = [f"{metric}, {whose}" for metric in shown for whose in ("paper", "ours")]
        rows = tuple(_beside_row(key, row, shown) for key, row in pairs.items())
        yield Table(
            ("paper", "method", "its layer", "our layer", *header),
            rows,
            "The papers' numbers and ours",
        )
        yield Text(_differs(record, dict.fromkeys(source for source, *_ in pairs)))
    if record["protocol"] in papers.NOTES:
        yield Text(papers.NOTES[record["protocol"]])


def _matches(record: Record) -> Iterator[tuple[papers.Published, str, str, Summary]]:
    """Every number of a paper with every number of ours that stands beside it."""
    order, data = plots.depth(record), str(record["settings"].get("data"))
    for known in papers.PUBLISHED:
        if known.protocol != record["protocol"] or papers.SOURCES[known.source].data not in data:
            continue
        for method, layer, found in plots.results(record):
            at = known.layer in (layer, papers.ANY) or (
                known.layer == papers.LAST and order and layer == order[-1]
            )
            if at and known.method in (method, papers.ANY) and known.metric in found:
                yield known, method, layer, found[known.metric]


def _beside_row(
    key: tuple[str, str, str, str], row: Mapping[str, tuple[float, Summary]], shown: Sequence[str]
) -> tuple[str | Cell, ...]:
    source, method, theirs, ours = key
    cells: list[str | Cell] = []
    for metric in shown:
        value, found = row.get(metric, (None, None))
        cells += [
            "-" if value is None else f"{value:g}",
            _cell(found, decimals([_mean(found), value])),
        ]
    place = "" if theirs == papers.ANY else theirs
    return (papers.SOURCES[source].title, title(method), place, ours, *cells)


def _differs(record: Record, sources: Iterable[str]) -> str:
    """The papers' set-ups and ours, in a line."""
    settings = record["settings"]
    theirs = "; ".join(
        f"{papers.SOURCES[name].title}: {papers.SOURCES[name].setup}" for name in sources
    )
    return (
        f"Set-ups. {theirs}. Ours: {settings.get('model')} on {record['photos']} photos of "
        f"{settings.get('data')}."
    )


# The rest -------------------------------------------------------------


def _win_table(layer: str, wins: Mapping[str, Mapping[str, float]]) -> Table:
    rows = ((title(a), *("" if b == a else f"{wins[a][b]:.1f}" for b in wins)) for a in wins)
    return Table(("method", *map(title, wins)), tuple(rows), f"At {layer}")


def _skipped(reasons: Mapping[str, str]) -> str:
    """What was not applicable where, and why at the first such layer."""
    layers: dict[str, list[str]] = {}
    for key in reasons:
        method, layer = key.split("/", 1)
        layers.setdefault(method, []).append(layer)
    why = {
        method: " ".join(reasons[f"{method}/{found[0]}"].split())
        for method, found in layers.items()
    }
    each = "; ".join(f"{title(m)} at {', '.join(found)} ({why[m]})" for m, found in layers.items())
    return f"Not applicable: {each}."
