"""Linear surrogates of a black box on superpixels: the samples they are fitted to, and the fits."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

_dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

_LEAST = float(jnp.finfo(jnp.float32).tiny)
_ROUNDING = 1e-5  # of an answer: logits of 10 in float32, through a softmax

# Samples -------------------------------------------------------------


@partial(jax.jit, static_argnames="count")
def halves(key: jax.Array, count: int, present: jax.Array) -> jax.Array:
    """LIME's z `[n, B, S]` bool: each shown with probability 1/2, first row all `present`."""
    shown = (_uniform(key, count, present.shape[1]) < 0.5).at[0].set(True)
    return shown[:, None] & present[None]


@partial(jax.jit, static_argnames="count")
def coalitions(key: jax.Array, count: int, present: jax.Array) -> jax.Array:
    """KernelSHAP's z `[n, B, S]` bool: all, none, then pairs of a coalition and its complement.

    First each segment alone; then k from 2 to S - 2 segments, k as 1 / (k (S - k)), of which
    `coalition_weights` knows how many there would be. Where there are none, all.
    """
    pairs = -(-max(count - 2, 0) // 2)
    total = present.sum(1)
    place = jnp.cumsum(present, 1) - 1  # of each segment among those that are present
    alone = (jnp.arange(pairs)[:, None, None] == place[None]) & present[None]
    some = jnp.where((total > 3)[None, :, None], _subsets(key, pairs, present), present[None])
    singles = jnp.arange(pairs)[:, None] < total[None]
    first = jnp.where(singles[:, :, None], alone, some)
    both = jnp.stack([first, present[None] & ~first], 1).reshape(2 * pairs, *present.shape)
    ends = jnp.stack([present, jnp.zeros_like(present)])
    return jnp.concatenate([ends, both])[:count]


def _subsets(key: jax.Array, count: int, present: jax.Array) -> jax.Array:
    """`[n, B, S]` bool: k of the present segments, k from 2 to S - 2 as 1 / (k (S - k))."""
    for_subsets, for_sizes = jax.random.split(key)
    shares = _shares(present)[:, 1:]
    below = jnp.cumsum(shares, 1) / jnp.maximum(shares.sum(1, keepdims=True), _LEAST)
    sizes = 2 + (below[None] <= jax.random.uniform(for_sizes, (count, 1, 1))).sum(2)
    sizes = jnp.minimum(sizes, present.sum(1)[None] - 2)
    uniform = _uniform(for_subsets, count, present.shape[1])
    drawn = jnp.where(present[None], uniform[:, None], 2.0)
    return jnp.argsort(jnp.argsort(drawn, axis=2), axis=2) < sizes[:, :, None]


def _shares(present: jax.Array) -> jax.Array:
    """1 / (k (S - k)) of k = 1, 2, ..., 0 from S on; of k = S - 1 with k = 1. `[B, S]` twice."""
    total = present.sum(1, keepdims=True)
    k = jnp.arange(1, present.shape[1] + 1)[None]
    ways = jnp.where(k < total, k * (total - k), 1).astype(jnp.float32)
    shares = jnp.where((k < total) & (k < jnp.maximum(total - 1, 2)), 1 / ways, 0)
    return shares.at[:, 0].multiply(2)


def coalition_weights(samples: jax.Array, present: jax.Array) -> jax.Array:
    """What each coalition z `[n, S]` counts: as often as Shapley's kernel would draw its like.

    Those of one segment, or of all but one, share what sizes 1 and S - 1 have, the others what is
    left, each as much; all and none count nothing. Their mean, of those that count, is 1.
    """
    total = present.sum().astype(samples.dtype)
    size = samples.sum(1)
    edge = (size == 1) | (size == total - 1)
    middle = (size > 1) & (size < total - 1)
    edge = edge & (size < total)
    shares = _shares(present[None])[0]
    weights = jnp.zeros(len(samples), jnp.float32)
    for kind, share in ((edge, shares[0]), (middle, shares[1:].sum())):
        number = jnp.maximum(kind.sum(), 1).astype(jnp.float32)
        weights = jnp.where(kind, share / number, weights)
    counted = (edge | middle).sum().astype(jnp.float32)
    return weights * counted / jnp.maximum(weights.sum(), _LEAST)


def _uniform(key: jax.Array, count: int, segments: int) -> jax.Array:
    """`[n, S]`, a key for each column: more segments, in another image, leave the first alone."""
    column = lambda s: jax.random.uniform(jax.random.fold_in(key, s), (count,))
    return jax.vmap(column, out_axes=1)(jnp.arange(segments))


# Fits ----------------------------------------------------------------


def cosine_weights(samples: jax.Array, present: jax.Array, width: float) -> jax.Array:
    """Weights w = sqrt(exp(-d^2 / width^2)), d = 1 - sqrt(|z| / S) the cosine distance to all ones.

    Samples `[n, S]` and `[S]`, which segments there are, give `[n]`.
    """
    distance = 1 - jnp.sqrt(samples.sum(1) / present.sum().astype(samples.dtype))
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
    mean_x = _dot(share, samples)
    mean_y = _dot(share, answers)
    x = samples - mean_x[None]
    y = answers - mean_y[None]
    b = _solve(_dot(x.T, weights[:, None] * x), _dot(x.T, weights[:, None] * y), alpha)
    return b.T, mean_y - _dot(mean_x, b), _r2(y, _dot(x, b), share)


def constrained_ridge(
    samples: jax.Array,
    answers: jax.Array,
    weights: jax.Array,
    present: jax.Array,
    alpha: float,
) -> tuple:
    """The line b = d / S + (X^T W X + alpha I + c 1 1^T)^-1 X^T W (Y - y_none - |z| d / S).

    X = z - |z| / S, d = y_all - y_none. The least squares of all samples but the first two, exact
    on those two: y_all with all segments, y_none with none, so that the sum of b is d. What is
    left to find sums to 0, whatever c > 0, of which z tells no more than X; float32 does then.

    Args:
        samples: `[n, S]`, in the first row all that are present, in the second none.
        answers: `[n, K]`.
        weights: W's diagonal `[n]`; the first two are not looked at.
        present: `[S]`, which segments there are.
        alpha: at least 0; with 0 the rows beyond the second must span all segments.

    Returns:
        Coefficients `[K, S]`, whose sum is y_all - y_none; intercepts y_none `[K]`; R^2 of the
        other samples `[K]`.
    """
    none = answers[1]
    share = (answers[0] - none)[None] / jnp.maximum(present.sum(), 1).astype(answers.dtype)
    z = samples[2:]
    y = answers[2:] - none[None]
    ones = present.astype(z.dtype)[None]
    size = z.sum(1, keepdims=True)
    segments = jnp.maximum(ones.sum(), 1)
    x = z - size / segments * ones
    w = weights[2:, None]
    gram = _dot(x.T, w * x)
    gram = gram + ones.T * ones * jnp.maximum(jnp.trace(gram), 1) / segments**2
    found = _solve(gram, _dot(x.T, w * (y - size * share)), alpha)
    b = ones.T * (share + found - found.sum(0, keepdims=True) / segments)
    often = w[:, 0] / jnp.maximum(w.sum(), _LEAST)
    mean = _dot(often, y)[None]
    return b.T, none, _r2(y - mean, _dot(z, b) - mean, often)


def _solve(gram: jax.Array, right: jax.Array, alpha: float) -> jax.Array:
    """(gram + alpha I)^-1 right, with a one on the diagonal of rows that are 0."""
    empty = jnp.diag(gram) == 0
    return jnp.linalg.solve(gram + jnp.diag(jnp.where(empty, 1.0, alpha)), right)


def _r2(y: jax.Array, predicted: jax.Array, share: jax.Array) -> jax.Array:
    total = _dot(share, y**2)
    left = _dot(share, (y - predicted) ** 2)
    return jnp.where(total == 0, 1.0, 1 - left / jnp.where(total == 0, 1, total))


@partial(jax.jit, static_argnums=0)
def fitted(
    fit: Callable,
    samples: jax.Array,
    answers: jax.Array,
    present: jax.Array,
    width: float,
    alpha: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Image by image: coefficients `[B, K, S]`, intercepts and R^2 `[B, K]`.

    From z `[n, B, S]` and y `[n, B, K]`. Answers that differ by a network's rounding alone, as
    those of a constant image do, are no evidence: coefficients 0.
    """
    low = answers.min(0)
    spread = answers.max(0) - low
    alike = spread <= _ROUNDING * jnp.abs(answers).max(0)
    one = partial(fit, width=width, alpha=alpha)
    samples = samples.astype(jnp.float32)
    varying = jnp.where(alike, 0, answers)
    b, intercept, r2 = jax.vmap(one, in_axes=(1, 1, 0))(samples, varying, present)
    return b, jnp.where(alike, low, intercept), r2


def _fit_cosine(
    samples: jax.Array, answers: jax.Array, present: jax.Array, width: float, alpha: float
) -> tuple:
    return weighted_ridge(samples, answers, cosine_weights(samples, present, width), alpha)


def _fit_shap(
    samples: jax.Array, answers: jax.Array, present: jax.Array, width: float, alpha: float
) -> tuple:
    weights = coalition_weights(samples, present)
    return constrained_ridge(samples, answers, weights, present, alpha)


class Kernel(NamedTuple):
    """How samples are drawn and a line put through them."""

    sample: Callable  # (key, n, present [B, S]) -> z [n, B, S]
    # (z [n, S], y [n, K], present [S], width, alpha) -> coefficients, intercepts, R^2
    fit: Callable
    alpha: float
    least: int  # samples that it needs
    each: int  # and for each segment, where alpha is 0


def least_samples(kernel: str, segments: int, alpha: float) -> int:
    """How many samples determine the line of so many segments."""
    rules = KERNELS[kernel]
    if alpha > 0:
        return rules.least
    return rules.least + rules.each * segments


KERNELS = {
    "cosine": Kernel(halves, _fit_cosine, 1.0, least=1, each=0),
    "shap": Kernel(coalitions, _fit_shap, 0.0, least=2, each=2),
}
