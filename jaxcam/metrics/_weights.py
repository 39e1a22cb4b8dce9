"""How concentrated the channel weights of a class-activation map are."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground.dtypes import reals
from jaxcam._ground.errors import ArgumentError, check_whole
from jaxcam._ground.units import unit, without_denormals
from jaxcam.metrics._common import finite, only


def selectivity(weights: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
    """How concentrated the channel weights are: the Gini coefficient of |alpha|.

    G = sum_k (2 k - c - 1) |alpha|_(k) / (c sum_k |alpha|_k), |alpha|_(1) <= ... <= |alpha|_(c).

    Args:
        weights: alpha `[B, c]`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`: 0 if all weigh the same, 1 - 1 / c if one channel weighs alone. NaN where all weights
        are 0 or one is not finite, or `mask` is False.

    Raises:
        ValueError: weights or mask have the wrong shape.

    References:
        Lee et al., Relevance-CAM, CVPR 2021, figure 4, shows what this measures; Hurley and
        Rickard, Comparing measures of sparsity, 2009, on the choice.

    Example:
        >>> weights = jnp.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
        >>> print(jaxcam.metrics.selectivity(weights))
        [0.   0.75]
    """
    size = _sizes(weights)
    channels = size.shape[1]
    factors = jnp.arange(1 - channels, channels, 2, dtype=size.dtype)
    return only((factors[None] * jnp.sort(size, 1)).sum(1) / channels, finite(size), mask)


def top_share(weights: ArrayLike, *, k: int = 3, mask: ArrayLike | None = None) -> jax.Array:
    """The share of sum |alpha| that the k largest channel weights have.

    Relevance-CAM's figure 4 shows three.

    Args:
        weights: alpha `[B, c]`.
        k: how many, 1 to c.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`, from k / c to 1. NaN as in `selectivity`.

    Raises:
        ValueError: weights or mask have the wrong shape; k out of range.

    Example:
        >>> print(jaxcam.metrics.top_share(jnp.array([[4.0, 3.0, 2.0, 1.0]]), k=2))
        [0.7]
    """
    size = _sizes(weights)
    check_whole("k", k, 1, size.shape[1], what="the number of channels")
    return only(jnp.sort(size, 1)[:, -k:].sum(1), finite(size), mask)


def _sizes(weights: ArrayLike) -> jax.Array:
    """|alpha| / sum |alpha|; NaN where all are 0."""
    weights = reals("weights", weights)
    if weights.ndim != 2 or not weights.shape[1]:
        raise ArgumentError("weights", f"shape {weights.shape}", "[B, c]")
    size = jnp.abs(without_denormals(weights))
    size = size / unit(size, 1)
    return size / size.sum(1, keepdims=True)
