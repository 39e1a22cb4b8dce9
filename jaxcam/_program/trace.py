"""The interpreter: run a traced program again with some of its equations replaced.

A model is traced once into a jaxpr. `evaluate` walks that program in execution order and hands
every equation to `visit`, which returns what the equation's outputs shall be. What flows along the
variables is up to the caller: arrays (a tap), arrays with facts about them (LRP), or facts alone
(an analysis that runs nothing). One walk serves them all.

An equation's place is its `path`, the indices of the equations that lead to it through nested
calls. A function that is jitted once and called twice is one sub-program at two places, so paths,
not equations, identify what is executed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, jaxpr_as_fun, jaxprs_in_params

from jaxcam._ground import foreign, primitives
from jaxcam._ground.errors import ArgumentTypeError

Path = tuple[int, ...]
Visit = Callable[[Path, JaxprEqn, list], Sequence]


class Program(NamedTuple):
    """A traced function: its program, and the structure and shapes of what it returns."""

    closed: ClosedJaxpr
    shapes: Any  # a pytree of ShapeDtypeStruct


def trace(function: Callable, *args: Any) -> Program:
    """Traces `function` into a program of equations without running it.

    Args:
        function: any JAX-traceable function. It may close over arrays or over the tracers of an
            outer transformation. Of one that is `Held` it is the program that it has.
        *args: arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        The program. Arrays that `function` closes over become its constants.

    Raises:
        TypeError: `function` is a Flax Linen module without its variables. What `function` raises
            passes through.
    """
    if isinstance(function, Held):
        return function.program(*args)
    check_forward(function)
    # A fresh lambda: make_jaxpr caches by function identity, and `function` may close over what has
    # changed since.
    closed, shapes = jax.make_jaxpr(lambda *a: _arrays(function(*a)), return_shape=True)(*args)
    return Program(closed, shapes)


class Held:
    """A function that is traced once, for arguments of the same types, however often it is asked.

    Inside a transformation its program is run again; outside, it is called as it is. What it closes
    over is taken to stay as it is for as long as it is held: for a call of an explainer.

    Args:
        function: any JAX-traceable function.

    Raises:
        TypeError: as `trace`.
    """

    def __init__(self, function: Callable) -> None:
        check_forward(function)
        self._function = function
        self._programs: dict[Any, Program] = {}

    def __call__(self, *args: Any) -> Any:
        leaves = jax.tree.leaves(args)
        if not any(isinstance(leaf, Tracer) for leaf in leaves):
            return self._function(*args)
        program = self.program(*args)
        found = jaxpr_as_fun(program.closed)(*leaves)
        return jax.tree.unflatten(jax.tree.structure(program.shapes), found)

    def program(self, *args: Any) -> Program:
        """Its program of arguments of these types."""
        leaves, tree = jax.tree.flatten(args)
        key = (tree, *map(_type, leaves))
        if key not in self._programs:
            self._programs[key] = trace(self._function, *args)
        return self._programs[key]


def _type(value: Any) -> Any:
    if isinstance(value, jax.ShapeDtypeStruct):
        return value
    return jax.typeof(value)


def _arrays(found: Any) -> Any:
    """What a model returned, once it is arrays or numbers."""
    for leaf in jax.tree.leaves(found):
        kind = getattr(getattr(leaf, "dtype", None), "kind", "")
        number = isinstance(leaf, complex | float | int) or hasattr(leaf, "dtype")
        if not number or kind in ("U", "S", "O"):
            got = f"a function that returned a {type(leaf).__name__}"
            raise ArgumentTypeError("forward", got, "one that returns arrays")
    return found


def check_forward(forward: Any) -> None:
    """Raises a TypeError if JAX cannot trace `forward`.

    A Flax Linen module not bound to its variables, or a model of a library outside JAX.
    """
    if not callable(forward):
        raise ArgumentTypeError("forward", repr(forward), "a function images -> output")
    # known without importing flax
    linen = hasattr(forward, "init_with_output") and hasattr(forward, "apply")
    if linen and getattr(forward, "scope", None) is None:
        raise TypeError(
            f"forward: got the Flax Linen module {type(forward).__name__}, expected a function "
            "images -> logits, such as jaxcam.linen(model, variables)"
        )
    other = foreign.kind(forward)
    if other is not None and not other.traced:
        got = f"{other.title} {type(forward).__name__}"
        raise ArgumentTypeError("forward", got, other.advice)


def bind(eqn: JaxprEqn, values: Sequence, **overrides: Any) -> list:
    """Applies an equation's primitive to `values`, whatever they are now, parameters overridden."""
    params = {**eqn.primitive.get_bind_params(eqn.params), **overrides}
    results = eqn.primitive.bind(*values, **params)
    if eqn.primitive.multiple_results:
        return list(results)
    return [results]


def body(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The sub-program an equation calls just once with its own operands, or None (also loops).

    Calls with a derivative of their own are to be opened only where a caller must reach inside.
    """
    if eqn.primitive.name not in primitives.CALLS | primitives.CUSTOM_DERIVATIVES:
        return None
    inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    # Since jax 0.11 every jaxpr holds its constants; before, remat's is an open one, with none.
    if hasattr(inner, "consts"):
        return inner
    return ClosedJaxpr(inner, ())


def describe(eqn: JaxprEqn) -> str:
    """An equation's primitive for messages, with the function called: `custom_jvp_call (relu)`."""
    called = eqn.params.get("name")
    inner = body(eqn)
    if not called and inner is not None:
        called = ", ".join(map(_called, inner.jaxpr.eqns))
    if not called:
        return eqn.primitive.name
    return f"{eqn.primitive.name} ({called})"


def _called(eqn: JaxprEqn) -> str:
    return str(eqn.params.get("name", eqn.primitive.name))


def contains(eqn: JaxprEqn, wanted: Callable[[JaxprEqn], bool]) -> bool:
    """Whether an equation, or any equation in its sub-programs (loop bodies too), is `wanted`."""
    if wanted(eqn):
        return True
    for sub in jaxprs_in_params(eqn.params):
        for inner in sub.eqns:
            if contains(inner, wanted):
                return True
    return False


def evaluate(
    closed: ClosedJaxpr,
    args: Sequence,
    visit: Visit,
    *,
    opens: Callable[[Path, JaxprEqn], bool],
    lift: Callable[[Any], Any] = lambda value: value,
    path: Path = (),
) -> list:
    """Runs a program with every equation's result given by `visit`.

    Args:
        closed: the program.
        args: one value per input variable.
        visit: `(path, equation, values of its operands) -> values of its results`.
        opens: `(path, equation) -> bool`: whether to walk into a call's body instead of visiting
            the call.
        lift: makes a value of a constant array.
        path: where this program stands inside an outer one.

    Returns:
        The values of the program's outputs.
    """
    env: dict = dict(zip(closed.jaxpr.constvars, map(lift, closed.consts), strict=True))
    env |= zip(closed.jaxpr.invars, args, strict=True)

    def read(atom: Any) -> Any:
        if isinstance(atom, Literal):
            return lift(atom.val)
        return env[atom]

    for index, eqn in enumerate(closed.jaxpr.eqns):
        here = (*path, index)
        values = list(map(read, eqn.invars))
        inner = body(eqn)
        with eqn.ctx.manager:
            if inner is not None and opens(here, eqn):
                results = evaluate(inner, values, visit, opens=opens, lift=lift, path=here)
            else:
                results = visit(here, eqn, values)
        env |= zip(eqn.outvars, results, strict=True)
    return list(map(read, closed.jaxpr.outvars))
