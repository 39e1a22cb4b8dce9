"""Entropy, area, dispersion, ADCC, selectivity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import fostering, metrics
from tests.metrics import literal


def test_measures_are_those_of_fostering_but_say_when_there_is_nothing_to_measure(rng):
    saliency = rng.normal(size=(3, 5, 6))
    saliency[1] = -np.abs(saliency[1])
    for name in ("entropy", "area", "dispersion"):
        values = getattr(metrics, name)(saliency)
        expected = np.array(getattr(fostering, f"cam_{name}")(saliency))
        expected[1] = np.nan
        np.testing.assert_array_equal(values, expected)


def explain(forward, images, targets):
    """A map that depends on the image, the target and the model."""
    weight = jnp.cos(targets.astype(jnp.float32) + 1)[:, None, None, None]
    return (images[:, ::2, ::2] * weight + forward(images)[:, :1, None, None] * 0.01).sum(-1)


def test_adcc_equals_its_literal_form(rng):
    weights = 0.2 * rng.normal(size=(8 * 6 * 3, 4))
    forward = lambda x: x.reshape(len(x), -1) @ jnp.asarray(weights, x.dtype)
    images = jnp.asarray(rng.normal(size=(4, 8, 6, 3)), jnp.float32)
    values = jax.jit(lambda x: metrics.adcc(forward, x, explain))(images)
    logits = np.float64(images).reshape(4, -1) @ weights
    targets = logits.argmax(1)
    for i, target in enumerate(targets):
        explained = lambda x: literal.min_max(
            upsample(np.asarray(explain(forward, x[None], jnp.array([target]))[0], np.float64))
        )
        first = explained(images[i])
        masked = np.float64(images[i]) * first[:, :, None]
        again = explained(jnp.asarray(masked, jnp.float32))
        full, left = (literal.softmax(z)[target] for z in (logits[i], masked.ravel() @ weights))
        np.testing.assert_allclose(
            values.adcc[i], literal.adcc(first, again, full, left), rtol=1e-4
        )
        np.testing.assert_allclose(values.complexity[i], first.mean(), rtol=1e-5)
        np.testing.assert_allclose(
            values.coherency[i], (1 + literal.pearson(first, again)) / 2, rtol=1e-4
        )
        np.testing.assert_allclose(
            values.average_drop[i], 100 * max(0, 1 - left / full), rtol=1e-4, atol=1e-3
        )


def upsample(small):
    from tests.explainers.literal import bilinear

    return bilinear(small, 8, 6)


def test_adcc_of_a_perfect_map_is_nearly_one_and_of_a_constant_one_is_zero():
    images = jnp.zeros((1, 20, 20, 1)).at[0, 3, 3].set(5.0)
    forward = lambda x: jnp.concatenate([x[:, 3, 3], 0 * x[:, 3, 3]], 1)  # only one pixel matters
    perfect = jax.jit(lambda i: metrics.adcc(forward, i, lambda f, x, t: x[..., 0]))(images)
    np.testing.assert_allclose(
        perfect, [[3 / (2 + 1 / (1 - 1 / 400))], [1], [1 / 400], [0]], rtol=1e-5
    )
    constant = jax.jit(lambda i: metrics.adcc(forward, i, lambda f, x, t: jnp.ones((1, 5, 5))))(
        images
    )
    assert constant.adcc == constant.coherency == constant.complexity == 0
    share = 0.5 / (1 / (1 + np.exp(-5)))
    np.testing.assert_allclose(constant.average_drop, 100 * (1 - share), rtol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_adcc_measures_confidence_as_asked(rng, activation):
    weights = jnp.asarray(rng.normal(size=(8 * 6 * 3, 4)), jnp.float32)
    forward = lambda x: x.reshape(len(x), -1) @ weights
    images = jnp.asarray(rng.normal(size=(4, 8, 6, 3)), jnp.float32)
    heat = images.sum(-1)
    found = metrics.adcc(
        forward, images, lambda f, x, t: x.sum(-1), [0, 1, 2, 3], activation=activation
    )
    asked = metrics.confidences(forward, images, heat, [0, 1, 2, 3], activation=activation)
    np.testing.assert_allclose(found.average_drop, metrics.drop(*asked), rtol=1e-5)
    other = metrics.confidences(forward, images, heat, [0, 1, 2, 3], activation="identity")
    assert not np.allclose(metrics.drop(*asked), metrics.drop(*other))


def test_harmonic_mean_at_its_limits():
    coherency, complexity, drop = np.array(
        [[1, 0, 0], [0, 0.5, 50], [1, 1, 0], [1, 0, 100], [0.5, 0.5, 50], [np.nan, 0, 100]]
    ).T
    np.testing.assert_allclose(
        metrics.harmonic(coherency, complexity, drop), [1, 0, 0, 0, 0.5, np.nan]
    )


def test_coherency_of_equal_opposite_and_constant_maps(rng):
    saliency = rng.normal(size=(4, 6, 6))
    again = np.stack(
        [3 * saliency[0] + 7, -saliency[1], np.full((6, 6), 0.1), rng.normal(size=(6, 6))]
    )
    values = metrics.coherency(saliency, again)
    np.testing.assert_allclose(values[:3], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(
        values[3], (1 + literal.pearson(saliency[3], again[3])) / 2, rtol=1e-5
    )


def test_complexity_is_the_mean_of_the_scaled_map(rng):
    saliency = np.stack([rng.normal(size=(5, 5)), np.full((5, 5), 3.0), np.eye(5)])
    np.testing.assert_allclose(
        metrics.complexity(saliency), [literal.min_max(saliency[0]).mean(), 0, 0.2], rtol=1e-6
    )


def test_selectivity_is_the_gini_coefficient(rng):
    weights = np.stack(
        [rng.normal(size=16), np.ones(16), -np.ones(16), np.eye(16)[3], np.zeros(16)]
    )
    values = metrics.selectivity(weights)
    np.testing.assert_allclose(values[0], literal.gini(weights[0]), rtol=1e-5)
    np.testing.assert_allclose(values[1:], [0, 0, 1 - 1 / 16, np.nan], atol=1e-6)
    np.testing.assert_allclose(metrics.selectivity(1e-3 * weights)[:4], values[:4], atol=1e-6)


def test_top_share_of_uniform_and_single_weights(rng):
    weights = np.stack([np.ones(12), np.eye(12)[3], np.zeros(12), rng.normal(size=12)])
    values = metrics.top_share(weights)
    largest = np.sort(np.abs(weights[3]))[-3:].sum() / np.abs(weights[3]).sum()
    np.testing.assert_allclose(values, [3 / 12, 1, np.nan, largest], rtol=1e-6)
    assert metrics.top_share(weights, k=12)[3] == pytest.approx(1)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"saliency: got shape \(3, 3\), expected \[B, H, W\]"):
        metrics.entropy(np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"weights: got shape \(3,\), expected \[B, c\]"):
        metrics.selectivity(np.ones(3))
    with pytest.raises(ValueError, match="k: got 4, expected 1 to 3, the number of channels"):
        metrics.top_share(np.ones((1, 3)), k=4)
    with pytest.raises(
        ValueError, match=r"second: got shape \(1, 3, 4\), expected \(1, 3, 3\), as first"
    ):
        metrics.coherency(np.ones((1, 3, 3)), np.ones((1, 3, 4)))
    images, forward = jnp.ones((2, 4, 4, 1)), lambda x: x.mean((1, 2))
    with pytest.raises(
        ValueError, match=r"explain: got a result of shape \(1, 4, 4\), expected maps \[2, h, w\]"
    ):
        metrics.adcc(forward, images, lambda f, x, t: jnp.ones((1, 4, 4)))
    with pytest.raises(
        TypeError,
        match=r"explain: got a .*Array.*, expected a function \(forward, images, targets\)",
    ):
        metrics.adcc(forward, images, jnp.ones((2, 4, 4)))
    with pytest.raises(ValueError, match="shape"):
        metrics.harmonic(np.ones(2), np.ones(3), np.ones(3))


def test_relative_difference_equals_its_literal_form(rng):
    maps = rng.normal(size=(3, 5, 6)).astype(np.float32) + 0.5
    for heat, found in zip(maps, metrics.relative_difference(maps), strict=True):
        positive = np.maximum(heat.astype(np.float64), 0)
        high = positive[positive > positive.mean()].mean()
        low = positive[positive <= positive.mean()].mean()
        np.testing.assert_allclose(found, 100 * (high - low) / ((high + low) / 2), rtol=1e-5)


def test_relative_difference_of_the_constant_the_decided_and_the_empty_map():
    spot = np.zeros((3, 3))
    spot[1, 1] = 1e30
    maps = np.stack([np.full((3, 3), 7.0), spot, np.full((3, 3), -1.0), 3 + spot / 1e30])
    found = metrics.relative_difference(maps.astype(np.float32))
    np.testing.assert_allclose(found, [0, 200, np.nan, 100 * 1 / 3.5], rtol=1e-5)
