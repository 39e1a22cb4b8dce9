"""Rows of pictures with titles, and below them what their colours mean."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxcam import _canvas as canvas
from jaxcam import _papers as papers
from jaxcam._layouts import Page, Rect

DPI = 150
_SIDE = 1.6  # inches of a panel's longer side
_GAP = 0.08
_MARGIN = 0.1
_TITLE = 0.2
_MOST = 9  # panels side by side; a longer row goes on in the next line
_INNER = 0.3  # left of and below what has axes, for their numbers


class Panel(NamedTuple):
    """A picture `[H, W, 3]` in [0, 1], or what draws one; what stands above it, and on it."""

    title: str
    shown: np.ndarray | Callable[[Axes], None]
    note: str = ""


class Scale(NamedTuple):
    """A colormap, and what its ends mean."""

    colormap: str
    ends: tuple[str, str]


Rows = list[list[Panel]]


class Sheet(NamedTuple):
    """Rows of pictures, and the lines of their key: scales of colours, and text."""

    rows: Rows
    key: Sequence[Scale | str]


def drawn(sheet: Sheet) -> Figure:
    """A grid of equal panels, its key below."""
    lines = [line for row in sheet.rows for line in _folded(row)]
    width, height = _panel(sheet.rows)
    across = max(map(len, lines))
    step = height + _TITLE + _GAP
    bottom = _MARGIN + len(lines) * step
    size = (
        2 * _MARGIN + across * (width + _GAP) - _GAP,
        bottom + (len(sheet.key) + 0.5) * papers.LINE,
    )
    legend = Rect(_MARGIN, bottom, size[0] - 2 * _MARGIN, len(sheet.key) * papers.LINE)
    page = Page(size, legend, legend, {}, (), DPI)
    figure = Figure(size, dpi=DPI, facecolor="white")
    for number, line in enumerate(lines):
        top = _MARGIN + number * step + _TITLE
        for column, panel in enumerate(line):
            place = Rect(_MARGIN + column * (width + _GAP), top, width, height)
            _draw(figure, page, place, panel)
    _draw_key(figure, page, sheet.key)
    return figure


def _folded(row: list[Panel]) -> list[list[Panel]]:
    """Lines of nearly equal length."""
    count = -(-len(row) // _MOST)
    size = -(-len(row) // count)
    return [row[start : start + size] for start in range(0, len(row), size)]


def _panel(rows: Rows) -> tuple[float, float]:
    """Width and height, of the shape of the first picture."""
    pictures = [panel.shown for row in rows for panel in row if not callable(panel.shown)]
    height, width = pictures[0].shape[:2]
    longer = max(height, width)
    return _SIDE * width / longer, _SIDE * height / longer


def _draw(figure: Figure, page: Page, place: Rect, panel: Panel) -> None:
    title = canvas.elided(panel.title, place.width, papers.POINTS)
    canvas.add_text(figure, page, place.left, place.top - 0.05, title, size=papers.POINTS)
    if not callable(panel.shown):
        axes = canvas.add_axes(figure, page, place)
        axes.imshow(np.clip(panel.shown, 0, 1), aspect="auto")
        middle = {"ha": "center", "va": "center", "size": papers.POINTS, "color": canvas.INK}
        axes.text(0.5, 0.5, panel.note, transform=axes.transAxes, **middle)
        return
    inner = Rect(place.left + _INNER, place.top, place.width - _INNER, place.height - _INNER)
    axes = canvas.add_axes(figure, page, inner)
    axes.set_axis_on()
    panel.shown(axes)


def _draw_key(figure: Figure, page: Page, key: Sequence[Scale | str]) -> None:
    top = page.bars.top
    for line in key:
        top += papers.LINE
        if isinstance(line, Scale):
            papers.draw_key(figure, page, top, line.colormap, line.ends)
        else:
            text = canvas.elided(line, page.bars.width, papers.POINTS)
            canvas.add_text(figure, page, page.bars.left, top, text, size=papers.POINTS)
