"""Convolutions and max pools that are quick on CPUs, or whose derivatives are.

XLA's CPU compiler moves the weights of a convolution about before it takes their gradient's way
back: where a map has few positions that takes longer than the sums, in a ResNet-50 of one photo as
long as all of them. It takes the gradient of 1 x 1 weights ten times slower than the product that
it is, and that of a max pool window by window. So the derivative is put here as a product of
patches and weights as they lie, and as a sum over the places in a window. Being an ordinary
program, it is transposed, batched and differentiated again as any other. The values are the
program's, to the bit, those of pools too.

Depthwise convolutions XLA computes there channel by channel, ten times slower than the sum over
the kernel's places of shifted images that they are: this sum is taken, values and derivatives,
which differ by its order of adding alone. The mean of a map, too, is a product with ones, and a max
pool over few places or of a small map is the largest of slices: XLA fuses a sum of a map, or the
last pool, with all convolutions below it into one kernel, which takes up to twice their time.

The weights of a dense layer that are a constant of the program it lays out anew for a product of
few rows: in every call, where they are too many to be folded. So these stand behind a barrier.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import JaxprEqn

from jaxcam._ground import dtypes, platforms, primitives
from jaxcam._program import trace

# Kernels of one position are products, but of so few weights that they cost nothing either way.
_LEAST = 2**12
# Others only where moving the weights takes longer than making the patches: at most so many
# positions, of all images of a batch, per feature of the result, and at least so many weights.
_POSITIONS = 6
_WEIGHTS = 2**16
_FEW = 300  # positions of all images of a batch that LRP takes as products forth and back
_PLACES = 49  # in a depthwise kernel, at most: each takes an operation
_SHIFTED = 2**12  # values of a depthwise result, at least
_SUMMED = 2**12  # values of a map that is summed, at least
_FOLDED = 2**25  # values of a constant that XLA may be left to lay out anew while it compiles
_MAXIMA = 4  # places in a window of a pool that is a maximum over them, whatever its size
_WINDOW = 9  # places in a pooling window, at most: each takes an operation
_POOLED = 2**14  # values of a pooled result from which on the pool itself is left to XLA

_FLOATS = (jnp.dtype(jnp.float32), jnp.dtype(jnp.float64))
# Calls that keep no values from their gradients, as nn.remat's do.
_CALLS = frozenset(["jit", "pjit"])


def bind(eqn: JaxprEqn, values: Sequence, **overrides: Any) -> list:
    """`trace.bind`, with another derivative where that is quicker."""
    if not platforms.on_cpu():
        return trace.bind(eqn, values, **overrides)
    if _is_large_product(eqn):
        return trace.bind(eqn, list(map(_laid_out, values)), **overrides)
    special = of_value(eqn)
    if special is not None:
        return [special(eqn, *values, **overrides)]
    value = lambda *operands: trace.bind(eqn, operands, **overrides)[0]
    if _is_plain(eqn) and _pays(eqn):
        return [_with_products(eqn, value, overrides)(*values)]
    if _is_pool(eqn):
        return [_by_places(eqn, value)(*values)]
    return trace.bind(eqn, values, **overrides)


def is_few(eqn: JaxprEqn) -> bool:
    """Whether it is a plain convolution for a CPU over so few positions that LRP takes a product.

    A kernel that is larger than its map leaves the fast kernels altogether: 3 x 3 over 2 x 2 cells
    takes 20 times as long as the product.
    """
    if not platforms.on_cpu() or not _is_plain(eqn):
        return False
    positions = math.prod(_result(eqn).shape[:-1])
    return positions <= _FEW and math.prod(_shape(eqn.invars[1])) >= _WEIGHTS


def opens(path: trace.Path, eqn: JaxprEqn) -> bool:
    """Whether a call has something to be quick in."""
    del path
    return eqn.primitive.name in _CALLS and platforms.on_cpu() and trace.contains(eqn, _is_quick)


def rewritten(function: Callable) -> Callable:
    """A function of the same values, but for rounding, that is quick on CPUs, as its derivatives.

    Outside transformations such as `jax.jit`, where each operation is compiled alone, it is as it
    was.

    Args:
        function: any JAX-traceable function of pytrees of arrays.
    """
    if not platforms.on_cpu():
        return function

    def run(*args: Any) -> Any:
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args)):
            return function(*args)
        program = trace.trace(function, *args)
        visit = lambda _, eqn, values: bind(eqn, values)
        results = trace.evaluate(program.closed, jax.tree.leaves(args), visit, opens=opens)
        return jax.tree.unflatten(jax.tree.structure(program.shapes), results)

    return run


def of_value(eqn: JaxprEqn) -> Callable | None:
    """`(eqn, *operands) -> value` of what is quicker by other operations on CPUs; else None."""
    if is_depthwise(eqn):
        return shifted
    if _is_map_sum(eqn):
        return _summed
    return None


def _is_quick(eqn: JaxprEqn) -> bool:
    if of_value(eqn) is not None or _is_pool(eqn) or _is_large_product(eqn):
        return True
    return _is_plain(eqn) and _pays(eqn)


# Convolutions ---------------------------------------------------------


def _is_plain(eqn: JaxprEqn) -> bool:
    """Whether it is a convolution `[b, ..., i]` with `[..., i, o]`, of one group, undilated."""
    if eqn.primitive.name != primitives.CONV:
        return False
    params = eqn.params
    rank = _result(eqn).ndim
    images = (0, rank - 1, *range(1, rank - 1))
    kernel = (rank - 1, rank - 2, *range(rank - 2))
    numbers = params["dimension_numbers"]
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != (images, kernel, images):
        return False
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return False
    if set(params["lhs_dilation"]) | set(params["rhs_dilation"]) != {1}:
        return False
    return _result(eqn).dtype in _FLOATS


def _pays(eqn: JaxprEqn) -> bool:
    """Whether a plain convolution's derivative is quicker as a product."""
    kernel = _shape(eqn.invars[1])
    if math.prod(kernel[:-2]) == 1:
        return math.prod(kernel) >= _LEAST
    positions = math.prod(_result(eqn).shape[:-1])
    return positions <= _POSITIONS * kernel[-1] and math.prod(kernel) >= _WEIGHTS


def _with_products(eqn: JaxprEqn, value: Callable, overrides: dict) -> Callable:
    """A convolution whose derivative is a product: dy = product(dx, w) + product(x, dw)."""
    params = {**eqn.params, **overrides}
    options = {name: params[name] for name in ("precision", "preferred_element_type")}
    convolve = jax.custom_jvp(value)

    @partial(convolve.defjvp, symbolic_zeros=True)
    def derivative(primals: Sequence, tangents: Sequence) -> tuple:
        x, w = primals
        y = convolve(x, w)
        change = jnp.zeros_like(y)
        parts = []
        for operands in ((tangents[0], w), (x, tangents[1])):
            if not any(isinstance(each, SymbolicZero) for each in operands):
                parts.append(product(eqn, *operands, **options))
        return y, sum(parts[1:], parts[0]) if parts else change

    return convolve


def product(eqn: JaxprEqn, x: jax.Array, w: jax.Array, **options: Any) -> jax.Array:
    """A plain convolution's value: patches `[b, ..., k i]` times weights `[k i, o]`, k offsets.

    Args:
        eqn: a plain convolution.
        x: `[b, ..., i]`.
        w: `[..., i, o]`.
        **options: of the product: `precision`, `preferred_element_type`.
    """
    strides = (1, *eqn.params["window_strides"], 1)
    shape = (*_result(eqn).shape[:-1], x.shape[-1])
    padded = _padded(x, [(0, 0), *eqn.params["padding"], (0, 0)], 0)
    patches = []
    for offset in itertools.product(*map(range, w.shape[:-2])):
        patches.append(_seen(padded, (0, *offset, 0), shape, strides))
    rows = jnp.concatenate(patches, -1)
    columns = w.reshape(-1, w.shape[-1])
    summed = (((rows.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(rows, columns, summed, **options)


def _padded(x: jax.Array, borders: Sequence, value: float) -> jax.Array:
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), [(*border, 0) for border in borders])


def _seen(
    padded: jax.Array, offset: Sequence[int], shape: Sequence[int], strides: Sequence[int]
) -> jax.Array:
    """What a place in a window meets: every stride-th position from its offset on."""
    ends = []
    for start, side, stride in zip(offset, shape, strides, strict=True):
        ends.append(start + (side - 1) * stride + 1)
    return jax.lax.slice(padded, offset, ends, strides)


def _result(eqn: JaxprEqn) -> Any:
    return eqn.outvars[0].aval


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


# Depthwise convolutions -----------------------------------------------


def is_depthwise(eqn: JaxprEqn) -> bool:
    """Whether it is a convolution for a CPU of each channel with a small kernel of its own."""
    if eqn.primitive.name != primitives.CONV or not platforms.on_cpu():
        return False
    params = eqn.params
    numbers = params["dimension_numbers"]
    if numbers.lhs_spec != numbers.out_spec:
        return False
    if params["batch_group_count"] != 1 or set(params["lhs_dilation"]) != {1}:
        return False
    kernel = _shape(eqn.invars[1])
    outputs, inputs, *space = (kernel[axis] for axis in numbers.rhs_spec)
    if inputs != 1 or params["feature_group_count"] != outputs or outputs == 1:
        return False
    few = math.prod(space) <= _PLACES
    large = math.prod(_shape(eqn.outvars[0])) >= _SHIFTED
    return few and large and jnp.issubdtype(_result(eqn).dtype, jnp.floating)


def shifted(eqn: JaxprEqn, x: jax.Array, w: jax.Array, **overrides: Any) -> jax.Array:
    """A depthwise convolution's value: sum_o x[. + o, c] w[o, c] over the kernel's places o.

    Args:
        eqn: a depthwise convolution.
        x: images, its first operand.
        w: its kernels.
        **overrides: of its parameters: `preferred_element_type`; `precision` is the highest anyway.
    """
    params = {**eqn.params, **overrides}
    numbers = params["dimension_numbers"]
    space = numbers.lhs_spec[2:]
    dtype = params["preferred_element_type"] or x.dtype  # operands may be wider than traced
    wide = dtypes.wide(dtype)
    along = partial(_along, space, x.ndim)
    borders = along(params["padding"], (0, 0))
    # Made once: a sum that is fused with what makes its operand makes it for every place anew.
    padded = jax.lax.optimization_barrier(_padded(x.astype(wide), borders, 0))
    seen = partial(_seen, shape=_result(eqn).shape, strides=along(params["window_strides"], 1))
    kernels = _kernels(w.astype(wide), numbers)
    total = jnp.zeros((), wide)
    for place in np.ndindex(kernels.shape[:-1]):
        offset = along(np.multiply(place, params["rhs_dilation"]).tolist(), 0)
        total = total + seen(padded, offset) * kernels[place].reshape(_columns(numbers, x.ndim))
    return total.astype(dtype)


def _along(space: Sequence[int], rank: int, values: Sequence, others: Any) -> list:
    """A list of all axes from the values of those in `space`."""
    found = [others] * rank
    for axis, value in zip(space, values, strict=True):
        found[axis] = value
    return found


def _kernels(w: jax.Array, numbers: Any) -> jax.Array:
    """A depthwise convolution's weights as `[*places, c]`."""
    outputs, inputs, *space = numbers.rhs_spec
    return w.transpose(inputs, *space, outputs)[0]


def _columns(numbers: Any, rank: int) -> list[int]:
    """The shape of a value for each channel."""
    return _along(numbers.lhs_spec[1:2], rank, [-1], 1)


# Sums of maps ---------------------------------------------------------


def _is_map_sum(eqn: JaxprEqn) -> bool:
    """Whether it is a sum for a CPU over all positions of `[B, *spatial, c]`."""
    if eqn.primitive.name != "reduce_sum" or not platforms.on_cpu():
        return False
    shape = _shape(eqn.invars[0])
    whole = len(shape) > 2 and tuple(eqn.params["axes"]) == tuple(range(1, len(shape) - 1))
    return whole and math.prod(shape) >= _SUMMED and _result(eqn).dtype in _FLOATS


def _summed(eqn: JaxprEqn, x: jax.Array) -> jax.Array:
    """sum_p x_bpc, as a product of ones and x."""
    del eqn
    rows = x.reshape(len(x), -1, x.shape[-1])
    ones = jnp.ones(rows.shape[:2], x.dtype)
    alike = (((1,), (1,)), ((0,), (0,)))
    return jax.lax.dot_general(ones, rows, alike, precision=jax.lax.Precision.HIGHEST)


# Dense layers ---------------------------------------------------------


def _is_large_product(eqn: JaxprEqn) -> bool:
    """Whether it is a product with so many weights that XLA lays out constants in every call."""
    return eqn.primitive.name == primitives.DENSE and math.prod(_shape(eqn.invars[1])) >= _FOLDED


def _laid_out(value: Any) -> Any:
    """An operand, which is left as it lies if it is a constant of the program."""
    if isinstance(value, Tracer) or np.size(value) < _FOLDED:
        return value
    return jax.lax.optimization_barrier(value)


# Max pooling ----------------------------------------------------------


def _is_pool(eqn: JaxprEqn) -> bool:
    """Whether it is a max pool of floats for a CPU over small windows, undilated."""
    if eqn.primitive.name != primitives.MAX_POOL:
        return False
    params = eqn.params
    if set(params["base_dilation"]) | set(params["window_dilation"]) != {1}:
        return False
    small = math.prod(params["window_dimensions"]) <= _WINDOW
    return small and _result(eqn).dtype in _FLOATS


def _largest(eqn: JaxprEqn, value: Callable, x: jax.Array) -> jax.Array:
    """A max pool's value; as a maximum over the places of a window where it takes few values."""
    window = eqn.params["window_dimensions"]
    if math.prod(window) > _MAXIMA and math.prod(_result(eqn).shape) >= _POOLED:
        return value(x)
    seen = partial(_seen, shape=_result(eqn).shape, strides=eqn.params["window_strides"])
    padded = _padded(x, eqn.params["padding"], -jnp.inf)
    offsets = itertools.product(*map(range, window))
    return functools.reduce(jnp.maximum, [seen(padded, offset) for offset in offsets])


def _by_places(eqn: JaxprEqn, value: Callable) -> Callable:
    """A max pool whose derivative is that of the first of a window's values that is the largest."""
    pool = jax.custom_jvp(partial(_largest, eqn, value))
    params = eqn.params
    borders = params["padding"]

    @pool.defjvp
    def derivative(primals: Sequence, tangents: Sequence) -> tuple:
        y = pool(*primals)
        values = _padded(primals[0], borders, -jnp.inf)
        changes = _padded(tangents[0], borders, 0)
        offsets = list(itertools.product(*map(range, params["window_dimensions"])))
        seen = partial(_seen, shape=y.shape, strides=params["window_strides"])
        # By number, never by comparing with y: XLA may compute a value twice, rounded otherwise.
        best = seen(values, offsets[0])
        place = jnp.zeros_like(y, jnp.int32)
        for number, offset in enumerate(offsets[1:], 1):
            value = seen(values, offset)
            place = jnp.where(value > best, number, place)
            best = jnp.maximum(best, value)
        change = jnp.zeros_like(y)
        for number, offset in enumerate(offsets):
            change = change + jnp.where(place == number, seen(changes, offset), 0)
        return y, change

    return pool
