"""Programs outside `jax.jit` that are compiled once for what they do, whoever asks.

JAX knows a loop by the function that is its body, and a body that closes over a model is another
function in every call: each would be compiled anew and kept. Here a program is known by its text.
What it closes over are its arguments, so that a model which has learnt in between is the same
program with other numbers.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.core import Tracer, eval_jaxpr
from jax.extend.core import JaxprEqn, jaxprs_in_params

from jaxcam._program import trace

Result = TypeVar("Result")

_CONFIG: Any = jax.config  # whose options no type checker knows
KEPT = 64  # programs; the one that was used longest ago makes room
_compiled: OrderedDict[Any, Any] = OrderedDict()


def once(function: Callable[..., Result], *args: Any) -> Result:
    """`function(*args)`, compiled unless an equal program has been.

    Inside a transformation such as `jax.jit` it is the function alone.

    Args:
        function: any JAX-traceable function; traced in every call.
        *args: pytrees of arrays.
    """
    return held(function)(*args)


def held(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function that is `once` of another, traced at its first call and not again.

    What it closes over is taken to stay as it is for as long as it is held.
    """
    known: dict[Any, Callable[[list], Result] | None] = {}

    def call(*args: Any) -> Result:
        leaves, tree = jax.tree.flatten(args)
        if disabled() or _has_tracer(leaves):
            return function(*args)
        key = (tree, *map(_type, leaves))
        if key not in known:
            known[key] = _program(function, args)
        program = known[key]
        if program is None:
            return function(*args)
        return program(leaves)

    return call


def disabled() -> bool:
    """Whether nothing is to be compiled: `jax.disable_jit`."""
    return bool(_CONFIG.jax_disable_jit)


def _type(value: Any) -> Any:
    return jax.typeof(value), getattr(value, "sharding", None)


def _program(function: Callable[..., Result], args: tuple) -> Callable[[list], Result] | None:
    """Of the leaves of such arguments; None where only the function itself will do."""
    traced = trace.trace(function, *args)
    consts = list(traced.closed.consts)
    if _has_tracer(consts) or _calls_host(traced.closed.jaxpr):
        return None
    compiled = _found(traced.closed.jaxpr, [*consts, *jax.tree.leaves(args)])
    tree = jax.tree.structure(traced.shapes)
    return lambda leaves: jax.tree.unflatten(tree, compiled(*consts, *leaves))


def _found(jaxpr: Any, operands: list) -> Callable[..., list]:
    count = len(jaxpr.constvars)

    def run(*values: Any) -> list:
        return eval_jaxpr(jaxpr, values[:count], *values[count:])

    lowered = jax.jit(run).lower(*operands)
    text = hashlib.sha256(lowered.as_text().encode()).digest()
    places = tuple(getattr(value, "sharding", None) for value in operands)
    key = (text, places, _CONFIG.jax_default_device)
    if key not in _compiled:
        _compiled[key] = lowered.compile()
        while len(_compiled) > KEPT:
            _compiled.popitem(last=False)
    _compiled.move_to_end(key)
    return _compiled[key]


def _has_tracer(values: list) -> bool:
    return any(isinstance(value, Tracer) for value in values)


def _calls_host(jaxpr: Any) -> bool:
    """Whether Python is called: the text says of such a call only where it stands."""
    return any(map(_calls, jaxpr.eqns))


def _calls(eqn: JaxprEqn) -> bool:
    if "callback" in eqn.primitive.name:
        return True
    return any(map(_calls_host, jaxprs_in_params(eqn.params)))
