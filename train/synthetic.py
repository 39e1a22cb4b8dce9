"""A data set that needs no files: noise whose brightness tells the class, one of four."""

import zlib

import numpy as np

from configs import Classification
from jaxcam._ground.errors import check_choice
from jaxcam.datasets import NO_BOXES, Dataset, Record

CLASSES = 4
_COUNTS = {"train": 64, "val": 32}


def load(config: Classification, split: str) -> Dataset:
    """64 photos of `image_size` to train on, or 32 to validate on.

    With `loss` "sigmoid" the labels are multi-hot: a photo as bright as class c also holds the
    classes below.

    Raises:
        ValueError: another split.
    """
    check_choice("split", split, _COUNTS)
    count = _COUNTS[split]
    random = np.random.default_rng((config.seed, zlib.crc32(split.encode())))
    noise = random.integers(0, 64, (count, config.image_size, config.image_size, 3))
    records = []
    for index in range(count):
        brightness = index % CLASSES
        image = (noise[index] + 60 * brightness).astype(np.uint8)
        records.append(Record(image, _label(config, brightness), NO_BOXES, f"{split} {index}"))
    return Dataset(records, tuple(f"class {index}" for index in range(CLASSES)))


def _label(config: Classification, brightness: int) -> int | np.ndarray:
    if config.loss == "softmax":
        return brightness
    return (np.arange(CLASSES) <= brightness).astype(np.float32)
