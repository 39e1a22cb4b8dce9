"""The picture of an explanation: a photo, its heatmaps in a grid, and the network's probabilities.

Figures are laid out by hand (`jaxcam._layouts`, in inches), so that panels are equal, pixels are
crisp at `DPI` and nothing is wasted; pyplot and its global state are never touched.
"""

import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxcam import _bars as bars
from jaxcam import _canvas as canvas
from jaxcam import _layouts as layouts
from jaxcam import _overlays, maps, photos
from jaxcam import _papers as papers
from jaxcam._ground import files
from jaxcam._ground import style as style_of_ours
from jaxcam._ground.errors import check_choice
from jaxcam._layouts import MARGIN, Label, Page, Rect
from jaxcam._program.centers import Centers

__all__ = [
    "DPI",
    "FORMATS",
    "WIDTHS",
    "Explanation",
    "Style",
    "draw",
    "save",
    "save_maps",
    "verdict",
    "write",
]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = layouts.DPI
WIDTHS = _overlays.WIDTHS
FORMATS = ("png", "pdf", "svg")
# Of zlib: the file is 3 % larger than at the usual 6, and takes less than half the time.
_LEVEL = 4
# Of files that would say when they were made.
_DATES = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}

# of |R|, the end of the scale of signed maps at the pixels: a few outliers would darken the rest
_PERCENTILE = 99.5
_KEY_WIDTH = 0.9
# What the ends of a scale mean.
_MEANINGS = {
    "positive": ("none", "most"),
    "max": ("none", "most"),
    "min_max": ("least", "most"),
    "signed": ("against the class", "for it"),
}
_ROUNDING = 4 * np.finfo(np.float32).eps  # what a constant map may vary by, in parts of it
_FINE = 128  # cells along the longer side of a map that is drawn, at least


class Explanation(NamedTuple):
    """What a picture shows. `maps` are raw, by the labels of (method, layer), in their order.

    A label may have two lines. A map that is missing leaves its place empty; None stands for a
    method that does not apply to the layer. The layer "" stands for the whole network.
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
    # methods whose maps of the whole network speak for and against
    signed: frozenset[str] = frozenset()
    # where the cells of maps lie, by the same labels; others are stretched over the image
    centers: Mapping[tuple[str, str], Centers] = MappingProxyType({})


class Scale(NamedTuple):
    """How a map becomes colours: a method of `jaxcam.maps.normalize` and a colormap."""

    normalize: str
    colormap: str

    @property
    def around_zero(self) -> bool:
        """Whether 0 is the middle of the scale."""
        return self.normalize == "signed"


class Style(NamedTuple):
    """How maps become colours, and for what the picture is made.

    None for the scale that suits the map: "signed" and "coolwarm" where 0 is the middle, else
    "positive" and "inferno". Width None is a picture for the screen; "column" and "page" (`WIDTHS`)
    are as wide as one or two columns of a paper, with a legend in place of title and bars.
    """

    normalize: str | None = None
    colormap: str | None = None
    width: str | None = None

    def resolved(self, signed: bool = False) -> Scale:
        """With nothing left open, for a map that is signed at the pixels or one that is not."""
        normalize = self.normalize
        if normalize is None:
            normalize = "signed" if signed else "positive"
        usual = _overlays.COLORMAP
        if normalize == "signed":
            usual = _overlays.SIGNED_COLORMAP
        return Scale(normalize, self.colormap or usual)


def draw(explanation: Explanation, style: Style = Style()) -> "Figure":  # noqa: B008  (a constant)
    """Draw an explanation, its maps interpolated bicubically.

    How maps are arranged is said in `jaxcam._layouts.arrange` and `jaxcam._papers.arrange`.

    Args:
        explanation: What to show.
        style: How to colour the maps, and how wide the picture is.

    Returns:
        A `matplotlib.figure.Figure`, to be saved at its own resolution.

    Raises:
        ValueError: An unknown width.

    Example:
        >>> import numpy as np
        >>> from jaxcam import pictures
        >>> photo = (255 * np.asarray(images[0])).astype(np.uint8)
        >>> maps = {("Grad-CAM", "features"): np.asarray(jaxcam.grad_cam(forward, images)[0])}
        >>> odds = np.array([0.9, 0.1, 0.0])
        >>> names = ["red", "green", "blue"]
        >>> explained = pictures.Explanation("spot", photo, maps, names, odds, 0, (8, 8))
        >>> len(pictures.draw(explained).axes)
        6
    """
    with style_of_ours.own():
        return _drawn(explanation, style)


def _drawn(explanation: Explanation, style: Style) -> "Figure":
    from matplotlib.figure import Figure

    keys = list(explanation.maps)
    aspect = _aspect(explanation.photo)
    if style.width is None:
        page = layouts.arrange(keys, aspect)
    else:
        check_choice("width", style.width, WIDTHS)
        scales = _scales(explanation, style)
        page = papers.arrange(keys, aspect, WIDTHS[style.width], len(scales))
    figure = Figure(figsize=page.size, dpi=page.dpi, facecolor="white")
    if style.width is None:
        _draw_header(figure, page, explanation, style)
        e = explanation
        bars.draw(figure, page, page.bars, e.classes, e.probabilities, e.target)
    else:
        _draw_legend(figure, page, explanation, style)
    photo = canvas.to_panel(explanation.photo, page, page.photo)
    canvas.draw_image(figure, page, page.photo, photo)
    for key, place in page.panels.items():
        _draw_map(figure, page, place, explanation, key, style)
    for label in page.labels:
        _draw_label(figure, page, label)
    return figure


def save(explanation: Explanation, path: Path, style: Style = Style()) -> None:  # noqa: B008  (a constant)
    """Draw an explanation and write it as a file, whole or not at all.

    Its suffix says which of `FORMATS` it is, .png without one. PDF files hold their fonts; SVG
    files the outlines of letters.

    Raises:
        OSError: The file cannot be written; the message names it.
        ValueError: Another suffix; an unknown width.

    Example:
        >>> import pathlib
        >>> import numpy as np
        >>> from jaxcam import pictures
        >>> photo = (255 * np.asarray(images[0])).astype(np.uint8)
        >>> maps = {("Grad-CAM", "features"): np.asarray(jaxcam.grad_cam(forward, images)[0])}
        >>> odds = np.array([0.9, 0.1, 0.0])
        >>> names = ["red", "green", "blue"]
        >>> path = pathlib.Path("spot.png")
        >>> pictures.save(pictures.Explanation("spot", photo, maps, names, odds, 0, (8, 8)), path)
    """
    kind = Path(path).suffix.lower().lstrip(".") or "png"
    check_choice("path", kind, FORMATS, kind="formats")
    options: dict[str, Any] = {"metadata": _DATES.get(kind)}
    if kind == "png":
        options["pil_kwargs"] = {"compress_level": _LEVEL}
    write(draw(explanation, style), path, format=kind, **options)


def write(figure: "Figure", path: Path, **options: Any) -> None:
    """Write a figure as a file, whole or not at all, in the style in which it was made.

    Args:
        figure: of `draw`.
        path: the file.
        **options: as of `Figure.savefig`: `format`, `dpi`.

    Raises:
        OSError: The file cannot be written; the message names it.

    Example:
        >>> import pathlib
        >>> from jaxcam import pictures
        >>> path = pathlib.Path("heat.png")
        >>> pictures.write(jaxcam.maps.figure(images, heat), path)
        >>> path.exists()
        True
    """
    with files.replacing(path) as file, warnings.catch_warnings(), style_of_ours.own():
        # a name in a script that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(file, **options)


def save_maps(
    path: Path, explained: Mapping[str, np.ndarray], logits: np.ndarray, target: int
) -> None:
    """Write raw maps, `[h, w]` by "METHOD/LAYER", `logits` `[N]` and `target` class as an `.npz`.

    Raises:
        OSError: The file cannot be written; the message names it.

    Example:
        >>> import pathlib
        >>> import numpy as np
        >>> from jaxcam import pictures
        >>> path = pathlib.Path("spot.npz")
        >>> maps = {"grad_cam/features": np.asarray(jaxcam.grad_cam(forward, images)[0])}
        >>> pictures.save_maps(path, maps, np.asarray(forward(images)[0]), 0)
        >>> sorted(np.load(path))
        ['grad_cam/features', 'logits', 'target']
    """
    arrays: dict[str, np.ndarray] = {
        **explained,
        "logits": logits,
        "target": np.array(target, np.int32),
    }
    with files.replacing(path) as file:
        np.savez_compressed(file, allow_pickle=True, **arrays)


def verdict(raw: np.ndarray | None, style: Style = Style()) -> str | None:  # noqa: B008  (a constant)
    r"""Why a raw map must not be drawn as heat, in two lines, or None if it may.

    Example:
        >>> import numpy as np
        >>> from jaxcam import pictures
        >>> pictures.verdict(np.ones((4, 4)))
        'no evidence:\nconstant map'
        >>> pictures.verdict(np.asarray(heat[0])) is None
        True
    """
    if raw is None:
        return "does not apply\nto this layer"
    if not np.isfinite(raw).all():
        return "no map:\nNaN or infinity"
    if raw.min() == raw.max() == 0:
        return "no evidence:\nzero everywhere"
    if raw.max() - raw.min() <= _ROUNDING * np.abs(raw).max():
        return "no evidence:\nconstant map"
    if raw.max() <= 0 and style.normalize in (None, "positive", "max"):
        return "no evidence for it,\nonly against"
    return None


def _aspect(photo: np.ndarray) -> float:
    """Width over height of the panels; photos beyond these bounds get white borders."""
    return float(np.clip(photo.shape[1] / photo.shape[0], 0.4, 4.0))


def _draw_header(figure: "Figure", page: Page, e: Explanation, style: Style) -> None:
    room = page.size[0] - 2 * MARGIN
    share = bars.percent(e.probabilities[e.target])
    room -= canvas.length(f"Evidence for , {share}", 13, "bold")
    title = f"Evidence for {canvas.elided(e.classes[e.target], room, 13, 'bold')}, {share}"
    canvas.add_text(figure, page, MARGIN, MARGIN + 0.2, title, size=13, weight="bold")
    left = page.size[0] - MARGIN
    for scale in _scales(e, style):
        left = _draw_key(figure, page, left, scale)
    height, width = e.photo.shape[:2]
    known = [*filter(None, (f"{width} × {height}", e.network))]
    facts = canvas.with_facts(e.name, known, left - MARGIN, 8.5)
    canvas.add_text(figure, page, MARGIN, MARGIN + 0.44, facts, size=8.5, color=canvas.FAINT)


def _scales(e: Explanation, style: Style) -> list[Scale]:
    """The scales of a picture's maps."""
    scales = {style.resolved(_is_signed(e, key)) for key in e.maps}
    return sorted(scales, reverse=True)


def _draw_legend(figure: "Figure", page: Page, e: Explanation, style: Style) -> None:
    """What is explained, and what the colours mean, at the foot of a picture for a paper."""
    share = f" ({bars.percent(e.probabilities[e.target])})"
    place = page.bars
    room = place.width - canvas.length(f"Evidence for {share}", papers.POINTS)
    title = f"Evidence for {canvas.elided(e.classes[e.target], room, papers.POINTS)}{share}"
    top = place.top + papers.LINE - 0.05
    canvas.add_text(figure, page, place.left, top, title, size=papers.POINTS)
    for scale in _scales(e, style):
        top += papers.LINE
        papers.draw_key(figure, page, top, scale.colormap, _MEANINGS[scale.normalize])


def _draw_key(figure: "Figure", page: Page, right: float, scale: Scale) -> float:
    """A colour scale between its ends' names, up to `right`; returns where the next may end."""
    style_of_text = {"size": 7.5, "color": canvas.FAINT}
    low, high = _overlays.ENDS[scale.around_zero]
    bar = right - canvas.length(high, 7.5) - 0.07 - _KEY_WIDTH
    left = bar - 0.07 - canvas.length(low, 7.5)
    axes = canvas.add_axes(figure, page, Rect(bar, MARGIN + 0.36, _KEY_WIDTH, 0.09))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=scale.colormap)
    canvas.add_text(figure, page, left, MARGIN + 0.44, low, **style_of_text)
    canvas.add_text(figure, page, bar + _KEY_WIDTH + 0.07, MARGIN + 0.44, high, **style_of_text)
    return left - 0.25


def _draw_label(figure: "Figure", page: Page, label: Label) -> None:
    text = canvas.elided(label.text, label.room, label.style["size"])
    canvas.add_text(figure, page, label.left, label.top, text, **label.style)


def _draw_map(
    figure: "Figure", page: Page, place: Rect, e: Explanation, key: tuple[str, str], style: Style
) -> None:
    grey = _grey(canvas.to_panel(e.photo, page, place))
    raw = e.maps[key]
    signed = _is_signed(e, key)
    scale = style.resolved(signed)
    problem = verdict(raw, Style(*scale))
    if raw is None or problem:
        _draw_problem(figure, page, place, grey, problem or "")
        return
    percentile = _PERCENTILE if signed else 100.0
    smooth = np.asarray(_smooth(raw, scale.normalize, percentile, e.size, e.centers.get(key)))
    fine = photos.restore(smooth, grey.shape[:2], e.size, e.fit)
    # the photo shows through most where there is little to say
    if scale.around_zero:
        heat = np.clip(fine, -1, 1)
        alpha = np.minimum(1.4 * np.nan_to_num(np.abs(heat)), 1)
        grey = 0.45 + 0.5 * grey  # pale, as the middle of the scale is
    else:
        heat = np.clip(fine, 0, 1)
        alpha = 0.4 + 0.35 * np.nan_to_num(heat)
    options = {"colormap": scale.colormap, "alpha": alpha, "signed": scale.around_zero}
    canvas.draw_image(figure, page, place, maps.overlay(grey, heat, **options))


def _draw_problem(figure: "Figure", page: Page, place: Rect, grey: np.ndarray, why: str) -> None:
    """Why there is no map, over the faded photo."""
    axes = canvas.draw_image(figure, page, place, 0.75 + 0.2 * grey)
    longest = max(canvas.length(line, 8) for line in why.split("\n"))
    size = min(8.0, 8 * (place.width - 0.1) / longest)
    style = {"ha": "center", "va": "center", "size": size, "color": canvas.INK}
    axes.text(0.5, 0.5, why, transform=axes.transAxes, **style)


def _grey(photo: np.ndarray) -> np.ndarray:
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((photo @ weights)[..., None], 3, axis=-1)


def _is_signed(e: Explanation, key: tuple[str, str]) -> bool:
    return key[0] in e.signed and not key[1]


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _smooth(
    raw: jax.Array, scale: str, percentile: float, seen: tuple[int, int], centers: Centers | None
) -> jax.Array:
    """A normalised map with finer cells; bilinear interpolation alone draws stars around cells."""
    normalized = maps.normalize(raw, scale, percentile=percentile)
    coarse = normalized.shape
    if centers is not None:
        coarse = seen
    factor = max(1, _FINE // max(coarse))
    size = (factor * coarse[0], factor * coarse[1])
    # bicubic interpolation overshoots
    return maps.normalize(maps.resize(normalized, size, "bicubic", centers=centers), scale)
