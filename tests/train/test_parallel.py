import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config
from jaxcam import models
from train import data, parallel, state

CONFIG = dataclasses.replace(config, cutmix=1.0)  # mixing must not depend on the number of devices either


def _run(count, steps=2, batch_norm_axis=parallel.AXIS, gradient_axis=parallel.AXIS):
    """Parameters and batch statistics after `steps` steps on `count` devices."""
    devices = jax.devices()[:count]
    model = models.create(CONFIG.architecture, 4, **CONFIG.options, axis_name=batch_norm_axis)
    tx = state.optimizer(dataclasses.replace(CONFIG, warmup_epochs=0.0), 8)
    fixed = {"config": CONFIG, "model": model, "tx": tx, "crop_size": 12, "axis_name": gradient_axis}
    step = parallel.pmap_step(partial(state.train_step, **fixed), devices)
    now = parallel.replicate(state.create(CONFIG, model, tx), devices)
    before = now.variables["params"]["fc"]["kernel"].sharding
    batches = data.batches(data.load(CONFIG)[0], CONFIG, 0)
    for batch, _ in zip(batches, range(steps), strict=False):
        now, _ = jax.block_until_ready(step(now, parallel.shard(batch, count)))
    after = now.variables["params"]["fc"]["kernel"].sharding
    assert after.is_equivalent_to(before, 2)  # or every step but the first would be compiled a second time
    return jax.device_get(now.variables)


def _largest_difference(a, b):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)))


@pytest.fixture(scope="module")
def one_device():
    return _run(1)


def test_four_devices_train_as_one(one_device):
    if jax.device_count() < 4:
        pytest.skip("needs 4 devices (XLA_FLAGS=--xla_force_host_platform_device_count=4)")
    assert _largest_difference(_run(4), one_device) < 1e-5


@pytest.mark.parametrize("forgotten", ["batch_norm_axis", "gradient_axis"])
def test_a_forgotten_mean_over_the_devices_would_show(one_device, forgotten):
    """The comparison above is worth something: without either mean it fails by far."""
    if jax.device_count() < 4:
        pytest.skip("needs 4 devices (XLA_FLAGS=--xla_force_host_platform_device_count=4)")
    assert _largest_difference(_run(4, **{forgotten: None}), one_device) > 1e-3


def test_replicate_places_a_copy_on_each_device():
    placed = parallel.replicate({"x": jnp.arange(3)}, jax.devices()[:2])["x"]
    assert placed.is_fully_replicated
    assert placed.sharding.device_set == set(jax.devices()[:2])


def test_shares_must_be_equal_and_even():
    assert parallel.shard({"x": np.zeros((8, 3))}, 4)["x"].shape == (4, 2, 3)
    with pytest.raises(ValueError, match="batch_size: got 12, expected a multiple of 2 x 4 devices"):
        parallel.shard({"x": np.zeros((12, 3))}, 4)
