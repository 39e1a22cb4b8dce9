"""Forward passes in bfloat16, of a model that computes in float32.

The traced program is run again with narrower numbers. What has more than two axes, maps of features
and tokens, is kept in bfloat16 between equations: half goes through memory. Convolutions and matrix
products take bfloat16 operands, weights too, and sum in float32; every other equation computes in
float32. Vectors of channels, outputs `[B, N]` and the insides of loops stay as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxcam._ground.errors import check_choice
from jaxcam._ground.primitives import LINEAR
from jaxcam._program import trace

_WIDE = jnp.dtype(jnp.float32)
_DTYPES = ("bfloat16",)
Dtype = str | None


def narrowed(function: Callable, dtype: Dtype) -> Callable:
    """A function that computes in a narrower type and returns the types that it always did.

    Args:
        function: any JAX-traceable function of arrays.
        dtype: "bfloat16", or None for the function as it is.

    Raises:
        ValueError: another `dtype`.
    """
    if dtype is None:
        return function
    check_choice("dtype", dtype, _DTYPES, or_else="None")
    narrow = jnp.dtype(dtype)

    def visit(path: trace.Path, eqn: JaxprEqn, values: list) -> list:
        del path
        operands = _widened(values, [atom.aval for atom in eqn.invars])
        if _is_product(eqn):
            operands = [value.astype(narrow) for value in operands]
            found = trace.bind(eqn, operands, preferred_element_type=_WIDE, precision=None)
        else:
            found = trace.bind(eqn, operands)
        return [_kept(value, narrow) for value in found]

    def run(*args: Any) -> Any:
        program = trace.trace(function, *args)
        found = trace.evaluate(program.closed, jax.tree.leaves(args), visit, opens=_opens)
        found = _widened(found, program.closed.out_avals)
        return jax.tree.unflatten(jax.tree.structure(program.shapes), found)

    return run


def _opens(path: trace.Path, eqn: JaxprEqn) -> bool:
    """Whether there are products inside."""
    del path
    return trace.contains(eqn, _is_product)


def _is_product(eqn: JaxprEqn) -> bool:
    """Whether it is a convolution or matrix product of float32 numbers."""
    if eqn.primitive.name not in LINEAR:
        return False
    avals: list[Any] = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
    return all(aval.dtype == _WIDE for aval in avals)


def _kept(value: Any, narrow: jnp.dtype) -> Any:
    """A value as it is kept between equations."""
    if value.dtype == _WIDE and value.ndim > 2:
        return value.astype(narrow)
    return value


def _widened(values: Sequence, avals: Sequence) -> list:
    """Values in the types that the program gave them."""
    found = []
    for value, aval in zip(values, avals, strict=True):
        if getattr(value, "dtype", aval.dtype) != aval.dtype:
            value = value.astype(aval.dtype)
        found.append(value)
    return found
