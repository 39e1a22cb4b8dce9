"""LRP by transforming programs: the same values, and a reverse-mode derivative that is relevance.

Relevance is written R = x * c, c being the cotangent of x. `_plan` says which equations
need a rule; they are replaced, and autodiff does the rest. Relevance at a layer is read off a
`seed`: the layer's value x becomes x * (1 + e) with e = 0, and the cotangent of e is R itself.
Nothing below the lowest seed is differentiated.

From the first value on into which relevance flows the program runs in float32 (float64 stays),
linear layers at the highest precision, whatever the model's own dtype: bfloat16 ruins relevance at
shallow layers. The logits of a bfloat16 model are therefore those of its parameters in float32.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._ground import primitives
from jaxcam._program import trace
from jaxcam._program.layers import Forward
from jaxcam._program.question import traced
from jaxcam.lrp import _plan as planning
from jaxcam.lrp.composites import resolve
from jaxcam.lrp.rules import apply, carry, unit

_HIGHEST = jax.lax.Precision.HIGHEST
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
    """
    composite = resolve(composite)

    def transformed(images: jax.Array) -> Any:
        program = traced(forward, images)
        plan = planning.make(program, composite, {planning.PIXELS})
        outputs, _ = run(program, plan, images, {})
        return jax.tree.unflatten(
            jax.tree.structure(program.shapes), [box.value for box in outputs]
        )

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


# Running a planned program ------------------------------------------------------------


def run(
    program: trace.Program, plan: planning.Plan, images: jax.Array, seeds: Mapping
) -> tuple[list[Box], dict]:
    """Evaluates a program by its plan, with `seeds` (by path) at the sources.

    Returns:
        The outputs' boxes, and the values at the sources by path.
    """
    found: dict[trace.Path, jax.Array] = {}

    def enter(path: trace.Path, value: jax.Array) -> Box:
        found[path] = x = _widen(value)
        if path not in seeds:
            return Box(x, Root(lambda: unit(x)))
        seed = 1 + seeds[path].astype(x.dtype)
        return Box(x * seed, Root(lambda: unit(x) * seed))

    def visit(path: trace.Path, eqn: Any, boxes: list[Box]) -> list[Box]:
        step = plan.steps.get(path, planning.Step("bind"))
        if step.kind == "source":
            return [enter(path, boxes[0].value)]
        return _STEPS[step.kind](step, eqn, boxes)

    start = enter(planning.PIXELS, images) if planning.PIXELS in plan.sources else Box(images)
    outputs = trace.evaluate(program.closed, [start], visit, opens=lambda path, eqn: True, lift=Box)
    return outputs, found


def _bind_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    del step
    values, active = [b.value for b in boxes], any(b.root for b in boxes)
    results = _bind(eqn, values, active)
    if not active:
        return [Box(value) for value in results]
    if eqn.primitive.name in _MOVES:
        (value,) = results
        return [
            Box(value, Root(lambda: _bind(eqn, [boxes[0].root.unit, *_ones(boxes[1:])], True)[0]))
        ]
    return [_rooted(value) for value in results]


def _pass_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    (value,) = _bind(eqn, [b.value for b in boxes], True)
    root = boxes[step.operand].root
    return [Box(carry(value, root.unit) if _floating(value) else value, root)]


def _same_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    del eqn
    return [boxes[step.operand]]


def _linear_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    x, w = boxes[step.operand], boxes[1 - step.operand]
    op = lambda a, b: _bind(eqn, [a, b] if step.operand == 0 else [b, a], True)[0]
    w = w.value.astype(jnp.promote_types(w.value.dtype, x.value.dtype))
    return [_rooted(apply(step.rule, op, x.value, w, lambda: x.root.unit, step.nonnegative))]


def _signal_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    """All relevance to the signal: the gate is constant. R = 0 if the signal leads to no source."""
    gate = 1 - step.operand
    values = [jax.lax.stop_gradient(b.value) if i == gate else b.value for i, b in enumerate(boxes)]
    return [_rooted(value) for value in _bind(eqn, values, True)]


def _half_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    del step
    (value,) = _bind(eqn, [b.value for b in boxes], True)
    half = [0.5 * b.root.unit for b in boxes if b.root]
    # a factor that is no way to a source keeps its half
    constant = [0.5 * jnp.ones_like(value)] * (2 - len(half))
    return [_rooted(carry(value, sum(half + constant)))]


def _halved_step(step: planning.Step, eqn: Any, boxes: list[Box]) -> list[Box]:
    """Half the relevance to each of two factors, by the product's own derivative."""
    del step
    (value,) = _bind(eqn, [b.value for b in boxes], True)
    return [_rooted(0.5 * value + jax.lax.stop_gradient(0.5 * value))]


_STEPS: dict[str, Callable] = {
    "halved": _halved_step,
    "bind": _bind_step,
    "pass": _pass_step,
    "same": _same_step,
    "linear": _linear_step,
    "signal": _signal_step,
    "half": _half_step,
}


def _rooted(value: Any) -> Box:
    return Box(value, Root(lambda: unit(value) if _floating(value) else jnp.ones(value.shape)))


def _dtype(value: Any, variable: Any) -> Any:
    return getattr(value, "dtype", variable.aval.dtype)


def _floating(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def _ones(boxes: Sequence[Box]) -> list:
    """The other operands of a move of units: what is padded with counts as one."""
    return [jnp.ones((), jnp.float32) for _ in boxes]


def _widen(value: jax.Array) -> jax.Array:
    """Float32 at least."""
    return value.astype(
        jnp.promote_types(value.dtype, jnp.float32) if _floating(value) else jnp.float32
    )


def _bind(eqn: Any, values: Sequence, active: bool) -> list:
    """Binds an equation to operands perhaps wider than traced; at highest precision if `active`."""
    dtypes = [_dtype(v, a) for v, a in zip(values, eqn.invars, strict=True)]
    own = [a.aval.dtype for a in eqn.invars]
    if not active and dtypes == own:
        return trace.bind(eqn, values)
    if any(True for _ in trace.jaxprs_in_params(eqn.params)):  # a loop's body keeps its types
        return trace.bind(eqn, [_cast(v, d) for v, d in zip(values, own, strict=True)])
    floats = [d for d in dtypes if jnp.issubdtype(d, jnp.inexact)]
    if not floats:
        return trace.bind(eqn, values)
    wide = functools.reduce(jnp.promote_types, floats)
    values = [
        _cast(v, wide) if jnp.issubdtype(d, jnp.inexact) else v
        for v, d in zip(values, dtypes, strict=True)
    ]
    return trace.bind(eqn, values, **(_overrides(eqn, wide) if active else {}))


def _cast(value: Any, dtype: Any) -> Any:
    return (
        value
        if getattr(value, "dtype", None) == dtype
        else jax.lax.convert_element_type(value, dtype)
    )


def _overrides(eqn: Any, wide: Any) -> dict:
    name = eqn.primitive.name
    if name in (primitives.CONV, primitives.DENSE):
        return {"precision": (_HIGHEST, _HIGHEST), "preferred_element_type": jnp.dtype(wide)}
    if name == "convert_element_type" and jnp.issubdtype(eqn.params["new_dtype"], jnp.inexact):
        return {"new_dtype": jnp.dtype(jnp.promote_types(eqn.params["new_dtype"], wide))}
    return {}
