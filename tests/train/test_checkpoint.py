import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from configs import Distillation
from configs.common import as_kind
from configs.smoke import config as smoke
from jaxcam import models
from jaxcam._ground import devices
from train import checkpoint, initial, parallel
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


@pytest.mark.parametrize(
    ("fraction", "resize", "dtype"), [(1.0, None, "float32"), (0.875, 18, "float16")]
)
def test_an_export_says_what_its_users_need_and_nothing_of_the_machine(
    tmp_path, fraction, resize, dtype
):
    config = dataclasses.replace(
        smoke, export=f"{tmp_path}/net.safetensors", export_dtype=dtype, crop_fraction=fraction
    )
    variables = initial.variables(config, initial.network(config, 4))[0]
    checkpoint.export(config, variables, ("a", "b", "c", "d"), {"steps": 7})
    about = models.describe(config.export)
    assert about.preprocess == models.Preprocess(16, resize, config.mean, config.std)
    assert about.classes == ("a", "b", "c", "d")
    assert about.metadata["steps"] == "7"
    written = json.loads(about.metadata["config"])
    left = {field.name for field in dataclasses.fields(config)} - set(written)
    assert left == {"data", "workdir", "export"}
    assert (written["name"], written["learning_rate"]) == ("smoke", 0.05)
    stored = load_file(config.export)
    assert stored and {str(array.dtype) for array in stored.values()} == {dtype}


def test_where_a_teachers_answers_are_kept_is_not_exported(tmp_path):
    config = as_kind(
        Distillation, smoke, teacher="x", answers="here", export=f"{tmp_path}/net.safetensors"
    )
    variables = initial.variables(config, initial.network(config, 4))[0]
    checkpoint.export(config, variables, tuple("abcd"), {})
    written = json.loads(models.describe(config.export).metadata["config"])
    assert "answers" not in written and written["teacher"] == "x"


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = checkpoint.folder(str(tmp_path)) / "7.orbax-checkpoint-tmp"
    left.mkdir(parents=True)
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        assert checkpoints.latest_step() is None
        checkpoint.save(checkpoints, _state(1.0), 1, None)
    assert [path.name for path in left.parent.iterdir()] == ["1"]


def test_nothing_to_restore_names_the_folder(tmp_path):
    with (
        checkpoint.manager(str(tmp_path)) as checkpoints,
        pytest.raises(FileNotFoundError, match=tmp_path.name),
    ):
        checkpoint.restore(checkpoints, _state(0.0))
