"""The ReLUs of a program, clipped ones among them: where they are, found without running it.

A ReLU is `jax.nn.relu`, or the maximum of a value and a literal 0. A clipped one has a literal
ceiling above 0 as well, in either order: `jax.nn.relu6`, `jnp.clip(x, 0, c)`, `jax.lax.clamp`. One
of `x + b`, b a literal, is no ReLU of the network but half of a hard sigmoid or hard swish.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxcam._ground import primitives
from jaxcam._ground.errors import ArgumentError
from jaxcam._program import trace

_VARYING = frozenset({"pvary", "pcast"})  # of `jax.shard_map`
# What a literal, or a half of a ReLU, may go through.
_CASTS = _VARYING | primitives.IDENTITIES | primitives.CONVERSIONS | primitives.REPEATS
_HALVES = frozenset({"max", "min", primitives.CLAMP})


class Place(NamedTuple):
    """An equation that is a ReLU, or a half of a clipped one.

    Args:
        operand: which of its operands is x.
        floor: whether it takes max(x, 0).
        top: the operand that is the ceiling, if it takes min(x, top).
    """

    operand: int
    floor: bool
    top: int | None = None


class _Known(NamedTuple):
    """What the walk knows of a value."""

    number: float | None = None  # of a literal
    shifted: bool = False  # of a value and a literal that is not 0, the sum
    floor: trace.Path | None = None  # max(x, 0) of the equation there
    ceiling: trace.Path | None = None  # min(x, c)


_UNKNOWN = _Known()


def find(program: trace.Program) -> dict[trace.Path, Place]:
    """Where a program has ReLUs.

    Raises:
        ValueError: it has none, or one inside a loop.
    """
    walk = _Walk()
    images = [_UNKNOWN] * len(program.closed.jaxpr.invars)
    trace.evaluate(program.closed, images, walk.visit, opens=_may_hold, lift=_lifted)
    if not walk.found:
        expected = "one of jax.nn.relu or max(x, 0), under a ceiling or not"
        raise ArgumentError("forward", "a model without a ReLU", expected)
    return walk.found


class _Walk:
    """Facts along a program, and the places found on the way."""

    def __init__(self) -> None:
        self.found: dict[trace.Path, Place] = {}
        self._ceilings: dict[trace.Path, Place] = {}  # that no max(x, 0) has followed

    def visit(self, path: trace.Path, eqn: JaxprEqn, known: list[_Known]) -> list[_Known]:
        """What is known of an equation's results."""
        if trace.contains(eqn, _hides_relu):
            got = "a model with a ReLU inside a loop, where one equation stands for many"
            raise ArgumentError("forward", got, "one whose loops are unrolled")
        name = eqn.primitive.name
        fact = _UNKNOWN
        if name in _CASTS and len(known) == 1:
            fact = known[0]
        elif name in primitives.ADDITIONS:
            fact = _Known(shifted=any(each.number for each in known))
        elif name in _HALVES and _is_inexact(eqn):
            fact = _STEPS[name](self, path, known)
        return [fact] * len(eqn.outvars)

    def _max(self, path: trace.Path, known: list[_Known]) -> _Known:
        zero = _index(known, lambda number: number == 0)
        if zero is None:
            return _UNKNOWN
        x = known[1 - zero]
        if x.ceiling is not None:
            if x.shifted:
                return _UNKNOWN
            self.found[x.ceiling] = self._ceilings[x.ceiling]
        self.found[path] = Place(1 - zero, floor=True)
        return _Known(shifted=x.shifted, floor=path)

    def _min(self, path: trace.Path, known: list[_Known]) -> _Known:
        top = _index(known, lambda number: number > 0)
        if top is None:
            return _UNKNOWN
        x = known[1 - top]
        place = Place(1 - top, floor=False, top=top)
        if x.floor is None:
            self._ceilings[path] = place
            return _Known(shifted=x.shifted, ceiling=path)
        if x.shifted:
            self.found.pop(x.floor, None)
        else:
            self.found[path] = place
        return _UNKNOWN

    def _clamp(self, path: trace.Path, known: list[_Known]) -> _Known:
        low, x, high = known
        if low.number == 0 and high.number is not None and high.number > 0 and not x.shifted:
            self.found[path] = Place(1, floor=True, top=2)
        return _UNKNOWN


_STEPS: dict[str, Callable[[_Walk, trace.Path, list[_Known]], _Known]] = {
    "max": _Walk._max,
    "min": _Walk._min,
    primitives.CLAMP: _Walk._clamp,
}


def opens(places: Iterable[trace.Path]) -> Callable[[trace.Path, JaxprEqn], bool]:
    """Which calls are walked into to replace the ReLUs at some places.

    Derivatives made by hand are kept where there is none inside.
    """
    outer = set()
    for place in places:
        outer |= {place[:length] for length in range(1, len(place))}

    def chosen(path: trace.Path, eqn: JaxprEqn) -> bool:
        return eqn.primitive.name in primitives.CALLS or path in outer

    return chosen


def _may_hold(path: trace.Path, eqn: JaxprEqn) -> bool:
    """Whether a call is walked into to look for ReLUs.

    Of those with a derivative made by hand only what is nothing else: a softplus has a max in it.
    """
    del path
    if eqn.primitive.name in primitives.CALLS:
        return True
    inner = trace.body(eqn)
    if inner is None:
        return False
    leaves = _leaves(inner.jaxpr) - _CASTS
    return bool(leaves) and leaves <= _HALVES


def _leaves(jaxpr: Any) -> set[str]:
    """The names of the primitives of a program, those in calls for the calls."""
    names = set()
    for eqn in jaxpr.eqns:
        inner = trace.body(eqn)
        if inner is None:
            names.add(eqn.primitive.name)
        else:
            names |= _leaves(inner.jaxpr)
    return names


def _index(known: list[_Known], wanted: Callable[[float], bool]) -> int | None:
    """Which of two operands is a literal as wanted; None if neither is, or both are literals."""
    numbers = [each.number for each in known]
    if None not in numbers:
        return None
    for index, number in enumerate(numbers):
        if number is not None and wanted(number):
            return index
    return None


def _is_inexact(eqn: JaxprEqn) -> bool:
    aval: Any = eqn.outvars[0].aval
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _lifted(value: Any) -> _Known:
    if isinstance(value, jax.Array) or np.ndim(value) or np.iscomplexobj(value):
        return _UNKNOWN
    return _Known(number=float(value))


def _hides_relu(eqn: JaxprEqn) -> bool:
    """Whether a loop or branch takes a max of floats with a literal 0, or one that is cast."""
    loops = primitives.LOOPS | primitives.BRANCHES
    return eqn.primitive.name in loops and trace.contains(eqn, _may_be_relu)


def _may_be_relu(eqn: JaxprEqn) -> bool:
    literal = any(
        isinstance(atom, Literal) and _lifted(atom.val).number == 0 for atom in eqn.invars
    )
    rectifies = eqn.primitive.name in ("max", primitives.CLAMP) and _is_inexact(eqn)
    return literal and (rectifies or eqn.primitive.name in _VARYING)
