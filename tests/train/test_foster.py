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
    """One to four of them, so that the devices' shares have different numbers of maps."""
    config = dataclasses.replace(CONFIG, loss="sigmoid", label_smoothing=0.0)
    one = stepped(config, 1)
    assert one[1]["penalty"] > 0
    assert_same(one, stepped(config, 4))
    assert_same(one, stepped(dataclasses.replace(config, parallel="jit"), 4))
    with pytest.raises(
        ValueError, match=r"label_smoothing: got 0.1, expected 0 with loss='sigmoid'"
    ):
        foster.fostering(dataclasses.replace(CONFIG, loss="sigmoid"), ())


@pytest.fixture(scope="module")
def seen():
    """A forward pass in training with an auxiliary output, images, and targets of other classes."""
    config = dataclasses.replace(CONFIG, parallel="jit")
    model = initial.network(config, 4)
    variables = initial.variables(config, model)[0]

    def forward(images):
        logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits, {"auxiliary": {"logits": -2 * logits}}

    images = jax.random.normal(jax.random.key(1), (6, 16, 16, 3))
    classes = (forward(images)[0].argmax(1) + 1) % 4  # never the predicted one
    return forward, images, 0.85 * jax.nn.one_hot(classes, 4) + 0.0375


def _fostered(seen, **changes):
    config = dataclasses.replace(CONFIG, parallel="jit", **changes)
    forward, images, targets = seen
    loss = foster.fostering(config, ("a", "b", "c", "d")).loss
    run = jax.jit(lambda images, targets: loss(forward, images, targets, {}))
    value, (_, metrics) = run(images, targets)
    return value, metrics


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 2.0},
        {"layer": "relu"},
        {"term": "entropy_softmax"},
        {"term": "area"},
        {"term": "dispersion"},
        {"explain": "predicted"},
        {"layer": "relu", "term": "area", "explain": "predicted", "auxiliary_weight": 0.0},
    ],
    ids=str,
)
def test_the_penalty_is_of_the_layer_term_and_class_that_the_config_says(seen, changes):
    """The formula over again: cross-entropy + beta x mean term of the Grad-CAM + auxiliary."""
    forward, images, targets = seen
    said = {"layer": None, "term": "entropy", "explain": "label", "beta": 0.5, **changes}
    classes = {"label": targets.argmax(1), "predicted": None}[said["explain"]]
    plain = lambda x: forward(x)[0]
    explain = lambda x: jaxcam.grad_cam(plain, x, classes, layer=said["layer"])
    maps, logits = jax.tree.map(np.asarray, jax.jit(lambda x: (explain(x), plain(x)))(images))
    measure = {
        "entropy": jaxcam.fostering.cam_entropy,
        "entropy_softmax": lambda maps: jaxcam.fostering.cam_entropy(maps, norm="softmax"),
        "area": jaxcam.fostering.cam_area,
        "dispersion": lambda maps: -jaxcam.fostering.cam_dispersion(maps),
    }[said["term"]]
    penalty = np.asarray(measure(maps))[maps.max((1, 2)) > 0].mean()
    losses = lambda logits: -(targets * jax.nn.log_softmax(logits)).sum(1).mean()
    expected = losses(logits) + said["beta"] * penalty
    expected += changes.get("auxiliary_weight", 1.0) * losses(-2 * logits)
    value, metrics = _fostered(seen, **changes)
    np.testing.assert_allclose(metrics["penalty"], penalty, rtol=1e-4)
    np.testing.assert_allclose(metrics["classification"], losses(logits), rtol=1e-5)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["empty"], (maps.max((1, 2)) <= 0).mean())
    assert metrics["accuracy"] == 0  # as the targets were made


def test_each_option_changes_the_penalty(seen):
    """So that the test above tells them apart."""
    options = [{}, {"layer": "relu"}, {"term": "area"}, {"term": "entropy_softmax"}]
    options += [{"term": "dispersion"}, {"explain": "predicted"}]
    found = [float(_fostered(seen, **each)[1]["penalty"]) for each in options]
    assert min(abs(a - b) for i, a in enumerate(found) for b in found[:i]) > 1e-3


def test_several_classes_are_yes_or_no_each(seen):
    """Any target above 0 is present; the term's mean is over all maps of present classes."""
    forward, images, _ = seen
    targets = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]] * 2, np.float32)
    value, metrics = _fostered(
        (forward, images, targets), loss="sigmoid", label_smoothing=0.0, auxiliary_weight=0.0
    )
    logits = np.asarray(forward(images)[0], np.float64)
    losses = np.log1p(np.exp(logits)) - targets * logits
    np.testing.assert_allclose(metrics["classification"], losses.mean(), rtol=1e-5)
    entropies = []
    for row, column in zip(*np.nonzero(targets), strict=True):
        one = jaxcam.grad_cam(lambda x: forward(x)[0], images, int(column))[row : row + 1]
        if one.max() > 0:
            entropies.append(float(jaxcam.fostering.cam_entropy(one)[0]))
    assert len(entropies) > 6
    np.testing.assert_allclose(metrics["empty"], 1 - len(entropies) / targets.sum(), atol=1e-6)
    np.testing.assert_allclose(metrics["penalty"], np.mean(entropies), rtol=1e-4)
    np.testing.assert_allclose(value, losses.mean() + 0.5 * np.mean(entropies), rtol=1e-4)


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
