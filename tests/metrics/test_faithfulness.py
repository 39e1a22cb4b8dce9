"""Average drop, average increase, win rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import metrics
from tests.metrics import literal

SIZE, CLASSES = (6, 5), 4


@pytest.fixture
def linear(rng):
    """(forward, the same for one float64 image, images, saliency, targets): a linear model."""
    weights = 0.3 * rng.normal(size=(SIZE[0] * SIZE[1] * 3, CLASSES))
    images, saliency = rng.normal(size=(5, *SIZE, 3)), rng.normal(size=(5, *SIZE))
    saliency[1] = np.maximum(saliency[1] - 0.8, 0)  # more than half of the pixels are 0
    targets = np.array([0, 1, 2, 3, 0])
    forward = lambda x: x.reshape(len(x), -1) @ jnp.asarray(weights, jnp.float32)
    return (
        forward,
        lambda x: x.ravel() @ weights,
        jnp.asarray(images, jnp.float32),
        saliency,
        targets,
    )


@pytest.mark.parametrize(("top", "mask"), [(None, literal.min_max), (0.5, literal.top_half)])
def test_drop_and_increase_equal_their_literal_form(linear, top, mask):
    forward, model, images, saliency, targets = linear
    expected = [
        literal.average_drop(model, np.float64(x), s, t, mask)
        for x, s, t in zip(images, saliency, targets, strict=True)
    ]
    drops = metrics.average_drop(forward, images, saliency, targets, top=top)
    increases = metrics.average_increase(forward, images, saliency, targets, top=top)
    np.testing.assert_allclose(drops, [d for d, _ in expected], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(increases, [i for _, i in expected])
    assert 0 < np.mean(increases) < 100


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top": 0.3},
        {"top": 0.5, "strict": False},
        {"activation": "sigmoid"},
        {"mask": np.array([True, False, True, True, True])},
    ],
)
def test_options_are_those_of_the_confidences(linear, options):
    forward, _, images, saliency, targets = linear
    asked = metrics.confidences(forward, images, saliency, targets, **options)
    drops = metrics.average_drop(forward, images, saliency, targets, **options)
    np.testing.assert_array_equal(drops, metrics.drop(*asked))
    increases = metrics.average_increase(forward, images, saliency, targets, **options)
    np.testing.assert_array_equal(increases, metrics.increase(*asked))
    plain = metrics.confidences(forward, images, saliency, targets)
    assert np.array_equal(plain.masked, asked.masked) == (not options)


def test_a_drop_is_in_percent_and_a_tie_no_increase():
    full, masked = np.array([0.5, 0.5, 0.5, 0.0]), np.array([0.4, 0.5, 0.6, 0.0])
    np.testing.assert_allclose(metrics.drop(full, masked), [20, 0, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(metrics.increase(full, masked), [0, 0, 100, 0])
    np.testing.assert_array_equal(metrics.increase(full, masked, ties=True), [0, 100, 100, 100])


@pytest.mark.parametrize(("share", "kept"), [(0.01, 0), (0.25, 1), (0.3, 1), (0.45, 2), (1.0, 5)])
def test_the_share_is_rounded_to_pixels_and_is_one_at_least(share, kept):
    images, saliency = jnp.ones((1, 2, 3, 1)), np.arange(6.0).reshape(1, 2, 3)
    assert metrics.mask_images(images, saliency, top=share).sum() == kept
    assert metrics.mask_images(images, saliency, top=share, strict=False).sum() == kept + 1


def test_target_is_the_class_predicted_on_the_whole_image(linear):
    forward, _, images, saliency, _ = linear
    top = np.argmax(forward(images), 1)
    np.testing.assert_array_equal(
        metrics.average_drop(forward, images, saliency),
        metrics.average_drop(forward, images, saliency, top),
    )


def test_a_target_function_is_the_confidence_itself(linear):
    forward, _, images, saliency, _ = linear
    sigmoid = lambda logits: jax.nn.sigmoid(logits[:, 1])
    np.testing.assert_allclose(
        metrics.confidence(forward, images, sigmoid),
        1 / (1 + np.exp(-forward(images)[:, 1])),
        rtol=1e-5,
    )
    assert metrics.confidences(forward, images, saliency, sigmoid).masked.shape == (5,)


def test_a_mask_that_changes_nothing_neither_drops_nor_increases(linear):
    forward, _, images, _, targets = linear
    saliency = np.zeros((5, *SIZE))
    saliency[:, 0, 0] = -1  # the soft mask is 1 but for one pixel, which is 0 already
    images = images.at[:, 0, 0].set(0)
    assert metrics.average_drop(forward, images, saliency, targets).max() == 0
    assert metrics.average_increase(forward, images, saliency, targets).max() == 0
    assert metrics.average_increase(forward, images, saliency, targets, ties=True).min() == 100


def test_strict_mask_mutes_ties_and_the_other_keeps_the_exact_share():
    images, saliency = jnp.ones((1, 2, 4, 1)), np.array([[[3.0, 0, 0, 0], [0, 0, 0, 2]]])
    kept = lambda **how: np.asarray(metrics.mask_images(images, saliency, top=0.5, **how))[
        0, :, :, 0
    ]
    np.testing.assert_array_equal(kept(), [[1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(kept(strict=False), [[1, 0, 0, 0], [0, 1, 1, 1]])
    distinct = np.arange(8.0).reshape(1, 2, 4)
    assert metrics.mask_images(images, distinct, top=0.5).sum() == 3  # strictly above the fourth
    assert metrics.mask_images(images, distinct, top=0.5, strict=False).sum() == 4


def test_constant_saliency_mutes_everything():
    images, saliency = jnp.ones((1, 2, 4, 1)), np.full((1, 2, 4), 7.0)
    for how in ({}, {"top": 0.5}):
        assert metrics.mask_images(images, saliency, **how).max() == 0
    assert metrics.mask_images(images, saliency, top=0.5, strict=False).sum() == 4


def test_zero_confidence_has_nothing_to_lose():
    logits = lambda x: jnp.stack([x.mean((1, 2, 3)), jnp.full(len(x), 1e4)], 1)
    images, saliency = jnp.ones((2, 4, 4, 1)), np.arange(32.0).reshape(2, 4, 4)
    full, masked = metrics.confidences(logits, images, saliency, 0)
    assert full.max() == masked.max() == 0
    np.testing.assert_array_equal(metrics.average_drop(logits, images, saliency, 0), [0, 0])
    np.testing.assert_array_equal(metrics.average_increase(logits, images, saliency, 0), [0, 0])


def test_perfect_and_worst_saliency():
    """The confidence is the mean of the object's pixels: what is kept of them is what is left."""
    weights = np.zeros((1, 8, 8))
    weights[:, 2:4, 2:6] = 1
    forward = lambda x: (x[..., 0] * weights).sum((1, 2))[:, None] / 8
    images, mean = jnp.ones((1, 8, 8, 1)), lambda logits: logits[:, 0]
    drop = lambda s, **how: metrics.average_drop(forward, images, s, mean, **how)[0]
    assert drop(weights) == 0
    assert drop(-weights) == 100
    assert drop(weights + 1e-3 * np.arange(64).reshape(1, 8, 8), top=0.5) == 0
    assert drop(1e-3 * np.arange(64).reshape(1, 8, 8) - weights, top=0.5) == 100


def test_win_rates_of_two_methods_add_up():
    first, second = np.array([1.0, 5.0, 3.0, np.nan]), np.array([2.0, 4.0, 3.0, 1.0])
    won, lost = metrics.win_rate(first, second), metrics.win_rate(second, first)
    np.testing.assert_array_equal(won, [100, 0, 50, np.nan])
    np.testing.assert_array_equal((won + lost)[:3], [100] * 3)
    with pytest.raises(ValueError, match=r"rival_drops: got shape \(3,\), expected \(4,\)"):
        metrics.win_rate(first, second[:3])


def test_bad_input_is_named(linear):
    forward, _, images, saliency, _ = linear
    with pytest.raises(
        ValueError, match=r"saliency: got shape \(5, 3, 5\), expected \[5, 6, 5\], as the images"
    ):
        metrics.average_drop(forward, images, saliency[:, :3])
    with pytest.raises(
        ValueError, match=r"targets: got shape \(5, 2\), expected one class per image, \[5\]"
    ):
        metrics.average_drop(forward, images, saliency, np.zeros((5, 2), int))
    with pytest.raises(ValueError, match="targets: got class 9, expected 0 to 3"):
        metrics.average_increase(forward, images, saliency, 9)
    with pytest.raises(ValueError, match=r"top: got 0, expected a number in \(0, 1\]"):
        metrics.average_drop(forward, images, saliency, top=0)
    with pytest.raises(ValueError, match=r"mask: got shape \(4,\), expected \[5\]"):
        metrics.average_drop(forward, images, saliency, mask=np.ones(4, bool))
    with pytest.raises(ValueError, match=r"images: got shape \(6, 5, 3\)"):
        metrics.confidence(forward, images[0])
