"""Products of bfloat16 numbers, as a TPU makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import Precision

from eval.costs.matrix_unit import emulated

LARGEST = {None: 2**-7, Precision.HIGH: 2**-14, Precision.HIGHEST: 2**-22}


def exact(x, w):
    return np.asarray(x, np.float64) @ np.asarray(w, np.float64)


@pytest.mark.parametrize("precision", LARGEST)
def test_rounding_is_that_of_so_many_passes(rng, precision):
    x = jnp.asarray(rng.uniform(1, 2, (64, 1)), jnp.float32)
    w = jnp.asarray(rng.uniform(1, 2, (1, 64)), jnp.float32)
    product = jax.jit(lambda x, w: jnp.matmul(x, w, precision=precision))
    error = np.abs(emulated(product)(x, w) / exact(x, w) - 1).max()
    assert LARGEST[precision] / 16 < error < LARGEST[precision] or precision == Precision.HIGHEST
    assert error < LARGEST[precision]
    np.testing.assert_array_equal(emulated(product)(x, w), jax.jit(emulated(product))(x, w))


def test_one_pass_is_the_product_of_rounded_numbers(rng):
    x, w = (jnp.asarray(rng.normal(size=(8, 8)), jnp.float32) for _ in range(2))
    round_ = lambda a: a.astype(jnp.bfloat16).astype(jnp.float32)
    found = emulated(lambda x, w: {"sum": (x @ w + 1).sum(0)})(x, w)["sum"]
    np.testing.assert_allclose(found, (round_(x) @ round_(w) + 1).sum(0), rtol=1e-6)
