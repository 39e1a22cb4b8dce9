"""From raw maps to pictures: resize, normalise, threshold, and the overlay on an image.

`resize`, `normalize`, `threshold` and `threshold_of_max` are pure JAX functions of `[..., h, w]`,
one map at a time; they can be jitted, mapped and differentiated. `overlay` and `figure` draw, on
the host.

A NaN stays visible: `resize` and `normalize` spread it, and `overlay` draws it in dark grey instead
of giving it a colour of the scale.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcam._ground import style
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import (
    ArgumentError,
    check_choice,
    check_size,
    check_within,
    one_of,
)

__all__ = [
    "figure",
    "normalize",
    "overlay",
    "resize",
    "segmentation_mask",
    "threshold",
    "threshold_of_max",
]

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_NORMALIZE_FIRST = "see jaxcam.maps.normalize"
COLORMAP = "inferno"
SIGNED_COLORMAP = "coolwarm"

_RESIZE = {
    "bilinear": jax.image.ResizeMethod.LINEAR,
    "bicubic": jax.image.ResizeMethod.CUBIC_PYTORCH,
    "nearest": jax.image.ResizeMethod.NEAREST,
}


def resize(maps: ArrayLike, size: Sequence[int], method: str = "bilinear") -> jax.Array:
    """Resize maps, sampling at pixel centres and without antialiasing.

    out[y, x] = the map, interpolated at ((y + 1/2) h / H - 1/2, (x + 1/2) w / W - 1/2)

    "bilinear" and "bicubic" equal PyTorch's `interpolate(align_corners=False)`, upwards and
    downwards, and OpenCV's; "nearest" equals "nearest-exact". Bicubic overshoots: clip after it.

    Args:
        maps: `[..., h, w]`.
        size: (H, W) in pixels.
        method: "bilinear", "bicubic" or "nearest".

    Returns:
        `[..., H, W]` float32. A NaN spreads along every axis whose length changes (not with
        "nearest").

    Raises:
        ValueError: `maps` has fewer than two axes or no cells, `size` is not two positive integers,
            or `method` is unknown.
    """
    maps = _as_maps(maps)
    shape = (*maps.shape[:-2], *check_size("size", size))
    check_choice("method", method, _RESIZE)
    return jax.image.resize(maps, shape, _RESIZE[method], antialias=False)


def normalize(maps: ArrayLike, method: str = "min_max", *, percentile: float = 100) -> jax.Array:
    """Scale each map to a fixed range.

    =========  =================================  =======  =========================================
    method     formula, with L+ = max(L, 0)       range    zero evidence becomes
    =========  =================================  =======  =========================================
    min_max    (L - min L) / (max L - min L)      [0, 1]   any value, if the map is signed
    positive   (L+ - min L+) / (max L+ - min L+)  [0, 1]   0; negative evidence too
    max        L+ / max L+                        [0, 1]   0, and nothing else but negative evidence
    signed     L / max |L|                        [-1, 1]  0
    =========  =================================  =======  =========================================

    Args:
        maps: `[..., h, w]`.
        method: "min_max", "positive", "max" or "signed".
        percentile: values whose magnitude exceeds this percentile of the map's |L| are first cut to
            it, so that a few outliers, as relevance at the pixels has them, do not take the whole
            scale; 100 cuts nothing. A map of which that percentile is 0 is left as it is.

    Returns:
        `[..., h, w]` float32. Where the denominator is 0 (a constant map, say, or one without
        positive evidence) the map is 0 and its gradient is 0. A map with a NaN is NaN everywhere.

    Raises:
        ValueError: `maps` has fewer than two axes or no cells, `method` is unknown, or `percentile`
            is not in (0, 100].
    """
    maps = _as_maps(maps)
    check_choice("method", method, _NORMALIZE)
    check_within("percentile", percentile, 0, 100, ends="(]")
    if percentile < 100:
        maps = _without_outliers(maps, percentile)
    return _NORMALIZE[method](maps)


def threshold(maps: ArrayLike, *, k: float = 1.0) -> jax.Array:
    """Mask of the cells more than k standard deviations above the map's mean.

    mask = L > mean L + k std L, with the population's standard deviation.

    Args:
        maps: `[..., h, w]`.
        k: How many standard deviations.

    Returns:
        `[..., h, w]` bool. Nothing exceeds the threshold in a constant map or in one that holds a
        NaN.

    Raises:
        ValueError: `maps` has fewer than two axes or no cells.

    References:
        Lee et al., Relevance-CAM, CVPR 2021, section 4.3.
    """
    maps = _as_maps(maps)
    # Measured from the minimum, so that a constant map is exactly 0 and never above its own rounded
    # mean.
    above = maps - maps.min(axis=(-2, -1), keepdims=True)
    mean = above.mean(axis=(-2, -1), keepdims=True)
    return above > mean + k * above.std(axis=(-2, -1), keepdims=True)


def segmentation_mask(raw: ArrayLike, size: Sequence[int], *, k: float = 1.0) -> jax.Array:
    """Relevance-CAM's mask of the object: the map at the image's size, thresholded.

    mask = L > mean L + k std L, L the raw map resized bilinearly.

    Args:
        raw: raw maps `[..., h, w]`.
        size: (H, W) of the images, in pixels.
        k: How many standard deviations.

    Returns:
        `[..., H, W]` bool.

    Raises:
        ValueError: As `resize` and `threshold`.

    References:
        Lee et al., Relevance-CAM, CVPR 2021, section 4.3.
    """
    return threshold(resize(raw, size), k=k)


def threshold_of_max(maps: ArrayLike, *, fraction: float = 0.2) -> jax.Array:
    """Mask of the cells above a fraction of the map's maximum.

    mask = L > fraction * max L, which is empty unless max L > 0

    Args:
        maps: `[..., h, w]`.
        fraction: Of the maximum, in [0, 1); 0.2 is the rule by which CAM draws its boxes.

    Returns:
        `[..., h, w]` bool; empty for a map without a positive value or with a NaN.

    Raises:
        ValueError: `maps` has fewer than two axes or no cells, or `fraction` is outside [0, 1).

    References:
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, section 3.2.
    """
    maps = _as_maps(maps)
    check_within("fraction", fraction, 0, 1, ends="[)")
    return maps > fraction * maps.max(axis=(-2, -1), keepdims=True)


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
    """
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
) -> "Figure":
    """A grid of pictures: a row for each image, which comes first and then under each heatmap.

    Args:
        images: `[B, H, W, 3]` in [0, 1].
        heatmaps: `[B, h, w]` normalised maps of any resolution (they are resized), or several of
            them by name.
        titles: One for each image, to its left.
        colormap: As in `overlay`.
        alpha: As in `overlay`.
        signed: As in `overlay`.
        panel: Width of a picture, in inches.

    Returns:
        A `matplotlib.figure.Figure`, independent of pyplot: the last line of a notebook cell shows
        it, and `.savefig(path)` saves it.

    Raises:
        ValueError: As `overlay`, or the number of titles or maps is not that of the images, or the
            maps are not normalised: values off the scale, or none in all the maps that reaches half
            of it.
    """
    images = np.asarray(images, np.float32)
    columns = heatmaps if isinstance(heatmaps, Mapping) else {"": heatmaps}
    _check_figure(images, columns, titles)
    _check_scale(columns, signed)
    pictures: dict[str | None, np.ndarray] = {None: images}
    for name, maps in columns.items():
        large = np.asarray(resize(maps, images.shape[1:3]))
        pictures[name] = overlay(images, large, colormap=colormap, alpha=alpha, signed=signed)
    with style.own():
        return _grid(pictures, titles or (), panel)


def _grid(
    pictures: Mapping[str | None, np.ndarray], titles: Sequence[str], panel: float
) -> "Figure":
    """Columns of pictures `[B, H, W, 3]` by title."""
    from matplotlib.figure import Figure

    rows, high, wide = pictures[None].shape[:3]
    size = (len(pictures) * panel, rows * panel * high / wide + 0.3)
    made = Figure(figsize=size, layout="constrained")
    axes = made.subplots(rows, len(pictures), squeeze=False)
    for column, (name, pixels) in enumerate(pictures.items()):
        for row in range(rows):
            axes[row, column].imshow(pixels[row])
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].spines[:].set_visible(False)
        axes[0, column].set_title(name or "", fontsize=9, parse_math=False)
    for row, title in enumerate(titles):
        axes[row, 0].set_ylabel(title, fontsize=9, parse_math=False)
    return made


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Ratio, 0 where the denominator is; NaN passes; gradients are finite as both branches are."""
    empty = denominator == 0
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def _without_outliers(maps: jax.Array, percentile: float) -> jax.Array:
    limit = jnp.percentile(jnp.abs(maps), percentile, axis=(-2, -1), keepdims=True)
    return jnp.where(limit > 0, jnp.clip(maps, -limit, limit), maps)


def _min_max(maps: jax.Array) -> jax.Array:
    low = maps.min(axis=(-2, -1), keepdims=True)
    high = maps.max(axis=(-2, -1), keepdims=True)
    return _divide(maps - low, high - low)


def _positive(maps: jax.Array) -> jax.Array:
    return _min_max(jnp.maximum(maps, 0))


def _max(maps: jax.Array) -> jax.Array:
    positive = jnp.maximum(maps, 0)
    return _divide(positive, positive.max(axis=(-2, -1), keepdims=True))


def _signed(maps: jax.Array) -> jax.Array:
    return _divide(maps, jnp.abs(maps).max(axis=(-2, -1), keepdims=True))


_NORMALIZE = {"min_max": _min_max, "positive": _positive, "max": _max, "signed": _signed}


def _as_maps(maps: ArrayLike) -> jax.Array:
    maps = jnp.asarray(maps)
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ArgumentError("maps", f"shape {maps.shape}", "[..., h, w] with h, w > 0")
    return at_least_float32(maps)


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
        raise ArgumentError("titles", len(titles), f"one for each of the {count} images")


def _check_scale(columns: Mapping, signed: bool) -> None:
    """Refuses maps that are not normalised; one of several on a common scale may be faint."""
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
