"""LRP by transforming programs: the same values, and a reverse-mode derivative that is relevance.

Relevance is written R = x * c, c being the cotangent of x. `_plan` says which equations
need a rule; they are replaced, and autodiff does the rest. Relevance at a layer is read off a
`seed`: the layer's value x becomes x * (1 + e) with e = 0, and the cotangent of e is R itself.
Nothing below the lowest seed is differentiated.

From the first value on into which relevance flows the program runs in float32 (float64 stays),
linear layers at the composite's precision, whatever the model's own dtype: bfloat16 ruins relevance
at shallow layers. The logits of a bfloat16 model are therefore those of its parameters in float32.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._ground import primitives
from jaxcam._ground.dtypes import wide
from jaxcam._program import quick, trace
from jaxcam._program.layers import Forward
from jaxcam._program.question import traced
from jaxcam._program.unroll import unrolled
from jaxcam.lrp import _plan as planning
from jaxcam.lrp.composites import resolve
from jaxcam.lrp.rules import apply, carry, unit

# The same values at other places: units can move along.
_MOVES = primitives.MOVES | {primitives.SLICE, primitives.PAD}


def transform(forward: Forward, composite: Any = "z_plus") -> Forward:
    """A function with the values of `forward` whose VJP propagates relevance.

    With c the cotangent of the logits z, the relevance z * c enters, and images * (the cotangent of
    the images) leaves. `relevance` does this bookkeeping, and is also right where a pixel is
    exactly 0.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, or a pair that begins with them.
        composite: the name of a ready-made composite, a mapping from keys to rules, one rule, or a
            `Composite`.

    Returns:
        The function. It computes in float32 at least.

    Raises:
        ValueError: unknown composite; when called: an equation without a rule, named with the layer
            it sits in.

    Example:
        >>> prepared = jaxcam.lrp.transform(forward)
        >>> logits, propagate = jax.vjp(prepared, images)
        >>> (cotangent,) = propagate(jax.nn.one_hot(jnp.array([0, 1]), 3))
        >>> print((images * cotangent).sum((1, 2, 3)), logits.max(1))
        [1.58 1.75] [1.58 1.75]
    """
    composite = resolve(composite)

    def transformed(images: jax.Array) -> Any:
        program = unrolled(traced(forward, images), images)
        plan = planning.make(program, composite, {planning.PIXELS})
        outputs, _ = run(program, plan, images, {})
        return jax.tree.unflatten(jax.tree.structure(program.shapes), values_of(outputs))

    return transformed


class Root:
    """A value whose element-wise functions give their relevance to its `unit`, a plane of ones."""

    def __init__(self, make_unit: Callable[[], jax.Array]) -> None:
        self._make = make_unit

    @functools.cached_property
    def unit(self) -> jax.Array:
        """Ones whose cotangent is the relevance of the value; made when first asked for."""
        return self._make()


class Box(NamedTuple):
    """A value, and its root if relevance may flow into it."""

    value: Any
    root: Root | None = None


def values_of(boxes: Sequence[Box]) -> list:
    """The values alone."""
    return list(map(attrgetter("value"), boxes))


# Running a planned program ------------------------------------------------------------


def run(
    program: trace.Program, plan: planning.Plan, images: jax.Array, seeds: Mapping
) -> tuple[list[Box], dict]:
    """Evaluates a program by its plan, with `seeds` (by path) at the sources.

    Returns:
        The outputs' boxes, and the values at the sources by path.
    """
    found: dict[trace.Path, jax.Array] = {}

    def enter(path: trace.Path, box: Box) -> Box:
        """What is at a source; below it relevance goes on whole, as through the identity."""
        found[path] = x = _widen(box.value)
        root = box.root or Root(lambda: jnp.ones_like(x))
        if path not in seeds:
            return Box(x, root)
        seed = 1 + seeds[path].astype(x.dtype)
        return Box(x * seed, Root(lambda: root.unit * seed))

    def visit(path: trace.Path, eqn: Any, boxes: list[Box]) -> list[Box]:
        step = plan.steps.get(path, planning.Step("bind"))
        if step.kind == "source":
            return [enter(path, boxes[0])]
        if any(map(attrgetter("root"), boxes)):
            eqn = _precise(eqn, plan.precision)
        return _STEPS[step.kind](step, eqn, boxes)

    start = Box(images)
    if planning.PIXELS in plan.sources:
        start = enter(planning.PIXELS, start)
    outputs = trace.evaluate(program.closed, [start], visit, opens=lambda path, eqn: True, lift=Box)
    return outputs, found


def _bind_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    del step
    active = any(map(attrgetter("root"), boxes))
    results = _bind(eqn, values_of(boxes), active)
    if not active:
        return list(map(Box, results))
    if eqn.primitive.name in _MOVES:
        (value,) = results
        moved = lambda: _bind(eqn, [_root(boxes[0]).unit, *_ones(boxes[1:])], True)[0]
        return [Box(value, Root(moved))]
    return list(map(_rooted, results))


def _joined_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    """Values side by side, and their units as they are."""
    del step
    (value,) = _bind(eqn, values_of(boxes), True)

    def units() -> jax.Array:
        found = []
        for box in boxes:
            if box.root is None:
                found.append(jnp.ones(jnp.shape(box.value), value.dtype))
            else:
                found.append(box.root.unit)
        return _bind(eqn, found, True)[0]

    return [Box(value, Root(units))]


def _pass_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    (value,) = _bind(eqn, values_of(boxes), True)
    root = _root(boxes[step.operand])
    if _floating(value):
        value = carry(value, root.unit)
    return [Box(value, root)]


def _same_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    del eqn
    return [boxes[step.operand]]


def _linear_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    x = boxes[step.operand]
    w = boxes[1 - step.operand].value
    w = w.astype(_widest([w.dtype, x.value.dtype]))

    def op(a: jax.Array, b: jax.Array) -> jax.Array:
        operands = [a, b]
        if step.operand == 1:
            operands = [b, a]
        return _bind(eqn, operands, True)[0]

    if step.rule is None:
        raise AssertionError("a linear step without its rule")
    below = lambda: _root(x).unit
    value, make_unit = apply(step.rule, op, x.value, w, below, step.nonnegative)
    return [Box(value, Root(make_unit))]


def _signal_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    """All relevance to the signal: the gate is constant. R = 0 if the signal leads to no source."""
    gate = 1 - step.operand
    values = values_of(boxes)
    values[gate] = jax.lax.stop_gradient(values[gate])
    return list(map(_rooted, _bind(eqn, values, True)))


def _half_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    del step
    (value,) = _bind(eqn, values_of(boxes), True)
    halves = jnp.zeros_like(value)
    for box in boxes:
        if box.root is None:  # a factor that is no way to a source keeps its half
            halves = halves + 0.5
        else:
            halves = halves + 0.5 * box.root.unit
    return [_rooted(carry(value, halves))]


def _halved_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    """Half the relevance to each of two factors, by the product's own derivative."""
    del step
    (value,) = _bind(eqn, values_of(boxes), True)
    return [_rooted(0.5 * value + jax.lax.stop_gradient(0.5 * value))]


_STEPS: dict[str, Callable] = {
    "halved": _halved_step,
    "bind": _bind_step,
    "joined": _joined_step,
    "pass": _pass_step,
    "same": _same_step,
    "linear": _linear_step,
    "signal": _signal_step,
    "half": _half_step,
}


def _rooted(value: Any) -> Box:
    if _floating(value):
        return Box(value, Root(lambda: unit(value)))
    return Box(value, Root(lambda: jnp.ones(value.shape)))


def _root(box: Box) -> Root:
    """The root of a value that the plan says has one."""
    if box.root is None:
        raise AssertionError("relevance flows into a value without a root")
    return box.root


def _dtype(value: Any, variable: Any) -> Any:
    return getattr(value, "dtype", variable.aval.dtype)


def _widest(dtypes: Sequence) -> Any:
    """The type that holds all of these; said outright, as JAX may be told to refuse two."""
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, dtypes)


def _floating(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def _ones(boxes: Sequence[Box]) -> list:
    """The other operands of a move of units: what is padded with counts as one."""
    return [jnp.ones((), jnp.float32)] * len(boxes)


def _widen(value: jax.Array) -> jax.Array:
    """Float32 at least."""
    return value.astype(wide(value.dtype))


def _bind(eqn: Any, values: Sequence, active: bool) -> list:
    """Binds an equation to operands perhaps wider than traced, as are its results if `active`."""
    dtypes = list(map(_dtype, values, eqn.invars))
    own = [variable.aval.dtype for variable in eqn.invars]
    if not active and dtypes == own:
        return quick.bind(eqn, values)
    if list(trace.jaxprs_in_params(eqn.params)):  # a loop's body keeps its types
        return trace.bind(eqn, list(map(_cast, values, own)))
    floats = list(filter(_is_inexact, dtypes))
    if not floats:
        return quick.bind(eqn, values)
    widest = _widest(floats)
    operands = []
    for value, dtype in zip(values, dtypes, strict=True):
        if _is_inexact(dtype):
            value = _cast(value, widest)
        operands.append(value)
    if not active:
        return quick.bind(eqn, operands)
    overrides = _overrides(eqn, widest)
    if quick.is_depthwise(eqn):
        return [quick.shifted(eqn, *operands, **overrides)]
    if quick.is_few(eqn):
        return [quick.product(eqn, *operands, **overrides)]
    return trace.bind(eqn, operands, **overrides)


def _is_inexact(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def _cast(value: Any, dtype: Any) -> Any:
    if getattr(value, "dtype", None) == dtype:
        return value
    return jax.lax.convert_element_type(value, dtype)


def _precise(eqn: Any, precision: str) -> Any:
    """A convolution or matrix product at this precision; other equations as they are."""
    if eqn.primitive.name not in primitives.LINEAR:
        return eqn
    wanted = jax.lax.Precision(precision)
    return eqn.replace(params={**eqn.params, "precision": (wanted, wanted)})


def _overrides(eqn: Any, widest: Any) -> dict:
    name = eqn.primitive.name
    if name in primitives.LINEAR:
        precision = eqn.params["precision"]
        return {"precision": precision, "preferred_element_type": jnp.dtype(widest)}
    if name in primitives.CONVERSIONS and _is_inexact(eqn.params["new_dtype"]):
        return {"new_dtype": jnp.dtype(_widest([eqn.params["new_dtype"], widest]))}
    return {}
