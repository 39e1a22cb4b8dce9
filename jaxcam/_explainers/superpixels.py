"""Superpixels: segments of images, by quickshift or given, and images of which some are hidden."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground.dtypes import reals
from jaxcam._ground.errors import (
    ArgumentError,
    check_above,
    check_at_least,
    check_number,
    check_unmasked,
    check_whole,
)
from jaxcam._ground.extras import wanted
from jaxcam._program.checks import check_planar
from jaxcam.targets import concrete

PIECES = 49  # of signals and volumes, about: as many as superpixels in a photo
Segments = jax.Array | np.ndarray | Callable[[np.ndarray], np.ndarray] | None


def quickshift(
    images: np.ndarray,
    *,
    kernel_size: float = 4,
    max_dist: float = 200,
    ratio: float = 0.2,
    seed: int = 42,
) -> np.ndarray:
    """Superpixels by quickshift in colour and position, on the host, with LIME's parameters.

    Args:
        images: `[B, H, W, C]`: 8-bit, or in [0, 1]. Others (normalised ones) are min-max scaled,
            image by image, which shifts their colours and so their segments: pass photos where
            there are any.
        kernel_size: width of the density's Gaussian, in pixels.
        max_dist: no link is longer.
        ratio: weight of colour against position.
        seed: breaks ties.

    Returns:
        `[B, H, W]` int32, numbered from 0 in each image. RGB is taken to Lab; other numbers of
        channels are not.

    Raises:
        ValueError: images are not `[B, H, W, C]`, of at least one image, or not finite.

    References:
        Vedaldi and Soatto, Quick shift and kernel methods for mode seeking, ECCV 2008;
        skimage.segmentation.quickshift.

    Example:
        >>> segments = jaxcam.quickshift(images, kernel_size=1, max_dist=10)
        >>> segments.shape
        (2, 8, 8)
    """
    with wanted("jaxcam.quickshift"):
        from skimage.segmentation import quickshift as one
    check_unmasked("images", images)
    images = np.asarray(images)
    check_planar(images)
    check_at_least("kernel_size", kernel_size, 1)
    check_above("max_dist", max_dist, 0)
    check_number("ratio", ratio)
    check_whole("seed", seed, 0)
    options = {"kernel_size": kernel_size, "max_dist": max_dist, "ratio": ratio, "rng": seed}
    options["convert2lab"] = images.shape[-1] == 3
    with ThreadPoolExecutor() as pool:  # scikit-image works outside Python's lock
        found = list(pool.map(lambda image: one(_unit(image), **options), images))
    return np.stack(found).astype(np.int32)


def grid(size: tuple[int, ...]) -> np.ndarray:
    """Pieces of equal extent, about 49 of them, alike along every axis: int32 of shape `size`.

    Signals have 49 pieces and volumes 4 x 4 x 4; an axis that is shorter has one for each place.
    """
    each = round(PIECES ** (1 / len(size)))
    found = np.zeros(size, np.int32)
    for axis, length in enumerate(size):
        count = min(each, length)
        places = np.arange(length) * count // length
        shape = [1] * len(size)
        shape[axis] = length
        found = found * count + places.reshape(shape).astype(np.int32)
    return found


def number(images: Any, segments: Segments, num_segments: int | None) -> tuple[jax.Array, int]:
    """Segments `[B, H, W]` int32 as `lime_surrogate` takes them, from 0, and their number."""
    given = _given(images, segments)
    expected = jnp.shape(images)[:-1]
    if not jnp.issubdtype(given.dtype, jnp.integer) or given.shape != expected:
        got = f"{given.dtype} values of shape {tuple(given.shape)}"
        raise ArgumentError("segments", got, f"integers {list(expected)}, as the images")
    known = concrete(given)
    if known is None:
        if num_segments is None:
            got = "None inside a transformation such as jax.jit"
            raise ArgumentError("num_segments", got, "a number")
        return jnp.asarray(given, jnp.int32), num_segments
    labels = np.stack(list(map(_renumbered, known)))
    found = int(labels.max()) + 1
    if num_segments is None:
        num_segments = found
    check_whole("num_segments", num_segments, 1)
    if num_segments < found:
        raise ArgumentError("num_segments", num_segments, f"at least {found}, as an image has")
    return jnp.asarray(labels, jnp.int32), num_segments


def _given(images: Any, segments: Segments) -> jax.Array | np.ndarray:
    """The segments as an array, computed if they are none."""
    if isinstance(segments, jax.Array):
        return segments
    if segments is not None and not callable(segments):
        check_unmasked("segments", segments)
        return np.asarray(segments)
    size = jnp.shape(images)[1:-1]
    if segments is None and len(size) != 2:
        return np.stack([grid(size)] * len(images))
    known = concrete(images)
    if known is None:
        raise ArgumentError(
            "segments",
            "none inside a transformation such as jax.jit",
            "an integer array [B, H, W] made before it, by jaxcam.quickshift say",
        )
    if segments is None:
        return quickshift(known)
    return np.stack(list(map(segments, known)))


def _renumbered(segments: np.ndarray) -> np.ndarray:
    """The segments of an image, numbered from 0 without gaps."""
    _, numbers = np.unique(segments, return_inverse=True)
    return numbers.reshape(segments.shape)


def hide(images: jax.Array, segments: jax.Array, count: int, color: Any) -> jax.Array:
    """Images `[B, H, W, C]` with everything hidden: under segments' mean colours, or `color`."""
    if color is None:
        return _means(images, segments, count)
    color = reals("hide_color", color).astype(images.dtype)
    try:
        return jnp.broadcast_to(color, images.shape)
    except ValueError:
        expected = f"None, a number, [{images.shape[-1]}] or {list(images.shape)}"
        raise ArgumentError("hide_color", f"shape {color.shape}", expected) from None


@partial(jax.jit, static_argnames="count")
def present(segments: jax.Array, count: int) -> jax.Array:
    """Which of the segments an image has, `[B, S]` bool."""
    return jax.vmap(lambda each: jnp.bincount(each.ravel(), length=count) > 0)(segments)


@partial(jax.jit, static_argnames="count")
def _means(images: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    return jax.vmap(partial(_mean, count=count))(images, segments)


def _mean(image: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    pixels = image.reshape(-1, image.shape[-1]).astype(jnp.float32)
    flat = segments.ravel()
    sums = jax.ops.segment_sum(pixels, flat, count)
    sizes = jnp.maximum(jnp.bincount(flat, length=count), 1).astype(jnp.float32)
    return (sums / sizes[:, None])[segments].astype(image.dtype)


def _unit(image: np.ndarray) -> np.ndarray:
    if np.issubdtype(image.dtype, np.integer):
        return image / 255
    image = image.astype(np.float64)
    low = image.min()
    high = image.max()
    if low >= 0 and high <= 1:
        return image
    return (image - low) / (high - low or 1)


@jax.jit
def show(
    images: jax.Array, hidden: jax.Array, segments: jax.Array, samples: jax.Array
) -> jax.Array:
    """The images with only the segments of a sample shown: z `[n, B, S]` -> `[n, B, H, W, C]`."""
    flat = segments.reshape(1, segments.shape[0], -1)
    shown = jnp.take_along_axis(samples, flat, axis=2, mode="clip")
    return jnp.where(shown.reshape(-1, *segments.shape, 1), images[None], hidden[None])
