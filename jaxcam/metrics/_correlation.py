"""Does what a map says of a set of pixels go with what the score loses without them?"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcam import loops
from jaxcam._ground import chunks, interpolation, space
from jaxcam._ground.errors import ArgumentError, check_flag, check_whole, is_whole
from jaxcam._ground.randomness import check_key
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam.metrics._common import checked, finite, only, outputs_of, pearson, rank_correlation
from jaxcam.metrics._faithfulness import asking, one_target
from jaxcam.metrics._games import fitted
from jaxcam.targets import Activation, Targets, confidence

_HIGHEST = jax.lax.Precision.HIGHEST
_ROUNDING = 8  # units in the last place of a score, by which a network's answers differ anyway


def faithfulness_correlation(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    subset: int | float = 0.2,
    grid: int | None = None,
    baseline: float | str | jax.Array = 0.0,
    ranked: bool = False,
    num_samples: int = 200,
    key: jax.Array | None = None,
    activation: Activation = None,
    chunk: int = 4,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """mu_F = corr_S(sum_{i in S} Phi_i, f(x) - f(x with S at the baseline)). High is good.

    Phi is the saliency, S a random set of exactly k pixels or cells of a grid: does what the map
    says of a set go with what the score loses without it? All images share the sets, so that a
    value does not depend on its neighbours. Costs num_samples + 1 forward passes.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        saliency: `[B, H, W]`, any real numbers.
        targets: f: None (the confidence of the arg-max), an int, `[B]` ints, or a function logits
            -> `[B]`, such as `jaxcam.targets.logit(classes)`.
        subset: k: their share (a float in (0, 1), rounded to whole ones) or their number (an int),
            neither none nor all.
        grid: None for single pixels, the paper's; else the cells along each axis, and Phi_i is the
            sum over a cell. Of large images single pixels say little: what is drawn of them is
            alike everywhere, and the score follows how many there are.
        baseline: what they become: a number, "blur" for `blur(images)`, or an array that fits the
            images.
        ranked: whether it is Spearman's correlation of ranks in place of Pearson's.
        num_samples: of the sets S, at least 2.
        key: of the sets; None is `jax.random.key(0)`.
        activation: what makes logits probabilities, as in `jaxcam.targets.probabilities`.
        chunk: how many sets are evaluated at once; memory is that of `chunk * B` images.
        has_aux: whether `forward` returns `(logits, aux)`; aux is not looked at.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [-1, 1]; 1 for the weights times the image of a linear model, and 0 on average for
        a map that knows nothing. NaN where there is no correlation, of a constant map or of a score
        that no set changes by more than its rounding; where saliency is not finite, or `mask` is
        False.

    Raises:
        ValueError: bad images or targets; saliency, mask or baseline that do not fit; subset, grid,
            num_samples or chunk out of range.

    References:
        Bhatt et al., Evaluating and aggregating feature-based model explanations, IJCAI 2020,
        definition 3; `grid` and `ranked` as in github.com/deel-ai/xplique, MuFidelity.

    Example:
        >>> score = jaxcam.metrics.faithfulness_correlation
        >>> print(score(forward, images, heat, grid=4, subset=0.25, num_samples=50))
        [0.97 0.98]
    """
    check_images(images)
    saliency = checked(saliency, images)
    check_flag("ranked", ranked)
    check_whole("num_samples", num_samples, 2)
    keys = jax.random.split(check_key(key), num_samples)
    cells = _cells(images.shape[1:-1], grid)
    draw = _subsets(int(cells.max()) + 1, subset)
    values = _sums(saliency, cells)
    other = fitted(images, baseline)
    model = outputs_of(forward, targets, has_aux)
    logits = model(images)
    chosen = one_target(logits, targets)
    full = confidence(logits, chosen, activation)
    ask = asking(model, chosen, activation)

    def evaluate(numbers: jax.Array) -> jax.Array:
        drawn = jax.vmap(draw)(keys[numbers])
        told = jnp.matmul(drawn.astype(values.dtype), values.T, precision=_HIGHEST)
        removed = drawn[:, cells][:, None, ..., None]
        lost = full[None] - ask(jnp.where(removed, other[None], images[None]))
        return jnp.stack([told.astype(lost.dtype), lost])

    told, lost = chunks.over(evaluate, num_samples, chunk, loop=loops.map, axis=1)
    correlation = rank_correlation if ranked else pearson
    varied = saliency.max(space.of_maps(saliency)) > saliency.min(space.of_maps(saliency))
    found = only(correlation(told.T, lost.T), varied, _changed(full, lost))
    return only(found, finite(saliency), mask)


def _cells(size: tuple[int, ...], grid: int | None) -> np.ndarray:
    """Which cell each pixel is in, from 0: int32 of shape `size`; a cell a pixel without a grid."""
    if grid is None:
        return np.arange(math.prod(size), dtype=np.int32).reshape(size)
    check_whole("grid", grid, 1, min(size), what="the images' shorter side")
    found = np.zeros(size, np.int32)
    for axis, length in enumerate(size):
        place = interpolation.nearest(interpolation.centres(length, grid), grid).argmax(1)
        shape = [1] * len(size)
        shape[axis] = length
        found = found * grid + place.reshape(shape).astype(np.int32)
    return found


def _subsets(count: int, subset: int | float) -> Callable[[jax.Array], jax.Array]:
    """What draws k of so many cells: key -> `[count]` bool."""
    k = 0
    if isinstance(subset, float) and 0 < subset < 1:
        k = round(subset * count)
    elif is_whole(subset):
        k = int(subset)
    if not 0 < k < count:
        expected = f"a share or a number of {count}, neither none nor all"
        raise ArgumentError("subset", repr(subset), expected)

    def draw(key: jax.Array) -> jax.Array:
        return jnp.zeros(count, bool).at[jax.random.permutation(key, count)[:k]].set(True)

    return draw


def _sums(saliency: jax.Array, cells: np.ndarray) -> jax.Array:
    """Phi of each cell, `[B, n]`, above its mean: of k cells each, sums move alike, and no more."""
    flat = saliency.reshape(len(saliency), -1)
    count = int(cells.max()) + 1
    total = lambda each: jax.ops.segment_sum(each, cells.ravel(), count)
    sums = jax.vmap(total)(flat) if count < cells.size else flat
    return sums - sums.mean(1, keepdims=True)


def _changed(full: jax.Array, lost: jax.Array) -> jax.Array:
    """Whether the score was different at all, `[B]`, from f(x) `[B]` and losses `[n, B]`."""
    least = _ROUNDING * jnp.finfo(lost.dtype).eps * jnp.abs(full)
    return lost.max(0) - lost.min(0) > least
