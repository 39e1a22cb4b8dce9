import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config as smoke
from train import initial, loop, objectives, optimizer, pipeline, state
from train.augment import augment

CONFIG = dataclasses.replace(smoke, warmup_epochs=0.0)


def _step(config, **options):
    """A compiled step of the smoke network, its first state and a batch."""
    photos = loop.data(config, "train")
    model = initial.network(dataclasses.replace(config, options={**config.options, **options}), 4)
    tx = optimizer.optimizer(config, 8)
    start = state.create(config, initial.variables(config, model)[0], tx)
    loss = objectives.classification(config, photos.classes).loss
    step = lambda now, batch: state.train_step(
        now, batch, config=config, model=model, tx=tx, loss=loss, crop_size=12
    )
    return jax.jit(step), start, next(pipeline.batches(photos, config))


@pytest.fixture(scope="module")
def two_steps():
    """States before, after one and after two float32 steps, and the metrics of both."""
    step, start, batch = _step(CONFIG)
    after, first = step(start, batch)
    last, second = step(after, batch)
    return (start, after, last), (first, second)


def test_the_average_follows_the_variables_by_its_formula(two_steps):
    states, metrics = two_steps
    for t in range(2):
        before, after = states[t], states[t + 1]
        decay = min(0.9, (1 + t) / (10 + t))
        jax.tree.map(
            lambda old, new, average, d=decay: np.testing.assert_allclose(
                average, d * old + (1 - d) * new, atol=1e-6
            ),
            before.ema,
            after.variables,
            after.ema,
        )
        assert int(after.step) == t + 1
        assert 0 < float(metrics[t]["loss"]) < 5
        assert after.averaged is after.ema


def test_the_metrics_are_the_losses_and_the_gradients_size(two_steps):
    """The loss of the augmented images in training; the gradient's norm before clipping."""
    config = dataclasses.replace(CONFIG, momentum=0.0, weight_decay=0.0, clip_norm=1e-3)
    step, start, batch = _step(config)
    _, metrics = step(start, batch)
    for name in ("loss", "accuracy", "gradient_norm"):
        np.testing.assert_allclose(metrics[name], two_steps[1][0][name], rtol=1e-5)
    images, targets = augment(batch, config, 4, 12)
    logits, _ = initial.network(config, 4).apply(
        start.variables, images, train=True, mutable=["batch_stats"]
    )
    losses = -(targets * jax.nn.log_softmax(logits)).sum(1)
    np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-5)
    step, start, batch = _step(dataclasses.replace(config, clip_norm=0.0))
    after, _ = step(start, batch)
    moved = jax.tree.map(lambda a, b: a - b, after.variables["params"], start.variables["params"])
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(moved)))
    np.testing.assert_allclose(norm, config.learning_rate * metrics["gradient_norm"], rtol=1e-4)


def test_every_parameter_and_statistic_moves(two_steps):
    (start, after, _), _ = two_steps
    moved = jax.tree.map(
        lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), start.variables, after.variables
    )
    assert all(jax.tree.leaves(moved))


def _toy(value, step, config):
    variables = {"params": {"w": jnp.full(2, value)}}
    return state.State(
        jnp.int32(step), variables, (), {"params": {"w": jnp.zeros(2)}} if config.ema_decay else {}
    )


def test_the_average_waits_for_updates():
    """With two steps an update, update u = 3 happens in step 7 and not in step 6."""
    config = dataclasses.replace(CONFIG, accumulate=2)
    averages = [
        state._average(config, _toy(1.0, step, config), _toy(1.0, step, config).variables)
        for step in (6, 7)
    ]
    np.testing.assert_allclose(averages[0]["params"]["w"], 0.0)
    np.testing.assert_allclose(averages[1]["params"]["w"], 1 - (1 + 3) / (10 + 3), rtol=1e-6)


def test_without_an_average_the_last_variables_count():
    now = _toy(1.0, 0, dataclasses.replace(CONFIG, ema_decay=0.0))
    assert state._average(dataclasses.replace(CONFIG, ema_decay=0.0), now, now.variables) == {}
    assert now.averaged is now.variables


def test_bfloat16_computes_in_it_and_keeps_float32(two_steps):
    """Near the float32 step (8 bits of mantissa), and not the same."""
    step, start, batch = _step(dataclasses.replace(CONFIG, compute_dtype="bfloat16"))
    after, metrics = step(start, batch)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((after.variables, after.ema))} == {
        "float32"
    }
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))
    difference = abs(float(metrics["loss"]) - float(two_steps[1][0]["loss"]))
    assert 0 < difference < 0.05


def test_frozen_layers_keep_every_bit_and_cost_no_backward_pass(two_steps):
    frozen = ("conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1")
    step, start, batch = _step(dataclasses.replace(CONFIG, frozen=frozen))
    after, _ = step(start, batch)
    stays = lambda path: optimizer.is_frozen(path, frozen)
    same = {}
    for (path, before), now in zip(
        jax.tree_util.tree_leaves_with_path(start.variables),
        jax.tree.leaves(after.variables),
        strict=True,
    ):
        name = ".".join(key.key for key in path[1:])
        same.setdefault(stays(name), []).append(np.array_equal(before, now))
    assert all(same[True]) and len(same[True]) == 10
    assert not any(same[False]) and same[False]
    assert _flops(step, start, batch) < 0.75 * _flops(*_step(CONFIG))


def _flops(step, start, batch):
    return step.lower(start, batch).cost_analysis()["flops"]


def test_frozen_norms_use_their_averages():
    """Their output for an image does not hang on the others of the batch."""
    config = dataclasses.replace(CONFIG, frozen=("conv1", "bn1", "layer1"))
    model = initial.network(config, 4)
    variables = initial.variables(config, model)[0]
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    forward = jax.jit(
        lambda x: state._forward(
            x, model=model, variables=variables, key=jax.random.key(0), frozen=config.frozen
        )[0]
    )
    np.testing.assert_allclose(
        forward(images)[:2], forward(images.at[2:].multiply(5.0))[:2], atol=1e-6
    )
    np.testing.assert_allclose(forward(images), jax.jit(model.apply)(variables, images), atol=1e-5)


def test_dropout_is_drawn_anew_by_step_and_the_same_again():
    keys = [
        jax.random.key_data(state._dropout_key(CONFIG, jnp.int32(step), None)) for step in (0, 1, 0)
    ]
    assert not np.array_equal(keys[0], keys[1]) and np.array_equal(keys[0], keys[2])
    other = state._dropout_key(dataclasses.replace(CONFIG, seed=1), jnp.int32(0), None)
    assert not np.array_equal(keys[0], jax.random.key_data(other))


def test_each_device_drops_other_units_and_the_first_those_of_one_alone():
    key = lambda _: jax.random.key_data(state._dropout_key(CONFIG, jnp.int32(3), "device"))
    keys = np.asarray(jax.vmap(key, axis_name="device")(jnp.arange(4)))
    assert len({tuple(each) for each in keys.tolist()}) == 4
    alone = jax.random.key_data(state._dropout_key(CONFIG, jnp.int32(3), None))
    np.testing.assert_array_equal(keys[0], alone)


def test_validation_counts_only_what_is_masked_in():
    config = dataclasses.replace(CONFIG, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    class Bright:
        num_classes = 2
        apply = staticmethod(
            lambda variables, images: jnp.stack(
                [0 * images.sum((1, 2, 3)), images.mean((1, 2, 3))], 1
            )
        )

    images = np.full((4, 2, 2, 3), 255, np.uint8)
    batch = {
        "image": images,
        "label": np.array([1, 0, 1, 1]),
        "mask": np.array([True, True, True, False]),
    }
    sums = jax.jit(lambda batch: state.validation_step({}, batch, config=config, model=Bright()))(
        batch
    )
    losses = np.log1p(np.exp([-1.0, 1.0, -1.0]))
    np.testing.assert_allclose(
        [sums["count"], sums["correct"], sums["loss"]], [3, 2, losses.sum()], rtol=1e-5
    )


def test_validation_normalises_and_adds_up_over_the_devices():
    """Two devices' shares: the sums of both, of images (x / 255 - mean) / std."""
    config = dataclasses.replace(CONFIG, mean=(0.25,) * 3, std=(0.5,) * 3)

    class Bright:
        num_classes = 2
        apply = staticmethod(
            lambda variables, images: jnp.stack(
                [0 * images.sum((1, 2, 3)), images.mean((1, 2, 3))], 1
            )
        )

    batch = {
        "image": np.array([255, 0, 51, 255], np.uint8).reshape(2, 2, 1, 1, 1).repeat(3, -1),
        "label": np.array([[1, 1], [1, 0]]),
        "mask": np.ones((2, 2), bool),
    }
    sums = jax.vmap(
        lambda each: state.validation_step(
            {}, each, config=config, model=Bright(), axis_name="device"
        ),
        axis_name="device",
    )(batch)
    scores = np.array([1.5, -0.5, -0.1, 1.5])
    losses = np.log1p(np.exp(scores * [-1, -1, -1, 1]))
    assert sums["count"].tolist() == [4, 4] and sums["correct"].tolist() == [1, 1]
    np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)
