"""Every protocol on a tiny network: a plain loop's values, records of what was run, resumption."""

import dataclasses
import json
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from eval import programs
from eval.protocols import (
    class_sensitivity,
    explain,
    faithfulness,
    games,
    interpretability,
    localization,
)
from eval.protocols.games import GameSettings
from eval.protocols.localization import LocalizationSettings
from eval.run import record as records
from eval.run import work
from eval.run.runner import run
from eval.run.settings import Settings
from eval.subjects import data, networks
from jaxcam import maps, metrics
from jaxcam._program import sites
from tests.eval.conftest import PHOTOS, SIZE, forward, tiny


def settings(photos, tmp_path, kind=Settings, **fields):
    defaults = {
        "output": tmp_path / "run",
        "model": "tiny",
        "data": "tiny20",
        "batch": 1,
        "root": photos[1],
    }
    return kind(**defaults | {"methods": ("grad_cam",), "layers": ("top",)} | fields)


def directly(network, chosen, layer="top"):
    """(photos, forward, images, Grad-CAM, resized) without devices or batches."""
    found = data.load(chosen.data, SIZE, chosen.n, chosen.seed, chosen.root)
    model, prepare = forward(network)
    images = prepare(found.images)
    raw = jaxcam.grad_cam(model, images, layer=layer)
    return found, model, images, raw, maps.resize(raw, (SIZE, SIZE))


def values_of(record, chosen):
    assert json.loads((chosen.output / f"{record['protocol']}.json").read_text()) == json.loads(
        json.dumps(record)
    )
    with np.load(chosen.output / "values.npz") as stored:
        return dict(stored)


def test_a_network_of_one_logit_tells_two_classes_apart(monkeypatch, photos, tmp_path):
    """Its twin [0, z] gets the same numbers; labels 0 and 1 are right where z says so."""
    whole = tiny()
    logit = lambda params, images: (
        whole.apply(params, images)[:, 2:3] - whole.apply(params, images)[:, 4:5]
    )
    twin = lambda params, images: jnp.pad(logit(params, images), ((0, 0), (1, 0)))
    one, two = (dataclasses.replace(whole, apply=apply) for apply in (logit, twin))
    monkeypatch.setitem(networks.OURS, "one", lambda root: one)
    monkeypatch.setitem(networks.OURS, "two", lambda root: two)
    folder, found = str(photos[0]), {}
    for name, target in (("one", "predicted"), ("two", "label")):
        fields = {"model": name, "data": folder, "target": target, "output": tmp_path / name}
        chosen = settings(photos, tmp_path, methods=("grad_cam", "score_cam"), **fields)
        record = run(chosen, faithfulness.PROTOCOL)
        found[name] = values_of(record, chosen)
    z = np.asarray(
        logit(
            one.params, one.prepare(jnp.asarray(data.load(folder, SIZE, 100, 0, photos[1]).images))
        )
    )
    order = list(found["one"]["ids"])
    assert order == list(found["two"]["ids"])
    np.testing.assert_array_equal(found["one"]["predicted"], (z[:, 0] > 0).astype(int))
    np.testing.assert_array_equal(found["two"]["predicted"], found["one"]["predicted"])
    assert (
        found["one"]["accuracy"]
        == found["two"]["accuracy"]
        == (found["one"]["predicted"] == found["one"]["labels"]).mean()
    )
    assert (found["one"]["targets"] == 0).all()
    positive = found["two"]["targets"] == 1
    assert positive.any()
    for key in ("confidence", "drop_soft", "confidence_half"):
        for method in ("grad_cam", "score_cam"):
            first, second = (
                found[name][f"{method}/top/{key}"][positive] for name in ("one", "two")
            )
            np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        ValueError, match="model: got one, which has one logit, expected at least two"
    ):
        run(
            settings(photos, tmp_path, class_sensitivity.ClassSettings, model="one"),
            class_sensitivity.PROTOCOL,
        )


def test_faithfulness(network, photos, tmp_path):
    """Six photos on four devices: padding does not count. CAM: the last layer only, and why."""
    chosen = settings(
        photos, tmp_path, methods=("grad_cam", "cam", "noise"), layers=("stem", "top"), seed=5
    )
    record = run(chosen, faithfulness.PROTOCOL)
    values = values_of(record, chosen)
    found, model, images, _, saliency = directly(network, chosen)
    expected = metrics.average_drop(model, images, saliency)
    assert tuple(values["ids"]) == found.ids
    np.testing.assert_allclose(values["grad_cam/top/drop_soft"], expected, rtol=1e-4, atol=1e-3)
    half = metrics.average_increase(model, images, saliency, top=0.5)
    np.testing.assert_array_equal(values["grad_cam/top/increase_half"], half)
    result = record["results"]["grad_cam"]["top"]["drop_soft"]
    assert result["mean"] == pytest.approx(float(expected.mean()), rel=1e-4)
    assert (result["low"], result["high"]) == (None, None)  # of six photos
    assert (result["n"], result["undefined"], record["photos"], record["seed"]) == (
        PHOTOS,
        0,
        PHOTOS,
        5,
    )
    assert list(record["results"]["cam"]) == ["top"]
    assert "a global average pool" in record["skipped"]["cam/stem"]
    wins = record["win_rate"]["top"]
    assert wins["grad_cam"]["noise"] + wins["noise"]["grad_cam"] == pytest.approx(100)
    assert {"jax", "jaxcam", "numpy", "python"} <= set(record["versions"])
    assert record["command"].startswith("python -m eval faithfulness")
    shown = programs.columns(record)
    assert shown == ["drop_half", "increase_half", "drop_soft", "increase_soft"]
    assert "| grad_cam | top |" in records.table(record, shown)


def test_localization_counts_correct_photos_only(network, photos, tmp_path):
    chosen = settings(photos, tmp_path)
    found, model, images, _, saliency = directly(network, chosen)
    predicted = np.argmax(model(images), 1)
    assert 0 < (predicted == found.labels).sum() < PHOTOS
    correct = np.flatnonzero(predicted == found.labels)
    record = run(chosen, localization.PROTOCOL)
    values = values_of(record, chosen)
    assert record["photos"] == len(correct)
    assert record["accuracy"] == pytest.approx(len(correct) / PHOTOS)
    expected = metrics.energy_in_box(saliency, found.boxes)[correct]
    np.testing.assert_allclose(values["grad_cam/top/energy_in_box"], expected, rtol=1e-5)


@pytest.mark.parametrize("wanted", ["as many as there are", "more"])
def test_localization_draws_until_as_many_are_correct(network, photos, tmp_path, wanted):
    found, model, images, *_ = directly(network, settings(photos, tmp_path))
    correct = np.argmax(model(images), 1) == found.labels
    count = int(correct.sum())
    assert correct[:count].sum() < count, "the first draw is enough"
    n = count if wanted == "as many as there are" else PHOTOS
    chosen = settings(
        *(photos, tmp_path, LocalizationSettings), n=n, count="correct", methods=("centre",)
    )
    record = run(chosen, localization.PROTOCOL)
    assert record["photos"] == count
    ids = [name for name, right in zip(found.ids, correct, strict=True) if right]
    assert list(values_of(record, chosen)["ids"]) == ids
    again = run(chosen, localization.PROTOCOL)
    assert again["results"] == record["results"] and again["earlier"] == ["centre"]


def test_cells_are_measured_where_the_settings_put_them(network, photos, tmp_path, monkeypatch):
    where = jaxcam.Centers((3.0, 0.0), (2.0, 1.0), (SIZE, SIZE))
    monkeypatch.setattr(sites, "_centers", lambda grid, size: where)
    chosen = settings(photos, tmp_path, place="centers")
    found, model, images, raw, _ = directly(network, chosen)
    placed = maps.resize(raw, (SIZE, SIZE), centers=where)
    correct = np.flatnonzero(np.argmax(model(images), 1) == found.labels)
    values = values_of(run(chosen, localization.PROTOCOL), chosen)
    expected = metrics.energy_in_box(placed, found.boxes)[correct]
    np.testing.assert_allclose(values["grad_cam/top/energy_in_box"], expected, rtol=1e-5)


def test_localization_needs_boxes(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, data=str(photos[0]))
    with pytest.raises(ValueError, match=r"has no boxes, expected a boxes\.csv in the folder"):
        run(chosen, localization.PROTOCOL)


def test_games(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, GameSettings)
    record = run(chosen, games.PROTOCOL)
    values = values_of(record, chosen)
    _, model, images, _, saliency = directly(network, chosen)
    curve = metrics.insertion(model, images, saliency)
    np.testing.assert_allclose(values["grad_cam/top/insertion_curve"], curve, rtol=1e-4, atol=1e-5)
    results = record["results"]["grad_cam"]["top"]
    assert results["insertion"]["mean"] == pytest.approx(float(metrics.auc(curve).mean()), rel=1e-4)
    np.testing.assert_allclose(results["insertion_curve"]["mean"], curve.mean(0), rtol=1e-4)
    assert record["settings"]["variant"] == "rise"


def test_interpretability_and_explain_take_raw_maps(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, data=str(photos[0]), target="label", layers=())
    record = run(chosen, interpretability.PROTOCOL)
    values = values_of(record, chosen)
    other = dataclasses.replace(chosen, output=tmp_path / "maps")
    stored = values_of(run(other, explain.PROTOCOL), other)
    found, model, images, _, _ = directly(network, chosen)
    raw = jaxcam.grad_cam(model, images, found.labels, layer="stem")
    np.testing.assert_allclose(stored["grad_cam/stem/maps"], raw, rtol=1e-4, atol=1e-6)
    assert stored["grad_cam/top/maps"].shape == (PHOTOS, 8, 8)
    np.testing.assert_allclose(values["grad_cam/stem/entropy"], metrics.entropy(raw), rtol=1e-4)
    np.testing.assert_array_equal(values["targets"], found.labels)


def test_a_stopped_run_goes_on_where_it_stopped(network, photos, tmp_path, monkeypatch):
    chosen = settings(photos, tmp_path, methods=("noise", "centre"))
    first = run(chosen, explain.PROTOCOL)
    (tmp_path / "run/parts/centre.npz").unlink()
    (tmp_path / "run/explain.json").unlink()
    done, explained = [], work.Work._first
    monkeypatch.setattr(work.Work, "_first", lambda *a: done.append(a) or explained(*a))
    again = run(chosen, explain.PROTOCOL)
    assert len(done) == 1
    assert again["results"] == first["results"]
    with pytest.raises(ValueError, match="holds another run: seed 0 there, 1 here"):
        run(dataclasses.replace(chosen, seed=1), explain.PROTOCOL)


def test_command_line(network, photos, tmp_path, monkeypatch, capsys):
    folders = ["--output", str(tmp_path / "run"), "--root", str(photos[1])]
    words = [
        "--model",
        "tiny",
        "--data",
        "tiny20",
        "--methods",
        "noise",
        "--layers",
        "top",
        "-n",
        "3",
        "--seed",
        "2",
        *folders,
    ]
    monkeypatch.setattr(sys, "argv", ["eval"])
    programs.carry_out("interpretability", words)
    assert "| noise | top |" in capsys.readouterr().out
    record = json.loads((tmp_path / "run/interpretability.json").read_text())
    assert record["photos"] == 3
    assert record["command"].startswith(
        "python -m eval interpretability --model tiny --data tiny20 --methods noise"
    )


def test_bad_input_is_named(network, photos, tmp_path):
    attempt = lambda **fields: run(settings(photos, tmp_path, **fields), explain.PROTOCOL)
    with pytest.raises(ValueError, match="methods: got grad_cm, expected any of grad_cam"):
        attempt(methods=("grad_cm",))
    with pytest.raises(ValueError, match=r"layers: got 'layer9', expected any of .*stem"):
        attempt(layers=("layer9",))
    with pytest.raises(ValueError, match="n: got 0, expected a whole number, at least 1"):
        attempt(output=tmp_path / "none", n=0)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*or a TFDS name.*; or one of skimage"):
        attempt(output=tmp_path / "other", data=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="has photos without a class"):
        attempt(output=tmp_path / "third", data=str(photos[0] / "n1"), target="label")
    for name in "abcdef":
        (tmp_path / "six" / name).mkdir(parents=True)
        shutil.copy(photos[0] / "n1/0.png", tmp_path / "six" / name)
    with pytest.raises(ValueError, match="has class 5, expected 0 to 4, as tiny"):
        attempt(output=tmp_path / "fourth", data=str(tmp_path / "six"))
