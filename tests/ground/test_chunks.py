"""Equal chunks hold all, and no more than half a chunk besides."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam._ground import chunks


@pytest.mark.parametrize(
    ("count", "chunk", "steps", "size"),
    [(28, 8, 4, 7), (100, 8, 20, 5), (8, 8, 1, 8), (3, 8, 1, 3), (7, 1, 7, 1), (13, 4, 5, 3)],
)
def test_sizes(count, chunk, steps, size):
    plan = chunks.equal(count, chunk)
    assert plan == (count, steps, size)
    assert plan.padded == steps * size >= count


@pytest.mark.parametrize("count", [1, 5, 8, 13])
@pytest.mark.parametrize("chunk", [1, 3, 4, 20])
@pytest.mark.parametrize("axis", [0, -1])
def test_the_loop_gives_what_one_pass_gives(count, chunk, axis):
    table = jnp.arange(3 * count, dtype=jnp.float32).reshape(count, 3)
    sizes = set()

    def evaluate(numbers):
        sizes.add(numbers.shape)
        rows = table[numbers] ** 2
        return rows if axis == 0 else rows.T

    found = chunks.over(evaluate, count, chunk, axis=axis)
    np.testing.assert_array_equal(found, evaluate(jnp.arange(count)))
    assert min(sizes)[0] <= chunk
