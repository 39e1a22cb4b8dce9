"""Where things stand in an explanation's picture: photo, probabilities, panels, labels.

All lengths are inches, measured from the left and the top of the page. Panels of a page are equal,
so that they can be compared; how they are arranged depends on how many methods and layers there
are, and on the photo's shape.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MARGIN, GAP, HEADER = 0.22, 0.08, 0.62

_LABEL = 0.24
_BARS_WIDTH, _BARS_HEIGHT = 2.3, 1.75
_MAX_WIDTH = 15.0
_IN_A_ROW, _ACROSS = 5, 6  # more maps, or more methods, than this make a sheet
_GUTTER, _SECTION = 1.3, 0.3

Key = tuple[str, str]  # (method, layer), the layer "" for a map of the whole network


class Rect(NamedTuple):
    """A place on the page: left, top (from the top edge), width, height."""

    left: float
    top: float
    width: float
    height: float


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
    methods = list(dict.fromkeys(method for method, _ in keys))
    layers = list(dict.fromkeys(layer for _, layer in keys if layer)) or [""]
    if len(keys) <= _IN_A_ROW and 1 in (len(methods), len(layers)):
        return _row(keys, aspect)
    if len(methods) > _ACROSS or len(layers) == 1 or any(not layer for _, layer in keys):
        return _sheet(keys, layers if len(layers) > 1 else [], aspect)
    return _block(keys, methods, layers, aspect)


def _row(keys: Sequence[Key], aspect: float) -> Page:
    count = len(keys) + 1
    width = min(3.6, 3.0 * aspect, (_MAX_WIDTH - 2 * MARGIN - _BARS_WIDTH - 0.3) / count - GAP)
    top = MARGIN + HEADER + _LABEL
    photo, *places = (
        Rect(MARGIN + i * (width + GAP), top, width, width / aspect) for i in range(count)
    )
    left = photo.left + count * (width + GAP) - GAP + 0.3
    bars = Rect(left, top, _BARS_WIDTH, max(photo.height, _BARS_HEIGHT))
    size = (left + _BARS_WIDTH + MARGIN, top + bars.height + MARGIN)
    panels = dict(zip(keys, places, strict=True))
    return Page(
        size, photo, bars, panels, [_above(place, _full_name(key)) for key, place in panels.items()]
    )


def _block(keys: Sequence[Key], methods: list[str], layers: list[str], aspect: float) -> Page:
    down, across = (methods, layers) if len(layers) >= len(methods) else (layers, methods)
    width = min(2.8, 2.2 * aspect, (_MAX_WIDTH - 2 * MARGIN - 3.2) / len(across) - GAP)
    height, top = width / aspect, MARGIN + HEADER + _LABEL
    tall = len(down) * (height + GAP) - GAP
    photo_width = max(width, _BARS_WIDTH, min(2 * width, aspect * (tall - _BARS_HEIGHT - 0.3)))
    photo = Rect(MARGIN, top, photo_width, photo_width / aspect)
    under = top + photo.height + 0.3
    bars = Rect(MARGIN, under, photo_width, max(_BARS_HEIGHT, min(2.6, top + tall - under)))
    left = MARGIN + photo_width + 0.5
    place = lambda row, column: Rect(
        left + column * (width + GAP), top + row * (height + GAP), width, height
    )
    turn = 1 if down is methods else -1
    panels = {key: place(down.index(key[::turn][0]), across.index(key[::turn][1])) for key in keys}
    labels = [_above(place(0, column), _flat(text)) for column, text in enumerate(across)]
    labels += [label for row, text in enumerate(down) for label in _beside(place(row, 0), text)]
    size = (
        left + len(across) * (width + GAP) - GAP + MARGIN,
        max(top + tall, bars.top + bars.height) + MARGIN,
    )
    return Page(size, photo, bars, panels, labels)


def _sheet(keys: Sequence[Key], layers: list[str], aspect: float) -> Page:
    """`layers` are the columns of the grid; without, every map stands for itself."""
    rows = list(dict.fromkeys(method for method, layer in keys if layer in layers))
    loose = [key for key in keys if key[1] not in layers]
    columns, gutter = (len(layers), _GUTTER) if layers else (min(4, len(loose)), 0.0)
    room = (_MAX_WIDTH - 2 * MARGIN - gutter) / columns - GAP
    tallest = 1.35 if len(rows) > _ACROSS else 1.8
    width = min(room, 2.8, tallest * aspect)
    height, left, band = width / aspect, MARGIN + gutter, MARGIN + HEADER
    page_width = max(left + columns * (width + GAP) - GAP, 2 * _BARS_WIDTH + 0.5) + MARGIN
    photo_width = min(1.9 * aspect, page_width - 2 * MARGIN - 0.4 - _BARS_WIDTH)
    photo = Rect(MARGIN, band, photo_width, photo_width / aspect)
    bars_left = photo.left + photo_width + 0.4
    bars = Rect(
        bars_left,
        band - 0.04,
        min(4.0, page_width - MARGIN - bars_left),
        max(photo.height, _BARS_HEIGHT),
    )
    top = band + max(photo.height, bars.height) + _SECTION + _LABEL
    place = lambda row, column: Rect(
        left + column * (width + GAP), top + row * (height + GAP), width, height
    )
    panels = {
        (m, layer): place(rows.index(m), layers.index(layer))
        for m, layer in keys
        if layer in layers
    }
    labels = [_above(place(0, column), _flat(layer)) for column, layer in enumerate(layers)]
    labels += [_before(place(row, 0), method) for row, method in enumerate(rows)]
    top += len(rows) * (height + GAP) + (_SECTION + _LABEL if rows and loose else 0)
    for index, key in enumerate(loose):
        row, column = divmod(index, columns)
        panels[key] = Rect(
            left + column * (width + GAP), top + row * (height + GAP + _LABEL), width, height
        )
        labels.append(_above(panels[key], _full_name(key)))
    bottom = max(panel.top + panel.height for panel in panels.values())
    return Page((page_width, bottom + MARGIN), photo, bars, panels, labels)


def _above(place: Rect, text: str) -> Label:
    return Label(place.left, place.top - 0.08, place.width, text, {"size": 8.5})


def _before(place: Rect, text: str) -> Label:
    """In the gutter, level with the panel's middle."""
    style = {"size": 9, "va": "center"}
    return Label(MARGIN, place.top + place.height / 2, _GUTTER - 0.1, text, style)


def _beside(place: Rect, text: str) -> list[Label]:
    """Upright, its lines from left to right."""
    style = {"size": 8, "rotation": 90, "ha": "right", "va": "center"}
    lines, middle = text.split("\n"), place.top + place.height / 2
    return [
        Label(place.left - 0.07 - 0.15 * (len(lines) - 1 - i), middle, place.height, line, style)
        for i, line in enumerate(lines)
    ]


def _full_name(key: Key) -> str:
    method, layer = key
    return f"{method},  {_flat(layer)}" if layer else method


def _flat(text: str) -> str:
    return text.replace("\n", "  ")
