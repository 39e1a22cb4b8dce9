"""Keys of randomness, as `key=` arguments take them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground.errors import ArgumentError, ArgumentTypeError, shown

_EXPECTED = "one key of randomness, such as jax.random.key(0)"


def check_key(key: Any) -> jax.Array:
    """The key, once it is one; None is `jax.random.key(0)`. Keys of before `key` are, too.

    Raises:
        ValueError: several keys.
        TypeError: a seed, text, any array that is no key.
    """
    if key is None:
        return jax.random.key(0)
    typed = _typed(key)
    if typed.shape:
        raise ArgumentError("key", f"keys of shape {typed.shape}", _EXPECTED)
    return typed


def _typed(key: Any) -> jax.Array:
    if not isinstance(key, jax.Array | np.ndarray):
        raise ArgumentTypeError("key", shown(key), _EXPECTED)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jnp.asarray(key)
    try:
        return jax.random.wrap_key_data(jnp.asarray(key))
    except TypeError as error:  # other numbers than those of a `PRNGKey`, or another count
        got = f"{key.dtype} values of shape {key.shape}"
        raise ArgumentTypeError("key", got, _EXPECTED) from error
