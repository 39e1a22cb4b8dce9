import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config
from train import augment

PLAIN = dataclasses.replace(
    config, crop_area=(1.0, 1.0), crop_ratio=1.0, color_jitter=0.0, cutmix=0.0
)


def _augment(config, size):
    return jax.jit(
        lambda batch: augment.augment(batch, config, 4, size)
    )  # eager, every operation is compiled by itself


def _batch(images):
    key = np.stack([np.zeros(len(images)), np.zeros(len(images)), np.arange(len(images))], 1)
    return {"image": images, "label": np.arange(len(images)) % 4, "key": key.astype(np.uint32)}


def test_without_augmentation_only_the_flip_is_left(rng):
    images = rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    out, targets = _augment(PLAIN, 16)(_batch(images))
    expected = (images / 255.0 - 0.5) / 0.25
    flipped = np.isclose(out, expected[:, :, ::-1], atol=1e-4).all(axis=(1, 2, 3))
    kept = np.isclose(out, expected, atol=1e-4).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert 0 < flipped.sum() < 16
    np.testing.assert_allclose(targets[1], [0.025, 0.925, 0.025, 0.025], atol=1e-6)


def test_a_crop_of_a_ramp_is_a_ramp_of_the_crops_size():
    """Area 1/4 at ratio 1: 8 of 16 pixels, enlarged to 16; neighbours differ by half a step."""
    ramp = np.broadcast_to(np.arange(16.0)[None, :, None], (16, 16, 3))
    fixed = dataclasses.replace(PLAIN, crop_area=(0.25, 0.25))
    crop = jax.jit(lambda key: augment._random_crop(key, ramp, config=fixed, size=16))
    for seed in range(4):
        out = np.asarray(crop(jax.random.key(seed)))
        # at the photo's border there is nothing to interpolate with
        slopes = np.diff(out[:, 2:-2], axis=1)
        np.testing.assert_allclose(np.abs(slopes), 0.5, atol=1e-4)
        assert out.min() >= 0 and out.max() <= 15


def test_color_jitter_is_its_formula(rng):
    image, key = rng.uniform(size=(5, 4, 3)), jax.random.key(3)
    b, c, s = np.asarray(jax.random.uniform(key, (3,), minval=0.5, maxval=1.5), np.float64)
    bright = image * b
    contrast = bright.mean() + c * (bright - bright.mean())
    grey = contrast.mean(-1, keepdims=True)
    expected = np.clip(grey + s * (contrast - grey), 0, 1)
    jittered = jax.jit(lambda x: augment._color_jitter(key, x, strength=0.5))(
        image.astype(np.float32)
    )
    np.testing.assert_allclose(jittered, expected, atol=1e-5)


def test_cutmix_pastes_the_neighbour_and_shares_the_target_by_area(rng):
    images = rng.normal(size=(8, 12, 12, 3)).astype(np.float32)
    targets = np.eye(8, dtype=np.float32)
    keys = jax.random.split(jax.random.key(0), 8)
    mixed, shares = jax.jit(augment._cutmix)(keys, images, targets, 1.0)
    mixed, shares = np.asarray(mixed), np.asarray(shares)
    for index in range(8):
        other = index ^ 1
        pasted = (mixed[index] == images[other]).all(-1)
        assert ((mixed[index] == images[index]).all(-1) | pasted).all()
        np.testing.assert_allclose(shares[index, other], pasted.mean(), atol=1e-6)
        np.testing.assert_allclose(shares[index].sum(), 1, atol=1e-6)
        rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
        assert pasted.sum() == rows * columns  # a full rectangle
    assert len(np.unique(shares.max(1).round(5))) > 2


def test_augmentation_hangs_on_the_photo_not_on_its_place_in_the_batch(rng):
    batch = _batch(rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8))
    moved = {key: np.roll(value, 2, axis=0) for key, value in batch.items()}
    run = _augment(dataclasses.replace(config, cutmix=1.0), 12)
    for here, there in zip(run(batch), run(moved), strict=True):
        np.testing.assert_allclose(np.roll(here, 2, axis=0), there, atol=1e-6)


def test_photos_that_the_host_cropped_are_not_cropped_again(rng):
    """Nor flipped: they come as they are, or resized to an epoch's smaller crops."""
    host = dataclasses.replace(PLAIN, crop_on="host", crop_area=(0.3, 0.3))
    images = rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(
        _augment(host, 16)(_batch(images))[0], (images / 255.0 - 0.5) / 0.25, atol=1e-5
    )
    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None], (2, 16, 16, 3))
    halved = np.asarray(_augment(host, 8)(_batch(ramp))[0]) * 0.25 + 0.5
    assert halved.shape == (2, 8, 8, 3)
    np.testing.assert_allclose(halved[0, 1:-1, 3, 0] * 255, np.arange(0.5, 16, 2)[1:-1], atol=1e-3)


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.5), (0.9, 1.0)])
def test_a_crop_is_that_of_its_key(low, high):
    """Area, ratio, place and flip, in full, cut to the photo; linear photos resize exactly."""
    row, column = np.mgrid[:16, :16]
    photo = np.stack([row, column, row + column], -1).astype(np.float32)
    config = dataclasses.replace(PLAIN, crop_area=(low, high), crop_ratio=4 / 3)
    crop = jax.jit(lambda key: augment._random_crop(key, photo, config=config, size=16))
    for seed in range(6):
        area_key, ratio_key, place_key, flip_key = jax.random.split(jax.random.key(seed), 4)
        area = float(jax.random.uniform(area_key, minval=low, maxval=high))
        log_ratio = float(np.log(4 / 3) * jax.random.uniform(ratio_key, minval=-1.0, maxval=1.0))
        sides = 16 * np.minimum(1, np.sqrt(area) * np.exp(np.array([-0.5, 0.5]) * log_ratio))
        corner = np.asarray(jax.random.uniform(place_key, (2,)), np.float64) * (16 - sides)
        rows, columns = corner[:, None] + (np.arange(16) + 0.5) / 16 * sides[:, None] - 0.5
        if jax.random.bernoulli(flip_key):
            columns = 15 - columns
        out = np.asarray(crop(jax.random.key(seed)))
        # the border has nothing beyond it
        np.testing.assert_allclose(out[2:-2, 8, 0], rows[2:-2], atol=1e-4)
        np.testing.assert_allclose(out[8, 2:-2, 1], columns[2:-2], atol=1e-4)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_boxes_are_as_frequent_and_large_as_said(probability):
    """Sides size x sqrt(1 - u) at a uniform centre, cut at the border, drawn so often."""
    keys = jax.random.split(jax.random.key(7), 2000)
    box = lambda key: augment._random_box(key, size=32, probability=probability)
    areas = np.asarray(jax.jit(jax.vmap(box))(keys).sum((1, 2)))
    np.testing.assert_allclose((areas > 0).mean(), probability, atol=0.04)
    if probability < 1:
        return
    # A side s has the expected length s - s^2 / 4 within the photo: E[(s - s^2 / 4)^2] of s^2 = u.
    np.testing.assert_allclose(areas.mean() / 32**2, 1 / 2 - 1 / 5 + 1 / 48, atol=0.01)


def test_flips_are_half_of_the_crops(rng):
    ramp = np.broadcast_to(np.arange(8.0)[None, :, None], (8, 8, 3))
    crop = lambda key: augment._random_crop(key, ramp, config=PLAIN, size=8)
    crops = np.asarray(jax.jit(jax.vmap(crop))(jax.random.split(jax.random.key(1), 1000)))
    np.testing.assert_allclose((crops[:, 0, 0, 0] > crops[:, 0, -1, 0]).mean(), 0.5, atol=0.05)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["seed", "view", "index"])
def test_a_draw_hangs_on_seed_view_and_index(rng, place):
    batch = _batch(rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    other = {**batch, "key": batch["key"].copy()}
    other["key"][:, place] += 10
    run = _augment(dataclasses.replace(config, color_jitter=0.3), 12)
    assert np.abs(np.asarray(run(batch)[0]) - run(other)[0]).max((1, 2, 3)).min() > 0.01


def test_smoothed_targets_are_their_formulas():
    np.testing.assert_allclose(
        augment.soft_targets(jnp.array([1]), 4, 0.2), [[0.05, 0.85, 0.05, 0.05]], atol=1e-7
    )
    many = jnp.array([[0.0, 1.0, 1.0]])
    np.testing.assert_allclose(augment.soft_targets(many, 3, 0.2), [[0.1, 0.9, 0.9]], atol=1e-7)
    np.testing.assert_array_equal(augment.soft_targets(many, 3, 0.0), many)
