import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config as smoke
from jaxcam._ground import devices
from train import checkpoint, parallel
from train.state import State


def _state(value, count=1, ema=True):
    variables = {"params": {"kernel": jnp.full((2, 3), value)}, "batch_stats": {}}
    state = State(jnp.int32(value), variables, (jnp.zeros(2),), variables if ema else {})
    return devices.replicate(state, jax.devices()[:count])


def test_latest_and_best_are_kept_and_the_latest_is_restored_on_other_devices(tmp_path):
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        for step, accuracy in ((1, 0.2), (2, 0.9), (3, None), (4, 0.6), (5, None)):
            checkpoint.save(
                checkpoints, _state(step), step, accuracy and {"val_accuracy": accuracy}
            )
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        assert list(checkpoints.all_steps()) == [2, 5]
        assert checkpoints.best_step() == 2
        state, step = checkpoint.restore(checkpoints, _state(0.0, count=2))
    assert (step, int(state.step)) == (5, 5)
    kernel = state.ema["params"]["kernel"]
    assert kernel.sharding.device_set == set(jax.devices()[:2])
    assert (kernel == 5).all()


def test_a_state_without_averages_comes_back(tmp_path):
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        checkpoint.save(checkpoints, _state(3, ema=False), 3, None)
        checkpoints.wait_until_finished()
        state, _ = checkpoint.restore(checkpoints, _state(0.0, ema=False))
    assert state.ema == {} and (state.averaged["params"]["kernel"] == 3).all()


@pytest.mark.parametrize("kind", ["pmap", "jit"])
def test_what_is_saved_is_the_state_of_the_call_though_its_memory_is_reused(tmp_path, kind):
    """A step donates the state; what is still being written must not change with it."""
    one = jax.devices()[:1]
    how = parallel.choose(dataclasses.replace(smoke, parallel=kind), one)
    step = how.compile(lambda state, batch, _: jax.tree.map(lambda x: x + 1, state))
    state = how.replicate({"w": jnp.zeros(2_000_000)})
    batch = how.place({"x": np.zeros((2, 2))})
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        for number in range(1, 4):
            state = step(state, batch, None)
            checkpoint.save(checkpoints, state, number, {"val_accuracy": -float(number)})
            for _ in range(3):
                state = step(state, batch, None)
        checkpoints.wait_until_finished()
        template = how.replicate({"w": jnp.zeros(2_000_000)})
        assert (checkpoint.restore(checkpoints, template)[0]["w"] == 9).all()


def test_nothing_to_restore_names_the_folder(tmp_path):
    with (
        checkpoint.manager(str(tmp_path)) as checkpoints,
        pytest.raises(FileNotFoundError, match=tmp_path.name),
    ):
        checkpoint.restore(checkpoints, _state(0.0))
