"""Whether a pooled linear head lies above a layer: the condition under which CAM is defined.

The check is structural, on the program, so it holds for every input and under jit. It follows what depends on the layer
through three states: MAP (the activations themselves, up to a scalar), POOLED (an affine function of their sum over all
positions), or the name of the first operation that is neither.
"""

import numpy as np
from jax.extend.core import Literal

from jaxcam import trace
from jaxcam.layers import Forward, Layer, select

MAP, POOLED = 1, 2

# Operations with one operand that move or cast values, and leave a function of the pool affine.
_IDENTITIES = frozenset(["convert_element_type", "copy", "name", "reduce_precision", "sharding_constraint"])
_RESHAPES = _IDENTITIES | frozenset(
    ["reshape", "squeeze", "broadcast_in_dim", "expand_dims", "transpose", "slice", "rev", "neg", "reduce_sum"]
)
_SCALES = {"mul", "div"}
_AFFINE = {"add", "sub", "mul", "div", "dot_general", "conv_general_dilated", "concatenate", "add_any"}


def check_pooled_linear(forward: Forward, images: object, layer: Layer = None) -> None:
    """Raises a ValueError naming the first operation above `layer` that is no global average pool or linear map."""
    program = trace.trace(forward, images)
    for site in select(program, layer):
        reason = _first_obstacle(program, site)
        if reason is not None:
            raise ValueError(
                "layer: cam needs nothing but a global average pool and a linear head above the layer, but above "
                f"{site.name!r} there is {reason}; use grad_cam, which equals cam where cam exists"
            )


def _first_obstacle(program: trace.Program, site: object) -> str | None:
    """None if the logits are an affine function of the layer's global average, else what stands in the way."""
    if len(site.aval.shape) != 4:
        return f"no spatial extent: its shape is {site.aval.shape}"

    def visit(path: trace.Path, eqn: object, states: list) -> list:
        if path == site.path:
            return [MAP]
        return [_state(eqn, states, site.aval.shape)] * len(eqn.outvars)

    inputs = [None] * len(program.closed.jaxpr.invars)
    lift = lambda value: None
    opens = lambda path, eqn: "custom" not in eqn.primitive.name
    state, *_ = trace.evaluate(program.closed, inputs, visit, opens=opens, lift=lift)
    if state in (POOLED, None):
        return None if state else "no way to the logits"
    return "no global pool" if state == MAP else state


def _state(eqn: object, states: list, shape: tuple) -> int | str | None:
    """The state of an equation's results, given those of its operands (None: does not depend on the layer)."""
    name, known = eqn.primitive.name, [s for s in states if s is not None]
    blocked = next((s for s in known if isinstance(s, str)), None)
    if blocked or not known:
        return blocked
    if MAP in known:
        if name in _IDENTITIES or (name in _SCALES and len(known) == 1 and states[0] == MAP and _is_scalar(eqn, 1)):
            return MAP
        if name == "mul" and len(known) == 1 and _is_scalar(eqn, 0):
            return MAP
        return POOLED if _pools(eqn, shape) else trace.describe(eqn)
    if name in _RESHAPES or (name in _AFFINE and _is_affine(name, states)):
        return POOLED
    return trace.describe(eqn)


def _is_affine(name: str, states: list) -> bool:
    if name in ("add", "sub", "add_any", "concatenate"):
        return True
    return states[0] is not None and states[1] is None if name == "div" else sum(s is not None for s in states) == 1


def _is_scalar(eqn: object, index: int) -> bool:
    atom = eqn.invars[index]
    return (np.size(atom.val) == 1) if isinstance(atom, Literal) else np.prod(atom.aval.shape) == 1


def _pools(eqn: object, shape: tuple) -> bool:
    """Whether an equation sums over all positions: a reduction, or a window over the whole map without padding."""
    if eqn.primitive.name == "reduce_sum":
        return set(eqn.params["axes"]) == {1, 2}
    if eqn.primitive.name == "reduce_window_sum":
        whole = tuple(eqn.params["window_dimensions"]) == (1, shape[1], shape[2], 1)
        return whole and not np.any(eqn.params["padding"])
    return False
