"""ROAD: its imputation, its curves in literal form, what it must say of a known model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import metrics
from tests.metrics import literal


def test_imputation_equals_its_literal_form(rng):
    images = rng.normal(size=(3, 7, 9, 2))
    missing = rng.random((3, 7, 9)) < 0.7
    missing[1] = True
    missing[1, 6, 0] = False  # a single pixel is known
    missing[2] = False
    with jax.enable_x64(True):
        filled = metrics.impute(jnp.asarray(images), missing)
    for image, gaps, found in zip(images, missing, filled, strict=True):
        np.testing.assert_allclose(found, literal.impute(image, gaps), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(filled[2], images[2])


def test_imputation_lies_between_its_neighbours_and_a_plane_stays(rng):
    images = rng.uniform(size=(1, 8, 8, 1)).astype(np.float32)
    plane = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    hole = np.zeros((1, 8, 8), bool)
    hole[0, 2:6, 3:6] = True
    filled = np.asarray(metrics.impute(images, hole))[hole]
    assert images[~hole].min() <= filled.min()
    assert filled.max() <= images[~hole].max()
    np.testing.assert_allclose(metrics.impute(plane, hole), plane, rtol=1e-5)


def test_imputation_does_not_run_away_after_it_is_solved(rng):
    images = rng.normal(size=(1, 24, 24, 1)).astype(np.float32)
    missing = rng.random((1, 24, 24)) < 0.8
    few, many = (metrics.impute(images, missing, iterations=n) for n in (80, 2000))
    np.testing.assert_allclose(few, many, atol=1e-5)


@pytest.mark.parametrize("shape", [(96, 96), (61, 40), (300,), (24, 20, 17)])
def test_a_large_hole_takes_few_steps(shape, rng):
    """A step carries a value across the hole; conjugate gradients alone carry it one pixel."""
    images = rng.normal(size=(1, *shape, 2)).cumsum(1).astype(np.float32)
    images /= images.std()
    missing = np.zeros((1, *shape), bool)
    inner = tuple(slice(side // 8, -side // 8) for side in shape)
    missing[(0, *inner)] = True
    few, many = (np.asarray(metrics.impute(images, missing, iterations=n)) for n in (8, 2000))
    np.testing.assert_allclose(few, many, atol=1e-4)
    assert many[missing].std() > 0.01


def test_noise_falls_on_what_was_missing(rng):
    images = np.zeros((2, 40, 40, 1), np.float32)
    missing = np.arange(40) % 2 == np.zeros((2, 40, 1), int)
    filled = np.asarray(metrics.impute(images, missing, noise=0.1))
    assert filled[~missing].std() == 0
    np.testing.assert_allclose(filled[missing].std(), 0.1, rtol=0.1)
    np.testing.assert_array_equal(filled[0], filled[1])
    other = metrics.impute(images, missing, noise=0.1, key=jax.random.key(1))
    assert (np.asarray(other)[missing] != filled[missing]).all()


def test_an_image_without_a_known_pixel_is_unknown():
    filled = metrics.impute(np.ones((1, 3, 3, 1), np.float32), np.ones((1, 3, 3), bool))
    assert np.isnan(filled).all()


def test_road_equals_its_literal_form(rng):
    weights = rng.normal(size=(5 * 6 * 2, 3))
    images, saliency = rng.normal(size=(2, 5, 6, 2)), rng.normal(size=(2, 5, 6))
    saliency[1] = np.round(saliency[1])  # many ties
    forward = lambda x: x.reshape(len(x), -1) @ jnp.asarray(weights, x.dtype)
    percent = (20, 50, 90)
    with jax.enable_x64(True):
        found = metrics.road(
            forward, jnp.asarray(images), saliency, [2, 0], percent=percent, noise=0, chunk=4
        )
    for i, target in enumerate((2, 0)):
        model = lambda x: x.ravel() @ weights
        morf, lerf = literal.road(model, images[i], saliency[i], target, percent)
        np.testing.assert_allclose(found.morf[i], morf, rtol=1e-8)
        np.testing.assert_allclose(found.lerf[i], lerf, rtol=1e-8)
        np.testing.assert_allclose(found.combined[i], np.mean(lerf - morf) / 2, atol=1e-9)


def test_the_map_of_what_the_model_sees_wins(rng):
    """The model's confidence is the contrast of a spot; its map, chance, and its inverse."""
    spot = np.zeros((12, 12), np.float32)
    spot[3:7, 4:8] = 1
    images = np.broadcast_to(spot[None, ..., None], (3, 12, 12, 1))
    saliency = np.stack([spot, np.zeros_like(spot), -spot])
    forward = lambda x: (x[..., 0] * spot[None]).sum((1, 2))[:, None] / 16
    value = lambda logits: logits[:, 0]
    right, chance, wrong = metrics.road(forward, images, saliency, value, noise=0).combined
    assert right > 0.25
    assert wrong < 0
    assert right > chance > wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percent": ()}, "percent: got"),
        ({"percent": (0,)}, "percent: got 0, expected a number in"),
        ({"percent": (0.1,)}, "expected a share of 20 pixels that is neither none nor all"),
        ({"noise": -1}, "noise: got -1"),
        ({"iterations": 0}, "iterations: got 0"),
        ({"chunk": 0}, "chunk: got 0"),
    ],
)
def test_refusals(options, message):
    images = np.zeros((1, 4, 5, 1), np.float32)
    forward = lambda x: x.reshape(len(x), -1)
    with pytest.raises(ValueError, match=message):
        metrics.road(forward, images, np.zeros((1, 4, 5)), **options)
    with pytest.raises(ValueError, match="missing: got shape"):
        metrics.impute(images, np.zeros((1, 5, 4), bool))
