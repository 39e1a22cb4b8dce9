"""Linear interpolation as matrices: where pixels lie among cells, and what they take of each.

A matrix `[pixels, cells]` interpolates one axis; two of them, applied by `separable`, an image.
Positions are in cells: the middle of the first one is 0.
"""

import string

import jax
import jax.numpy as jnp
import numpy as np


def centres(pixels: int, cells: int) -> np.ndarray:
    """Middles of pixels that span the cells: ((i + 1/2) cells / pixels - 1/2), `[pixels]`."""
    return (np.arange(pixels) + 0.5) * cells / pixels - 0.5


def aligned(pixels: int, cells: int) -> np.ndarray:
    """Positions with the corner pixels on the middles of the corner cells, `[pixels]`."""
    return np.linspace(0, cells - 1, pixels)


def linear(positions: np.ndarray, cells: int, border: str = "edge") -> np.ndarray:
    """What pixels at `positions` take of each cell: `[pixels, cells]` float64, rows sum to 1.

    Args:
        positions: `[pixels]`, at most one cell outside the middles 0 to cells - 1.
        cells: how many.
        border: what lies outside: "edge", the nearest cell; or "mirror", the cells mirrored at the
            middle of the last one (`numpy.pad`'s "reflect"), of two cells at least.
    """
    if border == "edge":
        positions = np.clip(positions, 0, cells - 1)
    left = np.floor(positions).astype(int)
    rows = np.arange(len(positions))
    matrix = np.zeros((len(positions), cells))
    for index, weight in ((left, left + 1 - positions), (left + 1, positions - left)):
        mirrored = (cells - 1) - np.abs((cells - 1) - np.abs(index))  # -1 is 1 and s is s - 2
        np.add.at(matrix, (rows, np.maximum(mirrored, 0)), weight)
    return matrix


def separable(x: jax.Array, rows: np.ndarray, columns: np.ndarray, axis: int = 1) -> jax.Array:
    """Applies a matrix to an axis and another to the next one, at the highest precision.

    Args:
        x: `[..., h, w, ...]` in float32 or wider.
        rows: `[H, h]`.
        columns: `[W, w]`.
        axis: that of h.

    Returns:
        `[..., H, W, ...]`.
    """
    letters = string.ascii_lowercase[: x.ndim]
    down = letters[axis]
    across = letters[axis + 1]
    result = letters.replace(down, "H").replace(across, "W")
    return jnp.einsum(
        f"H{down},{letters},W{across}->{result}",
        jnp.asarray(rows, x.dtype),
        x,
        jnp.asarray(columns, x.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )
