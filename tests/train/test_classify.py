import csv
import dataclasses

import jax
import numpy as np
import pytest

from configs import smoke, tiny20
from jaxcam import models
from train import classify, data


def _config(tmp_path, **changes):
    return dataclasses.replace(
        smoke.config, workdir=str(tmp_path / "run"), export=str(tmp_path / "net.safetensors"), **changes
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole smoke run on one device: its config and last state."""
    config = _config(tmp_path_factory.mktemp("smoke"))
    return config, classify.train(config, devices=jax.devices()[:1])


def test_the_smoke_run_learns_and_logs(finished):
    config, _ = finished
    with open(f"{config.workdir}/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["crop"] for row in rows] == ["12", "12", "16", "16"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert classify.evaluate(config, data.load(config)[1]) > 0.9


def test_the_exported_file_gives_the_averaged_networks_logits(finished):
    config, state = finished
    images = data.load(config)[1].images[:4]
    about = models.describe(config.export)
    assert about.classes == ("class 0", "class 1", "class 2", "class 3")
    assert about.preprocess == models.Preprocess(16, None, config.mean, config.std)
    model, variables = models.load(config.export)
    expected = model.apply(jax.device_get(state.ema), data.normalize(images / 255.0, config))
    np.testing.assert_allclose(model.apply(variables, about.preprocess(images / 255.0)), expected, atol=1e-5)


def test_a_killed_and_resumed_run_ends_bit_for_bit_the_same(finished, tmp_path, monkeypatch):
    config, batches = _config(tmp_path), data.batches

    def die_in_the_third_epoch(photos, config, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return batches(photos, config, epoch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(data, "batches", die_in_the_third_epoch)
        classify.train(config, devices=jax.devices()[:1])
    resumed = classify.train(config, resume=True, devices=jax.devices()[:1])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(finished[1]))


def test_the_command_line_evaluates_what_it_exported(finished, capsys):
    config, _ = finished
    paths = [f"workdir={config.workdir}", f"export={config.export}"]
    classify.main(["--config", smoke.__file__, "--set", *paths, "--evaluate"])
    assert "of 32 validation photos" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"workdir: .* holds checkpoints; --resume, or name another"):
        classify.main(["--config", smoke.__file__, "--set", *paths])


def test_nothing_to_resume_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="--resume: found no checkpoint in"):
        classify.main(["--config", smoke.__file__, "--set", f"workdir={tmp_path}", "--resume"])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match=r"loss: got (nan|inf) in epoch 1"):
        classify.train(_config(tmp_path, learning_rate=1e30, epochs=1), devices=jax.devices()[:1])


def test_the_bundled_network_reaches_what_its_config_states(shared):
    config = dataclasses.replace(tiny20.config, data=str(shared / "data/tiny20.zip"))
    # The exact share depends on the platform's rounding: 5 photos of 1000 may change sides.
    assert abs(classify.accuracy(*_bundled(config), data.load(config)[1]) - 0.793) <= 0.005


def _bundled(config):
    model, variables = models.load("tiny20")
    return classify.predict(config, model), variables
