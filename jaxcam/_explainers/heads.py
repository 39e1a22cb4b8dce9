"""Whether a pooled linear head lies above a layer: the condition under which CAM is defined.

The check is structural, on the program, so it holds for every input and under jit. It follows what
depends on the layer through three states: `Map` (the activations themselves, up to a scalar, with
the axes that are positions), POOLED (an affine function of their sums over all positions), or a
description of the first operation that is neither.
"""

from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxcam._program import trace
from jaxcam._program.layers import Forward, Layer, Site, select


class Map(NamedTuple):
    """The activations, and which axes of the array hold positions."""

    axes: tuple[int, ...]


POOLED = "pooled"
State = Map | str | None  # None: does not depend on the layer

_IDENTITIES = {"convert_element_type", "copy", "name", "reduce_precision", "sharding_constraint"}
# What leaves an affine function of the pool one, from one operand or two.
_MOVES = _IDENTITIES | {
    "reshape",
    "squeeze",
    "broadcast_in_dim",
    "expand_dims",
    "transpose",
    "slice",
    "rev",
    "neg",
}
_SUMS = {"add", "sub", "add_any", "concatenate", "reduce_sum"}
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}


def check_pooled_linear(forward: Forward, images: Any, layer: Layer = None) -> None:
    """ValueError naming the first operation above `layer` that is no global pool or linear map."""
    program = trace.trace(forward, images)
    for site in select(program, layer):
        obstacle = _obstacle(program, site)
        if obstacle is not None:
            raise ValueError(
                "layer: cam needs nothing but a global average pool and a linear head above the "
                f"layer, but above {site.name!r} there is {obstacle}; use grad_cam, which equals "
                "cam where cam exists"
            )


def _obstacle(program: trace.Program, site: Site) -> str | None:
    """None if the logits are affine in the layer's global average, else what stands in the way."""
    if len(site.aval.shape) != 4:
        return f"no spatial extent: its shape is {site.aval.shape}"

    def visit(path: trace.Path, eqn: JaxprEqn, states: list[State]) -> list[State]:
        return [Map((1, 2))] if path == site.path else [_state(eqn, states)] * len(eqn.outvars)

    inputs = [None] * len(program.closed.jaxpr.invars)
    opens = lambda path, eqn: "custom" not in eqn.primitive.name
    state, *_ = trace.evaluate(program.closed, inputs, visit, opens=opens, lift=lambda value: None)
    if isinstance(state, Map) or state is None:
        return "no global pool" if state else "no way to the logits"
    return None if state == POOLED else state


def _state(eqn: JaxprEqn, states: list[State]) -> State:
    """The state of an equation's results, given those of its operands."""
    known = [s for s in states if s is not None]
    blocked = next((s for s in known if isinstance(s, str) and s != POOLED), None)
    if blocked or not known:
        return blocked
    maps = [s for s in known if isinstance(s, Map)]
    if maps:
        return (
            _after_map(eqn, states, maps[0].axes) if len(known) == 1 else None
        ) or trace.describe(eqn)
    return POOLED if _keeps_affine(eqn.primitive.name, states) else trace.describe(eqn)


def _after_map(eqn: JaxprEqn, states: list[State], axes: tuple[int, ...]) -> State:
    """The state after an operation on the activations, None if it neither keeps nor pools them."""
    name, operand = eqn.primitive.name, eqn.invars[0].aval
    if name in _IDENTITIES or name == "neg" or _scales(eqn, states):
        return Map(axes)
    if name == "transpose":
        return Map(tuple(eqn.params["permutation"].index(a) for a in axes))
    if name == "reshape":
        return _merge(operand.shape, eqn.outvars[0].aval.shape, axes)
    if name == "reduce_sum":
        summed = set(eqn.params["axes"])
        left = tuple(a - sum(s < a for s in summed) for a in axes if a not in summed)
        return (Map(left) if left else POOLED) if summed <= set(axes) else None
    if name == "reduce_window_sum":
        whole = tuple(n if a in axes else 1 for a, n in enumerate(operand.shape))
        return (
            POOLED
            if eqn.params["window_dimensions"] == whole and not np.any(eqn.params["padding"])
            else None
        )
    return None


def _merge(before: tuple, after: tuple, axes: tuple[int, ...]) -> Map | None:
    """Two neighbouring axes of positions made one."""
    low = min(axes)
    merged = (
        (*before[:low], before[low] * before[low + 1], *before[low + 2 :])
        if low + 1 in axes
        else None
    )
    return Map((low,)) if tuple(after) == merged else None


def _scales(eqn: JaxprEqn, states: list[State]) -> bool:
    """Whether an equation multiplies or divides the activations by one number."""
    if eqn.primitive.name not in ("mul", "div") or (
        eqn.primitive.name == "div" and states[0] is None
    ):
        return False
    other = eqn.invars[0 if states[0] is None else 1]
    return np.size(other.val) == 1 if isinstance(other, Literal) else other.aval.size == 1


def _keeps_affine(name: str, states: list[State]) -> bool:
    """Whether an operation on affine functions of the pool, and what is constant, gives another."""
    if name == "div":
        return states[1] is None
    return name in _MOVES | _SUMS or (name in _PRODUCTS and sum(s is not None for s in states) == 1)
