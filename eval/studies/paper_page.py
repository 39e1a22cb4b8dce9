"""The page of a paper's tables: its numbers, ours beside them, and what ours were made on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from eval import programs
from eval.reporting import papers
from eval.reporting.papers import Published
from eval.studies.setups import Experiment, Setup
from eval.subjects.methods import title
from jaxcam._ground.text import counted
from jaxcam.methods import WHOLE

FOSTERING = "foster_effect"
STAND_IN_BETA = "0.3"  # of the bundled network: at the paper's 100 it collapses (docs/fostering.md)
_HEAD = "| method | its layer | our layer | number | theirs | ours | 95 % interval |"


class Part(NamedTuple):
    """What is shown under one heading.

    Args:
        setup: what ours were made on.
        experiments: the tables, and what of each was not here: "" of its own set-up; several have
            one stand-in.
        records: of the runs.
    """

    setup: Setup
    experiments: dict[Experiment, str]
    records: Sequence[Mapping[str, Any]]

    @property
    def key(self) -> tuple:
        """Tables of one stand-in and the same numbers have the same; others none."""
        (first, absent), *_ = self.experiments.items()
        if not absent:
            return (first.source,)
        return (self.setup, tuple(row[:4] for row in first.numbers()))


def title_of(experiment: Experiment) -> str:
    """Of a table."""
    return papers.SOURCES[experiment.source].title


def lines(part: Part) -> Iterator[str]:
    """A heading, both set-ups, and a line for each number of the paper."""
    tables = list(part.experiments)
    yield f"## {'; '.join(map(title_of, tables))}\n"
    for experiment in tables:
        about = "Theirs"
        if len(tables) > 1:
            about = f"Theirs, {title_of(experiment)}"
        yield f"{about}: {papers.SOURCES[experiment.source].setup}."
    yield from _ours_are(part)
    yield f"\n{_HEAD}\n|---|---|---|---|---|---|---|"
    for rows in zip(*(experiment.numbers() for experiment in tables), strict=True):
        row = rows[0]
        layer = our_layer(tables[0], part.setup, row.layer)
        found = our_number(part.records, row, layer)
        theirs = ", ".join(f"{each.value:g}" for each in rows)
        cells = [_method(row.method), row.layer.replace(papers.ANY, ""), layer, _metric(row)]
        yield "| " + " | ".join([*cells, theirs, *_ours(found)]) + " |"
    yield ""


def _ours_are(part: Part) -> Iterator[str]:
    tables = list(part.experiments)
    if not any(part.experiments.values()):
        yield f"Ours: {part.setup}."
        return
    shared = ""
    if len(tables) > 1:
        shared = f", one run for these {counted(len(tables), 'table')}; theirs in their order"
    yield f"Ours is a STAND-IN, whose numbers reproduce none of theirs: {part.setup}{shared}."
    for experiment, absent in part.experiments.items():
        about = "The paper's network or photos"
        if len(tables) > 1:
            about = f"Of {title_of(experiment)} network or photos"
        yield f"{about} are {absent}."
    if any(row.protocol == FOSTERING for row in tables[0].numbers()):
        yield f"Beta is {STAND_IN_BETA} in the place of 100, at which it collapses."


def our_layer(experiment: Experiment, setup: Setup, layer: str) -> str:
    """Ours in the place of a paper's layer."""
    if layer == papers.ANY:
        return "logits"
    if layer == WHOLE:
        return WHOLE
    return setup.layers[experiment.layers().index(layer)]


def our_number(
    records: Sequence[Mapping[str, Any]], row: Published, layer: str
) -> Mapping[str, Any] | None:
    """The summary that stands beside a paper's number; None where there is none."""
    for record in records:
        if record["protocol"] != row.protocol:
            continue
        for method, by_layer in record["results"].items():
            if row.method not in (method, papers.ANY):
                continue
            found = by_layer.get(layer, {})
            if row.metric in found:
                return found[row.metric]
    return None


def _method(name: str) -> str:
    return title(name).replace(papers.ANY, "student")


def _metric(row: Published) -> str:
    known = programs.metrics(row.protocol).get(row.metric)
    if known is None:
        return row.metric.replace("_", " ")
    return known.title


def _ours(found: Mapping[str, Any] | None) -> tuple[str, str]:
    """Our mean, and its interval where there is one."""
    if found is None or found["mean"] is None:
        return "-", "-"
    if found.get("low") is None:
        return f"{found['mean']:.4g}", "-"
    return f"{found['mean']:.4g}", f"[{found['low']:.4g}, {found['high']:.4g}]"
