"""Powers of two in whose unit squares and sums neither overflow nor vanish."""

import jax
import jax.numpy as jnp

from jaxcam._ground.dtypes import at_least_float32

_HEADROOM = 1  # powers of two below the greatest: the reciprocal is no denormal number


def unit(x: jax.Array, axes: int | tuple[int, ...]) -> jax.Array:
    """The power of two next to max |x| along axes, which stay as axes of one.

    Dividing by it is exact and leaves |x| <= 4; no gradient passes it.

    Args:
        x: float32 or float64.
        axes: over which it is shared.

    Returns:
        As x, `axes` of size 1: at least the least normal number, at most half the greatest power of
        two. 1 where all of x is 0, or something is not finite.

    Example:
        >>> float(unit(jnp.array([3.0, -5.0]), 0)[0])
        4.0
    """
    largest = jnp.abs(jax.lax.stop_gradient(x)).max(axes, keepdims=True)
    known = jnp.isfinite(x).all(axes, keepdims=True) & (largest > 0)
    limits = jnp.finfo(x.dtype)
    least = float(limits.tiny)
    most = 2.0 ** (limits.maxexp - 1 - _HEADROOM)
    kept = jnp.clip(jnp.where(known, largest, 1), least, most)
    return jax.lax.reduce_precision(kept, exponent_bits=limits.nexp, mantissa_bits=0)


def without_denormals(x: jax.Array) -> jax.Array:
    """In float32 at least, what is smaller than the least normal number 0.

    Compiled programs take such numbers for 0 in some places and not in others.
    """
    x = at_least_float32(x)
    tiny = jnp.finfo(x.dtype).tiny
    return jnp.where(jnp.abs(x) < tiny, jnp.zeros((), x.dtype), x)
