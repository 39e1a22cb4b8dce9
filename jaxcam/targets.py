"""What is explained: targets, given in any of their forms, become scores."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError, listing

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Targets",
    "check",
    "concrete",
    "confidence",
    "probabilities",
    "resolve",
    "scores",
]

# None | one class for all | [B] | [B, K] classes | a function logits [B, N] -> scores [B]
Targets = None | int | jax.Array | np.ndarray | list | Callable[[jax.Array], jax.Array]


# How outputs become probabilities: None (softmax of several, sigmoid of one), a name of
# ACTIVATIONS, or a function.
Activation = None | str | Callable[[jax.Array], jax.Array]
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda outputs: outputs,
}


def concrete(array: jax.Array | np.ndarray) -> np.ndarray | None:
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
        expected = "integer class indices or a function of the logits"
        raise ArgumentError("targets", f"{array.dtype} values", expected)
    if (
        array.ndim not in (0, 1, 2)
        or (array.ndim and array.shape[0] != batch)
        or array.shape[1:] == (0,)
    ):
        expected = (
            f"an int, [{batch}] (one class per image) or [{batch}, K] (K classes per image, at "
            "least 1)"
        )
        got = f"shape {tuple(array.shape)} for {batch} images"
        raise ArgumentError("targets", got, expected)
    values = concrete(array)
    if values is not None and values.size and not (values.min() >= 0 and values.max() < classes):
        wrong = values[(values < 0) | (values >= classes)].ravel()[0]
        expected = f"0 to {classes - 1} (the model has {classes} logits)"
        raise ArgumentError("targets", f"class {wrong}", expected)
    return jnp.broadcast_to(jnp.asarray(array, jnp.int32), array.shape if array.ndim else (batch,))


def _as_array(targets: Any) -> np.ndarray:
    try:
        return np.asarray(targets)
    except ValueError:  # rows of several lengths
        raise ArgumentError("targets", repr(targets), "as many classes for each image") from None


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


def probabilities(outputs: jax.Array, activation: Activation = None) -> jax.Array:
    """The softmax of N > 1 outputs z, the sigmoid of a single one.

    A logit z and its twin [0, z] mean the same.

    Args:
        outputs: z `[..., N]`, what the model returns.
        activation: None (as above), "softmax", "sigmoid" (of networks that were trained so: each
            class by itself), "identity" (the model returns probabilities already), or a function
            `[..., N] -> [..., N]`.

    Returns:
        p `[..., N]` in float32 (float64 stays).

    Raises:
        ValueError: an unknown `activation`; "softmax" of a single output, which is 1 whatever the
            network says; a function that returns another shape.

    Example:
        >>> float(probabilities(jnp.zeros((1, 1)))[0, 0])
        0.5
    """
    outputs = at_least_float32(outputs)
    single = outputs.shape[-1] == 1
    if single and activation == "softmax":
        got = "'softmax' for one output, of which it is always 1"
        raise ArgumentError("activation", got, "'sigmoid'")
    if activation is None:
        activation = "sigmoid" if single else "softmax"
    if not callable(activation) and activation not in ACTIVATIONS:
        expected = f"None, one of {listing(ACTIVATIONS)} or a function"
        raise ArgumentError("activation", repr(activation), expected)
    found = (activation if callable(activation) else ACTIVATIONS[activation])(outputs)
    if jnp.shape(found) != outputs.shape:
        got = f"a function that returned shape {jnp.shape(found)}"
        raise ArgumentError("activation", got, str(outputs.shape))
    return found


def confidence(
    outputs: jax.Array, targets: Targets = None, activation: Activation = None
) -> jax.Array:
    """Confidence, Y_b = p_b[c_b], p the `probabilities` of the outputs: here and everywhere.

    Args:
        outputs: `[B, N]`, what the model returns.
        targets: any form that `check` takes; the value of a function of the outputs is taken as it
            is.
        activation: as in `probabilities`.

    Returns:
        Y `[B]`, or `[B, K]` for K targets per image, in float32 (float64 stays).

    Raises:
        ValueError: as `scores` and `probabilities`.

    Example:
        >>> float(confidence(jnp.zeros((1, 4)), 2)[0])
        0.25
    """
    if callable(targets):
        return _custom_scores(at_least_float32(outputs), targets)
    chosen = resolve(outputs, targets)
    return scores(probabilities(outputs, activation), chosen)


def _custom_scores(logits: jax.Array, function: Callable) -> jax.Array:
    values = function(logits)
    if jnp.shape(values) != logits.shape[:1]:
        got = f"a function that returned shape {jnp.shape(values)} for logits {logits.shape}"
        raise ArgumentError("targets", got, f"one score per image, {logits.shape[:1]}")
    return values
