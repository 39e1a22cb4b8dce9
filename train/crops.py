"""Crops on the host: at random for training, the middle for validation; of photos of any size."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from configs import Classification
from jaxcam.datasets import Record, decode, photo_size

TRIES = 10  # crops that are drawn before the largest one in the middle is taken


def random_crop(record: Record, config: Classification, key: tuple[int, int, int]) -> np.ndarray:
    """A random crop (area, ratio, place), resized with antialiasing, flipped half of the time.

    Args:
        record: a photo of any size.
        config: its crop_area (parts of the photo's), crop_ratio (of width to height, or its
            inverse) and image_size; with stretch, its crop_fraction in their stead: the part of
            either side that a crop covers.
        key: seed, epoch and index, from which all is drawn.

    Returns:
        uint8 `[image_size, image_size, 3]`.

    Raises:
        ValueError: no picture.

    References:
        Szegedy et al. 2015, Going deeper with convolutions, section 6.
    """
    random = np.random.default_rng(key)
    size = config.image_size
    rows, columns = photo_size(record)
    whole = (columns, rows)
    if config.stretch:
        left, top, width, height = _part(
            whole, config.crop_fraction, (random.random(), random.random())
        )
    else:
        left, top, width, height = crop_box(random, whole, config.crop_area, config.crop_ratio)
    # Decoded no finer than the crop needs.
    at_least = (math.ceil(whole[0] * size / width), math.ceil(whole[1] * size / height))
    pixels = decode(record, at_least=at_least)
    scale = np.tile(pixels.shape[1::-1], 2) / np.tile(whole, 2)
    box = tuple(scale * (left, top, left + width, top + height))
    crop = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box))
    if random.random() < 0.5:
        return np.ascontiguousarray(crop[:, ::-1])
    return crop


def crop_box(
    random: np.random.Generator, size: tuple[int, int], area: tuple[float, float], ratio: float
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random crop in a photo of (width, height) pixels.

    The area is uniform in `area`, the ratio of width to height log-uniform in [1/ratio, ratio]. If
    none of ten fits, the largest crop of an allowed ratio, in the middle.
    """
    for _ in range(TRIES):
        pixels = math.prod(size) * random.uniform(*area)
        stretch = math.exp(0.5 * random.uniform(-math.log(ratio), math.log(ratio)))
        width = max(1, round(math.sqrt(pixels) * stretch))
        height = max(1, round(math.sqrt(pixels) / stretch))
        if width <= size[0] and height <= size[1]:
            left = int(random.integers(0, size[0] - width, endpoint=True))
            top = int(random.integers(0, size[1] - height, endpoint=True))
            return left, top, width, height
    width = min(size[0], round(size[1] * ratio))
    height = min(size[1], round(size[0] * ratio))
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height


def _part(
    size: Sequence[int], fraction: float, place: Sequence[float]
) -> tuple[float, float, float, float]:
    """Left, top, width and height of a fraction of either side, at a place in [0, 1] of the rest.

    A crop of a photo that is resized to a square is this one of the photo, resized.
    """
    width = fraction * size[0]
    height = fraction * size[1]
    return (size[0] - width) * place[0], (size[1] - height) * place[1], width, height


def centre_crop(record: Record, config: Classification) -> np.ndarray:
    """The middle `[image_size, image_size, 3]` uint8 of a photo resized by its shorter side.

    The shorter side becomes image_size / crop_fraction; with config.stretch, either side.
    """
    pixels = decode(record)
    size = config.image_size
    if config.stretch:
        left, top, width, height = _part(pixels.shape[1::-1], config.crop_fraction, (0.5, 0.5))
        box = (left, top, left + width, top + height)
        photo = Image.fromarray(pixels)
        return np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR, box))
    shorter = round(size / config.crop_fraction)
    rows, columns = pixels.shape[:2]
    height = max(size, rows * shorter // min(rows, columns))
    width = max(size, columns * shorter // min(rows, columns))
    if pixels.shape[:2] != (height, width):
        pixels = np.asarray(
            Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        )
    top = round((height - size) / 2)
    left = round((width - size) / 2)
    return pixels[top : top + size, left : left + size]
