"""Fostering in the training step: beta matters, devices do not, several classes, a whole run."""

import csv
import dataclasses

import jax
import numpy as np
import pytest

import jaxcam
from configs import Fostering
from configs.common import as_kind
from configs.smoke import config as smoke
from jaxcam import models
from train import foster, initial, loop, optimizer, parallel, pipeline, state

CONFIG = as_kind(Fostering, dataclasses.replace(smoke, warmup_epochs=0.0), beta=0.5)
DEVICES = jax.devices()


def stepped(config, count):
    """Variables and metrics after one step on some devices."""
    how = parallel.choose(config, DEVICES[:count])
    photos = loop.data(config, "train")
    model = initial.network(config, 4, how.axis_name)
    tx = optimizer.optimizer(config, 8)
    start = state.create(config, initial.variables(config, model)[0], tx)
    objective = foster.fostering(config, photos.classes)
    fixed = {"config": config, "model": model, "tx": tx, "loss": objective.loss, "crop_size": 12}
    step = how.compile(lambda *args: state.train_step(*args, **fixed, axis_name=how.axis_name))
    batch = how.place(next(pipeline.batches(photos, config)))
    after, metrics = step(how.replicate(start), batch, None)
    return jax.device_get(after.variables), jax.device_get(metrics)


def assert_same(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), first, second)


def test_devices_do_not_matter():
    one = stepped(CONFIG, 1)
    assert_same(one, stepped(CONFIG, 4))
    assert_same(one, stepped(dataclasses.replace(CONFIG, parallel="jit"), 4))
    assert 0 < one[1]["penalty"] <= np.log(36)
    np.testing.assert_allclose(
        one[1]["loss"], one[1]["classification"] + 0.5 * one[1]["penalty"], rtol=1e-5
    )


def test_beta_changes_the_step_and_zero_is_plain_training():
    from train import objectives

    fostered, _ = stepped(CONFIG, 1)
    none, metrics = stepped(dataclasses.replace(CONFIG, beta=0.0), 1)
    photos = loop.data(CONFIG, "train")
    model = initial.network(CONFIG, 4)
    tx = optimizer.optimizer(CONFIG, 8)
    start = state.create(CONFIG, initial.variables(CONFIG, model)[0], tx)
    loss = objectives.classification(CONFIG, photos.classes).loss
    fixed = {"config": CONFIG, "model": model, "tx": tx, "loss": loss, "crop_size": 12}
    plain, expected = jax.jit(lambda *args: state.train_step(*args, **fixed))(
        start, next(pipeline.batches(photos, CONFIG))
    )
    assert_same(none, plain.variables)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)
    assert (
        max(
            np.abs(a - b).max()
            for a, b in zip(*map(jax.tree.leaves, (fostered, none)), strict=True)
        )
        > 1e-4
    )


def test_several_classes_a_photo():
    config = dataclasses.replace(CONFIG, loss="sigmoid", label_smoothing=0.0)
    _, metrics = stepped(config, 2)
    assert np.isfinite(metrics["loss"]) and metrics["penalty"] > 0
    with pytest.raises(
        ValueError, match=r"label_smoothing: got 0.1, expected 0 with loss='sigmoid'"
    ):
        foster.fostering(dataclasses.replace(CONFIG, loss="sigmoid"), ())


def test_a_whole_run_is_sharper_than_without(tmp_path):
    entropies = {}
    for beta in (0.0, 1.0):
        run = tmp_path / str(beta)
        files = {"workdir": str(run), "export": str(run / "net.safetensors")}
        config = dataclasses.replace(CONFIG, beta=beta, crop_sizes=((0, 16),), epochs=3, **files)
        loop.fit(config, foster.fostering, devices=DEVICES[:1])
        model, variables = models.load(config.export)
        photos = np.stack([loop.data(config, "val")[i].image for i in range(32)])
        images = models.describe(config.export).preprocess(photos / 255)
        maps = jaxcam.grad_cam(jaxcam.linen(model, variables), images, np.arange(32) % 4)
        shown = np.asarray(maps.max((1, 2)) > 0)
        entropies[beta] = float(np.asarray(jaxcam.fostering.cam_entropy(maps))[shown].mean())
        assert shown.any()
        with (run / "steps.csv").open() as file:
            assert {"classification", "penalty"} <= set(next(csv.DictReader(file)))
    assert entropies[1.0] < entropies[0.0] - 0.05
