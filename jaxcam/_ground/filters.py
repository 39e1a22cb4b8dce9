"""Gaussian filters, and correlation with separable ones."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Border = Literal["edge", "symmetric", "reflect", "constant"]


def gaussian(sigma: float, reach: int) -> np.ndarray:
    """Weights `[2 reach + 1]` float64 of a Gaussian from -reach to reach, which sum to 1.

    Args:
        sigma: standard deviation, in samples.
        reach: samples to either side of the middle.
    """
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return taps / taps.sum()


def folded(taps: np.ndarray, side: int) -> np.ndarray:
    """Weights reflected into a window of `side` samples in the middle of theirs (SciPy's reflect).

    Args:
        taps: `[n]`, n odd.
        side: odd; samples of the window.

    Returns:
        `[side]`, of the same sum.
    """
    reach = len(taps) // 2
    place = (side // 2 + np.arange(-reach, reach + 1)) % (2 * side)
    place = np.minimum(place, 2 * side - 1 - place)  # ... 1 0 | 0 1 ... 10 | 10 9 ...
    return np.bincount(place, taps, side)


def smoothing(side: int, sigma: float, border: Border) -> np.ndarray:
    """Matrix `[side, side]` float64 that filters an axis with a Gaussian cut at 4 sigma.

    Args:
        side: samples of the axis.
        sigma: standard deviation, in samples.
        border: what lies outside, a mode of `numpy.pad`.
    """
    reach = int(4 * sigma + 0.5)
    padded = np.pad(np.eye(side), ((reach, reach), (0, 0)), border)
    matrix = np.zeros((side, side))
    for k, tap in enumerate(gaussian(sigma, reach)):
        matrix += tap * padded[k : k + side]
    return matrix


def correlate(x: jax.Array, taps: np.ndarray, axis: int, *, pad: bool) -> jax.Array:
    """sum_k taps_k x[i + k] along an axis: a sum of shifts, one pass in XLA.

    Args:
        x: any array.
        taps: `[n]`, n odd.
        axis: of x.
        pad: whether zeros surround x, so that its shape is kept; else only the places at which all
            taps lie inside are returned, n - 1 fewer.
    """
    reach = len(taps) // 2
    if pad:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (reach, reach)
        x = jnp.pad(x, widths)
    size = x.shape[axis] - 2 * reach
    total = jnp.zeros((), x.dtype)
    for k, tap in enumerate(taps):
        total = total + float(tap) * jax.lax.slice_in_dim(x, k, k + size, axis=axis)
    return total
