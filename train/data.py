"""Photos in memory, their order in an epoch, and augmentation on the device."""

import csv
import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from configs import Classification


@dataclass(frozen=True)
class Photos:
    """uint8 RGB images `[N, H, W, 3]` and their classes `[N]`."""

    images: np.ndarray
    labels: np.ndarray


def load(config: Classification) -> tuple[Photos, Photos, list[str]]:
    """Training photos, validation photos and class names.

    Raises:
        FileNotFoundError: no such zip or folder, or no photos in it.
        ValueError: a photo of another size than the config's.
    """
    if config.data == "synthetic":
        return _synthetic(config, 64), _synthetic(config, 32), [f"class {index}" for index in range(4)]
    root = _root(config.data)
    classes = list(csv.DictReader(io.StringIO((root / "classes.csv").read_text())))
    folders = [row["wnid"] for row in classes]
    train, val = (_photos(root / split, folders, config.image_size) for split in ("train", "val"))
    return train, val, [row["name"] for row in classes]


def _root(path: str) -> Path | zipfile.Path:
    """The folder with `classes.csv` in a folder or zip: itself or its only subfolder."""
    if not Path(path).exists():
        raise FileNotFoundError(f"data: got {path!r}, expected a zip or a folder of photos (--set data=PATH)")
    top = zipfile.Path(path) if path.endswith(".zip") else Path(path)
    for folder in (top, *top.iterdir()):
        if folder.is_dir() and (folder / "classes.csv").is_file():
            return folder
    raise FileNotFoundError(f"data: {path} holds no classes.csv, neither at its top nor one folder below")


def _photos(folder: Path | zipfile.Path, classes: list[str], size: int) -> Photos:
    # Names in sorted order, since the order of a listing is the file system's own and would change the run.
    files = [sorted((folder / name).iterdir(), key=lambda file: file.name) for name in classes]
    encoded = [file.read_bytes() for group in files for file in group]
    with ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(partial(_decode, size=size), encoded)))
    return Photos(images, np.repeat(np.arange(len(classes)), [len(group) for group in files]))


def _decode(encoded: bytes, size: int) -> np.ndarray:
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    if image.size != (size, size):
        raise ValueError(f"image_size: got a photo of {image.size} pixels, expected {(size, size)}")
    return np.asarray(image)


def _synthetic(config: Classification, count: int) -> Photos:
    """Noise whose brightness tells the class, one of four."""
    labels = np.arange(count) % 4
    noise = np.random.default_rng(config.seed + count).integers(0, 64, (count, *[config.image_size] * 2, 3))
    return Photos((noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels)


def batches(photos: Photos, config: Classification, epoch: int, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """The batches of one epoch from step `first` on, shuffled by seed and epoch alone; an incomplete one is left out.

    Yields:
        `image` uint8 `[B, H, W, 3]`, `label` `[B]` and `key` uint32 `[B, 3]`: seed, epoch and index of each photo,
        from which its augmentation is drawn on whichever device it lands.
    """
    order = np.random.default_rng((config.seed, epoch)).permutation(len(photos.labels))
    for step in range(first, steps_per_epoch(photos, config)):
        index = order[step * config.batch_size : (step + 1) * config.batch_size]
        key = np.stack([np.full_like(index, config.seed), np.full_like(index, epoch), index], axis=1)
        yield {"image": photos.images[index], "label": photos.labels[index], "key": key.astype(np.uint32)}


def steps_per_epoch(photos: Photos, config: Classification) -> int:
    """Complete batches in the photos.

    Raises:
        ValueError: there is none.
    """
    steps = len(photos.labels) // config.batch_size
    if not steps:
        raise ValueError(f"batch_size: got {config.batch_size}, expected at most the {len(photos.labels)} photos")
    return steps


def augment(
    batch: dict[str, jax.Array], config: Classification, num_classes: int, size: int
) -> tuple[jax.Array, jax.Array]:
    """Normalised random crops `[B, size, size, 3]` and their soft targets `[B, num_classes]`; runs on the device."""
    keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(jax.random.key(k[0]), k[1]), k[2]))(batch["key"])
    crop_key, color_key, mix_key = jax.vmap(partial(jax.random.split, num=3), out_axes=1)(keys)
    images = jax.vmap(partial(_random_crop, config=config, size=size))(crop_key, batch["image"] / 255.0)
    images = normalize(jax.vmap(partial(_color_jitter, strength=config.color_jitter))(color_key, images), config)
    targets = jax.nn.one_hot(batch["label"], num_classes)
    targets = targets * (1 - config.label_smoothing) + config.label_smoothing / num_classes
    return _cutmix(mix_key, images, targets, config.cutmix)


def normalize(images: jax.Array, config: Classification) -> jax.Array:
    """(x - mean) / std of RGB images in [0, 1]."""
    return (images - jnp.asarray(config.mean)) / jnp.asarray(config.std)


def _random_crop(key: jax.Array, image: jax.Array, *, config: Classification, size: int) -> jax.Array:
    """A crop of random area, ratio and place, resized to `size` and flipped left to right half of the time."""
    area_key, ratio_key, place_key, flip_key = jax.random.split(key, 4)
    side = jnp.array(image.shape[:2], jnp.float32)
    area = jax.random.uniform(area_key, minval=config.crop_area[0], maxval=config.crop_area[1])
    log_ratio = jnp.log(config.crop_ratio) * jax.random.uniform(ratio_key, minval=-1.0, maxval=1.0)
    stretch = jnp.exp(0.5 * log_ratio * jnp.array([-1.0, 1.0]))
    crop = side * jnp.minimum(jnp.sqrt(area) * stretch, 1.0)
    scale = size / crop
    offset = jax.random.uniform(place_key, (2,)) * (side - crop)
    image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return jax.image.scale_and_translate(image, (size, size, 3), (0, 1), scale, -offset * scale, "linear")


def _color_jitter(key: jax.Array, image: jax.Array, *, strength: float) -> jax.Array:
    """Scales brightness, contrast and saturation, each by U(1 - strength, 1 + strength)."""
    brightness, contrast, saturation = jax.random.uniform(key, (3,), minval=1 - strength, maxval=1 + strength)
    image = image * brightness
    image = image.mean() + contrast * (image - image.mean())
    grey = image.mean(axis=-1, keepdims=True)
    return jnp.clip(grey + saturation * (image - grey), 0.0, 1.0)


def _cutmix(keys: jax.Array, images: jax.Array, targets: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """Replaces a random box of an image, and its share of the target, by its neighbour's (Yun et al. 2019).

    Images 2i and 2i + 1 are neighbours, so the result is the same on any number of devices.
    """
    inside = jax.vmap(partial(_random_box, size=images.shape[1], probability=probability))(keys)
    share = inside.mean(axis=(1, 2))[:, None]
    images = jnp.where(inside[..., None], _swap_neighbours(images), images)
    return images, (1 - share) * targets + share * _swap_neighbours(targets)


def _random_box(key: jax.Array, *, size: int, probability: float) -> jax.Array:
    """Mask `[size, size]` of a box of relative area 1 - U(0, 1) anywhere, cut at the border; empty if not drawn."""
    used_key, area_key, place_key = jax.random.split(key, 3)
    side = size * jnp.sqrt(1 - jax.random.uniform(area_key)) * jax.random.bernoulli(used_key, probability)
    center = size * jax.random.uniform(place_key, (2, 1))
    rows, columns = jnp.abs(jnp.arange(size) + 0.5 - center) < side / 2
    return rows[:, None] & columns[None, :]


def _swap_neighbours(x: jax.Array) -> jax.Array:
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)
