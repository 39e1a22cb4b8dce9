"""Products as a TPU's matrix unit makes them, on any device: bfloat16 numbers, summed in float32.

A float32 product is one pass by default, of operands that are rounded; at "high" precision three,
of the operands and what rounding left of them; at "highest", six passes, it is taken for float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn
from jax.lax import Precision

from jaxcam._ground import primitives
from jaxcam._program import trace

_EXPONENT, _MANTISSA = 8, 7  # bits of a bfloat16


def emulated(function: Callable) -> Callable:
    """A function whose float32 products are as they would be on a TPU.

    Args:
        function: any JAX-traceable function of arrays, derivatives inside it being made already.
    """

    def run(*args: Any) -> Any:
        program = trace.trace(function, *args)
        found = trace.evaluate(program.closed, jax.tree.leaves(args), _visit, opens=_opens)
        return jax.tree.unflatten(jax.tree.structure(program.shapes), found)

    return run


def _opens(path: trace.Path, eqn: JaxprEqn) -> bool:
    del path
    return trace.contains(eqn, _is_product)


def _is_product(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in primitives.LINEAR


def _visit(path: trace.Path, eqn: JaxprEqn, values: list) -> Sequence:
    del path
    precision = eqn.params.get("precision")
    if isinstance(precision, tuple):
        precision = precision[0]
    if not _is_product(eqn) or precision == Precision.HIGHEST:
        return trace.bind(eqn, values)
    product = lambda *operands: trace.bind(eqn, operands)[0]
    x, w = map(_rounded, values)
    total = product(x, w)
    if precision == Precision.HIGH:
        total = total + product(x, _rounded(values[1] - w)) + product(_rounded(values[0] - x), w)
    return [total]


def _rounded(x: jax.Array) -> jax.Array:
    """As bfloat16 numbers; by an operation that no compiler leaves out."""
    return jax.lax.reduce_precision(x, _EXPONENT, _MANTISSA)
