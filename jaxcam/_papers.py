"""Where things stand in a picture for a paper, which is as wide as its column and no wider.

All lengths are inches. Letters are of the size that they have in print; the photo and its maps
share the width, row after row, and a legend stands below.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxcam import _canvas as canvas
from jaxcam._layouts import Grid, Key, Label, Page, Rect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 7.0
LINE = 0.15

_DPI = 300
_GAP = 0.04
_EDGE = 0.02
_LEAST = 0.72  # of a panel, lest its label be cut
_TALLEST = 2.4
_BAR = 0.7


def arrange(keys: Sequence[Key], aspect: float, width: float, scales: int) -> Page:
    """Plans a picture of a fixed width.

    Several methods at several layers are a row for each method, if so many panels fit side by side;
    else the maps follow the photo, row after row.

    Args:
        keys: (method, layer) of each map, in order; the layer "" is the whole network.
        aspect: width over height of the panels.
        width: of the picture.
        scales: how many scales of colours the legend explains.

    Returns:
        The page; `bars` is the legend's place.
    """
    most = int((width - 2 * _EDGE + _GAP) / (_LEAST + _GAP))
    cells = _cells(keys, most)
    columns = 1 + max(column for _, column in cells.values())
    panel = min((width - 2 * _EDGE + _GAP) / columns - _GAP, _TALLEST * aspect)
    grid = Grid(_EDGE, 2 * LINE, panel, panel / aspect)
    panels = {}
    labels = []
    for key, (row, column) in cells.items():
        top = grid.top + row * (grid.height + 2 * LINE + _GAP)
        panels[key] = Rect(grid.left + column * (panel + _GAP), top, panel, grid.height)
        labels += _labels(panels[key], key)
    bottom = max(place.top + place.height for place in panels.values())
    legend = Rect(_EDGE, bottom + _GAP, width - 2 * _EDGE, (1 + scales) * LINE)
    photo = Rect(grid.left, grid.top, panel, grid.height)
    size = (width, legend.top + legend.height + 0.04)
    return Page(size, photo, legend, panels, labels, _DPI)


def _cells(keys: Sequence[Key], most: int) -> dict[Key, tuple[int, int]]:
    """The row and column of every map; the photo has the first place."""
    methods, found = map(list, map(dict.fromkeys, zip(*keys, strict=True)))
    layers = list(filter(None, found))
    if len(methods) > 1 and 1 < len(layers) < most:
        cells = {}
        for method, layer in keys:
            column = 1 + layers.index(layer) if layer else 1
            cells[method, layer] = (methods.index(method), column)
        return cells
    rows = math.ceil((1 + len(keys)) / most)
    columns = math.ceil((1 + len(keys)) / rows)  # rows of equal length, as nearly as may be
    return {key: divmod(index, columns) for index, key in enumerate(keys, start=1)}


def _labels(place: Rect, key: Key) -> list[Label]:
    """The method, and under it the layer."""
    method, layer = key
    lines = [method, layer.partition("\n")[0]]
    if not layer:
        lines = ["", method]
    found = []
    for number, line in enumerate(lines):
        top = place.top - LINE * (1 - number) - 0.04
        found.append(Label(place.left, top, place.width, line, {"size": POINTS}))
    return found


def draw_key(
    figure: "Figure", page: Page, top: float, colormap: str, ends: tuple[str, str]
) -> None:
    """A scale of colours between what its ends mean, on a line of the legend."""
    low, high = ends
    left = page.bars.left
    style = {"size": POINTS, "color": canvas.INK}
    canvas.add_text(figure, page, left, top, low, **style)
    left += canvas.length(low, POINTS) + 0.06
    axes = canvas.add_axes(figure, page, Rect(left, top - 0.08, _BAR, 0.09))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=colormap)
    canvas.add_text(figure, page, left + _BAR + 0.06, top, high, **style)
