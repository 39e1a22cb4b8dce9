"""The picture of an explanation: a photo, its heatmaps in a grid, and the network's probabilities.

All lengths are inches. Figures are laid out by hand, panel by panel, so that panels are equal, pixels are crisp at
`DPI` and nothing is wasted; pyplot and its global state are never touched.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxcam import maps, photos

DPI = 200
ACCENT, INK, FAINT, RULE = "#d9480f", "#212529", "#868e96", "#dee2e6"

_MARGIN, _GAP, _HEADER, _LABEL = 0.22, 0.08, 0.62, 0.24
_BARS_WIDTH, _BARS_HEIGHT = 2.3, 1.75
_MAX_WIDTH = 15.0
_TOP = 5
_FILES = {".png", ".jpg", ".jpeg", ".pdf", ".svg", ".gif", ".webp", ".tif", ".npz"}  # else `out` is a folder


class Explanation(NamedTuple):
    """What a picture shows. `maps` are raw, by the labels of (method, layer), in the order of rows and columns.

    A label may have two lines. A map that is missing leaves its place empty; None stands for a method that does not
    apply to the layer. The layer "" stands for the pixels: such a map takes the first layer's place.
    """

    name: str  # of the photo
    photo: np.ndarray  # [H, W, 3] uint8
    maps: Mapping[tuple[str, str], np.ndarray | None]  # [h, w] each
    classes: Sequence[str]
    probabilities: np.ndarray  # [N]
    target: int
    size: tuple[int, int]  # of the network's input, see jaxcam.photos
    fit: str = "stretch"
    network: str = ""


class Style(NamedTuple):
    """How maps become colours: a method of `jaxcam.maps.normalize` and a colormap (None: the method's own)."""

    normalize: str = "positive"
    colormap: str | None = None

    @property
    def signed(self) -> bool:
        """Whether 0 is the middle of the scale."""
        return self.normalize == "signed"

    @property
    def colours(self) -> str:
        """The colormap's name."""
        return self.colormap or (maps.SIGNED_COLORMAP if self.signed else maps.COLORMAP)


class _Rect(NamedTuple):
    """A place on the page: left, top (from the top edge), width, height."""

    left: float
    top: float
    width: float
    height: float


def draw(explanation: Explanation, style: Style = Style()):  # noqa: B008  (a constant)
    """Draw an explanation, its maps interpolated bicubically.

    One row of maps: photo, maps, probabilities side by side. A grid: the photo over the probabilities, and the grid
    beside them; the longer of methods and layers runs across.

    Args:
        explanation: What to show.
        style: How to colour the maps.

    Returns:
        A `matplotlib.figure.Figure`, to be saved at `DPI`.
    """
    from matplotlib.figure import Figure

    methods, layers, across = _grid(list(explanation.maps))
    rows, columns = (len(methods), len(layers)) if across == "layers" else (len(layers), len(methods))
    layout = _one_row if rows == 1 else _block
    page, photo, bars, panels = layout(_aspect(explanation.photo), rows, columns)
    figure = Figure(figsize=page, dpi=DPI, facecolor="white")
    _draw_header(figure, page, explanation, style)
    _draw_image(figure, page, photo, _to_panel(explanation.photo, photo))
    _draw_bars(figure, page, bars, explanation)
    for (row, column), place in panels.items():
        method, layer = (row, column) if across == "layers" else (column, row)
        key = (methods[method], layers[layer])
        if layer == 0 and key not in explanation.maps:
            key = (methods[method], "")
        if key in explanation.maps:
            _draw_map(figure, page, place, explanation, key, style)
    methods = [f"{m} (pixels)" if layers != [""] and (m, "") in explanation.maps else m for m in methods]
    _draw_labels(figure, page, panels, *((methods, layers) if across == "layers" else (layers, methods)), across)
    return figure


def save(explanation: Explanation, path: Path, style: Style = Style()) -> None:  # noqa: B008  (a constant)
    """Draw an explanation and write it as a PNG file, whole or not at all.

    Raises:
        OSError: The file cannot be written; the message names it.
    """
    with atomically(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in a script that the font lacks is drawn as boxes
        draw(explanation, style).savefig(file, format="png")


def save_maps(path: Path, explained: Mapping[str, np.ndarray], logits: np.ndarray, target: int) -> None:
    """Write raw maps, `[h, w]` by "METHOD/LAYER", with `logits` `[N]` and the `target` class, as an `.npz` file.

    Raises:
        OSError: The file cannot be written; the message names it.
    """
    with atomically(path) as file:
        np.savez_compressed(file, **explained, logits=logits, target=np.int32(target))


def paths(sources: Sequence[str], out: str, suffix: str = "") -> list[Path]:
    """Where the picture of each photo goes: `out/STEM` + `suffix` + `.png`, or `out` itself if it is a `.png` file.

    Photos that share a stem get different names, told apart by -2, -3, ...

    Raises:
        ValueError: `out` is one file for several photos, a file of another type, or the photo itself.
    """
    path = Path(out)
    if path.is_dir() or path.suffix.lower() not in _FILES:
        taken: set[str] = set()
        return [path / _unused(Path(source).stem + suffix, taken) for source in sources]
    if path.suffix.lower() != ".png":
        raise ValueError(f"got {out!r}, expected a folder or a file that ends in .png")
    if len(sources) != 1:
        raise ValueError(f"got one file, {out!r}, for {len(sources)} photos, expected a folder")
    if path.exists() and Path(sources[0]).exists() and path.samefile(sources[0]):
        raise ValueError(f"{out!r} is the photo itself")
    return [path]


@contextlib.contextmanager
def atomically(path: Path) -> Iterator[Any]:
    """A binary file that becomes `path` when the block ends, or nothing at all if it fails.

    Raises:
        OSError: The file cannot be written; the message names it.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def verdict(raw: np.ndarray | None, style: Style = Style()) -> str | None:  # noqa: B008  (a constant)
    """Why a raw map must not be drawn as heat, in two lines, or None if it may."""
    if raw is None:
        return "does not apply\nto this layer"
    if not np.isfinite(raw).all():
        return "no map:\nNaN or infinity"
    if raw.min() == raw.max():
        return "no evidence:\nzero everywhere" if raw.max() == 0 else "no evidence:\nconstant map"
    if raw.max() <= 0 and style.normalize in ("positive", "max"):
        return "no evidence for it,\nonly against"
    return None


def _unused(stem: str, taken: set[str]) -> str:
    """A file name that no earlier photo got; case does not tell files apart everywhere."""
    candidates = (f"{stem}{suffix}.png" for suffix in ("", *(f"-{n}" for n in range(2, len(taken) + 3))))
    name = next(c for c in candidates if c.casefold() not in taken)
    taken.add(name.casefold())
    return name


def _grid(keys: list[tuple[str, str]]) -> tuple[list[str], list[str], str]:
    methods = list(dict.fromkeys(method for method, _ in keys))
    layers = list(dict.fromkeys(layer for _, layer in keys if layer)) or [""]
    return methods, layers, "layers" if len(layers) >= len(methods) else "methods"


def _aspect(photo: np.ndarray) -> float:
    """Width over height of the panels; photos beyond these bounds get white borders."""
    return float(np.clip(photo.shape[1] / photo.shape[0], 0.4, 4.0))


def _one_row(aspect: float, rows: int, columns: int) -> tuple:
    del rows
    room = _MAX_WIDTH - 2 * _MARGIN - _BARS_WIDTH - 0.3
    width = min(3.6, 3.0 * aspect, room / (columns + 1) - _GAP)
    height = width / aspect
    top = _MARGIN + _HEADER + _LABEL
    places = [_Rect(_MARGIN + i * (width + _GAP), top, width, height) for i in range(columns + 1)]
    left = places[-1].left + width + 0.3
    bars = _Rect(left, top, _BARS_WIDTH, max(height, _BARS_HEIGHT))
    page = (left + _BARS_WIDTH + _MARGIN, top + bars.height + _MARGIN)
    return page, places[0], bars, {(0, i): place for i, place in enumerate(places[1:])}


def _block(aspect: float, rows: int, columns: int) -> tuple:
    width = min(2.8, 2.2 * aspect, (_MAX_WIDTH - 2 * _MARGIN - 3.2) / columns - _GAP)
    height = width / aspect
    top = _MARGIN + _HEADER + _LABEL
    tall = rows * (height + _GAP) - _GAP
    photo_width = max(width, _BARS_WIDTH, min(2 * width, aspect * (tall - _BARS_HEIGHT - 0.3)))
    photo = _Rect(_MARGIN, top, photo_width, photo_width / aspect)
    under = top + photo.height + 0.3
    bars = _Rect(_MARGIN, under, photo_width, max(_BARS_HEIGHT, min(2.6, top + tall - under)))
    left = _MARGIN + photo_width + 0.5
    panels = {
        (r, c): _Rect(left + c * (width + _GAP), top + r * (height + _GAP), width, height)
        for r in range(rows)
        for c in range(columns)
    }
    page_width = left + columns * (width + _GAP) - _GAP + _MARGIN
    return (page_width, max(top + tall, bars.top + bars.height) + _MARGIN), photo, bars, panels


def _draw_header(figure, page: tuple[float, float], e: Explanation, style: Style) -> None:
    room = page[0] - 2 * _MARGIN - 1.8
    title = f"Evidence for {_elided(e.classes[e.target], room - 3, 14)}, {_percent(e.probabilities[e.target])}"
    _write(figure, page, _MARGIN, _MARGIN + 0.2, title, size=13, weight="bold")
    height, width = e.photo.shape[:2]
    facts = [_elided(e.name, room - 2, 8.5), f"{width} × {height}", e.network]
    _write(figure, page, _MARGIN, _MARGIN + 0.44, "  ·  ".join(f for f in facts if f), size=8.5, color=FAINT)
    key = _Rect(page[0] - _MARGIN - 1.5, _MARGIN + 0.1, 1.5, 0.1)
    axes = _axes(figure, page, key)
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=style.colours)
    for x, text, side in zip((key.left, key.left + key.width), _ends(style), ("left", "right"), strict=True):
        _write(figure, page, x, key.top + 0.26, text, size=7.5, color=FAINT, ha=side)


def _ends(style: Style) -> tuple[str, str]:
    return ("against", "for") if style.signed else ("little", "much")


def _draw_labels(figure, page, panels: dict, rows: list[str], columns: list[str], across: str) -> None:
    """Columns above the first row; rows to the left of the first column, or before the column if there is one row."""
    longest = max(len(column) for column in columns)
    points = float(np.clip(72 * panels[0, 0].width / (0.58 * longest), 6, 8.5)) if len(rows) > 1 else 8.5
    for (row, column), place in panels.items():
        if row == 0:
            parts = [columns[column]] if len(rows) > 1 else [rows[0], columns[column]]
            parts = parts[::-1] if across == "methods" else parts  # the method first
            label = ",  ".join(part.replace("\n", "  ") for part in parts if part)
            _write(figure, page, place.left, place.top - 0.08, _elided(label, place.width, points), size=points)
        if column == 0 and len(rows) > 1:
            label = "\n".join(_elided(line, place.height, 8) for line in rows[row].split("\n"))
            style = {"rotation": 90, "ha": "right", "va": "center", "multialignment": "center", "linespacing": 1.3}
            _write(figure, page, place.left - 0.08, place.top + place.height / 2, label, size=8, **style)


def _draw_map(figure, page, place: _Rect, e: Explanation, key: tuple[str, str], style: Style) -> None:
    photo = _to_panel(e.photo, place)
    grey = np.repeat((photo @ np.float32([0.299, 0.587, 0.114]))[..., None], 3, axis=-1)
    raw = e.maps[key]
    problem = verdict(raw, style)
    if problem:
        axes = _draw_image(figure, page, place, 0.75 + 0.2 * grey)
        axes.text(0.5, 0.5, problem, transform=axes.transAxes, ha="center", va="center", size=8, color=INK)
        return
    heat = photos.restore(_smooth(raw, style.normalize), photo.shape[:2], e.size, e.fit)
    heat = np.clip(heat, -1 if style.signed else 0, 1)
    alpha = 0.4 + 0.35 * np.nan_to_num(np.abs(heat))  # the photo shows through most where there is little to say
    _draw_image(figure, page, place, maps.overlay(grey, heat, style.colours, alpha, signed=style.signed))


def _smooth(raw: np.ndarray, normalize: str) -> np.ndarray:
    """The normalised map with finer cells; bilinear interpolation alone would draw a star around each cell."""
    factor = max(1, 128 // max(raw.shape))
    fine = maps.resize(maps.normalize(raw, normalize), (factor * raw.shape[0], factor * raw.shape[1]), "bicubic")
    return np.asarray(maps.normalize(fine, normalize))  # bicubic interpolation overshoots


def _draw_bars(figure, page, place: _Rect, e: Explanation) -> None:
    order = [int(i) for i in np.argsort(-np.nan_to_num(e.probabilities), kind="stable")]
    shown = order[:_TOP]
    if e.target not in shown:
        shown = [*shown[:-1], e.target]
    step = min(0.42, place.height / len(shown))
    for row, index in enumerate(shown):
        top, colour = place.top + row * step, ACCENT if index == e.target else "#adb5bd"
        weight, p = ("bold" if index == e.target else "normal"), e.probabilities[index]
        rank = "" if order.index(index) < _TOP else f"{order.index(index) + 1}.  "
        label = _elided(rank + e.classes[index], place.width - 0.6, 8.5)
        _write(figure, page, place.left, top + 0.13, label, size=8.5, weight=weight)
        _write(figure, page, place.left + place.width, top + 0.13, _percent(p), size=8.5, weight=weight, ha="right")
        axes = _axes(figure, page, _Rect(place.left, top + 0.19, place.width, 0.07))
        axes.barh([0, 0], [1, np.nan_to_num(p)], height=1, color=[RULE, colour])
        axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))


def _percent(share: float) -> str:
    return "NaN" if np.isnan(share) else f"{100 * share:.1f} %"


def _elided(text: str, width: float, points: float) -> str:
    room = max(4, int(width / (0.58 * points / 72)))
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def _to_panel(photo: np.ndarray, place: _Rect) -> np.ndarray:
    """The photo at the panel's resolution, `[h, w, 3]` float32 in [0, 1]; its own aspect ratio."""
    scale = min(place.width * DPI / photo.shape[1], place.height * DPI / photo.shape[0])
    size = [max(1, round(scale * n)) for n in (photo.shape[1], photo.shape[0])]
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS), np.float32) / 255


def _draw_image(figure, page, place: _Rect, pixels: np.ndarray):
    axes = _axes(figure, page, place)
    axes.imshow(pixels)
    return axes


def _axes(figure, page: tuple[float, float], place: _Rect):
    bottom = page[1] - place.top - place.height
    position = [place.left / page[0], bottom / page[1], place.width / page[0], place.height / page[1]]
    axes = figure.add_axes(position)
    axes.set_axis_off()
    return axes


def _write(figure, page, left: float, top: float, text: str, **style) -> None:
    """Text with its baseline at `top`, taken literally: a name may hold "$" or bytes that are no text."""
    text = text.encode("utf-8", "replace").decode()
    style = {"color": INK, "parse_math": False} | style
    figure.text(left / page[0], 1 - top / page[1], text, **style)
