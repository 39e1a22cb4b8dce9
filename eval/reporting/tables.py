"""A report's tables: methods by layers for each measure, and win rates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.reporting import beside
from eval.reporting.cells import Scale, cell
from eval.reporting.pages import Block, Cell, Folded, Table, Text
from eval.reporting.records import (
    Record,
    Summary,
    changes,
    columns,
    mean,
    named,
    places,
    plain_columns,
    rows,
)
from eval.run.protocol import Metric
from eval.subjects.methods import title

Found = Mapping[str, Summary | None]  # summaries by column


def tables(record: Record) -> Iterator[Block]:
    """All tables of a record, and what they leave out."""
    yield from _numbers(record)
    yield from _by_change(record)
    yield from beside.blocks(record)
    wins = []
    for layer, rates in record.get("win_rate", {}).items():
        if len(rates) > 1:
            wins.append(_win_table(layer, rates))
    if wins:
        about = (
            "Win rates: percent of photos on which the row's method drops less than the column's "
            "(soft mask)"
        )
        yield Folded(about, tuple(wins))
    if record.get("skipped"):
        yield Text(_skipped(record["skipped"]))


def _numbers(record: Record) -> Iterator[Table]:
    """Methods by layers, a table for each measure; methods by measures if there is one layer."""
    shown = plain_columns(record)
    layers = places(record)
    if len(layers) == 1 and shown:
        yield _at_one_layer(record, shown, layers[0])
        return
    for metric in shown:
        found: dict[str, Found] = {}
        for method in rows(record):
            by_layer = record["results"][method]
            found[method] = {layer: each.get(metric) for layer, each in by_layer.items()}
        about = named(record, metric)
        remark = ", ".join(filter(None, (metric, about.direction)))
        yield matrix(found, layers, about, remark)


def _at_one_layer(record: Record, shown: Sequence[str], layer: str) -> Table:
    """Methods by measures, each column with decimals and shades of its own."""
    names = rows(record)
    lines: list[list[str | Cell]] = [[title(name)] for name in names]
    header = ["method"]
    for metric in shown:
        about = named(record, metric)
        header.append(about.title)
        column = []
        for name in names:
            column.append(record["results"][name].get(layer, {}).get(metric))
        scale = Scale(list(map(mean, column)))
        for line, each in zip(lines, column, strict=True):
            line.append(cell(each, scale, scale, about.better))
    return Table(tuple(header), tuple(map(tuple, lines)), f"At {layer}")


def _by_change(record: Record) -> Iterator[Table]:
    """Methods by replaced groups, a table for each layer and measure."""
    shown = {name.rpartition("/")[2] for name in columns(record)}
    for metric, steps in changes(record).items():
        if metric not in shown:
            continue
        for layer in places(record):
            found: dict[str, Found] = {}
            for method in rows(record):
                by_layer = record["results"][method]
                if layer in by_layer:
                    found[method] = {
                        step: by_layer[layer].get(f"{step}/{metric}") for step in steps
                    }
            about = Metric(f"{named(record, metric).title}, at {layer}")
            yield matrix(found, steps, about, "by replaced group")


def matrix(
    found: Mapping[str, Found], shown: Sequence[str], about: Metric, remark: str = ""
) -> Table:
    """Methods by columns of one measure, the best of each column in bold.

    Args:
        found: summaries by method and column.
        shown: columns, in the order of the table.
        about: the measure: the table's title, and which way is better.
        remark: beside the title.
    """
    scales = {}
    everything = []
    for column in shown:
        means = [mean(row.get(column)) for row in found.values()]
        scales[column] = Scale(means)
        everything += means
    whole = Scale(everything)
    lines = []
    for method, row in found.items():
        cells = [cell(row.get(column), whole, scales[column], about.better) for column in shown]
        lines.append((title(method), *cells))
    return Table(("method", *shown), tuple(lines), about.title, remark)


def _win_table(layer: str, wins: Mapping[str, Mapping[str, float]]) -> Table:
    lines = []
    for method, rates in wins.items():
        cells = []
        for other in wins:
            if other == method:
                cells.append("")
            else:
                cells.append(f"{rates[other]:.1f}")
        lines.append((title(method), *cells))
    return Table(("method", *map(title, wins)), tuple(lines), f"At {layer}")


def _skipped(reasons: Mapping[str, Any]) -> str:
    """What was not applicable where, and why at the first such layer."""
    layers: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    for place, reason in reasons.items():
        method, layer = place.split("/", 1)
        layers.setdefault(method, []).append(layer)
        why.setdefault(method, " ".join(reason.split()))
    lines = []
    for method, found in layers.items():
        lines.append(f"{title(method)} at {', '.join(found)} ({why[method]})")
    return f"Not applicable: {'; '.join(lines)}."
