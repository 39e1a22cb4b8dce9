"""The loop's parts: data, windows of the log, validation, and what is stopped."""

import csv
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.smoke import config as smoke
from jaxcam import models
from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from train import loop, objectives, state, window
from train.augment import normalize

ONE = jax.devices()[:1]


@pytest.mark.parametrize(("loss", "several"), [("softmax", False), ("sigmoid", True)])
def test_data_are_the_splits_that_the_config_names(monkeypatch, loss, several):
    asked = []
    monkeypatch.setattr(
        loop.datasets, "load", lambda *words, **options: asked.append((words, options))
    )
    config = dataclasses.replace(
        smoke, data="photos.zip", train_split="some", val_split="others", loss=loss
    )
    loop.data(config, "train")
    loop.data(config, "val")
    options = {"multilabel": several}
    assert asked == [(("photos.zip", "some"), options), (("photos.zip", "others"), options)]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ArgumentError("name", "'x'", "y"), "data: got 'x', expected y"),
        (ArgumentFileError("name", "'x'", "y"), "data: got 'x', expected y"),
        (ArgumentError("split", "'x'", "y"), "split: got 'x', expected y"),
    ],
)
def test_an_error_of_the_data_names_the_configs_field(monkeypatch, raised, expected):
    def load(*words, **options):
        raise raised

    monkeypatch.setattr(loop.datasets, "load", load)
    with pytest.raises(type(raised)) as error:
        loop.data(dataclasses.replace(smoke, data="x"), "train")
    assert str(error.value) == expected


def test_a_window_is_the_mean_over_its_steps(monkeypatch):
    """3 of the 8 seconds are waited for the input."""
    clock = iter([10.0, 11.0, 13.0, 14.0, 15.0, 18.0])
    monkeypatch.setattr(window, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    five = window.Window(5)
    assert [five.waiting(lambda: "a"), five.waiting(lambda: "b")] == ["a", "b"]
    five.add({"loss": jnp.float32(1.0), "accuracy": jnp.float32(0.25)})
    five.add({"loss": jnp.float32(4.0), "accuracy": jnp.float32(0.75)})
    assert five.close() == [1.0, 4.0]
    assert (five.first, five.last, five.seconds) == (6, 7, 8.0)
    assert five.means == {"loss": 2.5, "accuracy": 0.5, "waiting": 3 / 8}


@pytest.mark.parametrize("where", ["variables", "ema"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_found_in_parameters_and_averages(where, value):
    fine = {"params": {"w": jnp.ones(3)}, "batch_stats": {"mean": jnp.zeros(2)}}
    now = state.State(jnp.int32(1), fine, (), fine)
    assert bool(loop._finite(now))
    bad = {**fine, "batch_stats": {"mean": jnp.array([0.0, value])}}
    assert not bool(loop._finite(now.replace(**{where: bad})))


def test_logs_are_there_when_a_run_has_begun(tmp_path):
    run = loop.Run(dataclasses.replace(smoke, workdir=str(tmp_path)), devices=ONE)
    with pytest.raises(RuntimeError, match="logs: the run has not begun"):
        run.logs.line("too early")
    run.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two epochs, two steps an update, growing crops: the run, its steps' epochs, the state."""
    folder = tmp_path_factory.mktemp("loop")
    config = dataclasses.replace(
        smoke,
        workdir=str(folder / "run"),
        export=str(folder / "net.safetensors"),
        epochs=2,
        crop_sizes=((0, 12), (1, 16)),
        accumulate=2,
        log_every=3,
        schedule="constant",
        warmup_epochs=1.0,
        label_smoothing=0.2,
    )
    run = loop.Run(config, devices=ONE)
    asked = []
    step = run._step
    run._step = lambda epoch: (asked.append(epoch), step(epoch))[1]
    last = run.train(*run.begin(resume=False))
    run.finish(last)
    run.close()
    return run, asked, jax.device_get(last)


def _rows(run, name):
    with open(f"{run.config.workdir}/{name}.csv") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_each_step_is_of_its_own_epochs_crops(run):
    assert run[1] == [0] * 8 + [1] * 8
    assert set(run[0]._steps) == {12, 16}
    rows = _rows(run[0], "steps")
    assert [(row["step"], row["epoch"], row["crop"]) for row in rows] == [
        (3, 1, 12),
        (6, 1, 12),
        (8, 1, 12),
        (9, 2, 16),
        (12, 2, 16),
        (15, 2, 16),
        (16, 2, 16),
    ]


def test_the_logged_rate_is_that_of_the_update(run):
    """Two steps an update, four updates of warm-up to 0.05."""
    rates = [row["learning_rate"] for row in _rows(run[0], "steps")]
    np.testing.assert_allclose(rates, np.array([1, 2, 3, 4, 4, 4, 4]) / 4 * 0.05, rtol=1e-6)


def test_validation_is_of_the_averaged_network_without_smoothing(run):
    """Its mean loss over the 32 photos, and not that of the last parameters."""
    run, _, last = run
    logged = _rows(run, "epochs")[-1]
    expected = {name: _validated(run, getattr(last, name)) for name in ("ema", "variables")}
    np.testing.assert_allclose(logged["val_loss"], expected["ema"][0], rtol=1e-5)
    assert logged["val_accuracy"] == expected["ema"][1]
    assert abs(expected["ema"][0] - expected["variables"][0]) > 1e-3


def _validated(run, variables):
    photos = [run.validation[index] for index in range(32)]
    images = np.stack([photo.image for photo in photos])
    labels = np.array([photo.label for photo in photos])
    logits = run.model.apply(variables, normalize(images / 255.0, run.config))
    losses = -jax.nn.log_softmax(logits)[np.arange(32), labels]
    return float(losses.mean()), float((logits.argmax(1) == labels).mean())


def test_the_exported_variables_are_the_averaged_ones(run):
    run, _, last = run
    _, exported = models.load(run.config.export)
    jax.tree.map(np.testing.assert_array_equal, exported, last.ema)


def test_the_objectives_host_part_sees_every_batch(tmp_path):
    """What `prepare` adds is on the devices when the loss is asked."""
    config = dataclasses.replace(smoke, workdir=str(tmp_path), epochs=1)

    def factory(config, classes):
        plain = objectives.classification(config, classes)

        def loss(forward, images, targets, batch):
            value, (collections, metrics) = plain.loss(forward, images, targets, batch)
            metrics["added"] = batch["added"].mean()
            metrics["constant"] = batch["constants"]["one"].mean()
            return value, (collections, metrics)

        prepare = lambda batch: {**batch, "added": batch["label"] + 10.0}
        return objectives.Objective(loss, {"one": np.ones(3)}, prepare)

    run = loop.Run(config, factory, devices=ONE)
    seen = []
    step = run._step

    def recording(epoch):
        return lambda state, batch, constants: (
            seen.append((batch, constants)),
            step(epoch)(state, batch, constants),
        )[1]

    run._step = recording
    run.train(*run.begin(resume=False))
    run.close()
    labels = np.concatenate([np.asarray(batch["label"]).ravel() for batch, _ in seen])
    (row,) = _rows(run, "epochs")
    np.testing.assert_allclose(row["added"], labels.mean() + 10, rtol=1e-6)
    assert row["constant"] == 1
    # placed once, not with every step
    assert all(constants is seen[0][1] for _, constants in seen)
    assert seen[0][1]["one"].sharding.device_set == set(ONE)
