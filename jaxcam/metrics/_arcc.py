"""ARCC: ADCC with ROAD in the place of the drop."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam.metrics._common import checked, finite, only
from jaxcam.metrics._complexity import coherency, complexity, explained_twice, harmonic
from jaxcam.metrics._road import Road, road
from jaxcam.targets import Activation, Targets

ARCC_PERCENT = (20, 40, 60, 80)


class Arcc(NamedTuple):
    """ARCC and what it is made of, `[B]` each, in [0, 1]."""

    arcc: jax.Array
    road: jax.Array  # twice ROAD, cut off at 0 and 1
    coherency: jax.Array
    complexity: jax.Array


def arcc(
    forward: Forward,
    images: jax.Array,
    explain: Callable,
    targets: Targets = None,
    *,
    percent: Sequence[float] = ARCC_PERCENT,
    noise: float = 0.01,
    key: jax.Array | None = None,
    activation: Activation = None,
    chunk: int = 1,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> Arcc:
    """ARCC = 3 / (1 / Coh + 1 / (1 - Com) + 1 / R), R = min(1, max(0, 2 ROAD)). High is good.

    The harmonic mean of `coherency`, 1 - `complexity` and ROAD's combined score, which is in
    [-1/2, 1/2]; a map whose worst pixels matter as much as its best has 0. Costs two explanations
    and 2 P + 2 forward passes.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, normalised as the model expects.
        explain: as in `adcc`.
        targets: as in `adcc`.
        percent: as in `road`, P numbers; ARCC's are these four.
        noise: as in `road`.
        key: as in `road`.
        activation: as in `road`; `explain` brings its own.
        chunk: as in `road`.
        has_aux: as in `confidence`; `explain` gets `forward` without its aux.
        mask: `[B]`, False for padding.

    Returns:
        `Arcc(arcc, road, coherency, complexity)`, `[B]` each. NaN where the map is not finite, or
        `mask` is False.

    Raises:
        ValueError: bad images or targets; `explain` returns no `[B, h, w]`; as `road`.
        TypeError: `explain` is no function.

    References:
        Domeniconi et al., How to evaluate and refine your CAM, 2026 (arXiv 2605.14641); the range
        of ROAD as in github.com/jacobgil/pytorch-grad-cam.

    Example:
        >>> found = jaxcam.metrics.arcc(forward, images, jaxcam.grad_cam)
        >>> bool(((found.arcc >= 0) & (found.arcc <= 1)).all())
        True
    """
    model, first, again, chosen = explained_twice(forward, images, explain, targets, has_aux)
    measure = partial(arcc_of_maps, model, images, first, again, chosen, percent=percent)
    return measure(noise=noise, key=key, activation=activation, chunk=chunk, mask=mask)


def arcc_of_maps(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    again: ArrayLike,
    targets: Targets = None,
    *,
    percent: Sequence[float] = ARCC_PERCENT,
    noise: float = 0.01,
    key: jax.Array | None = None,
    activation: Activation = None,
    chunk: int = 1,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> Arcc:
    """`arcc` of maps that are there already.

    Args:
        forward: as in `arcc`.
        images: as in `arcc`.
        saliency: `[B, H, W]`, the maps of the images.
        again: `[B, H, W]`, those of the images masked by them, for the same classes.
        targets: as in `arcc`.
        percent: as in `arcc`.
        noise: as in `arcc`.
        key: as in `arcc`.
        activation: as in `arcc`.
        chunk: as in `arcc`.
        has_aux: as in `arcc`.
        mask: as in `arcc`.

    Returns:
        As `arcc`.

    Raises:
        ValueError: bad images, maps or targets; as `road`.

    References:
        Domeniconi et al. 2026.

    Example:
        >>> found = jaxcam.metrics.arcc_of_maps(forward, images, heat, heat)
        >>> print(found.coherency, found.complexity)
        [1. 1.] [0.06 0.06]
    """
    check_images(images)
    saliency = checked(saliency, images)
    options = {"percent": percent, "noise": noise, "key": key, "activation": activation}
    removed: Road = road(
        forward, images, saliency, targets, **options, chunk=chunk, has_aux=has_aux
    )
    faithful = jnp.clip(2 * removed.combined, 0, 1)
    spatial = saliency.ndim - 1
    same = coherency(saliency, again, spatial=spatial)
    size = complexity(saliency, spatial=spatial)
    mean = harmonic(same, size, 100 * (1 - faithful))
    known = finite(saliency)
    return Arcc(*(only(part, known, mask) for part in (mean, faithful, same, size)))
