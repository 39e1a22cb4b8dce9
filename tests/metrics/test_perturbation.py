"""Infidelity, max-sensitivity, region perturbation; gain and drop in deletion: literal and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from jaxcam.metrics import _perturbation as perturbation
from tests.metrics import literal

SIZE = (5, 6, 2)


@pytest.fixture
def case(rng):
    weights = rng.normal(size=(60, 3)) * 0.3
    forward = lambda x: x.reshape(len(x), -1) @ jnp.asarray(weights, x.dtype)
    images = rng.normal(size=(2, *SIZE))
    return forward, images, rng.normal(size=(2, *SIZE[:2])), weights


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("square", [None, 2])
def test_infidelity_equals_its_literal_form(case, square, scaled):
    forward, images, saliency, weights = case
    key = jax.random.key(3)
    logit = jaxcam.targets.logit([2, 0])
    with jax.enable_x64(True):
        x = jnp.asarray(images)
        options = {"square": square, "scaled": scaled, "num_samples": 7, "key": key}
        found = metrics.infidelity(forward, x, saliency, logit, **options)
        draw = perturbation._noise(x, 0.2) if square is None else perturbation._squares(x, 2)
        changes = np.asarray(jax.vmap(draw)(jax.random.split(key, 7)))
    for i, target in enumerate((2, 0)):
        model = lambda x, target=target: (x.ravel() @ weights)[target]
        expected = literal.infidelity(model, images[i], saliency[i], changes[:, i], scaled)
        np.testing.assert_allclose(found[i], expected, rtol=1e-9)


def test_squares_lie_in_the_image_and_noise_has_its_size():
    images = jnp.ones((1, 7, 9, 1))
    keys = jax.random.split(jax.random.key(0), 200)
    squares = np.asarray(jax.vmap(perturbation._squares(images, 3))(keys))[:, 0, :, :, 0]
    np.testing.assert_array_equal(squares.sum((1, 2)), 9)
    assert squares.max(0).min() == 1  # every pixel is met
    noise = jax.vmap(perturbation._noise(images, 0.2))(keys)
    np.testing.assert_allclose(noise.std(), 0.2, rtol=0.05)


def test_a_linear_model_is_told_by_its_weights(rng):
    """Infidelity 0 in any unit when scaled; a map of zeros is worst."""
    weights = rng.normal(size=(6, 6)).astype(np.float32)
    forward = lambda x: (x[..., 0] * weights[None]).sum((1, 2))[:, None]
    maps = np.stack([weights, -1e30 * weights, np.zeros((6, 6)), rng.normal(size=(6, 6))])
    images = np.zeros((4, 6, 6, 1), np.float32)
    value = lambda logits: logits[:, 0]
    scaled = metrics.infidelity(forward, images, maps.astype(np.float32), value)
    np.testing.assert_allclose(scaled[:2], 0, atol=1e-10)
    assert scaled[0] < scaled[3] <= scaled[2]
    plain = metrics.infidelity(forward, images[:1], maps[:1], value, scaled=False)
    np.testing.assert_allclose(plain, 0, atol=1e-10)


def test_max_sensitivity_equals_its_literal_form(rng):
    images = rng.normal(size=(2, 4, 4, 1)).astype(np.float32)
    forward = lambda x: x.reshape(len(x), -1)
    explain = lambda f, x, t: x[..., 0] ** 2
    key = jax.random.key(2)
    both = [
        metrics.max_sensitivity(
            forward, images, explain, radius=0.1, num_samples=5, relative=relative, key=key
        )
        for relative in (True, False)
    ]
    draws = [
        jax.random.uniform(each, (1, 4, 4, 1), jnp.float32, -0.1, 0.1)
        for each in jax.random.split(key, 5)
    ]
    for i, image in enumerate(images.astype(np.float64)):
        most = max(np.linalg.norm((image + np.asarray(d)[0]) ** 2 - image**2) for d in draws)
        np.testing.assert_allclose(both[1][i], most, rtol=1e-4)
        np.testing.assert_allclose(both[0][i], most / np.linalg.norm(image**2), rtol=1e-4)


def test_max_sensitivity_of_maps_that_are_there(rng):
    first = rng.normal(size=(3, 4, 4))
    first[2] = 0
    again = first + rng.normal(size=(2, *first.shape)) / 10
    expected = np.linalg.norm((again - first).reshape(2, 3, -1), axis=2).max(0)
    found = metrics.max_sensitivity_of_maps(first, again, relative=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    shares = metrics.max_sensitivity_of_maps(first, again)
    sizes = np.linalg.norm(first.reshape(3, -1), axis=1)
    np.testing.assert_allclose(shares[:2], expected[:2] / sizes[:2], rtol=1e-5)
    assert np.isnan(shares[2])
    again[1, 0, 0, 0] = np.nan
    assert np.isnan(metrics.max_sensitivity_of_maps(first, again)[0])
    for wrong in (first, again[:0]):
        with pytest.raises(ValueError, match=r"again: got shape .*, expected \[S, 3, 4, 4\]"):
            metrics.max_sensitivity_of_maps(first, wrong)


def test_a_map_that_does_not_look_has_no_sensitivity(case):
    forward, images, saliency, _ = case
    images = images.astype(np.float32)
    still = lambda f, x, t: jnp.asarray(saliency, jnp.float32)
    np.testing.assert_array_equal(metrics.max_sensitivity(forward, images, still), 0)
    empty = lambda f, x, t: jnp.zeros(x.shape[:3])
    assert np.isnan(metrics.max_sensitivity(forward, images, empty)).all()
    assert (metrics.max_sensitivity(forward, images, empty, relative=False) == 0).all()
    with pytest.raises(TypeError, match="explain: got a ndarray"):
        metrics.max_sensitivity(forward, images, saliency)


def test_region_perturbation_equals_its_literal_form(case):
    forward, images, saliency, weights = case
    with jax.enable_x64(True):
        curve = metrics.region_perturbation(
            forward, jnp.asarray(images), saliency, [2, 0], side=2, steps=7, baseline=0.5, chunk=3
        )
        area = metrics.aopc(curve)
    assert curve.shape == (2, 8)
    for i, target in enumerate((2, 0)):
        other = np.full(SIZE, 0.5)
        model = lambda x: x.ravel() @ weights
        expected = literal.region_perturbation(model, images[i], other, saliency[i], target, 2, 7)
        np.testing.assert_allclose(curve[i], expected, rtol=1e-9)
        np.testing.assert_allclose(area[i], sum(expected[0] - expected) / 8, rtol=1e-9)


def test_regions_end_with_the_image_and_noise_stays_in_its_range(case):
    forward, images, saliency, _ = case
    images = images.astype(np.float32)
    curve = metrics.region_perturbation(forward, images, saliency, side=4)
    assert curve.shape == (2, 5)  # 2 x 2 squares
    other = np.asarray(perturbation._replacement(jnp.asarray(images), "uniform", jax.random.key(0)))
    assert (other >= images.min((1, 2), keepdims=True)).all()
    assert (other <= images.max((1, 2), keepdims=True)).all()
    whole = metrics.confidence(forward, other, np.argmax(forward(images), 1))
    np.testing.assert_allclose(curve[:, -1], whole, rtol=1e-5)


def test_gain_and_drop_in_deletion_equal_their_literal_forms(case):
    forward, images, saliency, weights = case
    with jax.enable_x64(True):
        call = (forward, jnp.asarray(images), saliency, [2, 0])
        won = metrics.average_gain(*call)
        lost = metrics.drop_in_deletion(*call)
    for i, target in enumerate((2, 0)):
        p = lambda x, target=target: literal.softmax(x.ravel() @ weights)[target]
        shown = literal.min_max(saliency[i])[:, :, None]
        full = p(images[i])
        gain = 100 * max(0, p(images[i] * shown) - full) / (1 - full)
        np.testing.assert_allclose(won[i], gain, rtol=1e-9)
        drop = 100 * (full - p(images[i] * (1 - shown))) / full
        np.testing.assert_allclose(lost[i], drop, rtol=1e-9)


def test_the_ends_of_gain_and_drop_in_deletion():
    gain = metrics.gain(jnp.array([1.0, 0.5, 0.2, jnp.nan]), jnp.array([1.0, 1.0, 0.1, 0.5]))
    np.testing.assert_array_equal(gain, [0, 100, 0, np.nan])
    spot = np.zeros((3, 4, 4), np.float32)
    spot[:, 1, 2] = 1
    forward = lambda x: (x[..., 0] * spot[:1]).sum((1, 2))[:, None]
    value = lambda logits: logits[:, 0]
    maps = np.stack([spot[0], 1 - spot[0], np.ones((4, 4))])
    lost = metrics.drop_in_deletion(forward, spot[..., None], maps, value)
    np.testing.assert_array_equal(lost, [100, 0, 0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("infidelity", {"sigma": 0}, "sigma: got 0"),
        ("infidelity", {"square": 6}, "square: got 6, expected 1 to 5"),
        ("infidelity", {"num_samples": 0}, "num_samples: got 0"),
        ("region_perturbation", {"side": 7}, "side: got 7"),
        ("region_perturbation", {"side": 2, "steps": 0}, "steps: got 0"),
        (
            "region_perturbation",
            {"side": 2, "baseline": "red"},
            "expected 'uniform', 'blur', a",
        ),
    ],
)
def test_refusals(case, name, options, message):
    forward, images, saliency, _ = case
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(forward, images.astype(np.float32), saliency, **options)
    explain = lambda f, x, t: x[..., 0]
    with pytest.raises(ValueError, match="radius: got 0"):
        metrics.max_sensitivity(forward, images, explain, radius=0)
    with pytest.raises(ValueError, match="curve: got shape"):
        metrics.aopc(np.zeros(1))
