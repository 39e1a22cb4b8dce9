"""float32 at least, also where JAX refuses to promote."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam._ground import dtypes


@pytest.mark.parametrize(
    ("given", "wide"),
    [
        ("bfloat16", "float32"),
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("complex64", "complex64"),
        ("uint8", "float32"),
        ("int32", "float32"),
        ("bool", "float32"),
    ],
)
@pytest.mark.parametrize("promotion", ["standard", "strict"])
def test_wide_is_what_jax_promotes_to(given, wide, promotion):
    with jax.numpy_dtype_promotion(promotion):
        assert dtypes.wide(given) == jnp.dtype(wide)
    with jax.numpy_dtype_promotion("standard"):
        assert jnp.promote_types(given, jnp.float32) == jnp.dtype(wide)


def test_at_least_float32():
    assert dtypes.at_least_float32(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
    assert dtypes.at_least_float32([1, 2]).dtype == jnp.float32
    with jax.enable_x64(True):
        assert dtypes.at_least_float32(np.ones(2)).dtype == jnp.float64


def test_floating():
    assert dtypes.floating(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16
    assert dtypes.floating(np.ones(2, np.uint8)).dtype == jnp.float32


def test_cast_like_rounds_to_integers():
    values = jnp.array([0.4, 0.6, 254.7])
    cast = dtypes.cast_like(values, jnp.zeros(3, jnp.uint8))
    assert cast.dtype == jnp.uint8
    np.testing.assert_array_equal(cast, [0, 1, 255])
    cast = dtypes.cast_like(values, jnp.zeros(3, jnp.bfloat16))
    np.testing.assert_array_equal(cast, values.astype(jnp.bfloat16))
