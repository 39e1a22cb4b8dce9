"""Convolutions over few positions as matrix products, for CPUs.

XLA's CPU compiler moves the weights of a convolution about before it takes their gradient's way
back, and where a map has few positions that takes longer than the products: at 3 x 3 positions and
512 channels five times. A kernel that is larger than its map leaves the fast kernels altogether. A
product of patches and weights as they lie does neither, and is the same sum.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._ground import primitives

_POSITIONS = 300  # of all images of a batch, at most
_WEIGHTS = 2**16  # at least; smaller kernels are moved in no time


def suits(eqn: Any) -> bool:
    """Whether it is a plain convolution, `[b, ..., i]` and `[..., i, o]`, over few positions."""
    if eqn.primitive.name != primitives.CONV or not loops.on_cpu():
        return False
    params = eqn.params
    (result,) = eqn.outvars
    rank = result.aval.ndim
    images = (0, rank - 1, *range(1, rank - 1))
    kernel = (rank - 1, rank - 2, *range(rank - 2))
    numbers = params["dimension_numbers"]
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != (images, kernel, images):
        return False
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return False
    if set(params["lhs_dilation"]) | set(params["rhs_dilation"]) != {1}:
        return False
    few = math.prod(result.aval.shape[:-1]) <= _POSITIONS
    return few and math.prod(eqn.invars[1].aval.shape) >= _WEIGHTS


def convolve(eqn: Any, x: jax.Array, w: jax.Array, **options: Any) -> jax.Array:
    """The convolution's value: patches `[b, ..., k i]` times weights `[k i, o]`, k offsets.

    Args:
        eqn: that suits.
        x: `[b, ..., i]`.
        w: `[..., i, o]`.
        **options: of the product: `precision`, `preferred_element_type`.
    """
    strides = eqn.params["window_strides"]
    (result,) = eqn.outvars
    sides = result.aval.shape[1:-1]
    borders = [(*border, 0) for border in eqn.params["padding"]]
    padded = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    patches = []
    for offset in itertools.product(*map(range, w.shape[:-2])):
        patches.append(_shifted(padded, offset, sides, strides))
    rows = jnp.concatenate(patches, -1)
    columns = w.reshape(-1, w.shape[-1])
    summed = (((rows.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(rows, columns, summed, **options)


def _shifted(
    padded: jax.Array, offset: Sequence[int], sides: Sequence[int], strides: Sequence[int]
) -> jax.Array:
    """What the weights at an offset meet: every stride-th position from it on."""
    starts = (0, *offset, 0)
    ends = [padded.shape[0]]
    for start, side, stride in zip(offset, sides, strides, strict=True):
        ends.append(start + (side - 1) * stride + 1)
    ends.append(padded.shape[-1])
    return jax.lax.slice(padded, starts, ends, (1, *strides, 1))
