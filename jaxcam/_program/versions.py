"""A function of versions of a batch that leaves a batch in shares where it is.

`jax.vmap` puts the versions in front of a convolution's images, `[n b, ...]`. Of a batch in shares
on several devices, under `jax.jit`, no device then holds a piece of that axis in a row: all images
are sent to all devices, and each does the whole work. Here the versions stand behind the batch,
`[b, n, ...]`, and a convolution takes `[b n, ...]`, of which each device has a piece.

The values are those of `jax.vmap`, whose rules they are for all but convolutions. What is inside
loops, `nn.remat` and derivatives made by hand is left to it whole.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxcam._ground import primitives
from jaxcam._program import trace

Result = TypeVar("Result")

# Calls that keep no values from their gradients, as nn.remat's do.
_CALLS = frozenset(["jit", "pjit", "closed_call", "core_call"])
_JOIN = "concatenate"
_RESHAPE = "reshape"
_OWN_RULE = "custom_vmap_call"


@dataclasses.dataclass(frozen=True)
class _Many:
    """Versions of a value: `[b, n, ...]`, or `[n]` of a number."""

    value: jax.Array

    @property
    def axis(self) -> int:
        """That of the versions."""
        return min(1, self.value.ndim - 1)


def over_versions(function: Callable[..., Result]) -> Callable[..., Result]:
    """`jax.vmap(function)`, of a function whose arrays have the batch in front.

    Args:
        function: any JAX-traceable function of pytrees of arrays.

    Returns:
        A function of the same arrays with n versions in front, `[n, b, ...]`, and such results.
        It is traced in every call.
    """

    def run(*args: Any) -> Any:
        program = trace.trace(function, *jax.tree.map(lambda each: each[0], args))
        many = [
            _Many(jnp.moveaxis(each, 0, min(1, each.ndim - 1))) for each in jax.tree.leaves(args)
        ]
        found = trace.evaluate(program.closed, many, _visit, opens=_opens)
        count = len(jax.tree.leaves(args)[0])
        leaves = [_in_front(each, count) for each in found]
        return jax.tree.unflatten(jax.tree.structure(program.shapes), leaves)

    return run


def _in_front(value: Any, count: int) -> jax.Array:
    """A result `[n, ...]`; one that is the same of all versions is repeated."""
    if isinstance(value, _Many):
        return jnp.moveaxis(value.value, value.axis, 0)
    return jnp.broadcast_to(value, (count, *jnp.shape(value)))


def _opens(path: trace.Path, eqn: JaxprEqn) -> bool:
    """Whether it is a call with convolutions inside."""
    del path
    return eqn.primitive.name in _CALLS and trace.contains(eqn, _is_conv)


def _is_conv(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name == primitives.CONV


def _visit(path: trace.Path, eqn: JaxprEqn, values: list) -> Sequence:
    del path
    several = [isinstance(value, _Many) for value in values]
    if not any(several):
        return trace.bind(eqn, values)
    if _is_conv(eqn) and several == [True, False] and eqn.params["batch_group_count"] == 1:
        return [_convolved(eqn, values[0].value, values[1])]
    if eqn.primitive.name == _RESHAPE and _keeps_batch(eqn):
        return [_reshaped(eqn, values[0].value)]
    if eqn.primitive.name == _JOIN and all(several) and eqn.params["dimension"] > 0:
        operands = [value.value for value in values]
        return [_Many(*trace.bind(eqn, operands, dimension=eqn.params["dimension"] + 1))]
    if eqn.primitive.name == _OWN_RULE:
        with contextlib.suppress(ValueError):  # that results are mapped after all
            return _mapped(eqn, values, None)
    return _each(eqn, values)


def _each(eqn: JaxprEqn, values: list) -> list[_Many]:
    """An equation of each version, by JAX's own rules."""
    places = [min(1, len(_shape(variable))) for variable in eqn.outvars]
    return list(map(_Many, _mapped(eqn, values, places)))


def _mapped(eqn: JaxprEqn, values: list, places: Any) -> list:
    """The results of `jax.vmap`, whose versions are at these axes; None: that are one for all."""
    arrays = []
    axes = []
    for value in values:
        many = isinstance(value, _Many)
        arrays.append(value.value if many else value)
        axes.append(value.axis if many else None)
    return jax.vmap(lambda *one: trace.bind(eqn, one), in_axes=axes, out_axes=places)(*arrays)


def _convolved(eqn: JaxprEqn, images: jax.Array, kernels: jax.Array) -> _Many:
    """A convolution of `[b n, ...]`, wherever its numbers have their batch."""
    numbers = eqn.params["dimension_numbers"]
    into, out = numbers.lhs_spec[0], numbers.out_spec[0]
    count = images.shape[1]
    images = jnp.moveaxis(images, 1, into + 1)
    shape = images.shape
    images = images.reshape(*shape[:into], -1, *shape[into + 2 :])
    (found,) = trace.bind(eqn, (images, kernels))
    shape = found.shape
    found = found.reshape(*shape[:out], -1, count, *shape[out + 1 :])
    return _Many(jnp.moveaxis(found, out + 1, 1))


def _keeps_batch(eqn: JaxprEqn) -> bool:
    """Whether a reshape leaves the first axis as it is."""
    before = _shape(eqn.invars[0])
    after = _shape(eqn.outvars[0])
    return len(eqn.invars) == 1 and bool(before and after) and before[0] == after[0]


def _reshaped(eqn: JaxprEqn, value: jax.Array) -> _Many:
    first, *others = _shape(eqn.outvars[0])
    return _Many(value.reshape(first, value.shape[1], *others))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
