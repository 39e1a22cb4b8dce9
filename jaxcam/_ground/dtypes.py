"""In which type to compute: float32 at least, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcam._ground.errors import ArgumentError, ArgumentTypeError, check_number, check_unmasked


def wide(dtype: Any) -> jnp.dtype:
    """The type to compute in: float32, or the type itself if it is wider (or complex).

    Said outright and not by `jnp.promote_types`, which refuses two types under
    `jax_numpy_dtype_promotion="strict"`.
    """
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.inexact):
        return jnp.dtype(jnp.float32)
    if jnp.issubdtype(dtype, jnp.complexfloating) or dtype.itemsize > 4:
        return dtype
    return jnp.dtype(jnp.float32)


def at_least_float32(x: Any) -> jax.Array:
    """In float32, or in float64 if it is in that."""
    x = jnp.asarray(x)
    return x.astype(wide(x.dtype))


def is_real(dtype: Any) -> bool:
    """Whether a type is of real numbers or booleans."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    try:
        return any(jnp.issubdtype(dtype, kind) for kind in kinds)
    except TypeError:  # of another library's tensors
        return False


def reals(argument: str, values: Any) -> jax.Array:
    """As a JAX array, once it holds real numbers (or booleans): no text, objects, complex ones."""
    expected = "an array of real numbers"
    if is_real(getattr(values, "dtype", None)):
        check_taken(argument, values)
    try:
        array = jnp.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        got = f"a {type(values).__name__}"
        if hasattr(values, "dtype"):
            got = f"{values.dtype} values"
        raise ArgumentTypeError(argument, got, expected) from error
    if not is_real(array.dtype):
        raise ArgumentTypeError(argument, f"{array.dtype} values", expected)
    return array


def check_taken(argument: str, values: Any) -> None:
    """ArgumentError for NumPy's arrays of real numbers that JAX takes none of."""
    check_unmasked(argument, values)
    numpys = isinstance(values, np.ndarray)
    if numpys and (not values.dtype.isnative or values.dtype.itemsize > 8):
        raise ArgumentError(argument, f"{values.dtype} values", "astype(np.float32), say")


def check_real(argument: str, value: Any) -> None:
    """ArgumentError unless `value` is one finite real number; a tracer's value is not known."""
    traced = isinstance(value, Tracer)
    if not traced or value.ndim or not is_real(value.dtype):
        check_number(argument, value)


def floating(x: Any) -> jax.Array:
    """As it is if of a floating-point type, else in float32: there is no half of an integer."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x.astype(jnp.float32)


def cast_like(values: jax.Array, images: jax.Array) -> jax.Array:
    """Values computed in float, in the dtype of the images: rounded if that is an integer one."""
    if not jnp.issubdtype(images.dtype, jnp.inexact):
        values = jnp.round(values)
    return values.astype(images.dtype)
