"""Connected components of masks."""

import jax
import jax.numpy as jnp


@jax.jit
def components(marked: jax.Array) -> jax.Array:
    """The 8-connected components of `[B, H, W]` bool: int32, 0 outside, each its own number.

    A component's number is the raster index of its last pixel, plus 1. It spreads along whole rows
    and columns at once and one step diagonally, until nothing changes: a few rounds for a blob,
    more only for a maze.
    """
    index = jnp.arange(1, marked[0].size + 1, dtype=jnp.int32).reshape(marked.shape[1:])
    labels = jnp.where(marked, index[None], 0)

    def spread(state: tuple) -> tuple:
        old, _ = state
        new = jnp.where(marked, _largest_neighbour(old), 0)
        for axis in (1, 2):
            new = _run_maximum(_run_maximum(new, axis), axis, reverse=True)
        return new, (new != old).any()

    return jax.lax.while_loop(lambda state: state[1], spread, (labels, marked.any()))[0]


def _largest_neighbour(labels: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(
        labels, jnp.iinfo(jnp.int32).min, jax.lax.max, (1, 3, 3), (1, 1, 1), "SAME"
    )


def _run_maximum(labels: jax.Array, axis: int, reverse: bool = False) -> jax.Array:
    """Running maximum along an axis that starts anew after each 0."""

    def combine(before: tuple, here: tuple) -> tuple:
        return jnp.where(here[1], here[0], jnp.maximum(before[0], here[0])), before[1] | here[1]

    return jax.lax.associative_scan(combine, (labels, labels == 0), reverse=reverse, axis=axis)[0]


def largest(labels: jax.Array) -> jax.Array:
    """The pixels of each image's largest component, `[B, H, W]` bool."""
    flat = labels.reshape(labels.shape[0], -1)
    none = jnp.zeros(flat.shape[1] + 1, jnp.int32)
    count = jax.vmap(lambda one: none.at[one].add(1))(flat)
    count = count.at[:, 0].set(0)  # of no component
    _, best = ends(count == count.max(1, keepdims=True))  # the last of the equally large ones
    return (labels == best[:, None, None]) & (labels > 0)


def ends(line: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first and the last True of each row, `[B, n]` bool -> `[B]` twice."""
    return jnp.argmax(line, 1), line.shape[1] - 1 - jnp.argmax(line[:, ::-1], 1)
