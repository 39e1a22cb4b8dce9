"""Augmentation on the device: crops, flips, colour and CutMix, drawn from each photo's own key."""

from functools import partial

import jax
import jax.numpy as jnp

from configs import Classification


def augment(
    batch: dict[str, jax.Array], config: Classification, num_classes: int, size: int
) -> tuple[jax.Array, jax.Array]:
    """Normalised, augmented images `[B, size, size, 3]` and their soft targets `[B, num_classes]`.

    Runs on the device.

    Args:
        batch: of `pipeline.batches`: `image` uint8 `[B, H, W, 3]`, `label` `[B]` or multi-hot
            `[B, num_classes]`, and `key` uint32 `[B, 3]`, from which all is drawn.
        config: its `crop_on` says whether the photos are still whole ("device") or cropped and
            flipped ("host").
        num_classes: length of a target.
        size: side of the images in pixels.
    """
    keys = jax.vmap(_key)(batch["key"])
    crop_key, color_key, mix_key = jax.vmap(partial(jax.random.split, num=3), out_axes=1)(keys)
    images = pixels(batch["image"])
    if config.crop_on == "device":
        images = jax.vmap(partial(_random_crop, config=config, size=size))(crop_key, images)
    elif images.shape[1:3] != (size, size):
        images = jax.image.resize(images, (len(images), size, size, 3), "linear")
    images = normalize(
        jax.vmap(partial(_color_jitter, strength=config.color_jitter))(color_key, images), config
    )
    targets = soft_targets(batch["label"], num_classes, config.label_smoothing)
    return _cutmix(mix_key, images, targets, config.cutmix)


def pixels(images: jax.Array) -> jax.Array:
    """uint8 -> float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def _key(numbers: jax.Array) -> jax.Array:
    """Of seed, view and index."""
    seed, view, index = numbers
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), view), index)


def soft_targets(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """(1 - s) one_hot(label) + s / N; multi-hot labels, yes or no each: (1 - s) label + s / 2."""
    if labels.ndim == 2:
        return labels * (1 - smoothing) + smoothing / 2
    return jax.nn.one_hot(labels, num_classes) * (1 - smoothing) + smoothing / num_classes


def normalize(images: jax.Array, config: Classification) -> jax.Array:
    """(x - mean) / std of RGB images in [0, 1]."""
    images = jnp.asarray(images)
    channels = (1,) * (images.ndim - 1) + (3,)
    mean = jnp.asarray(config.mean, images.dtype).reshape(channels)
    std = jnp.asarray(config.std, images.dtype).reshape(channels)
    return (images - mean) / std


def _random_crop(
    key: jax.Array, image: jax.Array, *, config: Classification, size: int
) -> jax.Array:
    """A crop of random area, ratio and place, resized to `size`; half of the time flipped."""
    area_key, ratio_key, place_key, flip_key = jax.random.split(key, 4)
    side = jnp.array(image.shape[:2], jnp.float32)
    area = jax.random.uniform(area_key, minval=config.crop_area[0], maxval=config.crop_area[1])
    log_ratio = jnp.log(config.crop_ratio) * jax.random.uniform(ratio_key, minval=-1.0, maxval=1.0)
    stretch = jnp.exp(0.5 * log_ratio * jnp.array([-1.0, 1.0]))
    crop = side * jnp.minimum(jnp.sqrt(area) * stretch, 1.0)
    scale = size / crop
    offset = jax.random.uniform(place_key, (2,)) * (side - crop)
    image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return jax.image.scale_and_translate(
        image, (size, size, 3), (0, 1), scale, -offset * scale, "linear"
    )


def _color_jitter(key: jax.Array, image: jax.Array, *, strength: float) -> jax.Array:
    """Scales brightness, contrast and saturation, each by U(1 - strength, 1 + strength)."""
    brightness, contrast, saturation = jax.random.uniform(
        key, (3,), minval=1 - strength, maxval=1 + strength
    )
    image = image * brightness
    image = image.mean() + contrast * (image - image.mean())
    grey = image.mean(axis=-1, keepdims=True)
    return jnp.clip(grey + saturation * (image - grey), 0.0, 1.0)


def _cutmix(
    keys: jax.Array, images: jax.Array, targets: jax.Array, probability: float
) -> tuple[jax.Array, jax.Array]:
    """Replaces a random box of an image, and its share of the target, by a neighbour's (Yun 2019).

    Images 2i and 2i + 1 are neighbours, so the result is the same on any number of devices.
    """
    inside = jax.vmap(partial(_random_box, size=images.shape[1], probability=probability))(keys)
    share = inside.mean(axis=(1, 2))[:, None]
    images = jnp.where(inside[..., None], _swap_neighbours(images), images)
    return images, (1 - share) * targets + share * _swap_neighbours(targets)


def _random_box(key: jax.Array, *, size: int, probability: float) -> jax.Array:
    """Mask `[size, size]` of a box of relative area 1 - U(0, 1) anywhere, cut at the border.

    Empty if not drawn.
    """
    used_key, area_key, place_key = jax.random.split(key, 3)
    side = (
        size
        * jnp.sqrt(1 - jax.random.uniform(area_key))
        * jax.random.bernoulli(used_key, probability).astype(jnp.float32)
    )
    center = size * jax.random.uniform(place_key, (2, 1))
    places = jnp.arange(size, dtype=jnp.float32)[None] + 0.5
    rows, columns = jnp.abs(places - center) < side / 2
    return rows[:, None] & columns[None, :]


def _swap_neighbours(x: jax.Array) -> jax.Array:
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)
