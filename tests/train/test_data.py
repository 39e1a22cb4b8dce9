import dataclasses
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from configs.smoke import config
from train import data

PLAIN = dataclasses.replace(config, crop_area=(1.0, 1.0), crop_ratio=1.0, color_jitter=0.0, cutmix=0.0)


@pytest.fixture
def folder(tmp_path):
    """Two photos of each of two classes, listed in another order than the alphabet's."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set/classes.csv").write_text("index,wnid,name\n0,n2,cat\n1,n1,dog\n")
    for split in ("train", "val"):
        for value, wnid in enumerate(("n1", "n2")):
            (tmp_path / "set" / split / wnid).mkdir(parents=True)
            for index in range(2):
                pixels = np.full((16, 16, 3), 100 * value + index, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / split / wnid / f"{index}.png")
    return tmp_path


def _load(path, **changes):
    return data.load(dataclasses.replace(config, data=str(path), **changes))


def test_folder_and_zip_give_the_same_photos(folder):
    with zipfile.ZipFile(folder / "set.zip", "w") as file:
        for path in sorted((folder / "set").rglob("*"), reverse=True):
            file.write(path, path.relative_to(folder))
    for source in (folder / "set", folder / "set.zip"):
        train, val, classes = _load(source)
        assert classes == ["cat", "dog"]
        assert train.labels.tolist() == [0, 0, 1, 1]
        assert train.images[:, 0, 0, 0].tolist() == [100, 101, 0, 1]
        np.testing.assert_array_equal(train.images, val.images)


def test_missing_or_misshapen_data_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"data: got '/nowhere\.zip', expected a zip or a folder"):
        _load("/nowhere.zip")
    with pytest.raises(FileNotFoundError, match=r"holds no classes\.csv"):
        _load(folder / "set" / "train")
    with pytest.raises(ValueError, match=r"image_size: got a photo of \(16, 16\) pixels, expected \(32, 32\)"):
        _load(folder / "set", image_size=32)


def test_an_epoch_shows_each_photo_once_and_restarts_anywhere():
    photos = data.load(config)[0]
    epoch = list(data.batches(photos, config, 1))
    assert sorted(np.concatenate([batch["key"][:, 2] for batch in epoch])) == list(range(64))
    other = next(data.batches(photos, config, 2))
    assert not np.array_equal(other["key"][:, 2], epoch[0]["key"][:, 2])
    for again, batch in zip(data.batches(photos, config, 1, first=3), epoch[3:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, again, batch)
    np.testing.assert_array_equal(epoch[0]["label"], photos.labels[epoch[0]["key"][:, 2]])
    assert (epoch[0]["key"][:, 1] == 1).all()


def test_fewer_photos_than_a_batch_is_an_error():
    photos = data.load(config)[0]
    with pytest.raises(ValueError, match="batch_size: got 100, expected at most the 64 photos"):
        data.steps_per_epoch(photos, dataclasses.replace(config, batch_size=100))


def _augment(config, size):
    return jax.jit(lambda batch: data.augment(batch, config, 4, size))  # eager, every operation is compiled by itself


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
    """Area 1/4 at ratio 1: a crop of 8 of 16 pixels, enlarged to 16, so neighbours differ by half a pixel's step."""
    ramp = np.broadcast_to(np.arange(16.0)[None, :, None], (16, 16, 3))
    fixed = dataclasses.replace(PLAIN, crop_area=(0.25, 0.25))
    crop = jax.jit(lambda key: data._random_crop(key, ramp, config=fixed, size=16))
    for seed in range(4):
        out = np.asarray(crop(jax.random.key(seed)))
        slopes = np.diff(out[:, 2:-2], axis=1)  # at the photo's border there is nothing to interpolate with
        np.testing.assert_allclose(np.abs(slopes), 0.5, atol=1e-4)
        assert out.min() >= 0 and out.max() <= 15


def test_color_jitter_is_its_formula(rng):
    image, key = rng.uniform(size=(5, 4, 3)), jax.random.key(3)
    b, c, s = np.asarray(jax.random.uniform(key, (3,), minval=0.5, maxval=1.5), np.float64)
    bright = image * b
    contrast = bright.mean() + c * (bright - bright.mean())
    grey = contrast.mean(-1, keepdims=True)
    expected = np.clip(grey + s * (contrast - grey), 0, 1)
    jittered = jax.jit(lambda x: data._color_jitter(key, x, strength=0.5))(image.astype(np.float32))
    np.testing.assert_allclose(jittered, expected, atol=1e-5)


def test_cutmix_pastes_the_neighbour_and_shares_the_target_by_area(rng):
    images = rng.normal(size=(8, 12, 12, 3)).astype(np.float32)
    targets = np.eye(8, dtype=np.float32)
    keys = jax.random.split(jax.random.key(0), 8)
    mixed, shares = jax.jit(data._cutmix)(keys, images, targets, 1.0)
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
    augment = _augment(dataclasses.replace(config, cutmix=1.0), 12)
    for here, there in zip(augment(batch), augment(moved), strict=True):
        np.testing.assert_allclose(np.roll(here, 2, axis=0), there, atol=1e-6)
