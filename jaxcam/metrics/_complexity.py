"""How much does a map mark, and how plainly?

Entropy, area, dispersion, ADCC. The first three are the measures of `jaxcam.fostering` with NaN
where they have no answer: a map without a positive value is no distribution, and counting its 0
would reward methods that mark nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam import fostering, maps
from jaxcam._ground import space
from jaxcam._ground.errors import ArgumentTypeError
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam.metrics._common import (
    PICTURES,
    check_maps,
    checked,
    checked_pair,
    finite,
    only,
    outputs_of,
    pearson,
)
from jaxcam.metrics._faithfulness import confidences, drop, mask_images, one_target
from jaxcam.targets import Activation, Targets


class Adcc(NamedTuple):
    """ADCC and what it is made of, `[B]` each."""

    adcc: jax.Array  # in [0, 1]
    coherency: jax.Array  # in [0, 1]
    complexity: jax.Array  # in [0, 1]
    average_drop: jax.Array  # in percent, as every drop


def entropy(saliency: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None) -> jax.Array:
    """`jaxcam.fostering.cam_entropy` of saliency `[B, h, w]`: `[B]` in nats, 0 to ln(h w).

    Of saliency of any size. Low is sharp.

    Args:
        saliency: `[B, h, w]`; negative values count as 0. A map at the layer's resolution is what
            the paper measures.
        spatial: how many axes of positions maps have: 1 for `[B, l]`, 3 for `[B, d, h, w]`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`; NaN where saliency has no positive value or is not finite, or `mask` is False.

    Raises:
        ValueError: saliency or mask have the wrong shape.

    Example:
        >>> even = jnp.ones((8, 8))
        >>> print(jaxcam.metrics.entropy(jnp.stack([even, heat[0], -even])))  # ln 64 at most
        [4.16 2.08  nan]
    """
    measure = partial(fostering.cam_entropy, spatial=spatial)
    return _measured(measure, saliency, mask, spatial)


def area(saliency: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
    """`jaxcam.fostering.cam_area` of saliency `[B, h, w]`: `[B]` in cells squared.

    Low is concentrated.

    Args:
        saliency: as in `entropy`.
        mask: as in `entropy`.

    Returns:
        `[B]`; NaN as in `entropy`.

    Raises:
        ValueError: as `entropy`.

    Example:
        >>> print(jaxcam.metrics.area(heat))
        [0.5 0.5]
    """
    return _measured(fostering.cam_area, saliency, mask)


def dispersion(
    saliency: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """`jaxcam.fostering.cam_dispersion` of saliency `[B, h, w]`: `[B]`, 0 to h w - 1.

    High is decided.

    Args:
        saliency: as in `entropy`.
        spatial: as in `entropy`.
        mask: as in `entropy`.

    Returns:
        `[B]`; NaN as in `entropy`.

    Raises:
        ValueError: as `entropy`.

    Example:
        >>> print(jaxcam.metrics.dispersion(heat))
        [8. 8.]
    """
    measure = partial(fostering.cam_dispersion, spatial=spatial)
    return _measured(measure, saliency, mask, spatial)


def relative_difference(
    saliency: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """100 (a - i) / ((a + i) / 2): how far the active cells stand out from the inactive ones.

    a is the mean of the cells above the map's mean, i that of the others. Schoettl compares a
    photo's maps so (33 without, 114 percent with fostering) and does not define it: here is the
    usual relative difference of two numbers, that to their mean, which an i of 0 leaves finite.
    High is decided.

    Args:
        saliency: `[B, h, w]`; negative values count as 0, as in `entropy`.
        spatial: as in `entropy`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in percent, 0 to 200: 0 for a constant map, 200 where the inactive cells are 0. NaN as
        in `entropy`.

    Raises:
        ValueError: saliency or mask have the wrong shape.

    References:
        Schoettl, A light-weight method to foster the (Grad)CAM interpretability and explainability
        of classification networks, 2020, on one photo.

    Example:
        >>> print(jaxcam.metrics.relative_difference(heat + 1))
        [36.36 36.36]
    """
    return _measured(_relative_difference, saliency, mask, spatial)


def complexity(
    saliency: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """ADCC's complexity: the mean of the saliency, min-max scaled to [0, 1]. Low is good.

    Args:
        saliency: `[B, H, W]`, any real numbers.
        spatial: as in `entropy`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]; 0 for constant saliency. NaN where saliency is not finite, or `mask` is
        False.

    Raises:
        ValueError: saliency or mask have the wrong shape.

    References:
        Poppi et al., Revisiting the evaluation of class activation mapping, CVPR Workshops 2021.

    Example:
        >>> print(jaxcam.metrics.complexity(heat))
        [0.06 0.06]
    """
    saliency = checked(saliency, spatial=spatial)
    mean = maps.normalize(saliency, spatial=spatial).mean(space.of_maps(saliency))
    return only(mean, finite(saliency), mask)


def coherency(
    saliency: ArrayLike, again: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """ADCC's coherency: (1 + Pearson's correlation) / 2 of the image's and the masked image's map.

    High is good.

    Args:
        saliency: `[B, H, W]`, the map of the image.
        again: `[B, H, W]`, the map of the masked image, for the same class.
        spatial: as in `entropy`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]; 0 where either map is constant. NaN where either is not finite, or `mask`
        is False.

    Raises:
        ValueError: shapes are wrong or differ.

    References:
        Poppi et al. 2021; constant maps as in github.com/aimagelab/ADCC.

    Example:
        >>> print(jaxcam.metrics.coherency(heat, heat), jaxcam.metrics.coherency(heat, -heat))
        [1. 1.] [0. 0.]
    """
    saliency, again = checked_pair(saliency, again, spatial=spatial)
    return only(
        jnp.nan_to_num((1 + pearson(saliency, again)) / 2), finite(saliency), finite(again), mask
    )


def harmonic(coherency: jax.Array, complexity: jax.Array, average_drop: jax.Array) -> jax.Array:
    """ADCC = 3 / (1 / Coh + 1 / (1 - Com) + 1 / (1 - AD / 100)) (Poppi et al. 2021).

    Args:
        coherency: Coh `[B]`, in [0, 1].
        complexity: Com `[B]`, in [0, 1].
        average_drop: AD `[B]`, in percent, 0 to 100.

    Returns:
        `[B]` in [0, 1]: 0, the limit, where Coh is 0, Com 1 or AD 100. NaN where any of them is.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> parts = jnp.array([0.9]), jnp.array([0.1]), jnp.array([50.0])
        >>> print(jaxcam.metrics.harmonic(*parts))
        [0.71]
    """
    parts = jnp.stack([coherency, 1 - complexity, 1 - average_drop / 100])
    none = (parts <= 0).any(0) & ~jnp.isnan(parts).any(0)
    return jnp.where(none, 0, 3 / (1 / jnp.where(parts <= 0, 1, parts)).sum(0))


def adcc(
    forward: Forward,
    images: jax.Array,
    explain: Callable,
    targets: Targets = None,
    *,
    activation: Activation = None,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> Adcc:
    """Average DCC: the harmonic mean of coherency, 1 - complexity and 1 - average drop.

    High is good. Maps are resized to the image and min-max scaled; the masked image is the image
    times its map. Costs two forward passes and two explanations.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, normalised as the model expects.
        explain: `(forward, images, targets) -> maps [B, h, w]`, such as `jaxcam.grad_cam` or a
            `functools.partial`.
        targets: None (arg-max of the unmasked images, for both maps), an int, `[B]` ints, or a
            function as in `confidence`.
        activation: as in `confidence`; `explain` brings its own.
        has_aux: as in `confidence`; `explain` gets `forward` without its aux.
        mask: `[B]`, False for padding.

    Returns:
        `Adcc`. adcc is 0 where coherency is 0, complexity 1 or average drop 100. NaN where the map
        is not finite, or `mask` is False.

    Raises:
        ValueError: bad images or targets; `explain` returns no `[B, h, w]`.
        TypeError: `explain` is no function; maps alone do not do, as the masked images are
            explained too.

    References:
        Poppi et al., Revisiting the evaluation of class activation mapping, CVPR Workshops 2021.

    Example:
        >>> found = jaxcam.metrics.adcc(forward, images, jaxcam.grad_cam)
        >>> print(found.adcc, found.average_drop)
        [0.92 0.91] [2.98 1.85]
    """
    model, first, again, chosen = explained_twice(forward, images, explain, targets, has_aux)
    return adcc_of_maps(model, images, first, again, chosen, activation=activation, mask=mask)


def adcc_of_maps(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    again: ArrayLike,
    targets: Targets = None,
    *,
    activation: Activation = None,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> Adcc:
    """`adcc` of maps that are there already.

    Args:
        forward: as in `adcc`.
        images: as in `adcc`.
        saliency: `[B, H, W]`, the maps of the images.
        again: `[B, H, W]`, the maps of the images masked by them (`mask_images`), for the same
            classes.
        targets: as in `adcc`.
        activation: as in `adcc`.
        has_aux: as in `adcc`.
        mask: as in `adcc`.

    Returns:
        As `adcc`.

    Raises:
        ValueError: bad images, maps or targets.

    References:
        Poppi et al. 2021.

    Example:
        >>> found = jaxcam.metrics.adcc_of_maps(forward, images, heat, heat)
        >>> print(found.coherency, found.complexity)
        [1. 1.] [0.06 0.06]
    """
    check_images(images)
    saliency = checked(saliency, images)
    found = confidences(forward, images, saliency, targets, activation=activation, has_aux=has_aux)
    spatial = saliency.ndim - 1
    same = coherency(saliency, again, spatial=spatial)
    parts = (same, complexity(saliency, spatial=spatial), drop(*found))
    known = finite(saliency)
    return Adcc(*(only(part, known, mask) for part in (harmonic(*parts), *parts)))


def explained_twice(
    forward: Forward, images: jax.Array, explain: Callable, targets: Targets, has_aux: bool
) -> tuple[Forward, jax.Array, jax.Array, jax.Array | Callable]:
    """The model without its aux, maps of the images, of the images masked by them, and the target.

    Both maps are of the same classes and `[B, H, W]`.
    """
    check_images(images)
    model = outputs_of(forward, targets, has_aux)
    if not callable(explain):
        expected = "a function (forward, images, targets) -> maps, such as jaxcam.grad_cam"
        raise ArgumentTypeError("explain", f"a {type(explain).__name__}", expected)
    chosen = one_target(model(images), targets)
    first = _saliency(explain(model, images, chosen), images)
    again = _saliency(explain(model, mask_images(images, first), chosen), images)
    return model, first, again, chosen


def _measured(
    measure: Callable, saliency: ArrayLike, mask: ArrayLike | None, spatial: Any = PICTURES
) -> jax.Array:
    saliency = checked(saliency, spatial=spatial)
    marked = (saliency > 0).any(space.of_maps(saliency))
    return only(measure(saliency), finite(saliency), marked, mask)


def _relative_difference(saliency: jax.Array) -> jax.Array:
    size = jax.nn.relu(saliency)
    axes = space.of_maps(size)
    # Of 3 x 3 equal values the rounded mean may lie below them.
    varied = size.min(axes) < size.max(axes)
    active = size > size.mean(axes, keepdims=True)

    def mean(cells: jax.Array) -> jax.Array:
        count = jnp.maximum(cells.sum(axes), 1).astype(size.dtype)
        return jnp.where(cells, size, 0).sum(axes) / count

    high = mean(active)
    low = mean(~active)
    return jnp.where(varied, 200 * (high - low) / (high + low), 0)


def _saliency(raw: jax.Array, images: jax.Array) -> jax.Array:
    check_maps(raw, images)
    return maps.resize(raw, images.shape[1:-1])
