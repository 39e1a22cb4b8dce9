"""The insertion and deletion games: does confidence follow the pixels in the map's order?

They are written for `jax.jit`: `jax.jit(functools.partial(deletion, forward))(images, saliency,
targets)`. Called without it, the loop over steps is traced in every call and compiled once.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcam import loops
from jaxcam._ground import chunks, filters, space
from jaxcam._ground.dtypes import at_least_float32, cast_like, reals
from jaxcam._ground.errors import ArgumentError, check_at_least, is_whole
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam._program.narrow import Dtype, narrowed
from jaxcam.metrics._common import checked, finite, only, outputs_of
from jaxcam.metrics._faithfulness import asking, one_target, ranks
from jaxcam.targets import Activation, Targets, confidence

RISE_STEPS = 28  # RISE's batch evaluation: 224 * 8 of 224 * 224 pixels a step
_BLUR_SIDE = 11
_BLUR_SIGMA = 5.0


class _Rules(NamedTuple):
    """How a game is played."""

    step: int | float
    activation: Activation
    chunk: int
    insert: bool
    dtype: Dtype


def deletion(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    step: int | float = 1 / RISE_STEPS,
    baseline: float | str | jax.Array = 0.0,
    activation: Activation = None,
    chunk: int = 4,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
    dtype: Dtype = None,
) -> jax.Array:
    """The deletion game: the confidence as the most salient pixels are taken away, step by step.

    Low is good. Costs n + 1 forward passes. Pixels are ordered by descending saliency, among equals
    the last in raster order first (NumPy's argsort, reversed, as in RISE).

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        saliency: `[B, H, W]`, any real numbers; only their order matters.
        targets: None (arg-max of the unchanged images), an int, `[B]` ints, or a function logits ->
            confidence `[B]`.
        step: pixels a step (an int), or their share of the image (a float, rounded up to whole
            pixels). RISE's batch evaluation is 1 / 28, its single image 1 / 224; Score-CAM's is
            0.01.
        baseline: what a deleted pixel becomes: a number or an array that fits the images (0 is the
            mean colour of normalised images), or "blur" for `blur(images)`.
        activation: what makes logits probabilities, as in `jaxcam.targets.probabilities`.
        chunk: how many steps are evaluated at once; memory is that of `chunk * B` images.
        has_aux: whether `forward` returns `(logits, aux)`; aux is not looked at.
        mask: `[B]`, False for padding.
        dtype: of the forward passes: None as the model has it, or "bfloat16", in which
            products take their operands and features are kept; sums stay in float32.

    Returns:
        The curve `[B, n + 1]` from the unchanged to the wholly deleted image, n = ceil(H W / step).
        NaN where saliency is not finite, or `mask` is False.

    Raises:
        ValueError: bad images or targets; saliency, mask or baseline that do not fit; `step` or
            `chunk` out of range.

    References:
        Petsiuk et al., RISE, BMVC 2018; the conventions are those of github.com/eclique/RISE,
        evaluation.py.

    Example:
        >>> curve = jaxcam.metrics.deletion(forward, images, heat, step=0.25)
        >>> print(curve)
        [[0.83 0.24 0.33 0.33 0.33]
         [0.87 0.24 0.33 0.33 0.33]]
    """
    check_images(images)
    rules = _Rules(step, activation, chunk, insert=False, dtype=dtype)
    model = outputs_of(forward, targets, has_aux)
    return _play(model, images, fitted(images, baseline), saliency, targets, rules, mask)


def insertion(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    step: int | float = 1 / RISE_STEPS,
    baseline: float | str | jax.Array = "blur",
    activation: Activation = None,
    chunk: int = 4,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
    dtype: Dtype = None,
) -> jax.Array:
    """The insertion game: the confidence as the most salient pixels come to a blurred image.

    High is good.

    Args:
        forward: as in `deletion`, and so are all others.
        images: `[B, H, W, C]`.
        saliency: `[B, H, W]`.
        targets: None (arg-max of the unchanged images), an int, `[B]` ints or a function.
        step: as in `deletion`.
        baseline: the image to begin with: "blur" for `blur(images)`, a number or an array that fits
            the images.
        activation: as in `deletion`.
        chunk: as in `deletion`.
        has_aux: as in `deletion`.
        mask: `[B]`, False for padding.
        dtype: as in `deletion`.

    Returns:
        The curve `[B, n + 1]` from the baseline to the unchanged image, as in `deletion`.

    Raises:
        ValueError: as `deletion`.

    References:
        Petsiuk et al., RISE, BMVC 2018; the conventions are those of github.com/eclique/RISE,
        evaluation.py.

    Example:
        >>> curve = jaxcam.metrics.insertion(forward, images, heat, step=0.25, baseline=0.0)
        >>> print(curve)
        [[0.33 0.89 0.83 0.83 0.83]
         [0.33 0.91 0.87 0.87 0.87]]
    """
    check_images(images)
    rules = _Rules(step, activation, chunk, insert=True, dtype=dtype)
    model = outputs_of(forward, targets, has_aux)
    return _play(model, images, fitted(images, baseline), saliency, targets, rules, mask)


def auc(curve: ArrayLike) -> jax.Array:
    """Area under a curve over [0, 1] by trapezoids: (sum - first / 2 - last / 2) / n.

    Args:
        curve: `[..., n + 1]`, as `deletion` and `insertion` return it.

    Returns:
        `[...]`, in the curve's unit.

    Raises:
        ValueError: fewer than two points.

    Example:
        >>> print(jaxcam.metrics.auc(jnp.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])))
        [0.5 1. ]
    """
    curve = jnp.asarray(curve)
    if curve.ndim == 0 or curve.shape[-1] < 2:
        expected = "[..., n + 1] with n of at least 1"
        raise ArgumentError("curve", f"shape {curve.shape}", expected)
    return (curve.sum(-1) - (curve[..., 0] + curve[..., -1]) / 2) / (curve.shape[-1] - 1)


def blur(images: jax.Array) -> jax.Array:
    """RISE's blur: an 11 x 11 kernel over the images with zeros around them.

    The kernel is a Gaussian of sigma 5 whose tails are folded back at the edges of the 11 x 11
    window (SciPy's reflect boundary, in the authors' code), which makes it nearly a box: centre
    0.008833, corner 0.007737.

    Args:
        images: `[B, H, W, C]`.

    Returns:
        `[B, H, W, C]` in the images' dtype.

    Raises:
        ValueError: images are not `[B, H, W, C]`.

    References:
        Petsiuk et al., RISE, BMVC 2018; github.com/eclique/RISE, evaluation.py.

    Example:
        >>> print(jaxcam.metrics.blur(images).max((1, 2, 3)))
        [0.08 0.08]
    """
    check_images(images)
    out = at_least_float32(images)
    for axis in space.of_images(images):
        out = filters.correlate(out, blur_taps(), axis, pad=True)
    return cast_like(out, images)


def blur_taps() -> np.ndarray:
    """The blur's kernel along an axis, `[11]` float64; in all, its outer product with itself."""
    return filters.folded(filters.gaussian(_BLUR_SIGMA, int(4 * _BLUR_SIGMA)), _BLUR_SIDE)


def _play(
    forward: Forward,
    images: jax.Array,
    other: jax.Array,
    saliency: ArrayLike,
    targets: Targets,
    rules: _Rules,
    mask: ArrayLike | None,
) -> jax.Array:
    """The curve from `images` to `other`, or back; the end with `images` also finds the class."""
    check_at_least("chunk", rules.chunk, 1)
    saliency = checked(saliency, images)
    pixels = math.prod(saliency.shape[1:])
    size = _step_pixels(rules.step, pixels)
    logits = forward(images)
    chosen = one_target(logits, targets)
    played = narrowed(forward, rules.dtype)
    if rules.dtype is not None:  # the class was that of the model as it is
        logits = played(images)
    ask = asking(played, chosen, rules.activation)
    order = ranks(saliency)[None]
    start, end = (other, images) if rules.insert else (images, other)
    first = 0 if rules.insert else 1  # the unchanged image's confidence is known already

    def evaluate(numbers: jax.Array) -> jax.Array:
        changed = order < size * (first + space.along(numbers, order))
        return ask(jnp.where(changed[..., None], end[None], start[None]))

    steps = -(-pixels // size)
    rest = chunks.over(evaluate, steps, rules.chunk, loop=loops.map).T
    whole = confidence(logits, chosen, rules.activation)[:, None]
    curve = jnp.concatenate([rest, whole] if rules.insert else [whole, rest], axis=1)
    return only(curve, finite(saliency), mask)


def _step_pixels(step: int | float, pixels: int) -> int:
    """Whole pixels a step."""
    if isinstance(step, float) and 0 < step <= 1:
        return math.ceil(round(step * pixels, 6))  # 0.07 * 100 is 7.000000000000001
    if is_whole(step) and 1 <= step <= pixels:
        return int(step)
    expected = f"pixels, 1 to {pixels}, or their share as a float in (0, 1]"
    raise ArgumentError("step", repr(step), expected)


def fitted(images: jax.Array, baseline: float | str | jax.Array, *, also: str = "") -> jax.Array:
    """What a pixel becomes, in the images' shape; `also` names what else the caller takes."""
    if isinstance(baseline, str):
        if baseline != "blur":
            raise ArgumentError("baseline", repr(baseline), f"{also}'blur', a number or an array")
        return blur(images)
    values = reals("baseline", baseline).astype(images.dtype)
    try:
        return jnp.broadcast_to(values, images.shape)
    except ValueError:
        expected = f"to fit images {images.shape}"
        raise ArgumentError("baseline", f"shape {values.shape}", expected) from None
