"""What a report reads out of a record, and the plots that it makes of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.measures import COLUMNS, is_control, named, title
from eval.methods import METHODS
from jaxcam.methods import WHOLE

CURVES = ("deletion_curve", "insertion_curve")
_INK, _FAINT, _RULE = "#212529", "#868e96", "#e9ecef"
_COLORS = (
    *("#1f77b4", "#d9480f", "#2b8a3e", "#9c36b5", "#e6a700", "#0b7285", "#c2255c", "#74b816"),
    *("#5f3dc4", "#a0522d", "#4dabf7", "#ff8787", "#343a40", "#38d9a9", "#b197fc", "#868e00"),
)
_CONTROL_LOOKS = {"noise": ":", "centre": "--"}
_ROW, _PANEL = 0.36, 3.7  # inches: the height of a method's row, the width of a panel
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
    # the methods that have all layers first
    by_size = sorted(record["results"].values(), key=len, reverse=True)
    return list(
        dict.fromkeys(layer for by_layer in by_size for layer in by_layer if layer != WHOLE)
    )


def places(record: Record) -> list[str]:
    """The run's layers, and `WHOLE` at the end if there is a method without layers."""
    whole = any(WHOLE in by_layer for by_layer in record["results"].values())
    return depth(record) + [WHOLE] * whole


def rows(record: Record) -> list[str]:
    """The run's methods, controls at the end."""
    return sorted(record["results"], key=is_control)


# Metrics by depth -----------------------------------------------------


def plot_depth(record: Record) -> Figure | None:
    """Each metric in a panel: a row for each method, its layers as points, shallow above deep."""
    order = places(record)
    shown = [c for c in columns(record) if "/" not in c]
    if len(order) < 2 or not shown:
        return None
    figure, grid = _grid(len(shown), _ROW * len(record["results"]) + 0.5)
    for number, (axes, metric) in enumerate(zip(grid, shown, strict=True)):
        _depth_panel(axes, record, metric, order)
        if number % 2:
            axes.tick_params(labelleft=False)
    handles = dict(zip(*reversed(grid[0].get_legend_handles_labels()), strict=True))
    known = [place for place in order if place in handles]
    marks = [handles[place] for place in known]
    figure.legend(
        marks,
        known,
        loc="outside upper center",
        ncols=min(6, len(known)),
        frameon=False,
        fontsize=9,
    )
    return figure


def _grid(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    across = min(panels, 2)
    down = -(-panels // across)
    figure = Figure(
        figsize=(_PANEL * across + 2.0, (height + 0.5) * down + 0.4), layout="constrained"
    )
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def _depth_panel(axes: Axes, record: Record, metric: str, order: Sequence[str]) -> None:
    names = rows(record)
    spread = [0.28 * (2 * i / max(len(order) - 1, 1) - 1) for i in range(len(order))]
    for row, name in enumerate(names):
        found = [(place, record["results"][name].get(place, {}).get(metric)) for place in order]
        known = [(place, each) for place, each in found if each and each["mean"] is not None]
        heights = [
            row + (0 if place == WHOLE else spread[order.index(place)]) for place, _ in known
        ]
        axes.plot(
            [each["mean"] for _, each in known], heights, color="#adb5bd", linewidth=0.9, zorder=2
        )
        for (place, each), height in zip(known, heights, strict=True):
            mean, *reach = _whiskers([each])
            color = _INK if place == WHOLE else _shade(order.index(place), len(order))
            fmt = "D" if place == WHOLE else "o"
            axes.errorbar(
                mean,
                height,
                xerr=reach,
                label=place,
                color=color,
                fmt=fmt,
                markersize=4.5,
                linewidth=1.1,
            )
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color=_RULE, alpha=0.5, linewidth=0, zorder=0)
        if is_control(name):
            _reference(axes, record["results"][name], metric, _CONTROL_LOOKS.get(name, "-."))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
    axes.set_yticklabels([title(name) for name in names], fontsize=9)
    _finish(axes, metric)


def _whiskers(found: Sequence[Mapping]) -> tuple[list[float], list[float], list[float]]:
    means = [each["mean"] for each in found]
    low = [max(0, each["mean"] - each["low"]) for each in found]
    high = [max(0, each["high"] - each["mean"]) for each in found]
    return means, low, high


def _reference(axes: Axes, by_layer: Mapping, metric: str, dashes: str) -> None:
    """A line where a control stands at the last layer."""
    found = [
        each[metric]["mean"]
        for each in by_layer.values()
        if each.get(metric, {}).get("mean") is not None
    ]
    if found:
        axes.axvline(found[-1], color=_FAINT, linestyle=dashes, linewidth=0.9, zorder=1)


def _shade(number: int, count: int) -> Any:
    """Light at the first layer, dark at the last."""
    return colormaps["plasma_r"](0.15 + 0.7 * number / max(count - 1, 1))


def _finish(axes: Axes, metric: str) -> None:
    about = named(metric)
    axes.set_title(
        about.title, fontsize=10, loc="left", color=_INK, pad=16 if about.direction else 6
    )
    place = {
        "xy": (0, 1),
        "xycoords": "axes fraction",
        "xytext": (0, 4),
        "textcoords": "offset points",
    }
    axes.annotate(about.direction, **place, fontsize=8, color=_FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#adb5bd")
    axes.tick_params(labelsize=8.5, length=2, color="#adb5bd")
    axes.grid(axis="x", color=_RULE, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)


# Curves and stages ----------------------------------------------------


def plot_curves(record: Record) -> Figure | None:
    """Mean deletion and insertion curves: panels by layer in rows, methods without one in each."""
    found = {c: None for _, _, each in results(record) for c in CURVES if c in each}
    order, shown = depth(record) or places(record), [c for c in CURVES if c in found]
    if not shown:
        return None
    height = max(3.2, 0.168 * len(record["results"]) + 0.9)  # as high as the legend
    figure = Figure(figsize=(3.9 * len(shown) + 3.1, height * len(order)), layout="constrained")
    for layer, across in zip(
        order, figure.subplots(len(order), len(shown), squeeze=False), strict=True
    ):
        for axes, curve in zip(across, shown, strict=True):
            for name, each in _at(record, layer, curve):
                x = [i / (len(each) - 1) for i in range(len(each))]
                axes.plot(x, each, **look(name), label=_with_areas(record, name, layer, shown))
            _finish(axes, curve)
            axes.set(xlim=(0, 1), ylim=(0, None))
            axes.set_xlabel("share of pixels changed", fontsize=8.5)
        across[0].set_ylabel(f"{layer}\nconfidence", fontsize=9)
        _legend(across[-1], " / ".join(named(c).title.lower() for c in shown))
    return figure


def _at(record: Record, layer: str, metric: str) -> Iterator[tuple[str, Any]]:
    """Means of every method at a layer, or of the method as a whole if it has no layers."""
    for name in rows(record):
        by_layer = record["results"][name]
        mean = by_layer.get(layer, by_layer.get(WHOLE, {})).get(metric, {}).get("mean")
        if mean is not None:
            yield name, mean


def _with_areas(record: Record, name: str, layer: str, curves: Sequence[str]) -> str:
    areas = [dict(_at(record, layer, curve.removesuffix("_curve"))).get(name) for curve in curves]
    return f"{' / '.join('-' if area is None else f'{area:.3f}' for area in areas)}  {title(name)}"


def _legend(axes: Axes, head: str) -> None:
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.08), frameon=False, fontsize=8, title=head
    )
    legend.get_title().set(fontsize=8, color=_FAINT)
    legend.set_alignment("left")


def plot_stages(record: Record) -> Figure | None:
    """Each metric by stage: a row of panels for each layer, methods by stages, dark near 1."""
    staged, order = stages(record), places(record)
    if not staged:
        return None
    names = {
        layer: [name for name in rows(record) if layer in record["results"][name]]
        for layer in order
    }
    longest = max(len(steps) for steps in staged.values())
    width, heights = 0.33 * longest + 0.6, [0.2 * len(names[layer]) + 1.3 for layer in order]
    figure = Figure(figsize=(width * len(staged) + 2.6, sum(heights)), layout="constrained")
    grid = figure.subplots(len(order), len(staged), squeeze=False, height_ratios=heights)
    for layer, across in zip(order, grid, strict=True):
        for axes, (metric, steps) in zip(across, staged.items(), strict=True):
            image = _heat(axes, record, names[layer], layer, metric, steps)
            axes.set_title(
                f"{named(metric).title}"
                if axes is not across[0]
                else f"{layer}: {named(metric).title}"
            )
            axes.title.set(fontsize=9, color=_INK)
            axes.tick_params(labelleft=axes is across[0])
    figure.colorbar(
        image, ax=grid, shrink=min(1, 2.5 / sum(heights)), aspect=18, pad=0.01
    ).ax.tick_params(labelsize=8)
    return figure


def _heat(
    axes: Axes, record: Record, names: Sequence[str], layer: str, metric: str, steps: Sequence[str]
) -> Any:
    found = [record["results"][name][layer] for name in names]
    means = [[each.get(f"{step}/{metric}", {}).get("mean") for step in steps] for each in found]
    image = axes.imshow(np.array(means, float), cmap="magma_r", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(steps)), steps, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), [title(name) for name in names], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def look(name: str) -> dict[str, Any]:
    """A method's colour and dashes, the same in all plots; controls are grey."""
    if is_control(name):
        return {"color": _FAINT, "linestyle": _CONTROL_LOOKS.get(name, "-."), "linewidth": 1.4}
    number = list(METHODS).index(name) if name in METHODS else 0
    dashes = ("-", "--", ":")[number // len(_COLORS) % 3]
    return {"color": _COLORS[number % len(_COLORS)], "linestyle": dashes, "linewidth": 1.4}
