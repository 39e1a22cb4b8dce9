"""Between which bounds a program's values lie: interval arithmetic, sound and cheap.

Two facts are read off the bounds. An operand that is known to be >= 0 halves the cost of the z+
rule, and an activation of bounded range beside an unbounded one is a gate (a sigmoid, say), which
says which factor of a product is the signal. Anything unknown is (-inf, inf); NaN is disregarded.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcam._ground import primitives
from jaxcam.targets import concrete

_INF = float("inf")
_MARGIN = 0.01  # outward rounding of sums: more than bfloat16's
_LARGEST_READ = 1 << 14  # constants beyond this size are not looked at


class Bounds(NamedTuple):
    """low <= value <= high, for every element."""

    low: float = -_INF
    high: float = _INF


ANY = Bounds()
NON_NEGATIVE = Bounds(0.0, _INF)
NON_POSITIVE = Bounds(-_INF, 0.0)


def of_constant(value: Any) -> Bounds:
    """The bounds of a constant, if it has a value by now and is small."""
    if not hasattr(value, "dtype"):
        value = np.asarray(value)
    if not is_real(value.dtype) or not 0 < np.size(value) <= _LARGEST_READ:
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


def is_real(dtype: Any) -> bool:
    """Whether numbers of a type are ordered, as booleans are."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return False
    return jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)


def of_result(eqn: Any, operands: Sequence[Bounds], index: int = 0) -> Bounds:
    """The bounds of an equation's result number `index`, given those of its operands."""
    dtype = eqn.outvars[index].aval.dtype
    if jnp.issubdtype(dtype, jnp.bool_):
        return Bounds(0.0, 1.0)
    if jnp.issubdtype(dtype, jnp.unsignedinteger):
        return NON_NEGATIVE
    name = eqn.primitive.name
    if name in _FIXED:
        return _FIXED[name]
    if name in _PER_RESULT:
        return operands[index]
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](eqn, *operands)
    return ANY


def _hull(*operands: Bounds) -> Bounds:
    lows, highs = zip(*operands, strict=True)
    return Bounds(min(lows), max(highs))


def _sign(bounds: Bounds) -> Bounds:
    """What is left when only the sign is known to survive."""
    if bounds.low >= 0:
        return NON_NEGATIVE
    if bounds.high <= 0:
        return NON_POSITIVE
    return ANY


def _non_negative_if(condition: bool) -> Bounds:
    if condition:
        return NON_NEGATIVE
    return ANY


def _add(a: Bounds, b: Bounds) -> Bounds:
    if min(a.low, b.low) >= 0 or max(a.high, b.high) <= 0:  # the sign is exact
        sign = _sign(_hull(a, b))
        rounded = _widen(a.low + b.low, a.high + b.high, a, b)
        return Bounds(max(rounded.low, sign.low), min(rounded.high, sign.high))
    return _widen(a.low + b.low, a.high + b.high, a, b)


def _widen(low: float, high: float, *operands: Bounds) -> Bounds:
    if low != low or high != high:  # NaN: -inf + inf
        return ANY
    size = 0.0
    for bounds in operands:
        for value in bounds:
            if abs(value) != _INF:
                size = max(size, abs(value))
    return Bounds(low - _MARGIN * size, high + _MARGIN * size)


def _negate(a: Bounds) -> Bounds:
    return Bounds(-a.high, -a.low)


def _multiply(a: Bounds, b: Bounds) -> Bounds:
    products = []
    for x in a:
        for y in b:
            products.append(_product(x, y))
    bounds = Bounds(min(products), max(products))
    sign = _sign(bounds)
    wide = _widen(bounds.low, bounds.high, bounds)
    return Bounds(max(wide.low, sign.low), min(wide.high, sign.high))


def _product(x: float, y: float) -> float:
    """Of two bounds; 0 times an unknown bound is 0."""
    if 0 in (x, y):
        return 0.0
    return x * y


def _divide(a: Bounds, b: Bounds) -> Bounds:
    if b.low > 0:
        return _multiply(a, Bounds(1 / b.high, 1 / b.low))
    if b.low == 0:
        return _sign(a)
    return ANY


def _mul(eqn: Any, a: Bounds, b: Bounds) -> Bounds:
    bounds = _multiply(a, b)
    if eqn.invars[0] is not eqn.invars[1]:
        return bounds
    return Bounds(max(0.0, bounds.low), bounds.high)


def _integer_power(eqn: Any, a: Bounds) -> Bounds:
    return _non_negative_if(eqn.params["y"] % 2 == 0 or a.low >= 0)


def _power(_: Any, a: Bounds, exponent: Bounds) -> Bounds:
    del exponent
    return _non_negative_if(a.low >= 0)


def _clamp(eqn: Any, low: Bounds, x: Bounds, high: Bounds) -> Bounds:
    return _min(eqn, _max(eqn, low, x), high)


def _max(_: Any, a: Bounds, b: Bounds) -> Bounds:
    return Bounds(max(a.low, b.low), max(a.high, b.high))


def _min(_: Any, a: Bounds, b: Bounds) -> Bounds:
    return Bounds(min(a.low, b.low), min(a.high, b.high))


def _bilinear(_: Any, a: Bounds, b: Bounds) -> Bounds:
    return _non_negative_if(a.low >= 0 and b.low >= 0)


def _gather(eqn: Any, a: Bounds, *_: Bounds) -> Bounds:
    if eqn.params.get("fill_value") is not None:
        return ANY
    return a


def _saturating(_: Any, a: Bounds) -> Bounds:
    """An odd increasing function with values in [-1, 1]."""
    low = -1.0
    high = 1.0
    if a.low >= 0:
        low = 0.0
    if a.high <= 0:
        high = 0.0
    return Bounds(low, high)


_FIXED = {
    **dict.fromkeys(primitives.NON_NEGATIVE | primitives.INDICES, NON_NEGATIVE),
    **dict.fromkeys(primitives.WAVES, Bounds(-1.0, 1.0)),
    primitives.LOGISTIC: Bounds(0.0, 1.0),
    primitives.ERFC: Bounds(0.0, 2.0),
}

_PER_RESULT = frozenset(["sort", "optimization_barrier"])

_KEEPING = (
    primitives.MOVES
    | primitives.PARTS
    | primitives.REPEATS
    | primitives.IDENTITIES
    | primitives.CONVERSIONS
    | primitives.EXTREMES
    | {primitives.STOP}
)

_FUNCTIONS: dict[str, Callable[..., Bounds]] = {
    **dict.fromkeys(_KEEPING, lambda eqn, a, *_: a),
    **dict.fromkeys(primitives.SUMS | primitives.SIGN_KEEPING, lambda eqn, a: _sign(a)),
    **dict.fromkeys(primitives.SATURATING, _saturating),
    **dict.fromkeys(primitives.JOINS | {primitives.PAD}, lambda eqn, *operands: _hull(*operands)),
    **dict.fromkeys(primitives.LINEAR, _bilinear),
    **dict.fromkeys(["add", "add_any"], lambda eqn, a, b: _add(a, b)),
    "sub": lambda eqn, a, b: _add(a, _negate(b)),
    primitives.NEGATION: lambda eqn, a: _negate(a),
    primitives.PRODUCT: _mul,
    primitives.QUOTIENT: lambda eqn, a, b: _divide(a, b),
    "max": _max,
    "min": _min,
    primitives.CLAMP: _clamp,
    "integer_pow": _integer_power,
    "pow": _power,
    "select_n": lambda eqn, _, *branches: _hull(*branches),
    "dynamic_update_slice": lambda eqn, a, update, *_: _hull(a, update),
    "gather": _gather,
}
