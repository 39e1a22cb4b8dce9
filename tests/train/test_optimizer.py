import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config as smoke
from train import optimizer

PLAIN = dataclasses.replace(
    smoke, weight_decay=0.0, momentum=0.0, warmup_epochs=0.0, learning_rate=0.5
)
PARAMS = {
    "conv": {"kernel": jnp.array([[3.0, 4.0]])},
    "bn": {"scale": jnp.array([2.0]), "bias": jnp.array([1.0])},
}


def _updates(config, gradients, params=PARAMS, steps_per_epoch=8):
    """The updates that a list of gradients makes."""
    tx = optimizer.optimizer(config, steps_per_epoch)
    memory, made = tx.init(params), []
    for gradient in gradients:
        update, memory = tx.update(gradient, memory, params)
        made.append(update)
    return made


def _like(value):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), PARAMS)


def _rates(steps, **changes):
    rate = optimizer.schedule(dataclasses.replace(PLAIN, epochs=4, **changes), 8)
    return [float(rate(step)) for step in range(steps)]


def test_cosine_warms_up_and_ends_at_zero():
    warm = [0.5 * t / 8 for t in range(8)]
    cosine = [0.5 * 0.5 * (1 + np.cos(np.pi * t / 24)) for t in range(25)]
    np.testing.assert_allclose(_rates(33, warmup_epochs=1.0), warm + cosine, atol=1e-7)


def test_milestones_and_equal_steps_drop_the_rate_after_the_warm_up():
    warm = [0.5 * t / 4 for t in range(4)]
    expected = [*warm, *[0.5] * 4, *[0.1] * 16, *[0.02] * 8]
    dropping = {
        "schedule": "multistep",
        "milestones": (1.0, 3.0),
        "decay_factor": 0.2,
        "warmup_epochs": 0.5,
    }
    np.testing.assert_allclose(_rates(32, **dropping), expected, rtol=1e-6)
    expected = [0.5 * 0.1 ** (t // 12) for t in range(32)]
    np.testing.assert_allclose(_rates(32, schedule="step", decay_every=1.5), expected, rtol=1e-6)


def test_a_constant_rate_is_constant_and_counts_updates_not_steps():
    assert _rates(32, schedule="constant") == [0.5] * 32
    halved = _rates(16, schedule="multistep", milestones=(2.0,), accumulate=2)
    np.testing.assert_allclose(halved, [0.5] * 8 + [0.05] * 8, rtol=1e-6)


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
def test_weight_decay_spares_norms_and_biases(rule):
    config = dataclasses.replace(PLAIN, optimizer=rule, weight_decay=0.01, schedule="constant")
    update = _updates(config, [_like(0.0)])[0]
    assert (update["bn"]["scale"] == 0).all() and (update["bn"]["bias"] == 0).all()
    # Adam divides a decay that is part of the gradient by its own size.
    expected = -0.5 * (np.ones((1, 2)) if rule == "adam" else 0.01 * np.array([[3.0, 4.0]]))
    np.testing.assert_allclose(update["conv"]["kernel"], expected, rtol=1e-4)


@pytest.mark.parametrize(("nesterov", "second"), [(True, 1 + 0.9 + 0.81), (False, 1 + 0.9)])
def test_momentum_is_its_formula(nesterov, second):
    """v = m v + g; the update is -lr v, and Nesterov's -lr (m v + g)."""
    config = dataclasses.replace(PLAIN, momentum=0.9, nesterov=nesterov, schedule="constant")
    update = _updates(config, [_like(1.0)] * 2)[1]
    np.testing.assert_allclose(update["bn"]["bias"], -0.5 * second, rtol=1e-6)


@pytest.mark.parametrize("rule", ["adam", "adamw"])
def test_adam_is_its_formula(rule):
    """-lr m / (sqrt(v) + 1e-8) of the unbiased means, decays 0.9 and 0.999 (Kingma & Ba 2015)."""
    config = dataclasses.replace(PLAIN, optimizer=rule, schedule="constant", momentum=0.3)
    gradients = [1.0, -3.0, 0.5]
    updates = _updates(config, [_like(each) for each in gradients])
    m = v = 0.0
    for t, (gradient, update) in enumerate(zip(gradients, updates, strict=True), start=1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        expected = -0.5 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(update["bn"]["bias"], expected, rtol=1e-4)


def test_milestones_of_one_update_drop_the_rate_twice():
    """Epochs 1.0 and 1.04 of 8 steps are both update 8."""
    rates = _rates(12, schedule="multistep", milestones=(1.0, 1.04))
    np.testing.assert_allclose(rates, [0.5] * 8 + [0.005] * 4, rtol=1e-6)


def test_the_gradient_is_clipped_as_one_vector():
    gradient = jax.tree.map(lambda leaf: 10 * leaf, PARAMS)
    long = 10 * np.sqrt(9 + 16 + 4 + 1)
    update = _updates(dataclasses.replace(PLAIN, clip_norm=1.5, schedule="constant"), [gradient])[0]
    np.testing.assert_allclose(
        update["conv"]["kernel"], -0.5 * 1.5 / long * np.array([[30.0, 40.0]]), rtol=1e-5
    )


def test_accumulation_applies_the_mean_of_the_clipped_whole():
    """Clipping sees the mean gradient, not each step's."""
    config = dataclasses.replace(PLAIN, accumulate=2, clip_norm=1.0, schedule="constant")
    updates = _updates(config, [_like(8.0), _like(-7.0), _like(1.0), _like(1.0)])
    assert all((leaf == 0).all() for index in (0, 2) for leaf in jax.tree.leaves(updates[index]))
    # of norm 0.5 * 2: just not clipped
    np.testing.assert_allclose(updates[1]["bn"]["bias"], -0.5 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(updates[3]["bn"]["bias"], -0.5 * 1 / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("path", "prefixes", "frozen"),
    [
        ("layer1.0.conv1.kernel", ["layer1"], True),
        ("layer1.0.conv1.kernel", ["layer1.0.conv1.kernel"], True),
        ("layer10.conv1.kernel", ["layer1"], False),
        ("features.10.kernel", ["features.1"], False),
        ("fc.kernel", ["bn1", "fc"], True),
        ("fc.kernel", [], False),
    ],
)
def test_prefixes_compare_whole_names(path, prefixes, frozen):
    assert optimizer.is_frozen(path, prefixes) == frozen


def test_frozen_parameters_get_no_update_not_even_decay():
    config = dataclasses.replace(PLAIN, weight_decay=0.1, frozen=("conv",), schedule="constant")
    update = _updates(config, [_like(1.0)])[0]
    assert (update["conv"]["kernel"] == 0).all()
    np.testing.assert_allclose(update["bn"]["bias"], -0.5)


def test_a_prefix_of_nothing_is_named():
    with pytest.raises(
        ValueError,
        match=r"frozen: got 'layer1', expected a prefix of a parameter's path such as 'bn\.",
    ):
        optimizer.stop_frozen(PARAMS, ("layer1",))
