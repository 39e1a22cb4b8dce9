"""Products with parts of weights, of which a program on a CPU keeps no copy.

A rule such as z+ takes max(w, 0), forth and back. XLA makes it once for both ways, so that a whole
copy of a network's weights lives through the program. Those of a ResNet-18 are 45 MB, fresh pages
in every call, and asking the system for them takes longer than a forward pass. So each part is made
where it is used, forth and back, after what it is multiplied with: XLA knows no reason to make it
sooner, and takes the same memory for the next.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxcam._ground import platforms

_LARGE = 2**16  # weights from which on a copy of them is worth the trouble

Op = Callable[[jax.Array, jax.Array], jax.Array]


def product(
    op: Op, part: Callable[[jax.Array], jax.Array], x: jax.Array, w: jax.Array
) -> jax.Array:
    """op(x, part(w)), to the bit.

    Args:
        op: bilinear in the input and the weights.
        part: element by element.
        x: the input.
        w: the weights. Of constants XLA makes parts while it compiles: these are left to it.
    """
    plain = lambda x, w: op(x, part(w))
    if not platforms.on_cpu() or not isinstance(w, Tracer) or math.prod(w.shape) < _LARGE:
        return plain(x, w)

    @jax.custom_vjp
    def made_twice(x: jax.Array, w: jax.Array) -> jax.Array:
        return plain(x, _after(x, w))

    def forth(x: jax.Array, w: jax.Array) -> tuple:
        return made_twice(x, w), (x, w)

    def back(saved: tuple, c: jax.Array) -> tuple:
        x, w = saved
        return jax.vjp(plain, x, _after(c, w))[1](c)

    made_twice.defvjp(forth, back)
    return made_twice(x, w)


def _after(a: jax.Array, w: jax.Array) -> jax.Array:
    """The weights, of which nothing can be made before a is known."""
    low = _infinite(jax.lax.stop_gradient(a)).astype(w.dtype)
    return jax.lax.clamp(low, w, jnp.asarray(jnp.inf, w.dtype))


@jax.custom_batching.custom_vmap
def _infinite(a: jax.Array) -> jax.Array:
    """Minus infinity, but XLA has to look at a value of a to know it."""
    first = jax.lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())
    return jnp.where(first > 0, 1.0, 2.0) * -jnp.inf


@_infinite.def_vmap
def _infinite_of_many(size: int, batched: Sequence, a: jax.Array) -> tuple:
    """One for all: weights that differ by target would be convolved one by one."""
    del size, batched
    return _infinite(a[0]), False
