"""How sharp, small and decisive a class-activation map is: the measures of the CAM-fostering paper.

Each takes raw maps `[B, h, w]`, rectifies them as Grad-CAM does, M = ReLU(L), and gives one number per map. They are
functions to differentiate through: value and gradient are finite everywhere, also at a map without a positive value,
where both are 0. Whoever averages them leaves such maps out (`jaxcam.metrics` gives NaN for them); a map with a NaN
gives NaN.
"""

import jax
import jax.numpy as jnp

_NORMS = ("sum", "softmax")


def cam_entropy(maps: jax.Array, norm: str = "sum") -> jax.Array:
    """Entropy of a map as a distribution over its cells: ce = -sum_ij P_ij ln P_ij, P = M / sum M.

    Args:
        maps: `[B, h, w]`, in any unit.
        norm: "sum", or "softmax": P = softmax of the map as it is, which depends on its scale.

    Returns:
        `[B]` in nats: 0 for a single cell, ln(h w) for a constant map. 0 for a map without a positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`, or `norm` is unknown.

    References:
        Schoettl, Improving the interpretability of CNNs by CAM fostering, 2020 (arXiv 2009.12546), eq. of ce. The
        normalisation by the sum is the secondary literature's reading.
    """
    if norm not in _NORMS:
        raise ValueError(f"norm: got {norm!r}, expected one of {', '.join(map(repr, _NORMS))}")
    maps = _checked(maps)
    p = _distribution(maps) if norm == "sum" else jax.nn.softmax(maps, axis=(1, 2))
    empty = p == 0  # not p > 0: a NaN must stay one
    return -jnp.where(empty, 0, p * jnp.log(jnp.where(empty, 1, p))).sum((1, 2))


def cam_area(maps: jax.Array) -> jax.Array:
    """Area of the ellipse of a map's spread: ca = sqrt(lambda_1 lambda_2) = sqrt(det Sigma).

    Sigma = sum_ij P_ij (p_ij - m)(p_ij - m)^T is the covariance of the coordinates p = (row, column) under P = M / sum
    M, m their mean; lambda are its eigenvalues.

    Args:
        maps: `[B, h, w]`, in any unit.

    Returns:
        `[B]` in cells squared (times stride^2: pixels squared): 0 for one cell or a line of them, about s^2 for a
        Gaussian of standard deviation s. 0 for a map without a positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`.

    References:
        Schoettl 2020, eq. of ca.
    """
    p = _distribution(_checked(maps))
    rows, columns = _centred(p.sum(2)), _centred(p.sum(1))
    spread_y, spread_x = (p.sum(2) * rows**2).sum(1), (p.sum(1) * columns**2).sum(1)
    covariance = (p * rows[:, :, None] * columns[:, None, :]).sum((1, 2))
    determinant = spread_y * spread_x - covariance**2
    flat = determinant <= 0
    return jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, determinant)))


def cam_dispersion(maps: jax.Array) -> jax.Array:
    """Relative variance of a map's cells: cd = var(M) / mean(M)^2, the population's variance.

    It has no unit and, computed on M / mean(M), needs no epsilon: the paper's only matters where the mean is 0.

    Args:
        maps: `[B, h, w]`, in any unit.

    Returns:
        `[B]`: 0 for a constant map, n - 1 for a single one of n cells. 0 for a map without a positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`.

    References:
        Schoettl 2020, eq. of cd.
    """
    p = _distribution(_checked(maps))
    cells = p.shape[1] * p.shape[2]
    return jnp.square(cells * p - p.sum((1, 2), keepdims=True)).mean((1, 2))


def _checked(maps: jax.Array) -> jax.Array:
    maps = jnp.asarray(maps)
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps: got shape {maps.shape}, expected [B, h, w]")
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))


def _distribution(maps: jax.Array) -> jax.Array:
    """ReLU(L) / sum ReLU(L); all 0, and with zero gradient, where nothing is positive."""
    positive = jax.nn.relu(maps)
    total = positive.sum((1, 2), keepdims=True)
    empty = total == 0
    return jnp.where(empty, 0, positive / jnp.where(empty, 1, total))


def _centred(marginal: jax.Array) -> jax.Array:
    """Coordinates 0, 1, ... relative to their mean under `marginal` `[B, n]`."""
    position = jnp.arange(marginal.shape[1], dtype=marginal.dtype)
    # From the middle, not from 0, so that float32 keeps its digits on large maps.
    position = position - (marginal.shape[1] - 1) / 2
    return position - (marginal * position).sum(1, keepdims=True)
