"""`scan`, `map` and `while_loop` of `jax.lax` with convolutions as fast on CPUs as outside.

XLA's fast CPU kernels take convolutions of `[b, ..., f]` images with `[..., i, o]` weights. Its
compiler brings others into this layout, but not in the bodies of loops
(github.com/jax-ml/jax/issues/12868; so still in jaxlib 0.12): there the gradient of every
convolution, and each convolution of a channels-first network, runs many times slower. So the
transpositions are put into the body. Accelerators' compilers choose layouts everywhere: there
bodies stay as they are.

Outside `jax.jit` a loop is compiled once for what it does, whatever its body closes over.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import ConvDimensionNumbers

from jaxcam._ground import platforms, primitives
from jaxcam._ground.errors import check_flag
from jaxcam._program import eager, trace
from jaxcam._program import quick as _quick

__all__ = ["compiling_for", "fold", "map", "quick", "scan", "while_loop"]

# Pytrees of arrays.
Carry = TypeVar("Carry")
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """What is traced inside is for another platform than that of the process.

    Bodies of loops, depthwise convolutions, and derivatives of convolutions and pooling are others
    for CPUs.

    Args:
        platform: "cpu", "gpu" or "tpu", as `jax.default_backend` has it: for a program that is
            compiled ahead, for devices that are not there (`jax.experimental.topologies`).

    Example:
        >>> with jaxcam.loops.compiling_for("tpu"):  # convolutions in loops stay as they are
        ...     shape = jax.eval_shape(lambda x: jaxcam.loops.map(lambda each: each * 2, x), images)
        >>> shape.shape
        (2, 8, 8, 3)
    """
    with platforms.compiling_for(platform):
        yield


def quick(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function of the same values, but for rounding, with what XLA's CPU compiler is slow at.

    Depthwise convolutions are sums of shifted images there, ten times as quick, and so are their
    derivatives; those of 1 x 1 convolutions, of convolutions over few positions and of max pools
    are products and sums. The mean of a map is a product with ones, and a max pool over few places
    or of a small map the largest of slices, which keeps XLA from fusing all that is below them; and
    large dense layers that are constants stay as they lie. The other values are the function's to
    the bit. All explainers and metrics do this by themselves: it is for forward passes and training
    steps of your own.

    Args:
        function: any JAX-traceable function of pytrees of arrays. It is traced in every call inside
            a transformation such as `jax.jit`; outside, and where programs are not compiled for
            CPUs, it is called as it is.

    Returns:
        A function of the same arguments. Its inside is no layer of a model any more: explain the
        model, not this.

    Example:
        >>> quick = jax.jit(jaxcam.loops.quick(forward))
        >>> print(jnp.allclose(quick(images), forward(images), atol=1e-5))
        True
    """
    return _quick.rewritten(function)


def scan(
    step: Callable[[Carry, Item], tuple[Carry, Result]], carry: Carry, xs: Item
) -> tuple[Carry, Result]:
    """`jax.lax.scan(step, carry, xs)`.

    Args:
        step: `(carry, x) -> (carry, y)`.
        carry: arrays that go from step to step.
        xs: arrays `[n, ...]`.

    Returns:
        The last carry, and the ys `[n, ...]`.

    Raises:
        TypeError: as `jax.lax.scan`.

    Example:
        >>> add = lambda total, x: (total + x, total)
        >>> total, before = jaxcam.loops.scan(add, jnp.zeros((), int), jnp.arange(4))
        >>> print(total, before)
        6 [0 0 1 3]
    """
    return eager.once(lambda *args: jax.lax.scan(_laid_out(step), *args), carry, xs)


def map(function: Callable[[Item], Result], xs: Item) -> Result:  # the name that it has in jax.lax
    """`jax.lax.map(function, xs)`.

    Args:
        function: of one x.
        xs: arrays `[n, ...]`.

    Returns:
        Its results `[n, ...]`.

    Raises:
        TypeError: as `jax.lax.map`.

    Example:
        >>> print(jaxcam.loops.map(lambda x: x**2, jnp.arange(4)))
        [0 1 4 9]
    """
    return eager.once(lambda each: jax.lax.map(_laid_out(function), each), xs)


def while_loop(
    going: Callable[[Carry], Any], step: Callable[[Carry], Carry], carry: Carry
) -> Carry:
    """`jax.lax.while_loop(going, step, carry)`.

    Args:
        going: carry to whether there is another step; its convolutions are left.
        step: carry to carry.
        carry: arrays that go from step to step.

    Returns:
        The first carry that is not `going`.

    Raises:
        TypeError: as `jax.lax.while_loop`.

    Example:
        >>> print(jaxcam.loops.while_loop(lambda x: x < 100, lambda x: 2 * x, jnp.ones((), int)))
        128
    """
    return eager.once(lambda start: jax.lax.while_loop(going, _laid_out(step), start), carry)


def fold(
    step: Callable[[Carry, Any], Carry],
    state: Carry,
    steps: int,
    *,
    done: Callable[[Carry], Any] | None = None,
    on_host: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> Carry:
    """`state = step(state, i)` for i from 0 to `steps` - 1, or until `done(state)`.

    Args:
        step: (state, i) to state; i is an int32.
        state: arrays that go from step to step.
        steps: how many, at most.
        done: state to whether it is good enough already, asked after each step.
        on_host: whether the steps run one by one in a Python loop, not in one compiled loop.
        progress: called with (steps done, steps) after each step, which takes a Python loop.

    Returns:
        The last state.

    Raises:
        ValueError: `on_host` is neither True nor False.
        TypeError: as `jax.lax.scan`, where the compiled loop's state changes its type.

    Example:
        >>> print(jaxcam.loops.fold(lambda state, i: state + i, jnp.zeros((), int), 5))
        10
    """
    check_flag("on_host", on_host)
    if on_host:
        return _fold_on_host(step, state, steps, done, progress)
    if progress is not None:
        return _fold_on_host(eager.held(step), state, steps, done, progress)
    if done is None:
        return scan(lambda state, i: (step(state, i), None), state, jnp.arange(steps))[0]
    going = lambda carry: (carry[1] < steps) & ~done(carry[0])
    following = lambda carry: (step(*carry), carry[1] + 1)
    return while_loop(going, following, (state, jnp.int32(0)))[0]


def _fold_on_host(
    step: Callable, state: Carry, steps: int, done: Callable | None, progress: Callable | None
) -> Carry:
    for i in range(steps):
        state = step(state, np.int32(i))
        if progress is not None:
            progress(i + 1, steps)
        if done is not None and done(state):
            break
    return state


def _laid_out(body: Callable) -> Callable:
    """A body with its convolutions laid out.

    Those in loops of its own and in derivatives made by hand are left.
    """
    if not platforms.on_cpu():
        return body

    def run(*args: Any) -> Any:
        program = trace.trace(body, *args)
        opens = lambda _, eqn: (
            eqn.primitive.name in primitives.CALLS and trace.contains(eqn, _is_conv)
        )
        results = trace.evaluate(program.closed, jax.tree.leaves(args), _visit, opens=opens)
        return jax.tree.unflatten(jax.tree.structure(program.shapes), results)

    return run


def _visit(_: trace.Path, eqn: Any, values: Sequence) -> Sequence:
    special = _quick.of_value(eqn)
    if special is not None:
        return [special(eqn, *values)]
    if _is_conv(eqn):
        return [_convolve(eqn, *values)]
    return trace.bind(eqn, values)


def _is_conv(eqn: Any) -> bool:
    return eqn.primitive.name == primitives.CONV


def _convolve(eqn: Any, lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    """A convolution with its operands and its result transposed by operations of their own."""
    numbers = eqn.params["dimension_numbers"]
    dimensions = lhs.ndim
    space = range(1, dimensions - 1)
    images = (0, dimensions - 1, *space)
    kernel = (dimensions - 1, dimensions - 2, *range(dimensions - 2))
    wanted = ConvDimensionNumbers(images, kernel, images)
    lhs = lhs.transpose(_last(numbers.lhs_spec))
    rhs = rhs.transpose(_first_last(numbers.rhs_spec))
    (result,) = trace.bind(eqn, (lhs, rhs), dimension_numbers=wanted)
    return jnp.moveaxis(result, range(dimensions), _last(numbers.out_spec))


def _last(spec: Sequence[int]) -> tuple[int, ...]:
    """(batch, feature, *space) to (batch, *space, feature)."""
    batch, feature, *space = spec
    return (batch, *space, feature)


def _first_last(spec: Sequence[int]) -> tuple[int, ...]:
    """(out, in, *space) to (*space, in, out)."""
    out, into, *space = spec
    return (*space, into, out)
