"""ROAD: remove pixels so that what is left does not tell where they were, and debias.

Removed pixels become what their neighbours say: a linear system, solved by conjugate gradients
that a multigrid cycle leads.
"""

import math
from collections.abc import Sequence, Sized
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam import loops
from jaxcam._ground import chunks, space
from jaxcam._ground.dtypes import at_least_float32, cast_like
from jaxcam._ground.errors import (
    ArgumentError,
    check_at_least,
    check_unmasked,
    check_whole,
    check_within,
)
from jaxcam._ground.randomness import check_key
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam.metrics import _multigrid
from jaxcam.metrics._common import checked, finite, only, outputs_of
from jaxcam.metrics._faithfulness import asking, one_target, ranks
from jaxcam.targets import Activation, Targets

PERCENT = (20, 30, 40, 50, 60, 70, 80, 90)
_NOISE = 0.01  # of the authors' imputation
_ITERATIONS = 500


class Road(NamedTuple):
    """ROAD and the confidences it is made of."""

    combined: jax.Array  # [B], mean of (lerf - morf) / 2: high is good
    morf: jax.Array  # [B, P], the most relevant removed: low is good
    lerf: jax.Array  # [B, P], the least relevant removed: high is good


def road(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    percent: Sequence[float] = PERCENT,
    noise: float = _NOISE,
    iterations: int = _ITERATIONS,
    key: jax.Array | None = None,
    activation: Activation = None,
    chunk: int = 1,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> Road:
    """ROAD = mean over q of (LeRF_q - MoRF_q) / 2, without retraining. High is good.

    MoRF_q is the confidence once the q percent most salient pixels are removed, LeRF_q once the q
    percent least salient ones are; `impute` fills them. Costs 2 P + 1 forward passes. Pixels are
    ordered as in `deletion`, and exactly round(q / 100 H W) of them go.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        saliency: `[B, H, W]`, any real numbers; only their order matters.
        targets: None (arg-max of the unchanged images), an int, `[B]` ints, or a function logits ->
            confidence `[B]`.
        percent: q, P numbers in (0, 100).
        noise: as in `impute`.
        iterations: as in `impute`.
        key: of the noise; None is `jax.random.key(0)`.
        activation: what makes logits probabilities, as in `jaxcam.targets.probabilities`.
        chunk: how many removals are evaluated at once; memory is that of `chunk * B` images.
        has_aux: whether `forward` returns `(logits, aux)`; aux is not looked at.
        mask: `[B]`, False for padding.

    Returns:
        `Road(combined, morf, lerf)`, `[B]`, `[B, P]`, `[B, P]`; combined is in [-1/2, 1/2], 0 for a
        model that does not look. NaN where saliency is not finite, or `mask` is False.

    Raises:
        ValueError: bad images or targets; saliency or mask that do not fit; percentages outside
            (0, 100) or such that none or all pixels go; noise, iterations or chunk out of range.

    References:
        Rong et al., A consistent and efficient evaluation strategy for attribution methods, ICML
        2022, section 5; combined as in github.com/jacobgil/pytorch-grad-cam.

    Example:
        >>> found = jaxcam.metrics.road(forward, images, heat, percent=(10, 50))
        >>> found.combined.shape, found.morf.shape
        ((2,), (2, 2))
    """
    check_images(images)
    saliency = checked(saliency, images)
    key = check_key(key)
    pixels = math.prod(saliency.shape[1:])
    counts = jnp.asarray(_counts(percent, pixels))
    model = outputs_of(forward, targets, has_aux)
    chosen = one_target(model(images), targets)
    ask = asking(model, chosen, activation)
    place = ranks(saliency)[None]

    def evaluate(numbers: jax.Array) -> jax.Array:
        count = space.along(counts[numbers // 2], place)
        least = space.along(numbers % 2 == 1, place)
        missing = jnp.where(least, place >= pixels - count, place < count)
        # Behind the batch, which may be in shares on several devices.
        gaps = jnp.moveaxis(missing, 0, 1)
        every = jnp.broadcast_to(images[:, None], (*gaps.shape, images.shape[-1]))
        flat = every.reshape(-1, *images.shape[1:])
        options = {"noise": noise, "iterations": iterations, "key": key}
        filled = impute(flat, gaps.reshape(-1, *gaps.shape[2:]), **options)
        return ask(jnp.moveaxis(filled.reshape(every.shape), 1, 0))

    found = chunks.over(evaluate, 2 * len(counts), chunk, loop=loops.map).T
    found = only(found, finite(saliency), mask)
    morf = found[:, ::2]
    lerf = found[:, 1::2]
    return Road((lerf - morf).mean(1) / 2, morf, lerf)


def impute(
    images: jax.Array,
    missing: ArrayLike,
    *,
    noise: float = 0.0,
    iterations: int = _ITERATIONS,
    key: jax.Array | None = None,
) -> jax.Array:
    """ROAD's noisy linear imputation: a missing pixel is the weighted mean of its neighbours.

    x_i sum_j w_ij = sum_j w_ij x_j for every missing i, over the 8 neighbours in the image, w = 1/6
    across an edge and 1/12 across a corner; then noise of N(0, noise^2). They are those of
    [1, 2, 1] along either axis, and so of signals (1/2 for either neighbour) and of volumes, which
    the paper has not. The system is symmetric and positive definite, and solved by conjugate
    gradients from the mean of what is known, each step after a cycle over ever coarser grids, until
    the residual is rounding or `iterations` steps are done. Of 224 x 224 pixels in float32, 90
    percent missing here and there and a missing disc of radius 80 take some ten steps (an error of
    0.00002 of the pixels' standard deviation); all but a disc of radius 40 takes 20 (0.002) to 40.

    Args:
        images: `[B, H, W, C]`.
        missing: `[B, H, W]`, True for pixels to fill.
        noise: standard deviation, in the images' units; at least 0. The same noise falls on all
            images, so that none depends on its neighbours.
        iterations: at most so many steps, at least 1.
        key: of the noise; None is `jax.random.key(0)`.

    Returns:
        `[B, H, W, C]` in the images' dtype. NaN where an image has no pixel that is known.

    Raises:
        ValueError: shapes that do not fit; noise or iterations out of range.

    References:
        Rong et al. 2022, section 5.2, equation 5; weights and noise as in
        github.com/tleemann/road_evaluation.

    Example:
        >>> filled = jaxcam.metrics.impute(images, heat > 0.9)
        >>> print(images[0, 0:3, 5, 0], filled[0, 0:3, 5, 0])  # without what was brightest
        [0.5 0.9 0.5] [0.5  0.43 0.5 ]
    """
    check_images(images)
    check_unmasked("missing", missing)
    missing = jnp.asarray(missing, bool)
    if missing.shape != images.shape[:-1]:
        raise ArgumentError("missing", f"shape {missing.shape}", str(images.shape[:-1]))
    check_at_least("noise", noise, 0)
    check_whole("iterations", iterations, 1)
    key = check_key(key)
    pixels = at_least_float32(images)
    gaps = missing[..., None]
    known = jnp.where(gaps, 0, pixels)
    axes = space.of_images(images)
    count = (~gaps).sum(axes, keepdims=True).astype(pixels.dtype)
    middle = known.sum(axes, keepdims=True) / count
    # About the mean, which is an answer already where the known pixels are alike.
    centred = jnp.where(gaps, 0, pixels - middle)
    found = middle + _solve(centred, gaps, iterations)
    if noise:
        found = found + noise * jax.random.normal(key, (1, *images.shape[1:]), pixels.dtype)
    return cast_like(jnp.where(gaps, found, pixels), images)


def _solve(known: jax.Array, gaps: jax.Array, iterations: int) -> jax.Array:
    """X with x = 0 outside the gaps and D x - W x = W known in them, by conjugate gradients."""
    system = _multigrid.grids(gaps, known.dtype)
    answer = _multigrid.cycle(system)
    inner = lambda x, y: (x * y).sum(space.of_images(known), keepdims=True)
    right = jnp.where(gaps, _multigrid.neighbours(known), 0)

    start = inner(right, right)
    # Beyond it, rounding only grows: directions are conjugate no more, and x runs away.
    enough = start * jnp.finfo(known.dtype).eps ** 2

    def step(carry: tuple) -> tuple:
        number, x, residual, direction, before = carry
        better = answer(residual)
        gain = inner(residual, better)
        turn = jnp.where(before > 0, gain / jnp.where(before > 0, before, 1), 0)
        direction = better + turn * direction
        image = _multigrid.applied(system[0], direction)
        slope = inner(direction, image)
        going = (inner(residual, residual) > enough) & (slope > 0)
        length = jnp.where(going, gain / jnp.where(going, slope, 1), 0)
        return number + 1, x + length * direction, residual - length * image, direction, gain

    def goes_on(carry: tuple) -> jax.Array:
        number, _, residual, *_ = carry
        return (number < iterations) & (inner(residual, residual) > enough).any()

    nothing = jnp.zeros_like(right)
    _, x, *_ = jax.lax.while_loop(goes_on, step, (0, nothing, right, nothing, 0 * start))
    return x


def _counts(percent: Sequence[float], pixels: int) -> list[int]:
    """How many pixels go, of every percentage."""
    if not isinstance(percent, Sized) or not len(percent):
        raise ArgumentError("percent", repr(percent), "numbers in (0, 100)")
    counts = []
    for each in percent:
        check_within("percent", each, 0, 100, ends="()")
        count = round(each / 100 * pixels)
        if not 0 < count < pixels:
            expected = f"a share of {pixels} pixels that is neither none nor all"
            raise ArgumentError("percent", repr(each), expected)
        counts.append(count)
    return counts
