"""Where things stand in an explanation's picture: photo, probabilities, panels, labels.

All lengths are inches, measured from the left and the top of the page. Panels of a page are equal,
so that they can be compared; how they are arranged depends on how many methods and layers there
are, and on the photo's shape.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

DPI = 200
MARGIN = 0.22
GAP = 0.08
HEADER = 0.62

_LABEL = 0.24
_BARS_WIDTH = 2.3
_BARS_HEIGHT = 1.75
_MAX_WIDTH = 15.0
_IN_A_ROW = 5  # more maps than this
_ACROSS = 6  # or more methods make a sheet
_GUTTER = 1.3
_SECTION = 0.3

Key = tuple[str, str]  # (method, layer), the layer "" for a map of the whole network


class Rect(NamedTuple):
    """A place on the page: left, top (from the top edge), width, height."""

    left: float
    top: float
    width: float
    height: float


class Grid(NamedTuple):
    """Equal panels in rows and columns."""

    left: float
    top: float
    width: float  # of a panel
    height: float
    label: float = 0.0  # room above each row

    def place(self, row: int, column: int) -> Rect:
        """The panel in a row and column."""
        left = self.left + column * (self.width + GAP)
        top = self.top + row * (self.height + GAP + self.label)
        return Rect(left, top, self.width, self.height)


class Label(NamedTuple):
    """A line of text, its baseline at a point, elided to a length; `style` is matplotlib's."""

    left: float
    top: float
    room: float
    text: str
    style: Mapping[str, Any]


class Page(NamedTuple):
    """A picture's plan."""

    size: tuple[float, float]
    photo: Rect
    bars: Rect  # the probabilities
    panels: Mapping[Key, Rect]
    labels: Sequence[Label]
    dpi: int = DPI  # of what is in panels


def arrange(keys: Sequence[Key], aspect: float) -> Page:
    """Plans a page.

    ======  ===================================  ==================================================
    layout  when                                 how
    ======  ===================================  ==================================================
    row     one method or one layer, up to 5     photo, maps and probabilities side by side
            maps
    block   up to 6 methods by several layers    the photo over the probabilities, a grid beside
                                                 them; the longer of methods and layers runs across
    sheet   more, or maps of the whole network   photo and probabilities above; methods run down,
            beside those of several layers       layers across; then maps without a layer, or all
                                                 if there is but one layer
    ======  ===================================  ==================================================

    Args:
        keys: (method, layer) of each map, in order; a label may have two lines. The layer "" is the
            whole network.
        aspect: width over height of the panels.

    Returns:
        The page, with a panel for each key.
    """
    methods, all_layers = map(list, map(dict.fromkeys, zip(*keys, strict=True)))
    layers = list(filter(None, all_layers))
    if len(keys) <= _IN_A_ROW and (len(methods) == 1 or len(layers) <= 1):
        return _row(keys, aspect)
    if len(layers) <= 1:
        return _sheet(keys, [], aspect)
    if len(methods) > _ACROSS or "" in all_layers:
        return _sheet(keys, layers, aspect)
    return _block(keys, methods, layers, aspect)


def _row(keys: Sequence[Key], aspect: float) -> Page:
    count = len(keys) + 1
    width = min(3.6, 3.0 * aspect, (_MAX_WIDTH - 2 * MARGIN - _BARS_WIDTH - 0.3) / count - GAP)
    top = MARGIN + HEADER + _LABEL
    grid = Grid(MARGIN, top, width, width / aspect)
    left = MARGIN + count * (width + GAP) - GAP + 0.3
    bars = Rect(left, top, _BARS_WIDTH, max(grid.height, _BARS_HEIGHT))
    size = (left + _BARS_WIDTH + MARGIN, top + bars.height + MARGIN)
    panels = {}
    labels = []
    for column, key in enumerate(keys, start=1):
        panels[key] = grid.place(0, column)
        labels.append(_above(panels[key], _full_name(key)))
    return Page(size, grid.place(0, 0), bars, panels, labels)


def _block(keys: Sequence[Key], methods: list[str], layers: list[str], aspect: float) -> Page:
    down, across = sorted((methods, layers), key=len)
    width = min(2.8, 2.2 * aspect, (_MAX_WIDTH - 2 * MARGIN - 3.2) / len(across) - GAP)
    height = width / aspect
    top = MARGIN + HEADER + _LABEL
    tall = len(down) * (height + GAP) - GAP
    photo_width = max(width, _BARS_WIDTH, min(2 * width, aspect * (tall - _BARS_HEIGHT - 0.3)))
    photo = Rect(MARGIN, top, photo_width, photo_width / aspect)
    under = top + photo.height + 0.3
    bars = Rect(MARGIN, under, photo_width, max(_BARS_HEIGHT, min(2.6, top + tall - under)))
    grid = Grid(MARGIN + photo_width + 0.5, top, width, height)
    panels = {}
    for method, layer in keys:
        first, second = (method, layer) if down is methods else (layer, method)
        panels[method, layer] = grid.place(down.index(first), across.index(second))
    labels = _heads(grid, across)
    for row, text in enumerate(down):
        labels += _beside(grid.place(row, 0), text)
    right = grid.left + len(across) * (width + GAP) - GAP
    bottom = max(top + tall, bars.top + bars.height)
    return Page((right + MARGIN, bottom + MARGIN), photo, bars, panels, labels)


def _sheet(keys: Sequence[Key], layers: list[str], aspect: float) -> Page:
    """`layers` are the columns of the grid; without, every map stands for itself."""
    rows = list(dict.fromkeys(method for method, layer in keys if layer in layers))
    loose = [key for key in keys if key[1] not in layers]
    columns = len(layers) or min(4, len(loose))
    left = MARGIN
    if layers:
        left += _GUTTER
    tallest = 1.35 if len(rows) > _ACROSS else 1.8
    width = min((_MAX_WIDTH - MARGIN - left) / columns - GAP, 2.8, tallest * aspect)
    page_width = max(left + columns * (width + GAP) - GAP, 2 * _BARS_WIDTH + 0.5) + MARGIN
    photo, bars = _band(page_width, aspect)
    top = photo.top + max(photo.height, bars.height) + _SECTION + _LABEL
    grid = Grid(left, top, width, width / aspect)
    panels = {}
    for method, layer in keys:
        if layer in layers:
            panels[method, layer] = grid.place(rows.index(method), layers.index(layer))
    labels = _heads(grid, layers)
    for row, method in enumerate(rows):
        labels.append(_before(grid.place(row, 0), method))
    top += len(rows) * (grid.height + GAP)
    if rows and loose:
        top += _SECTION + _LABEL
    under = grid._replace(top=top, label=_LABEL)
    for index, key in enumerate(loose):
        panels[key] = under.place(*divmod(index, columns))
        labels.append(_above(panels[key], _full_name(key)))
    bottom = max(panel.top + panel.height for panel in panels.values())
    return Page((page_width, bottom + MARGIN), photo, bars, panels, labels)


def _band(page_width: float, aspect: float) -> tuple[Rect, Rect]:
    """Photo and probabilities side by side above a sheet."""
    top = MARGIN + HEADER
    width = min(1.9 * aspect, page_width - 2 * MARGIN - 0.4 - _BARS_WIDTH)
    photo = Rect(MARGIN, top, width, width / aspect)
    left = photo.left + width + 0.4
    room = min(4.0, page_width - MARGIN - left)
    return photo, Rect(left, top - 0.04, room, max(photo.height, _BARS_HEIGHT))


def _heads(grid: Grid, names: Sequence[str]) -> list[Label]:
    """The names of a grid's columns."""
    return [_above(grid.place(0, column), _flat(name)) for column, name in enumerate(names)]


def _above(place: Rect, text: str) -> Label:
    return Label(place.left, place.top - 0.08, place.width, text, {"size": 8.5})


def _before(place: Rect, text: str) -> Label:
    """In the gutter, level with the panel's middle."""
    style = {"size": 9, "va": "center"}
    return Label(MARGIN, place.top + place.height / 2, _GUTTER - 0.1, text, style)


def _beside(place: Rect, text: str) -> list[Label]:
    """Upright, its lines from left to right."""
    style = {"size": 8, "rotation": 90, "ha": "right", "va": "center"}
    middle = place.top + place.height / 2
    left = place.left - 0.07
    labels = []
    for line in reversed(text.split("\n")):
        labels.append(Label(left, middle, place.height, line, style))
        left -= 0.15
    return labels[::-1]


def _full_name(key: Key) -> str:
    method, layer = key
    if not layer:
        return method
    return f"{method},  {_flat(layer)}"


def _flat(text: str) -> str:
    return text.replace("\n", "  ")
