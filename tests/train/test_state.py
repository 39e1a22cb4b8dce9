import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config
from jaxcam import models
from train import data, state


@pytest.fixture(scope="module")
def model():
    return models.create(config.architecture, 4, **config.options)


def test_weight_decay_spares_norms_and_biases(model):
    tx = state.optimizer(dataclasses.replace(config, warmup_epochs=0.0), 8)
    params = jax.tree.map(jnp.ones_like, state.create(config, model, tx).variables["params"])
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        is_kernel = jax.tree_util.keystr(path).endswith("['kernel']")
        # One Nesterov step of a constant gradient g is -lr (1 + momentum) g.
        expected = -0.05 * 1.9 * 5e-4 if is_kernel else 0.0
        np.testing.assert_allclose(update, expected, rtol=1e-5, err_msg=str(path))


def test_the_schedule_warms_up_and_ends_at_zero(model):
    tx = state.optimizer(dataclasses.replace(config, weight_decay=0.0, momentum=0.0, warmup_epochs=1.0), 8)
    params = {"kernel": jnp.zeros((1, 1))}
    memory, rates = tx.init(params), []
    for _ in range(33):
        updates, memory = tx.update({"kernel": jnp.ones((1, 1))}, memory, params)
        rates.append(-float(updates["kernel"][0, 0]))
    warm = [0.05 * t / 8 for t in range(8)]
    cosine = [0.05 * 0.5 * (1 + np.cos(np.pi * t / 24)) for t in range(25)]
    np.testing.assert_allclose(rates, warm + cosine, atol=1e-7)


def test_the_average_follows_the_variables_by_its_formula(model):
    tx = state.optimizer(config, 8)
    now = state.create(config, model, tx)
    batch = next(data.batches(data.load(config)[0], config, 0))
    step = jax.jit(lambda s, b: state.train_step(s, b, config=config, model=model, tx=tx, crop_size=12))
    for t in range(2):
        after, metrics = step(now, batch)
        decay = min(0.9, (1 + t) / (10 + t))
        jax.tree.map(
            lambda old, new, average, d=decay: np.testing.assert_allclose(average, d * old + (1 - d) * new, atol=1e-6),
            now.ema,
            after.variables,
            after.ema,
        )
        assert int(after.step) == t + 1
        assert 0 < float(metrics["loss"]) < 5
        now = after
