import dataclasses
import json
import shutil

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
    variables = {"params": {"kernel": jnp.full((2, 3), float(value))}, "batch_stats": {}}
    state = State(jnp.int32(value), variables, (jnp.zeros(2),), variables if ema else {})
    return devices.replicate(state, jax.devices()[:count])


def test_the_latest_two_and_the_best_are_kept_and_the_latest_is_restored_on_other_devices(tmp_path):
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        for step, accuracy in ((1, 0.2), (2, 0.9), (3, None), (4, 0.6), (5, None)):
            checkpoint.save(
                checkpoints, _state(step), step, accuracy and {"val_accuracy": accuracy}
            )
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        assert list(checkpoints.all_steps()) == [2, 4, 5]
        assert checkpoints.best_step() == 2
        state, step, *_ = checkpoint.restore(checkpoints, _state(0.0, count=2))
    assert (step, int(state.step)) == (5, 5)
    kernel = state.ema["params"]["kernel"]
    assert kernel.sharding.device_set == set(jax.devices()[:2])
    assert (kernel == 5).all()


def test_a_state_without_averages_comes_back(tmp_path):
    with checkpoint.manager(str(tmp_path)) as checkpoints:
        checkpoint.save(checkpoints, _state(3, ema=False), 3, None)
        checkpoints.wait_until_finished()
        state, *_ = checkpoint.restore(checkpoints, _state(0.0, ema=False))
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


def _kept(folder, steps=(1, 2)):
    with checkpoint.manager(str(folder)) as checkpoints:
        for step in steps:
            checkpoint.save(checkpoints, _state(float(step)), step, None, {"said": step})
    return checkpoint.folder(str(folder)) / str(steps[-1])


def _restored(folder):
    with checkpoint.manager(str(folder)) as checkpoints:
        return checkpoint.restore(checkpoints, _state(0.0))


def _damage(file, how):
    content = file.read_bytes()
    middle = len(content) // 2
    if how == "gone":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[:middle])
    else:
        changed = bytes([content[middle] ^ 16])
        file.write_bytes(content[:middle] + changed + content[middle + 1 :])


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_a_damaged_file_costs_one_checkpoint_or_nothing(tmp_path, how, capfd):
    """Whichever file it is: the state is one that was saved, and it is said which was not."""
    _kept(tmp_path / "whole")
    names = [
        path.relative_to(tmp_path / "whole/checkpoints/2")
        for path in sorted((tmp_path / "whole/checkpoints/2").rglob("*"))
        if path.is_file() and "commit_success" not in path.name
    ]
    lost = set()
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        _damage(folder / "checkpoints/2" / name, how)
        capfd.readouterr()
        found = _restored(folder)
        expected = 1 if found.damaged else 2
        assert (found.step, found.about["said"]) == (expected, expected), name
        assert (found.state.ema["params"]["kernel"] == expected).all(), name
        assert list(found.damaged) in ([], [2])
        assert (folder / "damaged/2").exists() == bool(found.damaged)
        assert "Traceback" not in capfd.readouterr().err
        if found.damaged:
            lost.add("/".join(name.parts[:2]))
    assert {"about/metadata", "state/manifest.ocdbt", "state/d"} <= lost


def test_other_bits_than_were_saved_are_found_though_orbax_restores_them(tmp_path, monkeypatch):
    _kept(tmp_path)
    digest = checkpoint.digest
    monkeypatch.setattr(
        checkpoint, "digest", lambda state: digest(jax.tree.map(lambda x: x + (x == 2), state))
    )
    found = _restored(tmp_path)
    assert found.step == 1
    assert found.damaged == {
        2: "its arrays are not those that were saved: their SHA-256 is another"
    }


def test_one_bit_changes_the_digest():
    state = _state(1.0)
    kernel = np.array(state.variables["params"]["kernel"])
    kernel.view(np.uint32)[1, 2] ^= 1
    changed = state.replace(
        variables={"params": {"kernel": jnp.asarray(kernel)}, "batch_stats": {}}
    )
    assert checkpoint.digest(changed) != checkpoint.digest(state) == checkpoint.digest(_state(1.0))


def test_where_none_can_be_restored_all_are_named_and_left(tmp_path):
    folder = _kept(tmp_path).parent
    for step in (1, 2):
        (folder / f"{step}/state/manifest.ocdbt").unlink()
    with pytest.raises(ValueError, match=r"none can be restored: step 2 \(.*; step 1 \(.*"):
        _restored(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_a_rank_that_cannot_be_read_is_the_lowest(tmp_path):
    for content in (b'{"val_acc', b"3", b"{}"):
        path = _kept(tmp_path / str(len(content))) / "metrics/metrics"
        path.write_bytes(content)
        assert _restored(tmp_path / str(len(content))).step == 2
        assert json.loads(path.read_text()) == {"val_accuracy": -1.0}


def test_a_checkpoint_of_before_there_were_digests_is_restored(tmp_path):
    shutil.rmtree(_kept(tmp_path) / "about")
    assert _restored(tmp_path).step == 2


def test_what_cannot_be_written_is_one_line_that_names_the_folder():
    with (
        pytest.raises(OSError, match=r"^workdir: runs/x cannot be written: FULL: a b$"),
        checkpoint.naming("runs/x"),
    ):
        raise ValueError("FULL: a\n   b")
