import jax
import jax.numpy as jnp
import pytest

from train import checkpoint, parallel
from train.state import State


def _state(value, devices=1):
    variables = {"params": {"kernel": jnp.full((2, 3), value)}, "batch_stats": {}}
    state = State(jnp.int32(value), variables, (jnp.zeros(2),), variables)
    return parallel.replicate(state, jax.devices()[:devices])


def test_latest_and_best_are_kept_and_the_latest_is_restored_on_other_devices(tmp_path):
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        for epoch, accuracy in ((1, 0.2), (2, 0.9), (3, 0.5), (4, 0.6)):
            checkpoint.save(checkpoints, _state(epoch), epoch, {"val_accuracy": accuracy})
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        assert list(checkpoints.all_steps()) == [2, 4]
        assert checkpoints.best_step() == 2
        state, epoch = checkpoint.restore(checkpoints, _state(0.0, devices=2))
    assert (epoch, int(state.step)) == (4, 4)
    kernel = state.ema["params"]["kernel"]
    assert kernel.sharding.device_set == set(jax.devices()[:2])
    assert (kernel == 4).all()


def test_nothing_to_restore_names_the_folder(tmp_path):
    with checkpoint.manager(str(tmp_path)) as checkpoints, pytest.raises(FileNotFoundError, match=tmp_path.name):
        checkpoint.restore(checkpoints, _state(0.0))
