"""Attention weights in a program: where they are, and how they become `[B, heads, queries, keys]`.

Attention is softmax(q k^T) v: a product of dense arrays, one of which is a softmax over the axis
that is summed. Both are found from the equations, whatever the framework and the names.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxcam._ground import primitives
from jaxcam._ground.errors import ArgumentError
from jaxcam._program import axes as axes_of
from jaxcam._program import axis_rules, quick, trace
from jaxcam._program.axes import BATCH, Axes
from jaxcam._program.layers import zeros_like

_KEPT = primitives.IDENTITIES | primitives.CONVERSIONS | primitives.MOVES | primitives.REPEATS
_SCALED = frozenset({primitives.PRODUCT, primitives.QUOTIENT})


class Attention(NamedTuple):
    """Attention weights: an operand of an equation that multiplies dense arrays."""

    path: trace.Path
    operand: int
    shape: tuple[int, ...]
    dtype: Any
    order: tuple[int, ...]  # of the operand's axes: the batch ones, the queries, the keys
    batch: int

    @property
    def tokens(self) -> int:
        """How many keys there are."""
        return self.shape[self.order[-1]]

    def view(self, weights: jax.Array) -> jax.Array:
        """`[..., *shape]` -> `[..., B, heads, queries, keys]`."""
        front = weights.ndim - len(self.shape)
        moved = weights.transpose(*range(front), *(front + axis for axis in self.order))
        return moved.reshape(*moved.shape[:front], self.batch, -1, *moved.shape[-2:])


class _Flow(NamedTuple):
    """What is known of a value: what part of a softmax it is, and its axes."""

    axes: Axes = ()
    active: bool = False  # whether it depends on the images
    part: str = ""  # "terms", "sum" or "softmax"
    start: Any = None  # the path of the softmax's exponential


def find(program: trace.Program, batch: int) -> list[Attention]:
    """All attention weights of a traced model of images, in execution order.

    Raises:
        ValueError: the batch is no leading axis of one; a loop may hide some.
    """
    found: list[Attention] = []

    def visit(path: trace.Path, eqn: JaxprEqn, flows: list[_Flow]) -> list[_Flow]:
        if _hides_attention(eqn):
            got = "a model with exp and products of arrays inside a loop: attention, perhaps"
            raise ArgumentError("forward", got, "one whose loops are unrolled")
        operands = list(map(attrgetter("axes"), flows))
        axes = axis_rules.of_results(eqn, operands)
        active = any(map(attrgetter("active"), flows))
        part, start = _part(path, eqn, flows)
        for index, flow in enumerate(flows[:2]):
            dense = eqn.primitive.name == primitives.DENSE
            if dense and flow.part == "softmax" and flows[1 - index].active:
                found.extend(_attention(path, eqn, index, flow, batch))
        return [_Flow(each, active, part, start) for each in axes]

    images: Any = program.closed.jaxpr.invars[0].aval
    start = _Flow(axes_of.of_images(images.shape), active=True)
    lift = lambda value: _Flow(axes_of.unknown(jnp.shape(value)))
    trace.evaluate(program.closed, [start], visit, opens=lambda path, eqn: True, lift=lift)
    return found


def run(
    program: trace.Program,
    images: jax.Array,
    places: Sequence[Attention],
    others: Iterable[trace.Path] = (),
) -> Callable:
    """`(deltas, visited) -> (outputs as a list, attention weights)`, the deltas added to these.

    Both by the places' order, as the program has them. Calls are walked into on the way to the
    places and to `others`; `visited(path, results)` is told of every equation.
    """
    known = {place.path: index for index, place in enumerate(places)}
    ways = set()
    for path in (*known, *others):
        for depth in range(1, len(path)):
            ways.add(path[:depth])

    def shifted(deltas: Sequence[jax.Array], visited: Callable | None = None) -> tuple:
        weights: list[Any] = [None] * len(places)

        def visit(path: trace.Path, eqn: JaxprEqn, values: list) -> list:
            if path in known:
                index = known[path]
                operand = places[index].operand
                weights[index] = values[operand] + deltas[index]
                values = [*values]
                values[operand] = weights[index]
            results = quick.bind(eqn, values)
            if visited is not None:
                visited(path, results)
            return results

        opens = lambda path, eqn: path in ways
        return trace.evaluate(program.closed, [images], visit, opens=opens), weights

    return shifted


def zeros(places: Sequence[Attention], images: jax.Array) -> list[jax.Array]:
    """Of the weights' shapes, varying over a mesh as the images do."""
    found = []
    for place in places:
        found.append(zeros_like(jax.ShapeDtypeStruct(place.shape, place.dtype), images))
    return found


def _part(path: trace.Path, eqn: JaxprEqn, flows: Sequence[_Flow]) -> tuple[str, Any]:
    """What part of a softmax a result is, and of which."""
    name = eqn.primitive.name
    active = list(filter(attrgetter("active"), flows))
    if name == "exp" and active:
        return "terms", path
    if name == primitives.QUOTIENT and len(flows) == 2:
        above, below = flows
        if (above.part, below.part) == ("terms", "sum") and above.start == below.start:
            return "softmax", above.start
    if name == "reduce_sum" and flows[0].part == "terms":
        return "sum", flows[0].start
    if len(active) == 1 and (name in _KEPT or name in _SCALED):
        return active[0].part, active[0].start
    # Dropout and masks choose between the weights and 0.
    if name == "select_n" and len(active) == 1:
        return active[0].part, active[0].start
    return "", None


def _attention(
    path: trace.Path, eqn: JaxprEqn, index: int, flow: _Flow, batch: int
) -> list[Attention]:
    """The weights at an equation, if they are summed over one axis for queries on another."""
    contracted, batched = eqn.params["dimension_numbers"]
    summed = tuple(contracted[index])
    shared = tuple(batched[index])
    aval: Any = eqn.invars[index].aval
    free = [axis for axis in range(aval.ndim) if axis not in summed + shared]
    long = list(filter(lambda axis: aval.shape[axis] > 1, free))
    if len(summed) != 1 or len(long) != 1 or not shared:
        return []
    ones = [axis for axis in free if axis not in long]
    sources = [_sources(flow.axes[axis]) for axis in shared]
    first = aval.shape[shared[0]]
    elsewhere = any(BATCH in each for each in sources[1:])
    if first % batch or elsewhere:
        got = f"attention weights of shape {aval.shape} whose leading axis is not the batch"
        raise ArgumentError("forward", got, f"the batch of {batch} in front")
    order = (*shared, *ones, *long, *summed)
    return [Attention(path, index, tuple(aval.shape), aval.dtype, order, batch)]


def _hides_attention(eqn: JaxprEqn) -> bool:
    if eqn.primitive.name not in primitives.LOOPS | primitives.BRANCHES:
        return False
    named = lambda name: trace.contains(eqn, lambda inner: inner.primitive.name == name)
    return named("exp") and named(primitives.DENSE)


def _sources(axis: Any) -> set:
    return {atom.source for atom in axis.atoms}
