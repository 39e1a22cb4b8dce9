"""Between which bounds a program's values lie: interval arithmetic, sound and cheap.

Two facts are read off the bounds. An operand that is known to be >= 0 halves the cost of the z+
rule, and an activation of bounded range beside an unbounded one is a gate (a sigmoid, say), which
says which factor of a product is the signal. Anything unknown is (-inf, inf); NaN is disregarded.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcam.targets import concrete

_INF = float("inf")
_MARGIN = 0.01  # outward rounding of sums: more than bfloat16's
_LARGEST_READ = 1 << 14  # constants beyond this size are not looked at


class Bounds(NamedTuple):
    """low <= value <= high, for every element."""

    low: float = -_INF
    high: float = _INF


ANY, NON_NEGATIVE, NON_POSITIVE = Bounds(), Bounds(0.0, _INF), Bounds(-_INF, 0.0)


def of_constant(value: Any) -> Bounds:
    """The bounds of a constant, if it has a value by now and is small."""
    if not hasattr(value, "dtype"):
        value = np.asarray(value)
    numeric = jnp.issubdtype(value.dtype, jnp.number) or jnp.issubdtype(value.dtype, jnp.bool_)
    if (
        not numeric
        or jnp.issubdtype(value.dtype, jnp.complexfloating)
        or not 0 < np.size(value) <= _LARGEST_READ
    ):
        return ANY
    values = concrete(value)
    if values is None:
        return ANY
    values = values.astype(np.float64)
    missing = np.isnan(values)
    if missing.all():
        return Bounds(0.0, 0.0)  # of no value: it bounds nothing that it is joined with
    if missing.any():
        return ANY
    return Bounds(float(values.min()), float(values.max()))


def of_result(eqn: Any, operands: Sequence[Bounds], index: int = 0) -> Bounds:
    """The bounds of an equation's result number `index`, given those of its operands."""
    dtype = eqn.outvars[index].aval.dtype
    if jnp.issubdtype(dtype, jnp.bool_):
        return Bounds(0.0, 1.0)
    name = eqn.primitive.name
    if name in _FIXED:
        bounds = _FIXED[name]
    elif name in _PER_RESULT:
        bounds = operands[index]
    elif name in _FUNCTIONS:
        bounds = _FUNCTIONS[name](eqn, *operands)
    else:
        bounds = ANY
    return NON_NEGATIVE if jnp.issubdtype(dtype, jnp.unsignedinteger) else bounds


def _hull(*operands: Bounds) -> Bounds:
    return Bounds(min(b.low for b in operands), max(b.high for b in operands))


def _sign(bounds: Bounds) -> Bounds:
    """What is left when only the sign is known to survive."""
    return NON_NEGATIVE if bounds.low >= 0 else NON_POSITIVE if bounds.high <= 0 else ANY


def _add(a: Bounds, b: Bounds) -> Bounds:
    if min(a.low, b.low) >= 0 or max(a.high, b.high) <= 0:  # the sign is exact
        sign = _sign(_hull(a, b))
        rounded = _widen(a.low + b.low, a.high + b.high, a, b)
        return Bounds(max(rounded.low, sign.low), min(rounded.high, sign.high))
    return _widen(a.low + b.low, a.high + b.high, a, b)


def _widen(low: float, high: float, *operands: Bounds) -> Bounds:
    size = max((abs(v) for b in operands for v in b if abs(v) != _INF), default=0.0)
    nan = low != low or high != high  # -inf + inf
    return ANY if nan else Bounds(low - _MARGIN * size, high + _MARGIN * size)


def _negate(a: Bounds) -> Bounds:
    return Bounds(-a.high, -a.low)


def _multiply(a: Bounds, b: Bounds) -> Bounds:
    products = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    bounds = Bounds(min(products), max(products))
    sign = _sign(bounds)
    wide = _widen(bounds.low, bounds.high, bounds)
    return Bounds(max(wide.low, sign.low), min(wide.high, sign.high))


def _divide(a: Bounds, b: Bounds) -> Bounds:
    if b.low > 0:
        return _multiply(a, Bounds(0.0 if b.high == _INF else 1 / b.high, 1 / b.low))
    return _sign(a) if b.low >= 0 else ANY


def _mul(eqn: Any, a: Bounds, b: Bounds) -> Bounds:
    bounds = _multiply(a, b)
    return Bounds(max(0.0, bounds.low), bounds.high) if eqn.invars[0] is eqn.invars[1] else bounds


def _power(eqn: Any, a: Bounds) -> Bounds:
    return NON_NEGATIVE if eqn.params["y"] % 2 == 0 or a.low >= 0 else ANY


def _clamp(eqn: Any, low: Bounds, x: Bounds, high: Bounds) -> Bounds:
    return _min(eqn, _max(eqn, low, x), high)


def _max(_: Any, a: Bounds, b: Bounds) -> Bounds:
    return Bounds(max(a.low, b.low), max(a.high, b.high))


def _min(_: Any, a: Bounds, b: Bounds) -> Bounds:
    return Bounds(min(a.low, b.low), min(a.high, b.high))


def _bilinear(_: Any, a: Bounds, b: Bounds) -> Bounds:
    return NON_NEGATIVE if a.low >= 0 and b.low >= 0 else ANY


def _gather(eqn: Any, a: Bounds, *_: Bounds) -> Bounds:
    return a if eqn.params.get("fill_value") is None else ANY


def _odd(limit: float) -> Callable:
    """An odd increasing function with values in [-limit, limit]."""
    return lambda eqn, a: Bounds(0.0 if a.low >= 0 else -limit, 0.0 if a.high <= 0 else limit)


_FIXED = dict.fromkeys(
    ["exp", "exp2", "abs", "sqrt", "rsqrt", "square", "cosh", "iota", "argmax", "argmin"],
    NON_NEGATIVE,
) | {
    "logistic": Bounds(0.0, 1.0),
    "sin": Bounds(-1.0, 1.0),
    "cos": Bounds(-1.0, 1.0),
    "erfc": Bounds(0.0, 2.0),
}

_PER_RESULT = frozenset(["sort", "optimization_barrier"])

_KEEPING = """
    reshape transpose squeeze expand_dims broadcast_in_dim rev slice dynamic_slice split copy name
    convert_element_type reduce_precision stop_gradient sharding_constraint reduce_max reduce_min
    reduce_window_max reduce_window_min cummax cummin
"""

_FUNCTIONS: dict[str, Callable[..., Bounds]] = {
    **dict.fromkeys(_KEEPING.split(), lambda eqn, a, *_: a),
    **dict.fromkeys(["reduce_sum", "reduce_window_sum", "cumsum"], lambda eqn, a: _sign(a)),
    **dict.fromkeys(
        ["expm1", "log1p", "sinh", "asinh", "atan", "cbrt", "floor", "ceil", "round"],
        lambda eqn, a: _sign(a),
    ),
    **dict.fromkeys(["tanh", "erf", "sign"], _odd(1.0)),
    **dict.fromkeys(["concatenate", "pad"], lambda eqn, *operands: _hull(*operands)),
    **dict.fromkeys(["conv_general_dilated", "dot_general"], _bilinear),
    **dict.fromkeys(["add", "add_any"], lambda eqn, a, b: _add(a, b)),
    "sub": lambda eqn, a, b: _add(a, _negate(b)),
    "neg": lambda eqn, a: _negate(a),
    "mul": _mul,
    "div": lambda eqn, a, b: _divide(a, b),
    "max": _max,
    "min": _min,
    "clamp": _clamp,
    "integer_pow": _power,
    "pow": lambda eqn, a, b: _sign(a) if a.low >= 0 else ANY,
    "select_n": lambda eqn, _, *branches: _hull(*branches),
    "dynamic_update_slice": lambda eqn, a, update, *_: _hull(a, update),
    "gather": _gather,
}
