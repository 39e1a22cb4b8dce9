"""From raw maps to pictures: resize, normalise, threshold, and the overlay on an image.

`resize`, `normalize`, `threshold` and `threshold_of_max` are pure JAX functions of `[..., h, w]`,
one map at a time (of signals and volumes with `spatial=1` and `3`); they can be jitted, mapped and
differentiated. `overlay` and `figure` draw, on the host.

A NaN stays visible: `resize` and `normalize` spread it, and `overlay` draws it in dark grey instead
of giving it a colour of the scale.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground import space
from jaxcam._ground.dtypes import check_real
from jaxcam._ground.errors import check_choice, check_within
from jaxcam._ground.units import unit
from jaxcam._overlays import figure, overlay
from jaxcam._resizing import as_maps, resize

__all__ = [
    "figure",
    "normalize",
    "overlay",
    "resize",
    "segmentation_mask",
    "threshold",
    "threshold_of_max",
]


def normalize(
    maps: ArrayLike, method: str = "min_max", *, percentile: float = 100, spatial: int = 2
) -> jax.Array:
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
        spatial: how many of the last axes are one map's: 1 for signals `[..., l]`, 3 for volumes
            `[..., d, h, w]`.

    Returns:
        `[..., h, w]` float32. Where the denominator is 0 (a constant map, say, or one without
        positive evidence) the map is 0 and its gradient is 0. A map with a NaN is NaN everywhere.

    Raises:
        ValueError: `maps` has fewer axes than `spatial` or no cells, `method` is unknown, or
            `percentile` is not in (0, 100].

    Example:
        >>> maps = jnp.array([[-1.0, 0.0, 3.0]])
        >>> print(jaxcam.maps.normalize(maps), jaxcam.maps.normalize(maps, "signed"))
        [[0.   0.25 1.  ]] [[-0.33  0.    1.  ]]
    """
    maps = as_maps(maps, spatial)
    axes = space.last(spatial)
    check_choice("method", method, _NORMALIZE)
    check_within("percentile", percentile, 0, 100, ends="(]")
    if percentile < 100:
        maps = _without_outliers(maps, percentile, axes)
    return _NORMALIZE[method](maps / unit(maps, axes), axes)


def threshold(maps: ArrayLike, *, k: float = 1.0, spatial: int = 2) -> jax.Array:
    """Mask of the cells more than k standard deviations above the map's mean.

    mask = L > mean L + k std L, with the population's standard deviation.

    Args:
        maps: `[..., h, w]`.
        k: How many standard deviations.
        spatial: as in `normalize`.

    Returns:
        `[..., h, w]` bool. Nothing exceeds the threshold in a constant map or in one that holds a
        NaN.

    Raises:
        ValueError: `maps` has fewer axes than `spatial` or no cells.

    References:
        Lee et al., Relevance-CAM, CVPR 2021, section 4.3.

    Example:
        >>> print(jaxcam.maps.threshold(heat, k=2.0).sum((1, 2)))  # cells of each map
        [5 5]
    """
    maps = as_maps(maps, spatial)
    check_real("k", k)
    axes = space.last(spatial)
    maps = maps / unit(maps, axes)
    # Measured from the minimum, so that a constant map is exactly 0 and never above its own rounded
    # mean.
    above = maps - maps.min(axis=axes, keepdims=True)
    mean = above.mean(axis=axes, keepdims=True)
    return above > mean + k * above.std(axis=axes, keepdims=True)


def segmentation_mask(raw: ArrayLike, size: Sequence[int], *, k: float = 1.0) -> jax.Array:
    """Relevance-CAM's mask of the object: the map at the image's size, thresholded.

    mask = L > mean L + k std L, L the raw map resized bilinearly.

    Args:
        raw: raw maps `[..., h, w]`.
        size: (H, W) of the images, in pixels; or (L,), or (D, H, W).
        k: How many standard deviations.

    Returns:
        `[..., H, W]` bool.

    Raises:
        ValueError: As `resize` and `threshold`.

    References:
        Lee et al., Relevance-CAM, CVPR 2021, section 4.3.

    Example:
        >>> maps = jaxcam.relevance_cam(forward, images)
        >>> print(jaxcam.maps.segmentation_mask(maps, (8, 8)).sum((1, 2)))
        [11 11]
    """
    return threshold(resize(raw, size), k=k, spatial=len(size))


def threshold_of_max(maps: ArrayLike, *, fraction: float = 0.2, spatial: int = 2) -> jax.Array:
    """Mask of the cells above a fraction of the map's maximum.

    mask = L > fraction * max L, which is empty unless max L > 0

    Args:
        maps: `[..., h, w]`.
        fraction: Of the maximum, in [0, 1); 0.2 is the rule by which CAM draws its boxes.
        spatial: as in `normalize`.

    Returns:
        `[..., h, w]` bool; empty for a map without a positive value or with a NaN.

    Raises:
        ValueError: `maps` has fewer axes than `spatial` or no cells, or `fraction` is outside
            [0, 1).

    References:
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, section 3.2.

    Example:
        >>> print(jaxcam.maps.threshold_of_max(heat, fraction=0.4).sum((1, 2)))  # cells of each map
        [5 5]
    """
    maps = as_maps(maps, spatial)
    check_within("fraction", fraction, 0, 1, ends="[)")
    return maps > fraction * maps.max(axis=space.last(spatial), keepdims=True)


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Ratio, 0 where the denominator is; NaN passes; gradients are finite as both branches are."""
    empty = denominator == 0
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def _without_outliers(maps: jax.Array, percentile: float, axes: tuple[int, ...]) -> jax.Array:
    limit = jnp.percentile(jnp.abs(maps), percentile, axis=axes, keepdims=True)
    return jnp.where(limit > 0, jnp.clip(maps, -limit, limit), maps)


def _min_max(maps: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    low = maps.min(axis=axes, keepdims=True)
    high = maps.max(axis=axes, keepdims=True)
    return _divide(maps - low, high - low)


def _positive(maps: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return _min_max(jnp.maximum(maps, 0), axes)


def _max(maps: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    positive = jnp.maximum(maps, 0)
    return _divide(positive, positive.max(axis=axes, keepdims=True))


def _signed(maps: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return _divide(maps, jnp.abs(maps).max(axis=axes, keepdims=True))


_NORMALIZE = {"min_max": _min_max, "positive": _positive, "max": _max, "signed": _signed}
