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


def seen_from(pixels: int, start: float, step: float, whole: int) -> np.ndarray:
    """Where pixels that span an image of `whole` pixels see cells at `start + step i` of it."""
    return (centres(pixels, whole) - start) / step


def linear(positions: np.ndarray, cells: int, border: str = "edge") -> np.ndarray:
    """What pixels at `positions` take of each cell: `[pixels, cells]` float64, rows sum to 1.

    Args:
        positions: `[pixels]`, at most one cell outside the middles 0 to cells - 1.
        cells: how many.
        border: what lies outside: "edge", the nearest cell; or "mirror", the cells mirrored at the
            middle of the last one (`numpy.pad`'s "reflect"), of two cells at least.
    """
    if border == "edge":
        positions = _held(positions, cells)
    left = np.floor(positions).astype(int)
    rows = np.arange(len(positions))
    matrix = np.zeros((len(positions), cells))
    for index, weight in ((left, left + 1 - positions), (left + 1, positions - left)):
        mirrored = (cells - 1) - np.abs((cells - 1) - np.abs(index))  # -1 is 1 and s is s - 2
        np.add.at(matrix, (rows, np.maximum(mirrored, 0)), weight)
    return matrix


def cubic(positions: np.ndarray, cells: int) -> np.ndarray:
    """Likewise, of the four nearest cells by Keys' kernel with a = -3/4, as PyTorch's "bicubic"."""
    left = np.floor(positions).astype(int)
    rows = np.arange(len(positions))
    matrix = np.zeros((len(positions), cells))
    for index in (left - 1, left, left + 1, left + 2):
        weight = _keys(np.abs(positions - index))
        np.add.at(matrix, (rows, np.clip(index, 0, cells - 1)), weight)
    return matrix


def nearest(positions: np.ndarray, cells: int) -> np.ndarray:
    """Likewise, of the nearest cell alone; of two, the later one."""
    index = np.floor(_held(positions, cells) + 0.5).astype(int)
    return np.eye(cells)[np.minimum(index, cells - 1)]


def _held(positions: np.ndarray, cells: int) -> np.ndarray:
    """Beyond the outermost cells their values go on."""
    return np.clip(positions, 0, cells - 1)


def _keys(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


WEIGHTS = {"bilinear": linear, "bicubic": cubic, "nearest": nearest}


def separable(x: jax.Array, *matrices: np.ndarray, axis: int = 1) -> jax.Array:
    """Applies a matrix to an axis and the others to the next ones, at the highest precision.

    Args:
        x: `[..., h, w, ...]` in float32 or wider.
        *matrices: `[H, h]`, `[W, w]` of two.
        axis: that of h.

    Returns:
        `[..., H, W, ...]`.
    """
    letters = string.ascii_lowercase[: x.ndim]
    result = letters
    pairs = []
    for place in letters[axis : axis + len(matrices)]:
        result = result.replace(place, place.upper())
        pairs.append(place.upper() + place)
    taken = [jnp.asarray(matrix, x.dtype) for matrix in matrices]
    return jnp.einsum(
        f"{pairs[0]},{letters}{''.join(f',{pair}' for pair in pairs[1:])}->{result}",
        taken[0],
        x,
        *taken[1:],
        precision=jax.lax.Precision.HIGHEST,
    )
