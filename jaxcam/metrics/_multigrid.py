"""A quick answer to a system of means over neighbours: a cycle over ever coarser grids.

Conjugate gradients carry what is known by one pixel a step: across a hole of half a photo they take
hundreds. On a grid of half as many cells along every axis the same way takes half the steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground import filters, space

_NEIGHBOURS = np.array([1.0, 2.0, 1.0])
_DAMPED = 0.8  # of Jacobi's steps: what they leave is smooth
_LEAST = 2  # cells along the shorter axis, of the coarsest grid
_LAST = 8  # Jacobi's steps there
_FEW = 64  # cells along an axis


class Grid(NamedTuple):
    """A x = where(inside, diagonal x - scale W x, 0) on one grid."""

    inside: jax.Array  # [B, *cells, 1], cells that are asked
    diagonal: jax.Array
    scale: float


def neighbours(x: jax.Array) -> jax.Array:
    """W x = sum_j w_ij x_j: [1, 2, 1] along every axis, without the middle; they sum to 1."""
    axes = space.of_images(x)
    around = x
    for axis in axes:
        around = _beside(around, axis)
    middle = 2 ** len(axes)
    return (around - middle * x) / (4 ** len(axes) - middle)


def _beside(x: jax.Array, axis: int) -> jax.Array:
    """[1, 2, 1] along an axis; of few cells as a product, which compiles in no time."""
    side = x.shape[axis]
    if side > _FEW:
        return filters.correlate(x, _NEIGHBOURS, axis, pad=True)
    far = np.abs(np.arange(side)[:, None] - np.arange(side))
    return _along(x, np.maximum(2 - far, 0), axis)


def applied(grid: Grid, x: jax.Array) -> jax.Array:
    """A x."""
    return jnp.where(grid.inside, grid.diagonal * x - grid.scale * neighbours(x), 0)


def grids(gaps: jax.Array, dtype: jnp.dtype) -> list[Grid]:
    """The system of the gaps `[B, *spatial, 1]`, the finest grid first.

    The coarser ones have the same neighbours, in the unit of the finest (of N axes the sum of
    squared differences grows by 2^(N - 2)), and the known pixels beside a gap hold a coarse cell by
    as much as they hold the fine ones that it stands for.
    """
    share = gaps.astype(dtype)
    held = jnp.where(gaps, neighbours(1 - share), 0)
    found = [Grid(gaps, neighbours(jnp.ones_like(share[:1])), 1.0)]
    growth = 2.0 ** (len(space.of_images(gaps)) - 2)
    while min(share.shape[1:-1]) > _LEAST:
        share = _coarser(share)
        held = _coarser(held)
        scale = found[-1].scale * growth
        around = neighbours(jnp.ones_like(share[:1]))
        found.append(Grid(share > 0, scale * around + held, scale))
    return found


def cycle(system: list[Grid]) -> Callable[[jax.Array], jax.Array]:
    """An approximate inverse of A, symmetric and positive definite: a V-cycle.

    A step of Jacobi's method, what is left on the next coarser grid, a step again.

    Args:
        system: as `grids` returns it.

    Returns:
        From a right side `[B, *spatial, C]`, 0 outside the gaps, to an answer of that kind.
    """

    def solve(number: int, right: jax.Array) -> jax.Array:
        grid = system[number]
        least = _DAMPED / grid.diagonal
        better = lambda x: x + least * jnp.where(grid.inside, right - applied(grid, x), 0)
        x = jnp.where(grid.inside, least * right, 0)
        if number + 1 == len(system):
            for _ in range(_LAST):
                x = better(x)
            return x
        left = _coarser(right - applied(grid, x))
        x = x + jnp.where(grid.inside, _finer(solve(number + 1, left), right.shape), 0)
        return better(x)

    return lambda right: solve(0, right)


def _coarser(x: jax.Array) -> jax.Array:
    """Sums over the hats of every second cell along each spatial axis."""
    for axis in space.of_images(x):
        x = _along(x, _hats(x.shape[axis]), axis)
    return x


def _finer(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The transpose of `_coarser`: between cells, and beyond the last, halves of those beside."""
    for axis in space.of_images(x):
        x = _along(x, _hats(shape[axis]).T, axis)
    return x


def _hats(side: int) -> np.ndarray:
    """`[ceil(side / 2), side]`: each second cell's part of all of them."""
    far = np.abs(2 * np.arange(-(-side // 2))[:, None] - np.arange(side))
    return np.maximum(1 - far / 2, 0)


def _along(x: jax.Array, matrix: np.ndarray, axis: int) -> jax.Array:
    """A matrix times an axis; a product, as XLA fuses sums of slices with all that they are of."""
    weights = jnp.asarray(matrix, x.dtype)
    found = jnp.tensordot(weights, x, (1, axis), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(found, 0, axis)
