"""Matrices that a program makes of its own numbers: pooling, or the weights of a linear layer.

A product with a matrix of fixed numbers is pooling, which passes relevance in proportion by plain
autodiff, if its results are sums or means of its inputs: the matrix has no two signs (averaging,
picking, repeating, summing, a blur), or all its columns sum to 1 and few of its weights are
negative (interpolation by cubic or Lanczos kernels; a column without weights is a place outside the
image). Any other has weights as a layer has, wherever they come from, and takes the layer's rule.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxcam._ground import primitives
from jaxcam._program import trace
from jaxcam.lrp import _signs as signs

_LOBES = 2.0  # largest sum of magnitudes of weights that sum to 1: 1.9 in Lanczos kernels
_ROUNDING = 0.02  # of bfloat16's sums
_OUTSIDE = frozenset(["axis_index"])  # numbers that are the caller's
_VARYING = frozenset(["pvary", "pcast"])  # casts of types inside jax.shard_map, of no value


def pools(program: trace.Program) -> frozenset[trace.Path]:
    """The places of products with a fixed matrix that are pooling, and no layers.

    Nothing but these matrices is computed.
    """
    found = set()

    def visit(path: trace.Path, eqn: Any, values: list) -> list:
        name = eqn.primitive.name
        fixed = [index for index, value in enumerate(values) if value is not None]
        product = name in primitives.LINEAR and len(fixed) == 1
        if product and _pools(eqn, fixed[0], values[fixed[0]]):
            found.add(path)
        if len(fixed) < len(values) or name in _OUTSIDE:
            return [None] * len(eqn.outvars)
        made = _Made(eqn, values)
        return [_Result(made, index) for index in range(len(eqn.outvars))]

    inputs = [None] * len(program.closed.jaxpr.invars)
    trace.evaluate(program.closed, inputs, visit, opens=lambda path, eqn: True, lift=_own)
    return frozenset(found)


def is_literal(value: Any) -> bool:
    """Whether a constant is a number in the code, not a parameter or other data."""
    return not isinstance(value, jax.Array) and np.ndim(value) == 0


def is_pooling(matrix: Any, contracted: Sequence[int]) -> bool:
    """Whether what a matrix gives are sums or means of what it is given.

    Args:
        matrix: of any shape.
        contracted: the axes that are summed over.
    """
    weights = np.asarray(matrix).astype(np.float64)
    if (weights >= 0).all() or (weights <= 0).all():
        return True
    sums = weights.sum(tuple(contracted))
    sizes = np.abs(weights).sum(tuple(contracted))
    means = (np.abs(sums - 1) < _ROUNDING) & (sizes <= _LOBES)
    return bool((means | (sizes == 0)).all())


class _Known:
    """A number of the code."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Made:
    """An equation of known operands, computed when asked for."""

    def __init__(self, eqn: Any, operands: Sequence) -> None:
        self._eqn = eqn
        self._operands = operands

    @functools.cached_property
    def values(self) -> list:
        """The results."""
        operands = [operand.value for operand in self._operands]
        if self._eqn.primitive.name in _VARYING:
            return operands
        with jax.ensure_compile_time_eval(), self._eqn.ctx.manager:
            return trace.bind(self._eqn, operands)


class _Result:
    """One of an equation's results."""

    def __init__(self, made: _Made, index: int) -> None:
        self._made = made
        self._index = index

    @property
    def value(self) -> Any:
        """The array."""
        return self._made.values[self._index]


def _own(value: Any) -> _Known | None:
    if is_literal(value):
        return _Known(value)
    return None


def _pools(eqn: Any, index: int, matrix: Any) -> bool:
    if not signs.is_real(eqn.invars[index].aval.dtype):
        return False
    return is_pooling(matrix.value, _contracted(eqn, index))


def _contracted(eqn: Any, index: int) -> Sequence[int]:
    """Which axes of operand number `index` a product sums over."""
    numbers = eqn.params["dimension_numbers"]
    if eqn.primitive.name == primitives.DENSE:
        return numbers[0][index]
    if index == 0:  # a convolution of a fixed image
        return range(eqn.invars[0].aval.ndim)
    return numbers.rhs_spec[1:]
