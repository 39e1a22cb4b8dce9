import csv
import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

import configs
from configs import smoke, tiny20
from jaxcam import models
from jaxcam._ground import devices
from train import classify, loop, pipeline, program
from train.augment import normalize

ONE = jax.devices()[:1]


def _config(tmp_path, **changes):
    folders = {"workdir": str(tmp_path / "run"), "export": str(tmp_path / "net.safetensors")}
    return dataclasses.replace(
        smoke.config, **folders, **{"log_every": 3, "checkpoint_every": 5, **changes}
    )


def _rows(config, name="steps"):
    with open(f"{config.workdir}/{name}.csv") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole smoke run on one device: its config and last state."""
    config = _config(tmp_path_factory.mktemp("smoke"))
    return config, jax.device_get(loop.fit(config, devices=ONE))


def test_the_smoke_run_learns_and_logs(finished):
    config, _ = finished
    windows, epochs = _rows(config), _rows(config, "epochs")
    # Windows end every 3 steps, at checkpoints (every 5) and at the end of an epoch (every 8).
    assert [row["step"] for row in windows[:8]] == [3, 5, 6, 8, 9, 10, 12, 15]
    assert sum(row["steps"] for row in windows) == 32
    assert [row["crop"] for row in windows if row["step"] % 8 == 0] == [12, 12, 16, 16]
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
    assert epochs[-1]["loss"] < epochs[0]["loss"] and epochs[-1]["val_accuracy"] > 0.9
    report = json.loads(pathlib.Path(f"{config.workdir}/report.json").read_text())
    assert report["results"]["steps"] == 32
    assert (
        report["results"]["exported_accuracy"]
        == report["results"]["val_accuracy"]
        == epochs[-1]["val_accuracy"]
    )


def test_the_exported_file_gives_the_averaged_networks_logits(finished):
    config, state = finished
    images = np.stack([loop.data(config, "val")[i].image for i in range(4)])
    about = models.describe(config.export)
    assert about.classes == ("class 0", "class 1", "class 2", "class 3")
    assert about.preprocess == models.Preprocess(16, None, config.mean, config.std)
    assert json.loads(about.metadata["steps"]) == 32 and "workdir" not in json.loads(
        about.metadata["config"]
    )
    model, variables = models.load(config.export)
    expected = model.apply(state.ema, normalize(images / 255.0, config))
    np.testing.assert_allclose(
        model.apply(variables, about.preprocess(images / 255.0)), expected, atol=1e-5
    )


def test_a_stopped_and_resumed_run_ends_bit_for_bit_the_same(finished, tmp_path, monkeypatch):
    """Stopped after step 12, amid epoch 2, two steps after a checkpoint and a window's end."""
    config, batches = _config(tmp_path), pipeline.batches

    def stop(*args, **kwargs):
        for step, batch in enumerate(batches(*args, **kwargs), start=1):
            if step > 12 + 2:  # two are prefetched
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "batches", stop)
        loop.fit(config, devices=ONE)
    assert _rows(config)[-1]["step"] == 12
    resumed = jax.device_get(loop.fit(config, resume=True, devices=ONE))
    jax.tree.map(np.testing.assert_array_equal, resumed, finished[1])
    for name in ("steps", "epochs"):
        for mine, theirs in zip(_rows(config, name), _rows(finished[0], name), strict=True):
            timed = ("seconds", "images_per_s", "waiting")
            assert {k: v for k, v in mine.items() if k not in timed} == {
                k: v for k, v in theirs.items() if k not in timed
            }


def test_the_command_line_evaluates_what_it_exported(finished, capsys):
    config, _ = finished
    paths = [f"workdir={config.workdir}", f"export={config.export}"]
    classify.main(["--config", smoke.__file__, "--set", *paths, "--evaluate"])
    assert "of 32 validation photos" in capsys.readouterr().out
    with pytest.raises(
        SystemExit, match=r"workdir: .* holds checkpoints; --resume, or name another"
    ):
        classify.main(["--config", smoke.__file__, "--set", *paths])
    with pytest.raises(
        SystemExit,
        match=r"epochs: got 2, 16 steps, expected as many as the 32 steps in .*; name another",
    ):
        classify.main(["--config", smoke.__file__, "--set", *paths, "epochs=2", "--resume"])
    with pytest.raises(SystemExit, match=r"train\.classify: data: got '/nowhere/x', expected"):
        classify.main(["--config", smoke.__file__, "--set", "data=/nowhere/x"])


def test_the_latest_checkpoint_is_exported_again(finished, tmp_path, capsys):
    config, _ = finished
    changed = [
        f"workdir={config.workdir}",
        f"export={tmp_path}/again.safetensors",
        "export_dtype=float16",
    ]
    classify.main(["--config", smoke.__file__, "--set", *changed, "--export-only"])
    assert "again.safetensors" in capsys.readouterr().out
    half, whole = (
        models.load(path)[1] for path in (f"{tmp_path}/again.safetensors", config.export)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), half, whole)


def test_nothing_to_resume_is_one_line(tmp_path):
    with pytest.raises(
        SystemExit, match=r"train\.classify: --resume: got no checkpoint in .*, expected"
    ):
        classify.main(["--config", smoke.__file__, "--set", f"workdir={tmp_path}", "--resume"])


def test_a_program_takes_only_its_own_configs():
    with pytest.raises(
        SystemExit,
        match=r"train\.x: --config: got .*smoke\.py, a Classification, expected a Fostering",
    ):
        program.main("train.x", "", None, configs.Fostering, ["--config", smoke.__file__])


def test_a_loss_that_is_not_finite_stops_with_its_step_and_the_last_good_checkpoint(
    tmp_path, monkeypatch
):
    config, step = _config(tmp_path, epochs=1, checkpoint_every=2), loop.Run._step
    monkeypatch.setattr(loop.Run, "_step", lambda run, epoch: _spoiling(step(run, epoch), after=4))
    with pytest.raises(
        FloatingPointError,
        match=r"loss: got nan in step 5, .* last good checkpoint: step 4 in .*checkpoints",
    ):
        loop.fit(config, devices=ONE)
    assert [row["step"] for row in _rows(config)] == [2, 3, 4]


def test_parameters_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    """The loss of the step that spoils them is finite."""
    config, step = _config(tmp_path, epochs=1, checkpoint_every=1), loop.Run._step
    monkeypatch.setattr(
        loop.Run, "_step", lambda run, epoch: _spoiling(step(run, epoch), 2, what="parameters")
    )
    expected = (
        "parameters: got NaN or infinite ones after step 3, expected finite ones; last good "
        "checkpoint: step 2"
    )
    with pytest.raises(FloatingPointError, match=expected):
        loop.fit(config, devices=ONE)
    kept = sorted(path.name for path in loop.checkpoint.folder(config.workdir).iterdir())
    assert kept == ["1", "2"]


def _spoiling(step, after, what="loss"):
    """A step whose loss or parameters are NaN when more than `after` steps have been made."""

    def spoilt(state, batch, constants):
        factor = float("nan") if int(state.step) >= after else 1.0
        state, metrics = step(state, batch, constants)
        if what == "loss":
            return state, {**metrics, "loss": metrics["loss"] * factor}
        params = jax.tree.map(lambda x: x * factor, state.variables["params"])
        return state.replace(variables={**state.variables, "params": params}), metrics

    return spoilt


def test_photos_of_several_classes_train_by_sigmoid(tmp_path):
    config = _config(tmp_path, loss="sigmoid", label_smoothing=0.0, crop_sizes=((0, 16),), epochs=3)
    loop.fit(config, devices=ONE)
    epochs = _rows(config, "epochs")
    assert epochs[-1]["loss"] < epochs[0]["loss"] < 1.0
    assert epochs[-1]["val_accuracy"] == 1.0  # class 0 is in every photo


def test_the_bundled_network_reaches_what_its_config_states(shared):
    config = dataclasses.replace(
        tiny20.config, data=str(shared / "data/tiny20.zip"), batch_size=100
    )
    model, variables = models.load("tiny20")
    found = loop.validator(config, model, ONE)(
        devices.replicate(variables, ONE), loop.data(config, "val")
    )
    # The exact share depends on the platform's rounding: 5 photos of 1000 may change sides.
    assert abs(found["val_accuracy"] - 0.793) <= 0.005
