"""What a report reads out of a run's record: a JSON file that a protocol or a study has written."""

from collections.abc import Iterator, Mapping
from typing import Any

from eval import programs
from eval.programs import columns as columns
from eval.run.protocol import Metric
from eval.subjects.methods import is_control
from jaxcam.methods import WHOLE

Record = Mapping[str, Any]
Summary = Mapping[str, Any]  # of a metric: mean, low, high, n, undefined


def results(record: Record) -> Iterator[tuple[str, str, Mapping[str, Summary]]]:
    """Method, layer and summaries by metric, one by one."""
    for method, by_layer in record["results"].items():
        for layer, found in by_layer.items():
            yield method, layer, found


def named(record: Record, metric: str) -> Metric:
    """What a metric is called; by its own name if it has no other."""
    known = programs.metrics(record["protocol"])
    return known.get(metric, Metric(metric.replace("_", " ")))


def plain_columns(record: Record) -> list[str]:
    """The metrics to show that are of single explanations, not of changes."""
    return [metric for metric in columns(record) if "/" not in metric]


def mean(summary: Summary | None) -> Any:
    """Of a metric, or None where there is none."""
    return (summary or {}).get("mean")


def curves(record: Record) -> list[str]:
    """The metrics whose mean is a curve."""
    found: dict[str, None] = {}
    for _, _, summaries in results(record):
        for metric, summary in summaries.items():
            if isinstance(mean(summary), list):
                found[metric] = None
    return list(found)


def changes(record: Record) -> dict[str, list[str]]:
    """Metrics named `CHANGE/METRIC`, as sanity's are: changes by metric, in the run's order."""
    found: dict[str, dict[str, None]] = {}
    for _, _, summaries in results(record):
        for name, summary in summaries.items():
            change, _, metric = name.rpartition("/")
            if change and "low" in summary:
                found.setdefault(metric, {})[change] = None
    return {metric: list(each) for metric, each in found.items()}


def depth(record: Record) -> list[str]:
    """The run's layers from shallow to deep: as they were asked for, if they were."""
    found: dict[str, None] = {}
    # the methods that have all layers first
    for by_layer in sorted(record["results"].values(), key=len, reverse=True):
        found |= dict.fromkeys(by_layer)
    asked = [layer for layer in record.get("settings", {}).get("layers", ()) if layer in found]
    found = dict.fromkeys([*asked, *found])
    found.pop(WHOLE, None)
    return list(found)


def places(record: Record) -> list[str]:
    """The run's layers, and `WHOLE` at the end if there is a method without layers."""
    order = depth(record)
    if any(WHOLE in by_layer for by_layer in record["results"].values()):
        order.append(WHOLE)
    return order


def rows(record: Record) -> list[str]:
    """The run's methods, controls at the end."""
    return sorted(record["results"], key=is_control)
