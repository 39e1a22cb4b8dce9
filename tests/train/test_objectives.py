import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config as smoke
from train import objectives

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], np.float32)
SIGMOID = dataclasses.replace(smoke, loss="sigmoid")


def _softmax_loss(logits, targets):
    """Written out in float64."""
    z = logits.astype(np.float64)
    return -(targets * (z - np.log(np.exp(z).sum(-1, keepdims=True)))).sum(-1).mean()


def test_softmax_cross_entropy_is_its_formula():
    targets = np.array([[0.9, 0.05, 0.05], [0.2, 0.8, 0.0]], np.float32)
    found = objectives.cross_entropy(smoke, LOGITS, targets)
    np.testing.assert_allclose(found, _softmax_loss(LOGITS, targets), rtol=1e-6)


def test_sigmoid_cross_entropy_is_that_of_each_class():
    targets = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], np.float32)
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
    np.testing.assert_allclose(
        objectives.cross_entropy(SIGMOID, LOGITS, targets), expected, rtol=1e-6
    )


def test_losses_are_float32_whatever_the_network_computes_in():
    """Of bfloat16 logits, as float32 holds them."""
    logits = jnp.asarray(7 * LOGITS, jnp.bfloat16)
    targets = np.array([[0.9, 0.05, 0.05], [0.2, 0.8, 0.0]], np.float32)
    found = objectives.cross_entropy(smoke, logits, targets)
    assert found.dtype == jnp.float32
    expected = _softmax_loss(np.asarray(logits, np.float64), targets)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_hit_is_any_class_that_is_present():
    targets = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    assert objectives.hits(LOGITS, targets).tolist() == [True, False]
    assert float(objectives.accuracy(LOGITS, targets)) == 0.5


def test_softmax_over_one_output_is_refused():
    """Its loss is 0 whatever the network says."""
    one = np.ones((2, 1), np.float32)
    message = "loss: got 'softmax' for 1 class, of which it is 0 .*, expected 'sigmoid', or two"
    with pytest.raises(ValueError, match=message):
        objectives.cross_entropy(smoke, one, one)
    loss = objectives.classification(smoke, ("a",)).loss
    with pytest.raises(ValueError, match=message):
        loss(lambda images: (one, {}), None, one, {})


def test_a_single_yes_or_no_is_right_by_its_sign():
    logits = np.array([[2.0], [2.0], [-1.0], [-1.0]], np.float32)
    targets = np.array([[1.0], [0.0], [1.0], [0.0]], np.float32)
    assert objectives.hits(logits, targets).tolist() == [True, False, False, True]
    found = objectives.cross_entropy(SIGMOID, logits, targets)
    np.testing.assert_allclose(found, np.log1p(np.exp([-2.0, 2.0, 1.0, -1.0])).mean(), rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_auxiliary_logits_are_trained_too(weight):
    """As Attention Branch Networks leave them in the collection "auxiliary"."""
    targets = np.eye(3, dtype=np.float32)[:2]
    collections = {"auxiliary": {"logits": -LOGITS}, "batch_stats": {"mean": np.ones(3)}}
    config = dataclasses.replace(smoke, auxiliary_weight=weight)
    loss = objectives.classification(config, ("a", "b", "c")).loss
    value, (kept, metrics) = loss(lambda images: (LOGITS, collections), None, targets, {})
    expected = _softmax_loss(LOGITS, targets) + weight * _softmax_loss(-LOGITS, targets)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert kept is collections and float(metrics["accuracy"]) == 1.0
