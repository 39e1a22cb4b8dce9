"""Axes of positions: one of a signal, two of a picture, three of a volume, after the batch."""

import jax

from jaxcam._ground.errors import ArgumentError, is_whole

RANKS = (1, 2, 3)


def of_maps(maps: jax.Array) -> tuple[int, ...]:
    """The axes of positions of `[B, *spatial]`."""
    return tuple(range(1, maps.ndim))


def of_images(images: jax.Array) -> tuple[int, ...]:
    """The axes of positions of `[B, *spatial, C]`."""
    return tuple(range(1, images.ndim - 1))


def last(spatial: int) -> tuple[int, ...]:
    """The last so many axes."""
    return tuple(range(-spatial, 0))


def along(numbers: jax.Array, like: jax.Array) -> jax.Array:
    """Numbers `[n]` as `[n, 1, ...]`, to go with `like` `[n, ...]`."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def check_spatial(spatial: object) -> int:
    """How many axes of positions there are, once that is one of RANKS."""
    if not is_whole(spatial) or spatial not in RANKS:
        raise ArgumentError("spatial", repr(spatial), "1, 2 or 3 axes of positions")
    return int(spatial)  # type: ignore[call-overload]
