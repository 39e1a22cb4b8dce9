"""LIME and KernelSHAP on superpixels: a linear model of a black box on partly hidden images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.black_box import BlackBox, Progress, black_box
from jaxcam._explainers.superpixels import Segments, hide, number, present, show
from jaxcam._explainers.surrogates import KERNELS, fitted, least_samples
from jaxcam._ground import chunks
from jaxcam._ground.dtypes import reals
from jaxcam._ground.errors import check_above, check_at_least, check_choice, check_flag, check_whole
from jaxcam._ground.randomness import check_key
from jaxcam._program.checks import check_images
from jaxcam._program.layers import zeros_like
from jaxcam._program.narrow import Dtype
from jaxcam._program.signature import Explanation, one_answer
from jaxcam.targets import Activation, Targets, concrete

_SAMPLES = 1000  # LIME's own


class Surrogate(NamedTuple):
    """The linear model of the black box near an image; S segments, absent ones weigh 0."""

    coefficients: jax.Array  # [B, (K,) S]
    intercept: jax.Array  # [B, (K)]
    r2: jax.Array  # how much of the answers' weighted variance it explains, [B, (K)]
    segments: jax.Array  # which segment a pixel belongs to, [B, H, W] int32

    @property
    def saliency(self) -> jax.Array:
        """The coefficient of each pixel's segment, `[B, (K,) H, W]`."""
        batch, *size = self.segments.shape
        coefficients = self.coefficients.reshape(batch, -1, self.coefficients.shape[-1])
        flat = self.segments.reshape(batch, 1, -1)
        maps = jnp.take_along_axis(coefficients, flat, axis=2, mode="fill")
        return maps.reshape(*self.coefficients.shape[:-1], *size)


@one_answer(jax.Array)
def lime(
    forward: Callable,
    images: jax.Array,
    targets: Targets = None,
    *,
    has_aux: bool = False,
    **options: Any,
) -> Explanation:
    """LIME: a pixel gets its superpixel's coefficient in a local linear model, `lime_surrogate`.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints (K classes cost no more than one),
            or a function of what `forward` returns -> y `[B]`, taken as it is.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.
        **options: those of `lime_surrogate`.

    Returns:
        `[B, H, W]` float32, `[B, K, H, W]` for K targets per image; signed: what is negative speaks
        against the class.

    Raises:
        ValueError: as `lime_surrogate`.

    References:
        Ribeiro et al., "Why should I trust you?", KDD 2016; github.com/marcotcr/lime,
        lime_image.py.

    Example:
        >>> quarters = jnp.kron(jnp.array([[0, 1], [2, 3]]), jnp.ones((4, 4), int))  # superpixels
        >>> maps = jaxcam.lime(forward, images, segments=jnp.stack([quarters] * 2), num_samples=64)
        >>> peaks(maps)  # the quarters' first pixels
        [(0, 4), (4, 0)]
    """
    check_flag("has_aux", has_aux)
    if has_aux:
        surrogate, aux = lime_surrogate(forward, images, targets, has_aux=True, **options)
        return surrogate.saliency, aux
    return lime_surrogate(forward, images, targets, **options).saliency


@one_answer(Surrogate)
def lime_surrogate(
    forward: Callable,
    images: jax.Array,
    targets: Targets = None,
    *,
    segments: Segments = None,
    num_segments: int | None = None,
    num_samples: int | None = None,
    hide_color: Any = None,
    kernel: str = "cosine",
    kernel_width: float = 0.25,
    alpha: float | None = None,
    chunk: int = 32,
    key: jax.Array | None = None,
    activation: Activation = None,
    host: bool = False,
    has_aux: bool = False,
    progress: Progress | None = None,
    dtype: Dtype = None,
) -> Explanation:
    """The linear model y = b_0 + sum_s b_s z_s, of which segments (z_s = 1) are shown.

    y is the class probability when only the segments with z_s = 1 are shown.

    kernel   samples z                    fit
    cosine   z_s = 0 or 1 alike,          min sum_i w_i (y_i - b_0 - b z_i)^2 + alpha |b|^2, where
             the first all 1              w = sqrt(exp(-d^2 / width^2)), d = 1 - cos(z, 1)
    shap     all 1; all 0; each segment   min sum_i w_i (y_i - b_0 - b z_i)^2 + alpha |b|^2 such
             alone; then sums k drawn as  that the model is exact on the first two, w making up for
             1 / (k (S - k)), each        what was not drawn: Shapley values, exact where y is
             subset of k alike; each      additive
             beside its complement

    An image's result depends neither on the others of its batch nor on `chunk`. Costs `num_samples`
    forward passes, and one if `targets` is None.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        targets: as in `lime`.
        segments: ints `[B, H, W]`; a function of one image `[H, W, C]` -> ints `[H, W]`, such as a
            partial of `skimage.segmentation.slic`; or None for `quickshift(images)`, and for a grid
            of 49 pieces of signals, of 4 x 4 x 4 of volumes. For the published segments, pass
            `quickshift(photos)` of the photos before normalisation.
        num_segments: S, to which all images are padded. Needed inside a transformation, where
            segments must be an array of 0 to S - 1; else segments are renumbered, and None takes as
            many as the image with most has.
        num_samples: rows of z; None is 1000, or for "shap" 4 S + 2 if that is more. "shap" needs
            2 S + 2, unless alpha is above 0.
        hide_color: what stands in for a hidden segment: None for its mean colour, or a number,
            `[C]` or whole images.
        kernel: "cosine" (LIME) or "shap" (KernelSHAP).
        kernel_width: of the cosine kernel.
        alpha: strength of the ridge; None is 1 for "cosine" and 0 for "shap".
        chunk: how many samples are evaluated at once, at most; sets the memory, `chunk * B` images.
        key: of the random samples; None is `jax.random.key(0)`.
        activation: as in `rise`.
        host: as in `rise`.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(surrogate, aux)`.
        progress: as in `rise`, of samples done.
        dtype: as in `rise`.

    Returns:
        `Surrogate`: coefficients, intercept, R^2, the segments they belong to, and `.saliency`.

    Raises:
        ValueError: bad images, targets or segments; `forward` returns no `[B, N]`; an unknown
            `kernel`, a number out of range; segments that must be computed, `host` or `progress`
            inside a transformation.
        TypeError: `forward` is a function of NumPy arrays, and `host` is False.

    References:
        Ribeiro et al., KDD 2016, eq. 1; Lundberg and Lee, NeurIPS 2017, theorem 2; Covert and Lee,
        AISTATS 2021, for the solution under constraints; sampling by size as in
        github.com/pytorch/captum.

    Example:
        >>> quarters = jnp.kron(jnp.array([[0, 1], [2, 3]]), jnp.ones((4, 4), int))  # superpixels
        >>> segments = jnp.stack([quarters] * 2)
        >>> found = jaxcam.lime_surrogate(forward, images, segments=segments, num_samples=64)
        >>> found.coefficients.shape
        (2, 4)
        >>> print(found.coefficients.argmax(1))  # the quarter that speaks most for the class
        [1 2]
    """
    _check_options(kernel, kernel_width, alpha)
    key = check_key(key)
    check_images(reals("images", images))
    rules = KERNELS[kernel]
    if alpha is None:
        alpha = rules.alpha
    labels, count = number(images, segments, num_segments)
    there = present(labels, count)
    num_samples = _samples(num_samples, kernel, there, alpha)
    options = {"host": host, "has_aux": has_aux, "progress": progress, "dtype": dtype}
    images, box, aux = black_box(forward, images, targets, activation, **options)
    samples = rules.sample(key, num_samples, there)
    hidden = hide(images, labels, count, hide_color)
    answers = _answers(box, (images, hidden, labels), samples, chunk, host, progress)
    several = answers.reshape(*answers.shape[:2], -1)
    b, intercept, r2 = fitted(rules.fit, samples, several, there, kernel_width, alpha)
    surrogate = Surrogate(b, intercept, r2, labels)
    if not box.kinds:
        surrogate = Surrogate(b[:, 0], intercept[:, 0], r2[:, 0], labels)
    if has_aux:
        return surrogate, aux
    return surrogate


def _answers(
    box: BlackBox,
    scene: tuple,
    samples: jax.Array,
    chunk: int,
    host: bool,
    progress: Progress | None,
) -> jax.Array:
    """The model's scores `[n, B, (K)]` for samples `[n, B, S]`."""
    count, batch, _ = samples.shape
    check_at_least("chunk", chunk, 1)
    plan = chunks.equal(count, chunk)
    padded = jnp.pad(samples, ((0, plan.padded - count), (0, 0), (0, 0)))

    def step(answers: jax.Array, i: Any) -> jax.Array:
        first = i * plan.size
        part = jax.lax.dynamic_slice_in_dim(padded, first, plan.size)
        scores = box.scores(show(*scene, part))
        return jax.lax.dynamic_update_slice_in_dim(answers, scores, first, 0)

    shape = (plan.padded, batch, *box.kinds)
    start = zeros_like(jax.ShapeDtypeStruct(shape, jnp.float32), scene[0])
    told = chunks.telling(progress, plan)
    return loops.fold(step, start, plan.steps, on_host=host, progress=told)[:count]


def _samples(asked: int | None, kernel: str, there: jax.Array, alpha: float) -> int:
    """How many samples are drawn of images with these segments `[B, S]`; checked."""
    segments = there.shape[1]
    if concrete(there) is not None:
        segments = int(there.sum(1).max())
    if asked is None:
        return max(_SAMPLES, 2 * least_samples(kernel, segments, 0.0) - 2)
    least = least_samples(kernel, segments, alpha)
    what = ""
    if least > segments:
        what = f"for {segments} segments with kernel={kernel!r}"
    check_whole("num_samples", asked, least, what=what)
    return int(asked)


def _check_options(kernel: str, kernel_width: float, alpha: float | None) -> None:
    check_choice("kernel", kernel, KERNELS)
    check_above("kernel_width", kernel_width, 0)
    if alpha is not None:
        check_at_least("alpha", alpha, 0)
