"""What a report reads out of a record, and the plots that it makes of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval import cam_vs_grad_cam, class_sensitivity, faithfulness, games, interpretability, localization
from jaxcam.methods import WHOLE

# The metrics that a report shows of a protocol, in this order; all that are numbers for any other protocol.
COLUMNS: dict[str, tuple[str, ...]] = {
    "faithfulness": faithfulness.COLUMNS,
    "localization": localization.COLUMNS,
    "games": games.COLUMNS,
    "interpretability": interpretability.COLUMNS,
    "class_sensitivity": (*class_sensitivity.PAIRS, *class_sensitivity.TOP[1:]),
    "cam_vs_grad_cam": cam_vs_grad_cam.COLUMNS,
}
CURVES = ("deletion_curve", "insertion_curve")
_MARKERS, _COLORS = "osD^vPX*<>", colormaps["tab10"].colors
Record = Mapping[str, Any]


def results(record: Record) -> Iterator[tuple[str, str, Mapping]]:
    """Method, layer and summaries by metric, one by one."""
    for method, by_layer in record["results"].items():
        for layer, found in by_layer.items():
            yield method, layer, found


def columns(record: Record) -> tuple[str, ...]:
    """The metrics to show: single numbers only."""
    numbers = {m: None for _, _, found in results(record) for m, s in found.items() if "low" in s}
    return tuple(c for c in COLUMNS.get(record["protocol"], numbers) if c in numbers)


def stages(record: Record) -> dict[str, list[str]]:
    """Metrics named `STAGE/METRIC`, as sanity's are: stages by metric, in the order of the run."""
    found: dict[str, list[str]] = {}
    for name in columns(record):
        if "/" in name:
            stage, metric = name.rsplit("/", 1)
            found.setdefault(metric, []).append(stage)
    return found


def depth(record: Record) -> list[str]:
    """The run's layers from shallow to deep."""
    by_size = sorted(record["results"].values(), key=len, reverse=True)  # the methods that have all layers first
    return list(dict.fromkeys(layer for by_layer in by_size for layer in by_layer if layer != WHOLE))


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    across = min(panels, 2)
    down = -(-panels // across)
    figure = Figure(figsize=(5.2 * across + 1.8, 3.6 * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def _look(number: int) -> dict[str, Any]:
    dashes = ("-", "--", ":")[number // len(_COLORS) % 3]
    return {"color": _COLORS[number % len(_COLORS)], "linestyle": dashes, "marker": _MARKERS[number % len(_MARKERS)]}


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    found: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="outside right upper", fontsize=8)


def plot_depth(record: Record) -> Figure | None:
    """Each metric by layer, a line for each method; a method without layers is a horizontal line."""
    order = depth(record)
    shown = [c for c in columns(record) if "/" not in c]
    if len(order) < 2 or not shown:
        return None
    figure, axes = _figure(len(shown))
    for each, metric in zip(axes, shown, strict=True):
        for number, (method, by_layer) in enumerate(record["results"].items()):
            points = {layer: found.get(metric) for layer, found in by_layer.items()}
            _line(each, method, number, points, order)
        each.set_xticks(range(len(order)), order)
        each.set_title(metric, fontsize=10)
    _legend(figure, axes)
    return figure


def plot_stages(record: Record) -> Figure | None:
    """Each metric by stage, a line for each method and layer."""
    staged = stages(record)
    if not staged:
        return None
    figure, axes = _figure(len(staged))
    for each, (metric, order) in zip(axes, staged.items(), strict=True):
        for number, (method, layer, found) in enumerate(results(record)):
            points = {stage: found.get(f"{stage}/{metric}") for stage in order}
            _line(each, f"{method}, {layer}", number, points, order)
        each.set_xticks(range(len(order)), order, rotation=45, ha="right", fontsize=8)
        each.set_title(metric, fontsize=10)
    _legend(figure, axes)
    return figure


def _line(axes: Axes, label: str, number: int, points: Mapping[str, Any], order: Sequence[str]) -> None:
    known = {place: p for place, p in points.items() if p and p["mean"] is not None}
    look = _look(number)
    if WHOLE in known:
        axes.axhline(known[WHOLE]["mean"], color=look["color"], linestyle=look["linestyle"], label=label)
        return
    places = [place for place in order if place in known]
    if places:
        means = [known[p]["mean"] for p in places]
        low = [max(0, known[p]["mean"] - known[p]["low"]) for p in places]
        high = [max(0, known[p]["high"] - known[p]["mean"]) for p in places]
        x = [order.index(p) for p in places]
        axes.errorbar(x, means, (low, high), label=label, capsize=2, markersize=4, linewidth=1.2, **look)


def plot_curves(record: Record, layer: str) -> Figure | None:
    """Mean deletion and insertion curves at one layer."""
    shown = [c for c in CURVES if any(c in found.get(layer, {}) for found in record["results"].values())]
    if not shown:
        return None
    figure, axes = _figure(len(shown))
    for each, curve in zip(axes, shown, strict=True):
        for number, (method, by_layer) in enumerate(record["results"].items()):
            means = by_layer.get(layer, {}).get(curve, {}).get("mean")
            if means:
                x = [i / (len(means) - 1) for i in range(len(means))]
                each.plot(x, means, label=method, linewidth=1.3, **{**_look(number), "marker": ""})
        each.set_title(curve.replace("_", " "), fontsize=10)
        each.set_xlabel("share of pixels changed")
        each.set_ylabel("confidence")
    _legend(figure, axes)
    return figure
