"""The plots that a report makes of a record."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.reporting.records import (
    Record,
    changes,
    curves,
    depth,
    mean,
    named,
    places,
    plain_columns,
    rows,
)
from eval.run.protocol import Metric
from eval.subjects.methods import METHODS, is_control, title
from jaxcam.methods import WHOLE

_INK = "#212529"
_FAINT = "#868e96"
_RULE = "#e9ecef"
_LINE = "#adb5bd"
_COLORS = (
    *("#1f77b4", "#d9480f", "#2b8a3e", "#9c36b5", "#e6a700", "#0b7285", "#c2255c", "#74b816"),
    *("#5f3dc4", "#a0522d", "#4dabf7", "#ff8787", "#343a40", "#38d9a9", "#b197fc", "#868e00"),
)
_CONTROL_LOOKS = {"noise": ":", "centre": "--"}
_OTHER_LOOK = "-."
_HEAT = "magma_r"
_ROW = 0.36  # inches: the height of a method's row
_PANEL = 3.7  # inches: the width of a panel
_LEGIBLE = 12  # methods that a panel of curves can name
_BEST = 6  # those that it names where there are more


# Metrics by depth -----------------------------------------------------


def plot_depth(record: Record) -> Figure | None:
    """Each metric in a panel: a row for each method, its layers as points, shallow above deep."""
    order = places(record)
    shown = plain_columns(record)
    if len(order) < 2 or not shown:
        return None
    figure, grid = _grid(len(shown), _ROW * len(record["results"]) + 0.5)
    for number, (axes, metric) in enumerate(zip(grid, shown, strict=True)):
        _depth_panel(axes, record, metric, order)
        if number % 2:
            axes.tick_params(labelleft=False)
    _depth_legend(figure, grid[0], order, across=3 * min(2, len(shown)))
    return figure


def _depth_legend(figure: Figure, axes: Axes, order: Sequence[str], across: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    handle_of = dict(zip(labels, handles, strict=True))
    known = [place for place in order if place in handle_of]
    figure.legend(
        [handle_of[place] for place in known],
        known,
        loc="outside upper center",
        ncols=min(across, len(known)),
        frameon=False,
        fontsize=9,
    )


def _grid(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    across = min(panels, 2)
    down = -(-panels // across)
    size = (_PANEL * across + 2.0, (height + 0.5) * down + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def _depth_panel(axes: Axes, record: Record, metric: str, order: Sequence[str]) -> None:
    names = rows(record)
    for row, name in enumerate(names):
        _depth_row(axes, record["results"][name], metric, order, row)
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color=_RULE, alpha=0.5, linewidth=0, zorder=0)
        if is_control(name):
            _reference(axes, record["results"][name], metric, name)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
    axes.set_yticklabels(list(map(title, names)), fontsize=9)
    _finish(axes, named(record, metric))


def _depth_row(
    axes: Axes, by_layer: Mapping[str, Mapping], metric: str, order: Sequence[str], row: int
) -> None:
    """A method's points, with whiskers, and the line that joins them."""
    line = []
    for number, place in enumerate(order):
        found = by_layer.get(place, {}).get(metric, {})
        if mean(found) is None:
            continue
        height = row + 0.28 * (2 * number / max(len(order) - 1, 1) - 1)
        color = colormaps["plasma_r"](0.15 + 0.7 * number / max(len(order) - 1, 1))
        form = "o"
        if place == WHOLE:
            height = row
            color = _INK
            form = "D"
        axes.errorbar(
            [found["mean"]],
            height,
            xerr=_whiskers(found),
            label=place,
            color=color,
            fmt=form,
            markersize=4.5,
            linewidth=1.1,
        )
        line.append((found["mean"], height))
    axes.plot(*np.array(line).reshape(-1, 2).T, color=_LINE, linewidth=0.9, zorder=2)


def _whiskers(found: Mapping[str, float]) -> list[list[float]]:
    """How far the interval reaches below and above the mean: nowhere if there is none."""
    if found["low"] is None:
        return [[0], [0]]
    below = max(0, found["mean"] - found["low"])
    above = max(0, found["high"] - found["mean"])
    return [[below], [above]]


def _reference(axes: Axes, by_layer: Mapping[str, Mapping], metric: str, name: str) -> None:
    """A line where a control stands at the last layer."""
    found = None
    for summaries in by_layer.values():
        if mean(summaries.get(metric)) is not None:
            found = summaries[metric]["mean"]
    if found is not None:
        dashes = _CONTROL_LOOKS.get(name, _OTHER_LOOK)
        axes.axvline(found, color=_FAINT, linestyle=dashes, linewidth=0.9, zorder=1)


def _finish(axes: Axes, about: Metric) -> None:
    padding = 6
    if about.direction:
        padding = 16
    axes.set_title(about.title, fontsize=10, loc="left", color=_INK, pad=padding)
    axes.annotate(
        about.direction,
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=8,
        color=_FAINT,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(labelsize=8.5, length=2, color=_LINE)
    axes.grid(axis="x", color=_RULE, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)


# Curves ---------------------------------------------------------------


def plot_curves(record: Record) -> Figure | None:
    """Mean deletion and insertion curves: panels by layer in rows, methods without one in each.

    Of many methods a panel names the best and the controls; the rest are thin lines behind them.
    """
    shown = curves(record)
    if not shown:
        return None
    order = depth(record) or places(record)
    if len(record["results"]) > _LEGIBLE:
        return _best_curves(record, shown, order)
    height = max(3.2, 0.168 * len(record["results"]) + 0.9)  # as high as the legend
    size = (3.9 * len(shown) + 3.1, height * len(order))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(order), len(shown), squeeze=False)
    for layer, across in zip(order, grid, strict=True):
        for axes, curve in zip(across, shown, strict=True):
            for name, each in _at(record, layer, curve):
                label = f"{_areas(record, name, layer, shown)}  {title(name)}"
                axes.plot(*_points(each), **look(name), label=label)
            _finish(axes, named(record, curve))
            axes.set(xlim=(0, 1), ylim=(0, None))
            axes.set_xlabel("share of pixels changed", fontsize=8.5)
        across[0].set_ylabel(f"{layer}\nconfidence", fontsize=9)
        titles = [named(record, curve).title.lower() for curve in shown]
        _legend(across[-1], " / ".join(titles))
    return figure


def _best_curves(record: Record, shown: Sequence[str], order: Sequence[str]) -> Figure:
    """Curves of many methods: a legend of its own for each panel, the best first."""
    size = (6.0 * len(shown), 2.8 * len(order) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    head = f"In colour the best {_BEST} of each panel; broken grey: controls; thin: the others"
    figure.suptitle(head, fontsize=9, color=_INK)
    grid = figure.subplots(len(order), len(shown), squeeze=False)
    for layer, across in zip(order, grid, strict=True):
        for axes, curve in zip(across, shown, strict=True):
            _best_panel(axes, record, layer, curve)
        across[0].set_ylabel(f"{layer}\nconfidence", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("share of pixels changed", fontsize=8.5)
    return figure


def _best_panel(axes: Axes, record: Record, layer: str, curve: str) -> None:
    found = dict(_at(record, layer, curve))
    area = curve.removesuffix("_curve")
    ranked = _ranked(record, layer, area, found)
    methods = [name for name in ranked if not is_control(name)]
    controls = [name for name in ranked if is_control(name)]
    for name in methods[_BEST:]:
        axes.plot(*_points(found[name]), color=_LINE, linewidth=0.5, alpha=0.7)
    for name in [*methods[:_BEST], *controls]:
        label = f"{_areas(record, name, layer, [curve])}  {title(name)}"
        axes.plot(*_points(found[name]), **look(name), label=label, zorder=3)
    _finish(axes, named(record, curve))
    axes.set(xlim=(0, 1), ylim=(0, None))
    _legend(axes, named(record, area).title.lower())


def _points(each: Sequence[float]) -> tuple[np.ndarray, Sequence[float]]:
    """A curve's places, from 0 to 1, and its values."""
    return np.linspace(0, 1, len(each)), each


def _ranked(record: Record, layer: str, area: str, found: Mapping[str, Any]) -> list[str]:
    """The methods that have curves, the best area first, and those without an area last."""
    areas = dict(_at(record, layer, area))
    sign = named(record, area).better or 1
    return sorted(found, key=lambda name: -sign * areas.get(name, -sign * np.inf))


def _at(record: Record, layer: str, metric: str) -> Iterator[tuple[str, Any]]:
    """Means of every method at a layer, or of the method as a whole if it has no layers."""
    for name in rows(record):
        by_layer = record["results"][name]
        found = by_layer.get(layer, by_layer.get(WHOLE, {})).get(metric)
        if mean(found) is not None:
            yield name, mean(found)


def _areas(record: Record, name: str, layer: str, shown: Sequence[str]) -> str:
    """The areas under a method's curves."""
    areas = []
    for curve in shown:
        area = dict(_at(record, layer, curve.removesuffix("_curve"))).get(name)
        if area is None:
            areas.append("-")
        else:
            areas.append(f"{area:.3f}")
    return " / ".join(areas)


def _legend(axes: Axes, head: str) -> None:
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.08), frameon=False, fontsize=8, title=head
    )
    legend.get_title().set(fontsize=8, color=_FAINT)
    legend.set_alignment("left")


def look(name: str) -> dict[str, Any]:
    """A method's colour and dashes, the same in all plots; controls are grey."""
    if is_control(name):
        dashes = _CONTROL_LOOKS.get(name, _OTHER_LOOK)
        return {"color": _FAINT, "linestyle": dashes, "linewidth": 1.4}
    number = 0
    if name in METHODS:
        number = list(METHODS).index(name)
    dashes = ("-", "--", ":")[number // len(_COLORS) % 3]
    return {"color": _COLORS[number % len(_COLORS)], "linestyle": dashes, "linewidth": 1.4}


# Changes --------------------------------------------------------------


def plot_changes(record: Record) -> Figure | None:
    """Each metric by change: a row of panels for each layer, methods by changes, dark near 1."""
    steps_of = changes(record)
    if not steps_of:
        return None
    order = places(record)
    heights = [0.2 * len(_with(record, layer)) + 1.3 for layer in order]
    width = 0.33 * max(map(len, steps_of.values())) + 0.6
    size = (width * len(steps_of) + 2.6, sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(order), len(steps_of), squeeze=False, height_ratios=heights)
    for layer, across in zip(order, grid, strict=True):
        for axes, (metric, steps) in zip(across, steps_of.items(), strict=True):
            _heat(axes, record, layer, metric, steps)
            axes.tick_params(labelleft=axes is across[0])
            axes.set_title(named(record, metric).title, fontsize=9, color=_INK)
        head = f"{layer}: {across[0].get_title()}"
        across[0].set_title(head, fontsize=9, color=_INK)
    shrink = min(1, 2.5 / sum(heights))
    scale = ScalarMappable(Normalize(0, 1), _HEAT)
    bar = figure.colorbar(scale, ax=grid, shrink=shrink, aspect=18, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    return figure


def _with(record: Record, layer: str) -> list[str]:
    """The methods that have values at a layer."""
    return [name for name in rows(record) if layer in record["results"][name]]


def _heat(axes: Axes, record: Record, layer: str, metric: str, steps: Sequence[str]) -> None:
    names = _with(record, layer)
    means = np.full((len(names), len(steps)), np.nan)
    for row, name in enumerate(names):
        found = record["results"][name][layer]
        for column, step in enumerate(steps):
            value = mean(found.get(f"{step}/{metric}"))
            if value is not None:
                means[row, column] = value
    axes.imshow(means, cmap=_HEAT, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(steps)), steps, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), list(map(title, names)), fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
