"""Heatmaps on images, drawn on the host."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxcam._ground import style
from jaxcam._ground.errors import ArgumentError, check_choice, check_flag, check_unmasked, one_of
from jaxcam._ground.text import counted
from jaxcam._resizing import resize

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_NORMALIZE_FIRST = "see jaxcam.maps.normalize"
COLORMAP = "inferno"
SIGNED_COLORMAP = "coolwarm"
# Widths of the columns of papers, in inches: 83 and 175 mm.
WIDTHS = {"column": 3.25, "page": 6.9}
# What the ends of a scale of colours mean, by whether 0 is its middle.
ENDS = {False: ("little", "much"), True: ("against", "for")}
_POINTS = 9.0  # of letters on a screen
_PRINTED = 7.0  # and in a paper
_KEY = 0.26  # height of what the key of the colours takes, in inches
_BAR = (0.7, 0.09)  # and of its bar


def overlay(
    images: np.ndarray,
    heatmaps: np.ndarray,
    *,
    colormap: str | None = None,
    alpha: float | np.ndarray = 0.5,
    signed: bool = False,
) -> np.ndarray:
    """Blend heatmaps over images.

    out = (1 - alpha) image + alpha colormap(heatmap)

    Args:
        images: `[B, H, W, 3]` (or one `[H, W, 3]`), in [0, 1].
        heatmaps: `[B, H, W]` (or one `[H, W]`), in [0, 1]; in [-1, 1] if `signed`. NaN pixels show
            the image in dark grey: nothing is known there.
        colormap: A name from `matplotlib.colormaps`. None: "inferno", or "coolwarm" if `signed`.
        alpha: Opacity of the colours, in [0, 1]: a number, or one for each pixel, shaped as
            `heatmaps`.
        signed: Whether 0 is the middle of the colour scale instead of its lower end.

    Returns:
        `[B, H, W, 3]` (or `[H, W, 3]`) float32 in [0, 1].

    Raises:
        ValueError: Shapes do not agree, values or `alpha` are out of range, or there is no such
            colormap.

    Example:
        >>> blended = jaxcam.maps.overlay(images, heat, alpha=0.4)
        >>> blended.shape
        (2, 8, 8, 3)
    """
    for name, given in (("images", images), ("heatmaps", heatmaps), ("alpha", alpha)):
        check_unmasked(name, given)
    images = np.asarray(images, np.float32)
    heatmaps = np.asarray(heatmaps, np.float32)
    _check_overlay(images, heatmaps, alpha, signed)
    if signed:
        values = (heatmaps + 1) / 2
        colours = _colormap(colormap or SIGNED_COLORMAP)
    else:
        values = heatmaps
        colours = _colormap(colormap or COLORMAP)
    known = ~np.isnan(values)[..., None]
    heat = colours(np.nan_to_num(values))[..., :3]
    opacity = np.broadcast_to(alpha, heatmaps.shape)[..., None]
    grey = 0.4 * images.mean(axis=-1, keepdims=True)
    return np.where(known, (1 - opacity) * images + opacity * heat, grey).astype(np.float32)


def figure(
    images: np.ndarray,
    heatmaps: np.ndarray | Mapping[str, np.ndarray],
    titles: Sequence[str] | None = None,
    *,
    colormap: str | None = None,
    alpha: float = 0.5,
    signed: bool = False,
    panel: float = 2.2,
    width: str | None = None,
) -> "Figure":
    """A grid of pictures: a row for each image, which comes first and then under each heatmap.

    Below it a key says what the colours mean: little to much, or against to for if `signed`.

    Args:
        images: `[B, H, W, 3]` in [0, 1].
        heatmaps: `[B, h, w]` normalised maps of any resolution (they are resized), or several of
            them by name.
        titles: One for each image, to its left.
        colormap: As in `overlay`.
        alpha: As in `overlay`.
        signed: As in `overlay`.
        panel: Width of a picture, in inches; `width` says it for a paper.
        width: Of the whole figure: None, as many panels as there are; "column" (3.25 inches) or
            "page" (6.9) of a paper, with letters of the size that they have in print.

    Returns:
        A `matplotlib.figure.Figure`, independent of pyplot: the last line of a notebook cell shows
        it, and `.savefig(path)` saves it.

    Raises:
        ValueError: As `overlay`, or the number of titles or maps is not that of the images, or the
            maps are not normalised: values off the scale, or none in all the maps that reaches half
            of it; or an unknown `width`.

    Example:
        >>> figure = jaxcam.maps.figure(images, {"Grad-CAM": heat}, titles=["red", "green"])
        >>> len(figure.axes)
        5
    """
    check_unmasked("images", images)
    images = np.asarray(images, np.float32)
    columns = heatmaps if isinstance(heatmaps, Mapping) else {"": heatmaps}
    if width is not None:
        check_choice("width", width, WIDTHS)
    _check_figure(images, columns, titles)
    _check_scale(columns, signed)
    pictures: dict[str | None, np.ndarray] = {None: images}
    for name, maps in columns.items():
        large = np.asarray(resize(maps, images.shape[1:3]))
        pictures[name] = overlay(images, large, colormap=colormap, alpha=alpha, signed=signed)
    points = _POINTS
    if width is not None:
        panel = WIDTHS[width] / len(pictures)
        points = _PRINTED
    with style.own():
        made = _grid(pictures, titles or (), panel, points)
        _draw_key(made, colormap or (SIGNED_COLORMAP if signed else COLORMAP), signed, points)
    return made


def _grid(
    pictures: Mapping[str | None, np.ndarray], titles: Sequence[str], panel: float, points: float
) -> "Figure":
    """Columns of pictures `[B, H, W, 3]` by title."""
    from matplotlib.figure import Figure

    rows, high, wide = pictures[None].shape[:3]
    size = (len(pictures) * panel, rows * panel * high / wide + 0.3 + _KEY)
    made = Figure(figsize=size, layout="constrained")
    axes = made.subplots(rows, len(pictures), squeeze=False)
    for column, (name, pixels) in enumerate(pictures.items()):
        for row in range(rows):
            axes[row, column].imshow(pixels[row])
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].spines[:].set_visible(False)
        axes[0, column].set_title(name or "", fontsize=points, parse_math=False)
    for row, title in enumerate(titles):
        axes[row, 0].set_ylabel(title, fontsize=points, parse_math=False)
    return made


def _draw_key(figure: "Figure", colormap: str, signed: bool, points: float) -> None:
    """A scale of colours between what its ends mean, in the middle below the pictures."""
    width, height = figure.get_size_inches()
    figure.get_layout_engine().set(rect=(0, _KEY / height, 1, 1 - _KEY / height))  # type: ignore[union-attr]
    wide, high = _BAR
    left = (1 - wide / width) / 2
    middle = _KEY / 2 / height
    axes = figure.add_axes((left, middle - high / 2 / height, wide / width, high / height))
    axes.set_axis_off()
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=colormap)
    low, much = ENDS[signed]
    gap = 0.06 / width
    how = {"fontsize": points, "va": "center"}
    figure.text(left - gap, middle, low, ha="right", **how)
    figure.text(left + wide / width + gap, middle, much, ha="left", **how)


def _colormap(name: str) -> "Colormap":
    colormaps = style.matplotlib().colormaps
    try:
        return colormaps[name]
    except KeyError:
        expected = one_of(name, colormaps, "names of matplotlib.colormaps")
        raise ArgumentError("colormap", repr(name), expected) from None


def _check_overlay(
    images: np.ndarray, heatmaps: np.ndarray, alpha: float | np.ndarray, signed: bool
) -> None:
    check_flag("signed", signed)
    if images.ndim not in (3, 4) or images.shape[-1] != 3 or heatmaps.shape != images.shape[:-1]:
        got = f"shape {heatmaps.shape} for images {images.shape}"
        expected = "images [B, H, W, 3] and heatmaps [B, H, W] of their size (jaxcam.maps.resize)"
        raise ArgumentError("heatmaps", got, expected)
    if np.shape(alpha) not in ((), heatmaps.shape):
        expected = f"a number or {heatmaps.shape}, as heatmaps"
        raise ArgumentError("alpha", f"shape {np.shape(alpha)}", expected)
    _check_range("alpha", np.asarray(alpha, np.float32), 0, "an opacity")
    _check_range("images", images, 0, "divide 8-bit images by 255")
    _check_range("heatmaps", heatmaps, -1 if signed else 0, _NORMALIZE_FIRST)


def _check_range(name: str, values: np.ndarray, low: int, advice: str) -> None:
    known = values[~np.isnan(values)]
    if known.size and not (low - 1e-5 <= known.min() and known.max() <= 1 + 1e-5):
        got = f"values {known.min():.4g} to {known.max():.4g}"
        raise ArgumentError(name, got, f"[{low}, 1] ({advice})")


def _check_figure(images: np.ndarray, columns: Mapping, titles: Sequence[str] | None) -> None:
    count = len(images)
    if images.ndim != 4 or count == 0:
        raise ArgumentError("images", f"shape {images.shape}", "[B, H, W, 3] with B > 0")
    for name, maps in columns.items():
        if np.ndim(maps) != 3 or len(maps) != count:
            got = f"shape {np.shape(maps)} for {name!r}"
            raise ArgumentError("heatmaps", got, f"[{count}, h, w]")
    if titles is not None and len(titles) != count:
        raise ArgumentError("titles", len(titles), f"one for each of {counted(count, 'image')}")


def _check_scale(columns: Mapping, signed: bool) -> None:
    """Refuses maps that are not normalised; one of several on a common scale may be faint."""
    check_flag("signed", signed)
    low = -1 if signed else 0
    peak = 0.0
    for name, maps in columns.items():
        values = np.asarray(maps, np.float32)
        where = f"heatmaps {name!r}" if name else "heatmaps"
        _check_range(where, values, low, _NORMALIZE_FIRST)
        peak = max(peak, float(np.abs(values[~np.isnan(values)]).max(initial=0)))
    if 0 < peak < 0.5:
        got = f"values of at most {peak:.4g} in all of them"
        expected = f"normalised maps, which span [{low}, 1]; {_NORMALIZE_FIRST}"
        raise ArgumentError("heatmaps", got, expected)
