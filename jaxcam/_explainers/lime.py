"""LIME and KernelSHAP on superpixels: a linear model of a black box on partly hidden images."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import loops
from jaxcam._explainers.black_box import BlackBox, Progress, black_box
from jaxcam._ground import chunks
from jaxcam._ground.errors import check_at_least
from jaxcam._program.checks import check_planar
from jaxcam.targets import Activation, Targets, concrete

Segments = jax.Array | np.ndarray | Callable[[np.ndarray], np.ndarray] | None

_dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Surrogate(NamedTuple):
    """The linear model of the black box near an image; S segments, absent ones weigh 0."""

    coefficients: jax.Array  # [B, (K,) S]
    intercept: jax.Array  # [B, (K)]
    r2: jax.Array  # how much of the answers' weighted variance it explains, [B, (K)]
    segments: jax.Array  # which segment a pixel belongs to, [B, H, W] int32

    @property
    def saliency(self) -> jax.Array:
        """The coefficient of each pixel's segment, `[B, (K,) H, W]`."""
        several = self.coefficients.ndim == 3
        coefficients = self.coefficients if several else self.coefficients[:, None]
        flat = self.segments.reshape(self.segments.shape[0], 1, -1)
        maps = jnp.take_along_axis(coefficients, flat, axis=2, mode="fill")
        maps = maps.reshape(*coefficients.shape[:2], *self.segments.shape[1:])
        return maps if several else maps[:, 0]


def lime(
    forward: Callable,
    images: jax.Array,
    targets: Targets = None,
    *,
    has_aux: bool = False,
    **options: Any,
) -> Any:
    """LIME: a pixel gets its superpixel's coefficient in a local linear model, `lime_surrogate`.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, normalised as the model expects.
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
    """
    found = lime_surrogate(forward, images, targets, has_aux=has_aux, **options)
    if has_aux:
        surrogate, aux = found
        return surrogate.saliency, aux
    return found.saliency


def lime_surrogate(
    forward: Callable,
    images: jax.Array,
    targets: Targets = None,
    *,
    segments: Segments = None,
    num_segments: int | None = None,
    num_samples: int = 1000,
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
) -> Any:
    """The linear model y = b_0 + sum_s b_s z_s, of which segments (z_s = 1) are shown.

    y is the class probability when only the segments with z_s = 1 are shown.

    kernel   samples z                    fit
    cosine   z_s = 0 or 1 alike,          min sum_i w_i (y_i - b_0 - b z_i)^2 + alpha |b|^2, where
             the first all 1              w = sqrt(exp(-d^2 / width^2)), d = 1 - cos(z, 1)
    shap     all 1; all 0; then sums k    min sum_i (y_i - b_0 - b z_i)^2 + alpha |b|^2 such that
             drawn as 1 / (k (S - k)),    the model is exact on the first two: Shapley values
             each subset of k alike

    An image's result depends neither on the others of its batch nor on `chunk`. Costs `num_samples`
    forward passes, and one if `targets` is None.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, normalised as the model expects.
        targets: as in `lime`.
        segments: ints `[B, H, W]`; a function of one image `[H, W, C]` -> ints `[H, W]`, such as a
            partial of `skimage.segmentation.slic`; or None for `quickshift(images)`. For the
            published segments, pass `quickshift(photos)` of the photos before normalisation.
        num_segments: S, to which all images are padded. Needed inside a transformation, where
            segments must be an array of 0 to S - 1; else segments are renumbered, and None takes as
            many as the image with most has.
        num_samples: rows of z.
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
    """
    _check_options(kernel, num_samples, kernel_width, alpha)
    check_planar(jnp.asarray(images))
    rules = KERNELS[kernel]
    labels, count = number(images, segments, num_segments)
    options = {"host": host, "has_aux": has_aux, "progress": progress}
    images, box, aux = black_box(forward, images, targets, activation, **options)
    present = _present(labels, count)
    samples = rules.sample(jax.random.key(0) if key is None else key, num_samples, present)
    hidden = hide(images, labels, count, hide_color)
    answers = _answers(box, (images, hidden, labels), samples, chunk, host, progress)
    kinds = answers if box.kinds else answers[..., None]
    found = _fit(
        rules.fit, samples, kinds, present, kernel_width, rules.alpha if alpha is None else alpha
    )
    if not box.kinds:
        found = (x[:, 0] for x in found)
    surrogate = Surrogate(*found, labels)
    if has_aux:
        return surrogate, aux
    return surrogate


# Segments ------------------------------------------------------------


def quickshift(
    images: np.ndarray,
    *,
    kernel_size: float = 4,
    max_dist: float = 200,
    ratio: float = 0.2,
    seed: int = 42,
) -> np.ndarray:
    """Superpixels by quickshift in colour and position, on the host, with LIME's parameters.

    Args:
        images: `[B, H, W, C]`: 8-bit, or in [0, 1]. Others (normalised ones) are min-max scaled,
            image by image, which shifts their colours and so their segments: pass photos where
            there are any.
        kernel_size: width of the density's Gaussian, in pixels.
        max_dist: no link is longer.
        ratio: weight of colour against position.
        seed: breaks ties.

    Returns:
        `[B, H, W]` int32, numbered from 0 in each image. RGB is taken to Lab; other numbers of
        channels are not.

    Raises:
        ValueError: images are not `[B, H, W, C]`.

    References:
        Vedaldi and Soatto, Quick shift and kernel methods for mode seeking, ECCV 2008;
        skimage.segmentation.quickshift.
    """
    from skimage.segmentation import quickshift as one

    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"images: got shape {images.shape}, expected [B, H, W, C]")
    options = {"kernel_size": kernel_size, "max_dist": max_dist, "ratio": ratio, "rng": seed}
    segment = partial(one, convert2lab=images.shape[-1] == 3, **options)
    with ThreadPoolExecutor() as pool:  # scikit-image works outside Python's lock
        return np.stack(list(pool.map(lambda image: segment(_unit(image)), images))).astype(
            np.int32
        )


def number(images: Any, segments: Segments, num_segments: int | None) -> tuple[jax.Array, int]:
    """Segments `[B, H, W]` int32 as `lime_surrogate` takes them, from 0, and their number."""
    if segments is None or callable(segments):
        known = concrete(images)
        if known is None:
            raise ValueError(
                "segments: got none inside a transformation such as jax.jit, "
                "expected an integer array [B, H, W] made before it, by jaxcam.quickshift say"
            )
        segments = (
            quickshift(known)
            if segments is None
            else np.stack([segments(image) for image in known])
        )
    segments = segments if isinstance(segments, jax.Array) else np.asarray(segments)
    if not jnp.issubdtype(segments.dtype, jnp.integer) or segments.shape != jnp.shape(images)[:3]:
        raise ValueError(
            f"segments: got {segments.dtype} values of shape {tuple(segments.shape)}, "
            f"expected integers {list(jnp.shape(images)[:3])}, as the images"
        )
    known = concrete(segments)
    if known is None:
        if num_segments is None:
            raise ValueError(
                "num_segments: got None inside a transformation such as jax.jit, expected a number"
            )
        return segments.astype(jnp.int32), num_segments
    labels = np.stack(
        [np.unique(each, return_inverse=True)[1].reshape(each.shape) for each in known]
    )
    found = int(labels.max()) + 1
    if num_segments is not None and num_segments < found:
        raise ValueError(
            f"num_segments: got {num_segments}, expected at least {found}, as an image has"
        )
    return jnp.asarray(labels, jnp.int32), num_segments or found


def hide(images: jax.Array, segments: jax.Array, count: int, color: Any) -> jax.Array:
    """Images `[B, H, W, C]` with everything hidden: under segments' mean colours, or `color`."""
    if color is None:
        return _means(images, segments, count)
    color = jnp.asarray(color, images.dtype)
    try:
        return jnp.broadcast_to(color, images.shape)
    except ValueError:
        expected = f"None, a number, [{images.shape[-1]}] or {list(images.shape)}"
        raise ValueError(f"hide_color: got shape {color.shape}, expected {expected}") from None


@partial(jax.jit, static_argnames="count")
def _present(segments: jax.Array, count: int) -> jax.Array:
    """Which of the segments an image has, `[B, S]` bool."""
    return jax.vmap(lambda each: jnp.bincount(each.ravel(), length=count) > 0)(segments)


@partial(jax.jit, static_argnames="count")
def _means(images: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    return jax.vmap(partial(_mean, count=count))(images, segments)


def _mean(image: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    pixels, flat = image.reshape(-1, image.shape[-1]).astype(jnp.float32), segments.ravel()
    sums = jax.ops.segment_sum(pixels, flat, count)
    sizes = jnp.bincount(flat, length=count)[:, None]
    return (sums / jnp.maximum(sizes, 1))[segments].astype(image.dtype)


def _unit(image: np.ndarray) -> np.ndarray:
    if np.issubdtype(image.dtype, np.integer):
        return image / 255
    image = image.astype(np.float64)
    low, high = image.min(), image.max()
    return image if low >= 0 and high <= 1 else (image - low) / (high - low or 1)


# Samples -------------------------------------------------------------


@partial(jax.jit, static_argnames="count")
def halves(key: jax.Array, count: int, present: jax.Array) -> jax.Array:
    """LIME's z `[n, B, S]` bool: each shown with probability 1/2, first row all `present`."""
    shown = (_uniform(key, count, present.shape[1]) < 0.5).at[0].set(True)
    return shown[:, None] & present


@partial(jax.jit, static_argnames="count")
def coalitions(key: jax.Array, count: int, present: jax.Array) -> jax.Array:
    """KernelSHAP's z `[n, B, S]` bool: all, none, then k segments, k as 1 / (k (S - k))."""
    for_subsets, for_sizes = jax.random.split(key)
    total = present.sum(1, keepdims=True)
    k = jnp.arange(1, present.shape[1] + 1)
    shares = jnp.where(k < total, 1 / jnp.where(k < total, k * (total - k), 1), 0)
    below = jnp.cumsum(shares, 1) / jnp.maximum(
        shares.sum(1, keepdims=True), jnp.finfo(jnp.float32).tiny
    )
    sizes = 1 + (below <= jax.random.uniform(for_sizes, (count, 1, 1))).sum(2)
    sizes = jnp.minimum(sizes, total[:, 0] - 1).at[0].set(total[:, 0]).at[1].set(0)
    drawn = jnp.where(present, _uniform(for_subsets, count, present.shape[1])[:, None], 2.0)
    return jnp.argsort(jnp.argsort(drawn, axis=2), axis=2) < sizes[:, :, None]


def _uniform(key: jax.Array, count: int, segments: int) -> jax.Array:
    """`[n, S]`, a key for each column: more segments, in another image, leave the first alone."""
    column = lambda s: jax.random.uniform(jax.random.fold_in(key, s), (count,))
    return jax.vmap(column, out_axes=1)(jnp.arange(segments))


@jax.jit
def show(
    images: jax.Array, hidden: jax.Array, segments: jax.Array, samples: jax.Array
) -> jax.Array:
    """The images with only the segments of a sample shown: z `[n, B, S]` -> `[n, B, H, W, C]`."""
    flat = segments.reshape(1, segments.shape[0], -1)
    shown = jnp.take_along_axis(samples, flat, axis=2, mode="clip")
    return jnp.where(shown.reshape(-1, *segments.shape, 1), images, hidden)


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
    size = plan.size
    padded = jnp.pad(samples, ((0, plan.padded - count), (0, 0), (0, 0)))

    def step(answers: jax.Array, i: Any) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(padded, i * size, size)
        return jax.lax.dynamic_update_slice_in_dim(
            answers, box.scores(show(*scene, part)), i * size, 0
        )

    start = jnp.zeros((plan.padded, batch, *box.kinds), jnp.float32)
    told = chunks.telling(progress, plan)
    return loops.fold(step, start, plan.steps, on_host=host, progress=told)[:count]


# Fits ----------------------------------------------------------------


def cosine_weights(samples: jax.Array, present: jax.Array, width: float) -> jax.Array:
    """Weights w = sqrt(exp(-d^2 / width^2)), d = 1 - sqrt(|z| / S) the cosine distance to all ones.

    Samples `[n, S]` and `[S]`, which segments there are, give `[n]`.
    """
    distance = 1 - jnp.sqrt(samples.sum(1) / present.sum())
    return jnp.exp(-0.5 * (distance / width) ** 2)


def weighted_ridge(
    samples: jax.Array, answers: jax.Array, weights: jax.Array, alpha: float
) -> tuple:
    """The line b = (X^T W X + alpha I)^-1 X^T W Y, X and Y less their weighted means.

    The intercept is not penalised.

    Args:
        samples: X `[n, S]`.
        answers: Y `[n, K]`.
        weights: W's diagonal `[n]`.
        alpha: at least 0. A segment that no sample shows gets coefficient 0 even where alpha is 0.

    Returns:
        Coefficients `[K, S]`, intercepts `[K]`, weighted R^2 `[K]`.
    """
    share = weights / weights.sum()
    mean_x, mean_y = _dot(share, samples), _dot(share, answers)
    x, y = samples - mean_x, answers - mean_y
    b = _solve(_dot(x.T, weights[:, None] * x), _dot(x.T, weights[:, None] * y), alpha)
    return b.T, mean_y - _dot(mean_x, b), _r2(y, _dot(x, b), share)


def constrained_ridge(
    samples: jax.Array, answers: jax.Array, present: jax.Array, alpha: float
) -> tuple:
    """The line b = A^-1 (X^T Y - 1 (1^T A^-1 X^T Y - y_all + y_none) / 1^T A^-1 1).

    A = X^T X + alpha I, Y less y_none. The least squares of all samples but the first two, exact on
    those two: y_all with all segments, y_none with none.

    Args:
        samples: `[n, S]`, in the first row all that are present, in the second none.
        answers: `[n, K]`.
        present: `[S]`, which segments there are.
        alpha: at least 0; with 0, n - 2 must be S or more.

    Returns:
        Coefficients `[K, S]`, whose sum is y_all - y_none; intercepts y_none `[K]`; R^2 of the
        other samples `[K]`.
    """
    whole, none = answers[0], answers[1]
    x, y = samples[2:], answers[2:] - none
    ones = present.astype(x.dtype)[:, None]
    solved = _solve(_dot(x.T, x), jnp.concatenate([_dot(x.T, y), ones], 1), alpha)
    free, push = solved[:, :-1], solved[:, -1:]
    b = free - push * (free.sum(0) - (whole - none)) / push.sum()
    mean = y.mean(0)
    return b.T, none, _r2(y - mean, _dot(x, b) - mean, jnp.full(len(x), 1 / max(len(x), 1)))


def _solve(gram: jax.Array, right: jax.Array, alpha: float) -> jax.Array:
    """(gram + alpha I)^-1 right, with a one on the diagonal of rows that are 0."""
    empty = jnp.diag(gram) == 0
    return jnp.linalg.solve(gram + jnp.diag(jnp.where(empty, 1.0, alpha)), right)


def _r2(y: jax.Array, predicted: jax.Array, share: jax.Array) -> jax.Array:
    total, left = _dot(share, y**2), _dot(share, (y - predicted) ** 2)
    return jnp.where(total == 0, 1.0, 1 - left / jnp.where(total == 0, 1, total))


@partial(jax.jit, static_argnums=0)
def _fit(
    fit: Callable,
    samples: jax.Array,
    answers: jax.Array,
    present: jax.Array,
    width: float,
    alpha: float,
) -> tuple:
    """Image by image: coefficients `[B, K, S]`, intercepts and R^2 `[B, K]`.

    From z `[n, B, S]` and y `[n, B, K]`.
    """
    one = partial(fit, width=width, alpha=alpha)
    return jax.vmap(one, in_axes=(1, 1, 0))(samples.astype(jnp.float32), answers, present)


def _fit_cosine(
    samples: jax.Array, answers: jax.Array, present: jax.Array, width: float, alpha: float
) -> tuple:
    return weighted_ridge(samples, answers, cosine_weights(samples, present, width), alpha)


def _fit_shap(
    samples: jax.Array, answers: jax.Array, present: jax.Array, width: float, alpha: float
) -> tuple:
    return constrained_ridge(samples, answers, present, alpha)


class Kernel(NamedTuple):
    """How samples are drawn and a line put through them."""

    sample: Callable  # (key, n, present [B, S]) -> z [n, B, S]
    fit: (
        Callable  # (z [n, S], y [n, K], present [S], width, alpha) -> coefficients, intercepts, R^2
    )
    alpha: float
    least: int  # samples that it needs


KERNELS = {
    "cosine": Kernel(halves, _fit_cosine, 1.0, 1),
    "shap": Kernel(coalitions, _fit_shap, 0.0, 3),
}


def _check_options(kernel: str, num_samples: int, kernel_width: float, alpha: float | None) -> None:
    if kernel not in KERNELS:
        raise ValueError(f"kernel: got {kernel!r}, expected one of {', '.join(map(repr, KERNELS))}")
    if num_samples < KERNELS[kernel].least:
        raise ValueError(
            f"num_samples: got {num_samples}, expected at least {KERNELS[kernel].least}"
        )
    if not kernel_width > 0:
        raise ValueError(f"kernel_width: got {kernel_width}, expected a number above 0")
    if alpha is not None and not alpha >= 0:
        raise ValueError(f"alpha: got {alpha}, expected at least 0, or None")
