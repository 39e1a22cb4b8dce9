"""Whether what a user gives is what an explainer takes: images, what the model returns, layers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._ground.dtypes import check_taken, is_real
from jaxcam._ground.errors import ArgumentError, check_flag
from jaxcam._program.trace import Program

Shapes = Any  # a pytree of ShapeDtypeStruct
_CHANNELS = (1, 3)  # of images
_RANKS = (3, 4, 5)  # one to three spatial axes


def check_images(images: Any) -> None:
    """Raises a ValueError unless `images` are `[B, *spatial, C]` and, where known, finite."""
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise ArgumentError("images", f"a {type(images).__name__}", "an array [B, H, W, C]")
    shape = tuple(images.shape)
    if len(shape) not in _RANKS or 0 in shape:
        expected = "[B, H, W, C] (or one or three spatial axes)"
        if 0 in shape:
            expected = "[B, H, W, C], of at least one image"
        raise ArgumentError("images", f"shape {shape}", expected)
    if not is_real(images.dtype):
        raise ArgumentError("images", f"{images.dtype} values", "real numbers of NumPy or JAX")
    check_taken("images", images)
    if not jnp.issubdtype(images.dtype, jnp.inexact):
        return
    try:
        finite = bool(jnp.isfinite(images).all())
    except jax.errors.ConcretizationTypeError:
        return
    if not finite:
        raise ArgumentError("images", "NaN or infinite values", "finite ones")


def check_planar(images: Any) -> None:
    """As `check_images`, of `[B, H, W, C]` alone: for methods that are made for pictures."""
    check_images(images)
    if len(images.shape) != 4:
        raise ArgumentError("images", f"shape {tuple(images.shape)}", "[B, H, W, C]")


@contextlib.contextmanager
def of_other_axes(images: Any) -> Iterator[None]:
    """What a model raises of images whose axes it does not take becomes an error about these."""
    try:
        yield
    except Exception as error:
        shape = tuple(images.shape)
        expected = _other_axes(shape)
        if not expected or isinstance(error, ArgumentError):
            raise
        said = str(error).partition("\n")[0]
        got = f"shape {shape}, of which forward says: {said}"
        raise ArgumentError("images", got, expected) from error


def _other_axes(shape: tuple[int, ...]) -> str:
    """What images of a shape that a model does not take may have been meant to be."""
    if len(shape) == 3:
        return "[B, H, W, C]"
    if len(shape) == 4 and shape[1] in _CHANNELS and shape[3] not in _CHANNELS:
        return "channels last, [B, H, W, C]: jnp.moveaxis(images, 1, -1)"
    return ""


def check_output(program: Program, batch: int, has_aux: bool, classes: bool) -> Shapes:
    """The shapes of what a traced model returns and is explained, without aux.

    Args:
        program: a traced model.
        batch: B.
        has_aux: whether it returns `(output, aux)`.
        classes: whether classes are asked for, which takes logits `[B, N]`; a function of the
            output takes anything.

    Raises:
        ValueError: it returns something else.
    """
    check_flag("has_aux", has_aux)
    shapes = program.shapes
    expected = "an output"
    if classes:
        expected = f"logits [{batch}, N]"
    if has_aux:
        if not (isinstance(shapes, tuple) and len(shapes) == 2):
            got = f"{describe(shapes)} with has_aux=True"
            raise ArgumentError("forward", got, f"a pair ({expected}, aux)")
        shapes = shapes[0]
    if not classes:
        return shapes
    if isinstance(shapes, tuple | list | dict):
        raise ArgumentError(
            "forward",
            describe(shapes),
            f"{expected}; if it returns (logits, aux), pass has_aux=True, and if what is explained "
            "is no class, pass a function of the output as targets",
        )
    if shapes is None:
        raise ArgumentError("forward", "a function that returned None", expected)
    if not jnp.issubdtype(shapes.dtype, jnp.floating):
        raise ArgumentError("forward", f"{shapes.dtype} values", f"{expected} of floats")
    if len(shapes.shape) != 2 or shapes.shape[0] != batch:
        raise ArgumentError(
            "forward",
            f"an output of shape {tuple(shapes.shape)}",
            f"{expected}; what is no logits is explained by a function of the output as targets",
        )
    return shapes


def describe(shapes: Any) -> str:
    """What a model returns, in words."""
    if hasattr(shapes, "shape"):
        return f"shape {tuple(shapes.shape)}"
    return f"a {type(shapes).__name__}"
