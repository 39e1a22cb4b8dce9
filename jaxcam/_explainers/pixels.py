"""Baselines at the pixels: the gradient, times the input, integrated, and what an occluder takes.

They exist to be compared with. Each is a map of the images, `[B, H, W]`; what its terms of several
colours become is said by `reduction`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcam import loops
from jaxcam._explainers.black_box import black_box
from jaxcam._explainers.smoothing import as_they_are
from jaxcam._ground import chunks
from jaxcam._ground.dtypes import at_least_float32, cast_like, floating, reals, wide
from jaxcam._ground.errors import (
    ArgumentError,
    check_at_least,
    check_choice,
    check_whole,
    shown,
)
from jaxcam._ground.units import unit
from jaxcam._program import trace
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward, zeros_like
from jaxcam._program.narrow import Dtype
from jaxcam._program.question import Question, ask, by_formula, gradients
from jaxcam._program.signature import Explanation, one_answer
from jaxcam._program.versions import over_versions
from jaxcam.targets import Activation, Targets


def _length(terms: jax.Array) -> jax.Array:
    """sqrt(sum_k L_k^2), of which no square overflows or vanishes."""
    scale = unit(terms, terms.ndim - 1)
    return scale[..., 0] * jnp.sqrt(((terms / scale) ** 2).sum(-1))


# Of terms [B, *spatial, C].
REDUCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sum": lambda terms: terms.sum(-1),
    "abs_max": lambda terms: jnp.abs(terms).max(-1),
    "abs_sum": lambda terms: jnp.abs(terms).sum(-1),
    "norm": _length,
}
RULES = ("midpoint", "left", "right", "trapezoid")


@one_answer(jax.Array)
def gradient(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    reduction: str = "abs_max",
    has_aux: bool = False,
) -> Explanation:
    """The gradient at the pixels: L_ij = max_k |dY/dx_ijk|.

    `jaxcam.smooth(jaxcam.gradient)` is SmoothGrad. Costs a forward and a backward pass.

    Args:
        forward: as in `grad_cam`.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: as in `grad_cam`.
        reduction: of the colours: "abs_max" (the paper), "abs_sum", "norm" (the length) or "sum"
            (signed).
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Maps `[B, H, W]` float32, `[B, K, H, W]` for K targets per image.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `reduction`.

    References:
        Simonyan et al., Deep inside convolutional networks, ICLR Workshop 2014, section 3.1.

    Example:
        >>> maps = jaxcam.gradient(forward, images)
        >>> maps.shape
        (2, 8, 8)
    """
    check_choice("reduction", reduction, REDUCTIONS)
    formula = lambda x, g: REDUCTIONS[reduction](g)
    return by_formula(pixels(forward, images, targets, has_aux), formula)


@one_answer(jax.Array)
def gradient_input(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    reduction: str = "sum",
    has_aux: bool = False,
) -> Explanation:
    """Gradient times input: L_ij = sum_k x_ijk dY/dx_ijk; signed.

    In a network of ReLUs without biases it sums to the score and is LRP's epsilon rule. Costs a
    forward and a backward pass.

    Args, Raises as `gradient`.

    Returns:
        As `gradient`, signed.

    References:
        Shrikumar et al., Not just a black box, 2016; Ancona et al., Towards better understanding of
        gradient-based attribution methods, ICLR 2018, table 1.

    Example:
        >>> peaks(jaxcam.gradient_input(forward, images))
        [(1, 5), (5, 3)]
    """
    check_choice("reduction", reduction, REDUCTIONS)
    formula = lambda x, g: REDUCTIONS[reduction](x * g)
    return by_formula(pixels(forward, images, targets, has_aux), formula)


@one_answer(jax.Array)
def integrated_gradients(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    steps: int = 50,
    baseline: ArrayLike = 0.0,
    rule: str = "midpoint",
    reduction: str = "sum",
    chunk: int = 4,
    has_aux: bool = False,
) -> Explanation:
    """Integrated gradients: L_ij = sum_k (x - x')_ijk int_0^1 dY/dx_ijk at x' + a (x - x') da.

    Completeness: sum_ij L_ij = Y(x) - Y(x'), up to the error of the sum that stands for the
    integral. Costs `steps` times a forward and a backward pass, `chunk` of them at once.

    Args:
        forward: as in `grad_cam`.
        images: x `[B, H, W, C]`, normalised as the model expects; or with one or three spatial
            axes.
        targets: as in `grad_cam`; None is the arg-max of the images themselves.
        steps: n, of the sum, at least 1.
        baseline: x', a number (0 is the mean colour of normalised images) or an array that
            broadcasts to the images: `[C]`, `[H, W, C]`, `[B, H, W, C]`.
        rule: where the gradient is taken: "midpoint", (i + 1/2) / n; "left", i / n; "right",
            (i + 1) / n (as printed); "trapezoid", the mean of the last two in n + 1 places.
        reduction: as in `gradient`; "sum" is signed and complete.
        chunk: how many places are taken at once, at most; sets the memory, gradients of `chunk * B`
            images.
        has_aux: as in `gradient`.

    Returns:
        Maps `[B, H, W]` float32, `[B, K, H, W]` for K targets per image.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `rule` or `reduction`, less than 1 step,
            a `chunk` below 1, a baseline of another shape.

    References:
        Sundararajan et al., Axiomatic attribution for deep networks, ICML 2017, eq. 1 and 3.

    Example:
        >>> maps = jaxcam.integrated_gradients(forward, images, steps=4)
        >>> change = forward(images) - forward(0 * images)
        >>> bool(jnp.allclose(maps.sum((1, 2)), change.max(1), atol=1e-5))  # complete
        True
    """
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("rule", rule, RULES)
    check_whole("steps", steps, 1)
    check_at_least("chunk", chunk, 1)
    check_images(images)
    images = floating(images)
    forward = trace.Held(forward)
    chosen, aux = as_they_are(forward, images, targets, has_aux)
    question = pixels(forward, images, chosen, has_aux)
    start = broadcast(baseline, images)
    path = at_least_float32(images) - start

    def at(share: Any) -> jax.Array:
        shown = cast_like(start + share * path, images)
        _, _, grads, _ = gradients(dataclasses.replace(question, images=shown))
        return at_least_float32(grads["pixels"])

    def step(total: jax.Array, part: tuple) -> tuple:
        shares, weights = part
        found = over_versions(lambda share, weight: weight * at(share))(shares, weights)
        return total + found.sum(0), None

    total = zeros_like(jax.eval_shape(at, 0.0), images)
    total, _ = loops.scan(step, total, _parts(places(steps, rule, path.dtype), chunk))
    if total.ndim > images.ndim:
        total = jnp.moveaxis(total, 0, 1)
        path = path[:, None]
    return question.answer({"pixels": REDUCTIONS[reduction](path * total)}, aux)


@one_answer(jax.Array)
def occlusion(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    window: int | Sequence[int] = 32,
    stride: int | Sequence[int] = 16,
    baseline: ArrayLike = 0.0,
    activation: Activation = None,
    chunk: int = 16,
    has_aux: bool = False,
    dtype: Dtype = None,
) -> Explanation:
    """Occlusion: L_ij = the mean of Y(x) - Y(x without w) over the windows w that cover ij; signed.

    Windows stand at every stride from the upper left, and flush with the lower and right borders.
    Costs a forward pass for each, and one.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints (K classes cost no more than one),
            or a function of what `forward` returns -> Y `[B]`, taken as it is.
        window: (h, w) in pixels, or one number for every axis; at most the image.
        stride: (down, right) in pixels, or one number for every axis; at most the window, so that
            no pixel is left out.
        baseline: what is shown in the window, as in `integrated_gradients`.
        activation: what makes logits the confidences Y, as in `jaxcam.targets.probabilities`;
            "identity" explains logits.
        chunk: how many windows are evaluated at once, at most.
        has_aux: as in `gradient`.
        dtype: as in `rise`.

    Returns:
        Maps `[B, H, W]` float32, `[B, K, H, W]` for K targets per image.

    Raises:
        ValueError: bad input, as in `rise`; a window larger than the image, a stride larger than
            the window, a `chunk` below 1, a baseline of another shape.

    References:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014, section
        4.2.

    Example:
        >>> maps = jaxcam.occlusion(forward, images, window=3, stride=1)
        >>> maps.shape
        (2, 8, 8)
    """
    check_at_least("chunk", chunk, 1)
    images, box, aux = black_box(forward, images, targets, activation, has_aux=has_aux, dtype=dtype)
    covers = _windows(window, stride, images.shape[1:-1])
    counts = tuple(map(len, covers))
    start = broadcast(baseline, images)
    whole = at_least_float32(images)

    def evaluate(index: jax.Array) -> jax.Array:
        hidden = jnp.ones((len(index), *[1] * len(covers)), bool)
        for axis, place in enumerate(jnp.unravel_index(index, counts)):
            line = jnp.asarray(covers[axis])[place]
            shape = [len(index), *[1] * len(covers)]
            shape[axis + 1] = line.shape[1]
            hidden = hidden & line.reshape(shape)
        shown = jnp.where(hidden[:, None, ..., None], start[None], whole[None])
        return box.scores(cast_like(shown, images))

    count = math.prod(counts)
    lost = box.scores(images[None]) - chunks.over(evaluate, count, chunk, loop=loops.map)
    maps = lost.reshape(*counts, *lost.shape[1:])
    for cover in covers:  # each takes the first axis to the end
        share = jnp.asarray(cover / cover.sum(0), lost.dtype)
        maps = jnp.tensordot(maps, share, (0, 0), precision=jax.lax.Precision.HIGHEST)
    if has_aux:
        return maps, aux
    return maps


def pixels(forward: Forward, images: jax.Array, targets: Targets, has_aux: bool) -> Question:
    """A question about the images themselves."""
    check_images(images)
    return ask(forward, floating(images), targets, layer="pixels", has_aux=has_aux)


def broadcast(baseline: ArrayLike, images: jax.Array) -> jax.Array:
    """A baseline as an array of the images' shape, in float32 at least."""
    array = reals("baseline", baseline).astype(wide(images.dtype))
    try:
        fits = jnp.broadcast_shapes(array.shape, images.shape) == images.shape
    except ValueError:
        fits = False
    if not fits:
        raise ArgumentError("baseline", f"shape {array.shape}", f"one that fits {images.shape}")
    return jnp.broadcast_to(array, images.shape)


def places(steps: int, rule: str, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Where between 0 and 1 an integral's sum takes its function, and with what weights."""
    shares = np.arange(steps) / steps
    weights = np.full(steps, 1 / steps)
    if rule == "trapezoid":
        shares = np.arange(steps + 1) / steps
        weights = np.full(steps + 1, 1 / steps)
        weights[[0, -1]] /= 2
    shares = shares + {"midpoint": 0.5, "right": 1.0}.get(rule, 0.0) / steps
    return jnp.asarray(shares, dtype), jnp.asarray(weights, dtype)


def _parts(places: tuple[jax.Array, jax.Array], chunk: int) -> tuple[jax.Array, jax.Array]:
    """Places and weights `[n]` as `[steps, size]`; what fills the last one up has no weight."""
    shares, weights = places
    plan = chunks.equal(len(shares), chunk)
    more = plan.padded - plan.total
    filled = jnp.pad(shares, (0, more), mode="edge"), jnp.pad(weights, (0, more))
    return filled[0].reshape(-1, plan.size), filled[1].reshape(-1, plan.size)


def _windows(window: Any, stride: Any, size: Sequence[int]) -> list[np.ndarray]:
    """Which rows, and which columns, each place of a window covers: `[n, H]` and `[m, W]` bool."""
    lengths = _each("window", window, len(size))
    steps = _each("stride", stride, len(size))
    found = []
    for side, length, step in zip(size, lengths, steps, strict=True):
        check_whole("window", length, 1, side, what="the image's side")
        check_whole("stride", step, 1, length, what="the window's side")
        last = side - length
        starts = np.array([*range(0, last, step), last])
        offset = np.arange(side) - starts[:, None]
        found.append((offset >= 0) & (offset < length))
    return found


def _each(argument: str, value: Any, axes: int) -> tuple[Any, ...]:
    """A number for each axis."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != axes:
            expected = "a whole number or (down, right)"
            if axes != 2:
                expected = f"a whole number or one for each of {axes} axes"
            raise ArgumentError(argument, shown(value), expected)
        return tuple(value)
    return (value,) * axes
