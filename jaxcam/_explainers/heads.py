"""Whether a pooled linear head lies above a layer: the condition under which CAM is defined.

The check is structural, on the program, so it holds for every input and under jit. It follows what
depends on the layer through three states: `Map` (the activations themselves, up to a scalar, with
the axes that are positions), POOLED (an affine function of their sums over all positions), or a
description of the first operation that is neither.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxcam._ground import primitives
from jaxcam._ground.errors import ArgumentError
from jaxcam._program import trace
from jaxcam._program.grids import Grid
from jaxcam._program.question import Question
from jaxcam._program.sites import PIXELS_PATH, Site


class Map(NamedTuple):
    """The activations, and which axes of the array hold positions."""

    axes: tuple[int, ...]


POOLED = "pooled"
State = Map | str | None  # None: does not depend on the layer

# What leaves an affine function of the pool one, from one operand or two.
_KEEPING = primitives.IDENTITIES | primitives.CONVERSIONS
_MOVES = _KEEPING | primitives.MOVES | primitives.REPEATS | {primitives.SLICE, primitives.NEGATION}
_SUMS = primitives.ADDITIONS | {"concatenate", "reduce_sum"}
_PRODUCTS = primitives.LINEAR | {primitives.PRODUCT}


def check_pooled_linear(question: Question) -> None:
    """ValueError naming the first operation above a layer that is no global pool or linear map."""
    for site in question.sites:
        obstacle = _obstacle(question.program, site, question.grids[site.name])
        if obstacle is not None:
            raise ArgumentError(
                "layer",
                f"{site.name!r}, above which there is {obstacle}",
                "nothing but a global average pool and a linear head above it: cam needs that; use "
                "grad_cam, which equals cam where cam exists",
            )


def _obstacle(program: trace.Program, site: Site, grid: Grid) -> str | None:
    """None if the logits are affine in the layer's global average, else what stands in the way."""
    start = Map(grid.space)

    def visit(path: trace.Path, eqn: JaxprEqn, states: list[State]) -> list[State]:
        if path == site.path:
            return [start]
        return [_state(eqn, states)] * len(eqn.outvars)

    inputs = [None] * len(program.closed.jaxpr.invars)
    if site.path == PIXELS_PATH:
        inputs = [start]
    opens = lambda path, eqn: "custom" not in eqn.primitive.name
    state, *_ = trace.evaluate(program.closed, inputs, visit, opens=opens, lift=lambda value: None)
    if state is None:
        return "no way to the logits"
    if isinstance(state, Map):
        return "no global pool"
    if state == POOLED:
        return None
    return state


def _state(eqn: JaxprEqn, states: list[State]) -> State:
    """The state of an equation's results, given those of its operands."""
    known = [state for state in states if state is not None]
    maps = []
    for state in known:
        if isinstance(state, Map):
            maps.append(state)
        elif state != POOLED:
            return state
    if not known:
        return None
    found = None
    if not maps and _keeps_affine(eqn.primitive.name, states):
        found = POOLED
    if maps and len(known) == 1:
        found = _after_map(eqn, states, maps[0].axes)
    return found or trace.describe(eqn)


def _after_map(eqn: JaxprEqn, states: list[State], axes: tuple[int, ...]) -> State:
    """The state after an operation on the activations, None if it neither keeps nor pools them."""
    name = eqn.primitive.name
    if name in _KEEPING or name == primitives.NEGATION or _scales(eqn, states):
        return Map(axes)
    operand: Any = eqn.invars[0].aval
    result: Any = eqn.outvars[0].aval
    if name == "transpose":
        return Map(tuple(eqn.params["permutation"].index(axis) for axis in axes))
    if name == "reshape":
        return _merge(operand.shape, result.shape, axes)
    if name == "reduce_sum":
        return _summed(set(eqn.params["axes"]), axes)
    if name == "reduce_window_sum":
        return _windowed(eqn.params, operand.shape, axes)
    return None


def _windowed(window: Mapping, shape: Sequence[int], axes: tuple[int, ...]) -> State:
    """The state after sums over windows: pooled by a single one that covers all positions."""
    whole = [1] * len(shape)
    for axis in axes:
        whole[axis] = shape[axis]
    if list(window["window_dimensions"]) != whole or np.any(window["padding"]):
        return None
    return POOLED


def _summed(gone: set[int], axes: tuple[int, ...]) -> State:
    """The state after a sum over some axes: of positions alone, and perhaps of all of them."""
    if not gone <= set(axes):
        return None
    left = []
    for axis in axes:
        if axis not in gone:
            left.append(axis - sum(other < axis for other in gone))
    if left:
        return Map(tuple(left))
    return POOLED


def _merge(before: tuple, after: tuple, axes: tuple[int, ...]) -> Map | None:
    """All axes of positions, which are neighbours, made one."""
    low = min(axes)
    high = max(axes) + 1
    if axes != tuple(range(low, high)):
        return None
    merged = (*before[:low], math.prod(before[low:high]), *before[high:])
    if tuple(after) != merged:
        return None
    return Map((low,))


def _scales(eqn: JaxprEqn, states: list[State]) -> bool:
    """Whether an equation multiplies or divides the activations by one number."""
    name = eqn.primitive.name
    if name == primitives.QUOTIENT and states[0] is None:
        return False
    if name not in (primitives.PRODUCT, primitives.QUOTIENT):
        return False
    other: Any = eqn.invars[1]
    if states[0] is None:
        other = eqn.invars[0]
    if isinstance(other, Literal):
        return np.size(other.val) == 1
    return other.aval.size == 1


def _keeps_affine(name: str, states: list[State]) -> bool:
    """Whether an operation on affine functions of the pool, and what is constant, gives another."""
    if name == primitives.QUOTIENT:
        return states[1] is None
    if name in _PRODUCTS:
        return sum(state is not None for state in states) == 1
    return name in _MOVES | _SUMS
