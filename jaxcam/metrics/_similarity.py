"""How alike are two maps of one image?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam import maps
from jaxcam._ground import filters, space
from jaxcam._ground.errors import ArgumentError, check_flag, check_whole
from jaxcam._ground.units import unit
from jaxcam.metrics._common import checked, checked_pair, finite, only, rank_correlation

# SSIM's Gaussian window, 11 x 11, and its constants
_SIGMA = 1.5
_RADIUS = 5
_K1 = 0.01
_K2 = 0.03
# HOG as Dalal and Triggs, L2-Hys
_ORIENTATIONS = 9
_BLOCK = 3
_HOG_EPS = 1e-5
_HOG_LARGE = 2.0**40  # images of more are taken to be of this size
_HOG_CLIP = 0.2


class Similarity(NamedTuple):
    """How alike two maps are, `[B]` each, at most 1."""

    spearman: jax.Array
    spearman_abs: jax.Array
    ssim: jax.Array
    hog: jax.Array


def similarity(
    first: ArrayLike, second: ArrayLike, *, cell: int = 16, mask: ArrayLike | None = None
) -> Similarity:
    """Spearman of the maps and of their magnitudes, SSIM, and Spearman of their HOG descriptors.

    Args:
        first: `[B, H, W]`, the map of the trained model, any real numbers.
        second: `[B, H, W]`, that of the randomised one.
        cell: side of HOG's cells in pixels.
        mask: `[B]`, False for padding.

    Returns:
        `Similarity`; each as the function of its name.

    Raises:
        ValueError: as `spearman`, `ssim` and `hog`.

    References:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.

    Example:
        >>> large = jaxcam.maps.resize(heat, (48, 48))
        >>> found = jaxcam.metrics.similarity(large, 2 * large)
        >>> print(found.spearman, found.ssim)
        [1. 1.] [1. 1.]
    """
    first, second = checked_pair(first, second)
    return Similarity(
        spearman(first, second, mask=mask),
        spearman(first, second, absolute=True, mask=mask),
        ssim(first, second, mask=mask),
        hog_similarity(first, second, cell=cell, mask=mask),
    )


def spearman(
    first: ArrayLike,
    second: ArrayLike,
    *,
    absolute: bool = False,
    spatial: int = 2,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """Spearman's rank correlation over pixels; equal values share their mean rank.

    Args:
        first: `[B, H, W]`, any real numbers.
        second: `[B, H, W]`.
        absolute: whether to rank |map|.
        spatial: how many axes of positions maps have: 1 for `[B, L]`, 3 for `[B, D, H, W]`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [-1, 1]. NaN where either is constant (it has no order) or not finite, or `mask` is
        False.

    Raises:
        ValueError: shapes are wrong or differ.

    Example:
        >>> print(jaxcam.metrics.spearman(heat, heat**2), jaxcam.metrics.spearman(heat, -heat))
        [1. 1.] [-1. -1.]
    """
    first, second = checked_pair(first, second, spatial=spatial)
    known = finite(first) & finite(second)
    check_flag("absolute", absolute)
    if absolute:
        first, second = jnp.abs(first), jnp.abs(second)
    return only(rank_correlation(first, second), known, mask)


def ssim(
    first: ArrayLike, second: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """Structural similarity of two maps, each min-max scaled to [0, 1].

    SSIM = mean (2 mu_x mu_y + C1)(2 s_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(s_x^2 + s_y^2 + C2)), C1 =
    0.01^2, C2 = 0.03^2, over all 11 x 11 Gaussian windows (sigma 1.5) inside the map, with sample
    covariance: scikit-image's `structural_similarity(gaussian_weights=True, data_range=1)`.

    Args:
        first: `[B, H, W]`, any real numbers.
        second: `[B, H, W]`.
        spatial: as in `spearman`; windows are of 11 along each axis.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`, at most 1; a constant map counts as 0 everywhere. NaN where either is not finite, or
        `mask` is False.

    Raises:
        ValueError: shapes are wrong or differ, or a side is under 11 pixels.

    References:
        Wang et al., Image quality assessment: from error visibility to structural similarity, 2004,
        eq. 13.

    Example:
        >>> large = jaxcam.maps.resize(heat, (48, 48))
        >>> print(jaxcam.metrics.ssim(large, 2 * large))
        [1. 1.]
    """
    first, second = checked_pair(first, second, spatial=spatial)
    if min(first.shape[1:]) <= 2 * _RADIUS:
        expected = f"at least {' x '.join(['11'] * spatial)}"
        raise ArgumentError("first", f"maps of {first.shape[1:]} pixels", expected)
    x = maps.normalize(first, spatial=spatial)
    y = maps.normalize(second, spatial=spatial)
    mean_x = _window_mean(x)
    mean_y = _window_mean(y)
    sample = (2 * _RADIUS + 1) ** spatial
    scale = sample / (sample - 1)
    variances = scale * (_window_mean(x * x) - mean_x**2 + _window_mean(y * y) - mean_y**2)
    covariance = scale * (_window_mean(x * y) - mean_x * mean_y)
    both = (2 * mean_x * mean_y + _K1**2) * (2 * covariance + _K2**2)
    values = both / ((mean_x**2 + mean_y**2 + _K1**2) * (variances + _K2**2))
    return only(values.mean(space.of_maps(values)), finite(first), finite(second), mask)


def hog_similarity(
    first: ArrayLike, second: ArrayLike, *, cell: int = 16, mask: ArrayLike | None = None
) -> jax.Array:
    """Spearman's rank correlation of two maps' HOG descriptors, each min-max scaled to [0, 1].

    Args:
        first: `[B, H, W]`, any real numbers.
        second: `[B, H, W]`.
        cell: side of a cell in pixels.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [-1, 1]. NaN where either is constant (it has no gradients) or not finite, or
        `mask` is False.

    Raises:
        ValueError: shapes are wrong or differ, or as `hog`.

    References:
        Adebayo et al., NeurIPS 2018.

    Example:
        >>> large = jaxcam.maps.resize(heat, (48, 48))
        >>> print(jaxcam.metrics.hog_similarity(large, large))
        [1. 1.]
    """
    first, second = checked_pair(first, second)
    described = [hog(maps.normalize(x), cell=cell) for x in (first, second)]
    return only(rank_correlation(*described), finite(first), finite(second), mask)


def hog(images: ArrayLike, *, cell: int = 16) -> jax.Array:
    """Histograms of oriented gradients: 9 orientations, blocks of 3 x 3 cells, L2-Hys.

    Equals scikit-image's `hog`.

    Args:
        images: `[B, H, W]`.
        cell: side of a cell in pixels; what is left over at the lower and right edge is not used.

    Returns:
        Descriptors `[B, blocks down * blocks across * 81]`.

    Raises:
        ValueError: images are not `[B, H, W]`, `cell` is no whole number, or there are fewer than
            3 x 3 cells.

    References:
        Dalal and Triggs, Histograms of oriented gradients for human detection, CVPR 2005.

    Example:
        >>> large = jaxcam.maps.resize(heat, (48, 48))
        >>> jaxcam.metrics.hog(large).shape
        (2, 81)
    """
    images = checked(images, name="images", absolute=True)
    # No square overflows; of so large differences the constant is no part.
    images = images / jnp.maximum(unit(images, (1, 2)) / _HOG_LARGE, 1)
    check_whole("cell", cell, 1)
    down = images.shape[1] // cell
    across = images.shape[2] // cell
    if min(down, across) < _BLOCK:
        got = f"{cell} for {images.shape[1:]} pixels"
        raise ArgumentError("cell", got, "a third of the shorter side at most")
    gradient_y = _central_difference(images, 1)
    gradient_x = _central_difference(images, 2)
    angle = jnp.mod(jnp.rad2deg(jnp.arctan2(gradient_y, gradient_x)), 180)
    bins = jnp.floor(angle * (_ORIENTATIONS / 180)).astype(jnp.int32) % _ORIENTATIONS
    size = jnp.hypot(gradient_y, gradient_x)
    votes = size[..., None] * jax.nn.one_hot(bins, _ORIENTATIONS, dtype=size.dtype)
    votes = votes[:, : down * cell, : across * cell]
    cells = votes.reshape(-1, down, cell, across, cell, _ORIENTATIONS).mean((2, 4))
    return _blocks(cells).reshape(images.shape[0], -1)


def _window_mean(x: jax.Array) -> jax.Array:
    """Gaussian-weighted means of all windows inside `[B, *spatial]`."""
    taps = filters.gaussian(_SIGMA, _RADIUS)
    for axis in space.of_maps(x):
        x = filters.correlate(x, taps, axis, pad=False)
    return x


def _central_difference(x: jax.Array, axis: int) -> jax.Array:
    """x[i + 1] - x[i - 1] along an axis, 0 at either end."""
    n = x.shape[axis]
    after = jax.lax.slice_in_dim(x, 2, n, axis=axis)
    before = jax.lax.slice_in_dim(x, 0, n - 2, axis=axis)
    ends = [(0, 0)] * x.ndim
    ends[axis] = (1, 1)
    return jnp.pad(after - before, ends)


def _blocks(cells: jax.Array) -> jax.Array:
    """Every 3 x 3 block of cells, normalised, clipped, renormalised: `[B, rows, columns, 81]`."""
    rows = cells.shape[1] - _BLOCK + 1
    columns = cells.shape[2] - _BLOCK + 1
    parts = []
    for i in range(_BLOCK):
        for j in range(_BLOCK):
            parts.append(cells[:, i : i + rows, j : j + columns])
    block = jnp.concatenate(parts, -1)
    unit = lambda v: v / jnp.sqrt(jnp.square(v).sum(-1, keepdims=True) + _HOG_EPS**2)
    return unit(jnp.minimum(unit(block), _HOG_CLIP))
