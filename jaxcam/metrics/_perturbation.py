"""Does confidence follow a map as the image changes? Infidelity and region perturbation."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam import loops
from jaxcam._ground import chunks, space
from jaxcam._ground.dtypes import at_least_float32, cast_like
from jaxcam._ground.errors import (
    ArgumentError,
    check_above,
    check_flag,
    check_whole,
)
from jaxcam._ground.randomness import check_key
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam.metrics._common import checked, finite, only, outputs_of
from jaxcam.metrics._faithfulness import asking, one_target, ranks
from jaxcam.metrics._games import fitted
from jaxcam.targets import Activation, Targets, confidence


def infidelity(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    sigma: float = 0.2,
    square: int | None = None,
    num_samples: int = 100,
    scaled: bool = True,
    key: jax.Array | None = None,
    activation: Activation = None,
    chunk: int = 4,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """INFD = E_I[(s I^T Phi - (f(x) - f(x - I)))^2], Phi the saliency. Low is good.

    I^T Phi = sum_p Phi_p sum_c I_pc: a pixel's saliency stands for all its channels. I is Gaussian
    noise, or the image in a square at a random place (its removal); the same places and noise for
    all images, so that a value does not depend on its neighbours. Costs num_samples + 1 passes.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        saliency: `[B, H, W]`, any real numbers.
        targets: f: None (the confidence of the arg-max), an int, `[B]` ints, or a function logits
            -> `[B]`; `jaxcam.targets.logit(classes)` is what the paper measures.
        sigma: standard deviation of the noise, in the images' units.
        square: None for noise; else the side in pixels of the squares that become 0.
        num_samples: of the expectation, at least 1.
        scaled: True: s is the best factor, E[I^T Phi d] / E[(I^T Phi)^2], d = f(x) - f(x - I), as a
            map has no unit; False: s = 1, the formula as it stands.
        key: of the samples; None is `jax.random.key(0)`.
        activation: what makes logits probabilities, as in `jaxcam.targets.probabilities`.
        chunk: how many samples are evaluated at once; memory is that of `chunk * B` images.
        has_aux: whether `forward` returns `(logits, aux)`; aux is not looked at.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`, at least 0, in f's unit squared. A map of zeros has E[d^2], the worst when scaled.
        NaN where saliency is not finite, or `mask` is False.

    Raises:
        ValueError: bad images or targets; saliency or mask that do not fit; sigma, square,
            num_samples or chunk out of range.

    References:
        Yeh et al., On the (in)fidelity and sensitivity of explanations, NeurIPS 2019, definition
        2.1; the scale of section 5.

    Example:
        >>> logit = jaxcam.targets.logit([0, 1])
        >>> error = jaxcam.metrics.infidelity(forward, images, heat, logit, square=4, num_samples=8)
        >>> error.shape
        (2,)
    """
    check_images(images)
    check_whole("num_samples", num_samples, 1)
    keys = jax.random.split(check_key(key), num_samples)
    check_flag("scaled", scaled)
    saliency = checked(saliency, images, absolute=not scaled)
    change = _noise(images, sigma) if square is None else _squares(images, square)
    model = outputs_of(forward, targets, has_aux)
    logits = model(images)
    chosen = one_target(logits, targets)
    full = confidence(logits, chosen, activation)
    ask = asking(model, chosen, activation)
    pixels = at_least_float32(images)

    def evaluate(numbers: jax.Array) -> jax.Array:
        steps = jax.vmap(change)(keys[numbers])
        lost = full[None] - ask(cast_like(pixels[None] - steps, images))
        told = (saliency[None] * steps.sum(-1)).sum(space.last(saliency.ndim - 1))
        return jnp.stack([told, lost], -1)

    found = chunks.over(evaluate, num_samples, chunk, loop=loops.map)
    told = found[..., 0]
    lost = found[..., 1]
    if scaled:
        size = (told**2).mean(0)
        scale = (told * lost).mean(0) / jnp.where(size == 0, 1, size)
        told = told * scale[None]
    return only(((told - lost) ** 2).mean(0), finite(saliency), mask)


def region_perturbation(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    side: int = 9,
    steps: int = 100,
    baseline: float | str | jax.Array = "uniform",
    key: jax.Array | None = None,
    activation: Activation = None,
    chunk: int = 4,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """Region perturbation: the confidence as the most relevant squares are replaced, one a step.

    The squares are a grid from the upper left corner (the last row and column of it may be cut),
    by descending sum of saliency, among equals the last in raster order first. `aopc` of the curve
    is the paper's number. Costs L + 1 forward passes.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        saliency: `[B, H, W]`, any real numbers.
        targets: None (arg-max of the unchanged images), an int, `[B]` ints, or a function logits ->
            confidence `[B]`.
        side: of the squares, in pixels; 9 in the paper.
        steps: L, at most; never more than there are squares. 100 in the paper.
        baseline: what the squares become: "uniform" noise between the least and the greatest value
            of the image's channel, as in the paper (all images share the draw), "blur" for
            `blur(images)`, a number, or an array that fits the images.
        key: of the noise; None is `jax.random.key(0)`.
        activation: what makes logits probabilities, as in `jaxcam.targets.probabilities`.
        chunk: how many steps are evaluated at once; memory is that of `chunk * B` images.
        has_aux: whether `forward` returns `(logits, aux)`; aux is not looked at.
        mask: `[B]`, False for padding.

    Returns:
        The curve `[B, L + 1]` from the unchanged image on. NaN where saliency is not finite, or
        `mask` is False.

    Raises:
        ValueError: bad images or targets; saliency, mask or baseline that do not fit; side, steps
            or chunk out of range.

    References:
        Samek et al., Evaluating the visualization of what a deep neural network has learned, TNNLS
        2017, equations 5 to 12.

    Example:
        >>> options = {"side": 2, "steps": 4, "baseline": 0.0}
        >>> print(jaxcam.metrics.region_perturbation(forward, images, heat, **options))
        [[0.83 0.53 0.39 0.28 0.24]
         [0.87 0.54 0.4  0.28 0.24]]
    """
    check_images(images)
    saliency = checked(saliency, images)
    check_whole("side", side, 1, max(images.shape[1:-1]), what="the images' longer side")
    check_whole("steps", steps, 1)
    key = check_key(key)
    place = _region_ranks(saliency, side)
    regions = math.prod(-(-length // side) for length in images.shape[1:-1])
    model = outputs_of(forward, targets, has_aux)
    logits = model(images)
    chosen = one_target(logits, targets)
    other = _replacement(images, baseline, key)
    ask = asking(model, chosen, activation)

    def evaluate(numbers: jax.Array) -> jax.Array:
        changed = place[None] <= space.along(numbers, place[None])
        return ask(jnp.where(changed[..., None], other[None], images[None]))

    rest = chunks.over(evaluate, min(steps, regions), chunk, loop=loops.map).T
    whole = confidence(logits, chosen, activation)[:, None]
    return only(jnp.concatenate([whole, rest], 1), finite(saliency), mask)


def aopc(curve: ArrayLike) -> jax.Array:
    """AOPC = sum_{k=0}^{L} (f_0 - f_k) / (L + 1): the area over the perturbation curve.

    High is good where the most relevant go first.

    Args:
        curve: `[..., L + 1]`, as `region_perturbation` or `deletion` returns it.

    Returns:
        `[...]`, in the curve's unit.

    Raises:
        ValueError: fewer than two points.

    References:
        Samek et al. 2017, equation 12.

    Example:
        >>> options = {"side": 2, "steps": 4, "baseline": 0.0}
        >>> curve = jaxcam.metrics.region_perturbation(forward, images, heat, **options)
        >>> print(jaxcam.metrics.aopc(curve))
        [0.38 0.4 ]
    """
    curve = jnp.asarray(curve)
    if curve.ndim == 0 or curve.shape[-1] < 2:
        expected = "[..., L + 1] with L of at least 1"
        raise ArgumentError("curve", f"shape {curve.shape}", expected)
    return curve[..., 0] - curve.mean(-1)


def _noise(images: jax.Array, sigma: float) -> Callable:
    check_above("sigma", sigma, 0)
    dtype = at_least_float32(images).dtype

    def change(key: jax.Array) -> jax.Array:
        drawn = sigma * jax.random.normal(key, (1, *images.shape[1:]), dtype)
        return jnp.broadcast_to(drawn, images.shape)

    return change


def _squares(images: jax.Array, square: int) -> Callable:
    """The images in a square that lies wholly in them, 0 around it."""
    size = images.shape[1:-1]
    check_whole("square", square, 1, min(size), what="the images' shorter side")
    pixels = at_least_float32(images)
    limits = jnp.array(size) - square + 1

    def change(key: jax.Array) -> jax.Array:
        corner = jax.random.randint(key, limits.shape, 0, limits)
        inside = jnp.ones(size, bool)
        for axis, side in enumerate(size):
            offset = jnp.arange(side) - corner[axis]
            covered = (offset >= 0) & (offset < square)
            inside = inside & jnp.expand_dims(covered, _others(axis, len(size)))
        return jnp.where(inside[None, ..., None], pixels, 0)

    return change


def _region_ranks(saliency: jax.Array, side: int) -> jax.Array:
    """The place of every pixel's square, `[B, H, W]`, 0 first."""
    batch, *size = saliency.shape
    padded = jnp.pad(saliency, [(0, 0), *((0, -length % side) for length in size)])
    split = [batch]
    for length in padded.shape[1:]:
        split += [length // side, side]
    place = ranks(padded.reshape(split).sum(tuple(range(2, len(split), 2))))
    for axis in space.of_maps(saliency):
        place = jnp.repeat(place, side, axis)
    return place[(slice(None), *map(slice, size))]


def _others(axis: int, rank: int) -> tuple[int, ...]:
    """The axes of so many but one."""
    return tuple(each for each in range(rank) if each != axis)


def _replacement(images: jax.Array, baseline: float | str | jax.Array, key: jax.Array) -> jax.Array:
    if not (isinstance(baseline, str) and baseline == "uniform"):
        return fitted(images, baseline, also="'uniform', ")
    pixels = at_least_float32(images)
    low = pixels.min(space.of_images(images), keepdims=True)
    high = pixels.max(space.of_images(images), keepdims=True)
    drawn = jax.random.uniform(key, (1, *images.shape[1:]), pixels.dtype)
    return cast_like(low + drawn * (high - low), images)
