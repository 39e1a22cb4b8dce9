"""Degrees of homogeneity: which factors of a product only normalise what they multiply.

f is homogeneous of degree d in an anchor a, an earlier value, if f(t a) = t^d f(a) for t > 0: a
itself has degree 1, its variance 2, rsqrt(variance + literal epsilon) -1, the product of two values
the sum of theirs. By Euler's theorem what has degree 0 changes nothing along a, so a factor of
degree 0 or less is a constant for relevance that goes to the other factor: the divisor of layer,
group, instance, RMS, L2 and response norms, of batch norm in training. Its relevance is conserved.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxcam._ground import primitives

# By anchor; of anchors in which a value is not homogeneous nothing is said.
Degrees = Mapping[Any, float]

_EPSILON = 0.01  # a literal of at most this much, added to what is >= 0, is there against 0 / 0
_MOST = 8  # so many anchors are remembered, the latest ones

_SCALED = {
    "square": 2.0,
    "sqrt": 0.5,
    "rsqrt": -0.5,
    "cbrt": 1 / 3,
    "sign": 0.0,
}
# f(t x) = t f(x) for t > 0, of one operand that depends on the images and perhaps constants.
_SAME = (
    primitives.IDENTITIES
    | primitives.CONVERSIONS
    | primitives.HOMOGENEOUS
    | primitives.LINEAR
    | {primitives.NEGATION, primitives.STOP, "abs"}
)


class Operand(NamedTuple):
    """What is known of an operand."""

    degrees: Degrees | None  # None: it does not depend on the images
    nonnegative: bool
    value: float | None  # of a number in the code


def own(anchor: Any) -> dict[Any, float]:
    """Of a value that is an anchor and nothing else."""
    return {anchor: 1.0}


def of_result(eqn: Any, operands: Sequence[Operand], anchor: Any) -> dict[Any, float]:
    """The degrees of an equation's result.

    Args:
        eqn: the equation.
        operands: what is known of its operands.
        anchor: what the result is to be known as, if nothing else makes it scale.
    """
    found = _of(eqn, operands)
    if not any(found.values()):
        found[anchor] = 1.0
    latest = list(found)[-_MOST:]
    return {each: found[each] for each in latest}


def normalizes(factor: Degrees | None, signal: Degrees | None) -> bool:
    """Whether a factor of a product is a constant for the other's relevance."""
    if not factor or not signal:
        return False
    return any(signal[each] > 0 >= factor[each] for each in signal if each in factor)


def divides(divisor: Degrees | None, dividend: Degrees | None) -> bool:
    """Whether a divisor scales as what it divides does."""
    if not divisor or not dividend:
        return False
    return any(dividend[each] > 0 < divisor[each] for each in dividend if each in divisor)


def _of(eqn: Any, operands: Sequence[Operand]) -> dict[Any, float]:
    name = eqn.primitive.name
    known = _known(operands)
    if name in (primitives.PRODUCT, *primitives.LINEAR) and len(known) == 2:
        return _combined(known[0], known[1], 1.0)
    if name == primitives.QUOTIENT:
        return _quotient(operands)
    if name in _SAME or name == primitives.PRODUCT:
        return _shared(known)
    if name in _SCALED:
        return _times(known[0], _SCALED[name])
    if name == "integer_pow":
        return _times(known[0], eqn.params["y"])
    if name == "pow" and operands[1].value is not None:
        return _times(known[0], operands[1].value)
    if name in primitives.PREDICATES and _keeps_sum(eqn, operands):
        return _times(_shared(known), 0.0)
    if name == "select_n" and operands[0].degrees is not None:
        return _chosen(eqn, operands)
    if _keeps_sum(eqn, operands):
        return _shared(known)
    return _constants(known)


def _known(operands: Sequence[Operand]) -> list[Degrees]:
    """Of the operands that depend on the images."""
    return [each.degrees for each in operands if each.degrees is not None]


def _keeps_sum(eqn: Any, operands: Sequence[Operand]) -> bool:
    """Whether a sum or a choice scales as its operands do: no constant beside them matters."""
    name = eqn.primitive.name
    chosen = name in primitives.CHOICES | {primitives.CLAMP}
    if not chosen and name not in primitives.ADDITIONS | primitives.PREDICATES:
        return False
    positive = name != "sub"
    for each in operands:
        if each.degrees is not None and not each.nonnegative:
            positive = False
    for index, each in enumerate(operands):
        if each.degrees is not None or (name == "select_n" and index == 0):
            continue
        if each.value is None:
            return False
        if chosen and (math.isnan(each.value) or math.isinf(each.value)):
            continue  # a bound that is none, or what stands for 0 / 0
        if each.value != 0 and not (positive and 0 < each.value <= _EPSILON):
            return False
    return True


def _chosen(eqn: Any, operands: Sequence[Operand]) -> dict[Any, float]:
    """A choice by a predicate that must not change with an anchor: x > 0, say."""
    predicate = operands[0].degrees or {}
    if not _keeps_sum(eqn, operands):
        return {}
    branches = _known(operands[1:])
    if not branches:
        return {}
    found = _shared(branches)
    for anchor in list(found):
        if predicate.get(anchor) != 0:
            del found[anchor]
    return found


def _quotient(operands: Sequence[Operand]) -> dict[Any, float]:
    above = operands[0].degrees
    below = operands[1].degrees
    if below is None:
        return dict(above or {})
    if above is None:
        return _times(below, -1.0)
    return _combined(above, below, -1.0)


def _combined(first: Degrees, second: Degrees, sign: float) -> dict[Any, float]:
    found = {}
    for anchor, degree in first.items():
        if anchor in second:
            found[anchor] = degree + sign * second[anchor]
    return found


def _shared(operands: Sequence[Degrees]) -> dict[Any, float]:
    """What all operands have in common."""
    found = dict(operands[0])
    for other in operands[1:]:
        for anchor in list(found):
            if other.get(anchor) != found[anchor]:
                del found[anchor]
    return found


def _times(degrees: Degrees, factor: float) -> dict[Any, float]:
    return {anchor: factor * degree for anchor, degree in degrees.items()}


def _constants(operands: Sequence[Degrees]) -> dict[Any, float]:
    """Of any function: what does not change with an anchor still does not."""
    found = _shared(operands)
    for anchor in list(found):
        if found[anchor] != 0:
            del found[anchor]
    return found
