"""What is explained: targets, given in any of their forms, become scores."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# None | one class for all | [B] | [B, K] classes | a function logits [B, N] -> scores [B]
Targets = None | int | jax.Array | np.ndarray | list | Callable[[jax.Array], jax.Array]


def concrete(array: jax.Array) -> np.ndarray | None:
    """The values of an array, or None inside a transformation, where there are none yet."""
    try:
        return np.asarray(array)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        return None


def check(targets: Targets, batch: int, classes: int) -> jax.Array | Callable | None:
    """Checks `targets` against `batch` images and `classes` logits.

    Args:
        targets: None (the arg-max class of each image), an int (for all images), `[B]` ints (one
            per image), `[B, K]` ints (K classes per image), or a function
            `logits [B, N] -> scores [B]`.
        batch: B, the number of images.
        classes: N, the number of logits.

    Returns:
        None or the function as it came; classes as an int32 array `[B]` or `[B, K]`.

    Raises:
        ValueError: `targets` are not integers, do not fit the batch, or (where values are known)
            are out of range.
    """
    if targets is None or callable(targets):
        return targets
    array = targets if isinstance(targets, jax.Array) else _as_array(targets)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"targets: got {array.dtype} values, expected integer class indices or a function of "
            "the logits"
        )
    if (
        array.ndim not in (0, 1, 2)
        or (array.ndim and array.shape[0] != batch)
        or array.shape[1:] == (0,)
    ):
        raise ValueError(
            f"targets: got shape {tuple(array.shape)} for {batch} images, expected an int, "
            f"[{batch}] (one class per image) or [{batch}, K] (K classes per image, at least 1)"
        )
    values = concrete(array)
    if values is not None and values.size and not (values.min() >= 0 and values.max() < classes):
        wrong = values[(values < 0) | (values >= classes)].ravel()[0]
        raise ValueError(
            f"targets: got class {wrong}, expected 0 to {classes - 1} (the model has {classes} "
            "logits)"
        )
    return jnp.broadcast_to(jnp.asarray(array, jnp.int32), array.shape if array.ndim else (batch,))


def _as_array(targets: Any) -> np.ndarray:
    try:
        return np.asarray(targets)
    except ValueError:  # rows of several lengths
        raise ValueError(
            f"targets: got {targets!r}, expected as many classes for each image"
        ) from None


def resolve(logits: jax.Array, targets: Targets = None) -> jax.Array | Callable:
    """As `check`, with None resolved to the arg-max class of each image.

    Args:
        logits: `[B, N]`.
        targets: any form that `check` takes.

    Returns:
        Class indices `[B]` or `[B, K]`, or the function as it came.

    Raises:
        ValueError: as `check`.
    """
    checked = check(targets, *logits.shape)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32) if checked is None else checked


def scores(logits: jax.Array, targets: Targets = None) -> jax.Array:
    """Y_b = logits[b, targets[b]], or the target function's value.

    Args:
        logits: `[B, N]`; any other per-class numbers, probabilities say, do as well.
        targets: any form that `check` takes.

    Returns:
        Y `[B]`, or `[B, K]` for K classes per image. Inside a transformation, where a class out of
        range cannot raise, its score and every gradient of it are NaN.

    Raises:
        ValueError: as `check`, or a target function returned another shape than `[B]`.
    """
    chosen = resolve(logits, targets)
    if callable(chosen):
        return _custom_scores(logits, chosen)
    index = chosen[:, None] if chosen.ndim == 1 else chosen
    values = jnp.take_along_axis(logits, index, axis=1, mode="clip")
    # A factor, not a replacement: the gradient must be NaN too, or the map would be a silent zero.
    values = values * jnp.where((index >= 0) & (index < logits.shape[1]), 1.0, jnp.nan).astype(
        logits.dtype
    )
    return values[:, 0] if chosen.ndim == 1 else values


def _custom_scores(logits: jax.Array, function: Callable) -> jax.Array:
    values = function(logits)
    if jnp.shape(values) != logits.shape[:1]:
        raise ValueError(
            f"targets: the function returned shape {jnp.shape(values)} for logits {logits.shape}, "
            f"expected one score per image, {logits.shape[:1]}"
        )
    return values
