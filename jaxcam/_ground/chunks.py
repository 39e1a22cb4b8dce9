"""Work in equal chunks: how many and how large, and the loop over them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._ground.errors import check_at_least


class Chunks(NamedTuple):
    """Equal chunks that together hold all and perhaps a little more."""

    total: int  # of what there is to do
    steps: int
    size: int

    @property
    def padded(self) -> int:
        """How many the chunks hold."""
        return self.steps * self.size


def equal(count: int, chunk: int) -> Chunks:
    """Chunks of at most `chunk` and more than half of it, such that least is left over.

    28 by at most 8 are 4 times 7, 100 are 20 times 5.

    Args:
        count: of what there is to do, at least 1.
        chunk: at least 1.
    """
    check_at_least("chunk", chunk, 1)
    largest = min(chunk, count)
    sizes = range(largest, largest // 2, -1)
    size = min(sizes, key=lambda size: -(-count // size) * size)
    return Chunks(count, -(-count // size), size)


def over(
    evaluate: Callable[[jax.Array], jax.Array],
    count: int,
    chunk: int,
    *,
    loop: Callable = jax.lax.map,
    axis: int = 0,
) -> jax.Array:
    """`evaluate` of the numbers 0 to count - 1, in one compiled loop over equal chunks.

    Args:
        evaluate: numbers `[n]` to results with n along `axis`; the last chunk is filled up with the
            last number.
        count: how many numbers, at least 1.
        chunk: how many at once, at most; sets the memory.
        loop: `jax.lax.map`, or `jaxcam.loops.map` where there are convolutions inside.
        axis: of the results, that of the numbers.

    Returns:
        The results, `count` along `axis`.
    """
    plan = equal(count, chunk)
    numbers = jnp.minimum(jnp.arange(plan.padded), count - 1).reshape(plan.steps, plan.size)
    first = lambda part: jnp.moveaxis(evaluate(part), axis, 0)
    parts = loop(first, numbers)
    whole = parts.reshape(plan.padded, *parts.shape[2:])[:count]
    return jnp.moveaxis(whole, 0, axis)


def telling(progress: Callable | None, plan: Chunks) -> Callable | None:
    """From a function of (units done, units) to one of (chunks done, chunks); None stays None."""
    if progress is None:
        return None
    return lambda done, _: progress(min(done * plan.size, plan.total), plan.total)
