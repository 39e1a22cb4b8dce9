"""Which equations join positions, or the images of a batch, and which leave positions out."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxcam._ground import primitives
from jaxcam._program.axes import BATCH, Axes
from jaxcam._program.axis_rules import ELEMENTWISE

# Each result is one value of the operand.
_MOVES = (
    primitives.MOVES
    | primitives.REPEATS
    | primitives.JOINS
    | {primitives.SLICE, "split", "unstack", primitives.PAD}
)
_NEIGHBOURS = primitives.WINDOWS | primitives.CUMULATIVE | {"sort", primitives.CONV}

# Which axes of an operand an equation sums over or chooses from.
_ALONG: dict[str, Callable[[Any, int], Sequence[int]]] = {
    **dict.fromkeys(primitives.REDUCTIONS, lambda eqn, index: eqn.params["axes"]),
    primitives.DENSE: lambda eqn, index: eqn.params["dimension_numbers"][0][index],
}


def mixes(eqn: Any, index: int, operand: Axes) -> bool:
    """Whether a result of an equation may depend on several positions of its operand `index`."""
    name = eqn.primitive.name
    if name not in _ALONG:
        return name in _NEIGHBOURS or name not in ELEMENTWISE | _MOVES
    return any(operand[axis].positions for axis in _ALONG[name](eqn, index))


def joins_batch(eqn: Any, index: int, operand: Axes) -> bool:
    """Whether an equation sums over or chooses from the images of a batch."""
    name = eqn.primitive.name
    if name not in _ALONG:
        return False
    for axis in _ALONG[name](eqn, index):
        for atom in operand[axis].atoms:
            if atom.source == BATCH and atom.whole > 1:
                return True
    return False


def leaves_out(eqn: Any, operand: Axes) -> bool:
    """Whether an equation takes only what stands beside the positions: `tokens[:, 0]`."""
    if eqn.primitive.name != "slice":
        return False
    starts = eqn.params["start_indices"]
    stops = eqn.params["limit_indices"]
    for axis, start, stop in zip(operand, starts, stops, strict=True):
        first = axis.before
        last = axis.size - axis.after
        if axis.positions and axis.extra and (stop <= first or start >= last):
            return True
    return False
