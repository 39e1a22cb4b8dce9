"""What is explained: targets, given in any of their forms, become scores `[B]`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground.errors import ArgumentError, check_unmasked
from jaxcam._ground.text import counted

# None | one class for all | [B] | [B, K] classes | a function of the output -> scores [B]
Targets = None | int | jax.Array | np.ndarray | list | Callable[[Any], jax.Array]


def concrete(array: Any) -> np.ndarray | None:
    """The values of an array, or None inside a transformation, where there are none yet."""
    try:
        return np.asarray(array)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        return None


def check(targets: Targets, batch: int, classes: int) -> Any:
    """Checks `targets` against `batch` images and `classes` logits.

    Args:
        targets: None (the arg-max class of each image), an int (for all images), `[B]` ints (one
            per image), `[B, K]` ints (K classes per image), or a function of what the model returns
            -> scores `[B]`.
        batch: B, the number of images.
        classes: N, the number of logits.

    Returns:
        None or the function as it came; classes as an int32 array `[B]` or `[B, K]`.

    Raises:
        ValueError: `targets` are not integers, do not fit the batch, or (where values are known)
            are out of range.

    Example:
        >>> print(jaxcam.targets.check([0, 2], batch=2, classes=3))
        [0 2]
    """
    if targets is None or callable(targets):
        return targets
    array = _as_array(targets)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        expected = "integer class indices or a function of the logits"
        raise ArgumentError("targets", f"{array.dtype} values", expected)
    _check_shape(array.shape, batch)
    _check_range(array, classes)
    _check_one_hot(array, classes)
    shape = array.shape or (batch,)
    return jnp.broadcast_to(jnp.asarray(array).astype(jnp.int32), shape)


def _as_array(targets: Any) -> Any:
    if isinstance(targets, jax.Array):
        return targets
    check_unmasked("targets", targets)
    try:
        return np.asarray(targets)
    except ValueError:  # rows of several lengths
        expected = "as many classes for each image"
        raise ArgumentError("targets", repr(targets), expected) from None


def _check_shape(shape: tuple[int, ...], batch: int) -> None:
    if len(shape) == 0:
        return
    if len(shape) <= 2 and shape[0] == batch and shape[1:] != (0,):
        return
    raise ArgumentError(
        "targets",
        f"shape {tuple(shape)} for {counted(batch, 'image')}",
        f"an int, [{batch}] (one class per image) or [{batch}, K] (K classes per image, at least "
        "1)",
    )


def _check_range(array: Any, classes: int) -> None:
    values = concrete(array)
    if values is None or not values.size:
        return
    wrong = values[(values < 0) | (values >= classes)]
    if wrong.size:
        expected = f"0 to {classes - 1} (the model has {classes} logits)"
        raise ArgumentError("targets", f"class {wrong.ravel()[0]}", expected)


def _check_one_hot(array: Any, classes: int) -> None:
    """Rows of zeros and a single one stand for one class: as indices they would name class 0.

    Of two classes they may be meant: both, each once.
    """
    if array.ndim != 2 or array.shape[1] != classes or classes < 3:
        return
    values = concrete(array)
    if values is None or values.max() > 1 or (values.sum(1) != 1).any():
        return
    expected = f"class indices, such as argmax(-1) of them, [{len(values)}]"
    raise ArgumentError("targets", f"one-hot rows {tuple(values.shape)}", expected)


def resolve(logits: jax.Array, targets: Targets = None) -> Any:
    """As `check`, with None resolved to the arg-max class of each image.

    Args:
        logits: `[B, N]`.
        targets: any form that `check` takes.

    Returns:
        Class indices `[B]` or `[B, K]`, or the function as it came.

    Raises:
        ValueError: as `check`.

    Example:
        >>> print(jaxcam.targets.resolve(jnp.array([[1.0, 4.0, 3.0]])))
        [1]
    """
    if callable(targets):
        return targets
    shape = jnp.shape(logits)
    if len(shape) != 2 or not shape[1]:
        raise ArgumentError("logits", f"shape {shape}", "[B, N], of at least one class")
    checked = check(targets, *shape)
    if checked is None:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return checked


def scores(logits: Any, targets: Targets = None, batch: int | None = None) -> jax.Array:
    """Y_b = logits[b, targets[b]], or the target function's value.

    Args:
        logits: `[B, N]`; any other per-class numbers, probabilities say, do as well; anything at
            all for a function.
        targets: any form that `check` takes.
        batch: B, for a function; None is the length of the output's first array.

    Returns:
        Y `[B]`, or `[B, K]` for K targets per image. Inside a transformation, where a class out of
        range cannot raise, its score and every gradient of it are NaN.

    Raises:
        ValueError: as `check`, or a target function returned another shape than `[B]`.

    Example:
        >>> logits = jnp.array([[1.0, 4.0, 3.0]])
        >>> print(jaxcam.targets.scores(logits), jaxcam.targets.scores(logits, [[0, 2]]))
        [4.] [[1. 3.]]
    """
    if callable(targets):
        return of_function(logits, targets, batch)
    chosen = resolve(logits, targets)
    index = chosen
    if chosen.ndim == 1:
        index = chosen[:, None]
    values = jnp.take_along_axis(logits, index, axis=1, mode="clip")
    # A factor, not a replacement: the gradient must be NaN too, or the map would be a silent zero.
    known = (index >= 0) & (index < logits.shape[1])
    values = values * jnp.where(known, 1.0, jnp.nan).astype(logits.dtype)
    return values.reshape(chosen.shape)


def of_function(outputs: Any, function: Callable, batch: int | None = None) -> jax.Array:
    """The scores `[B]` that a target function gives of a model's output."""
    values = function(outputs)
    if batch is None:
        batch = len(jax.tree.leaves(outputs)[0])
    if not hasattr(values, "shape"):
        got = f"a {type(values).__name__} from the function"
        raise ArgumentError("targets", got, f"an array of scores, ({batch},)")
    if jnp.shape(values) != (batch,):
        got = f"shape {jnp.shape(values)} from the function"
        raise ArgumentError("targets", got, f"one score for each of {batch} images, ({batch},)")
    return values
