"""Sim-N of two networks: the record holds what a plain loop counts."""

import json

import jax
import numpy as np
import pytest
import tyro

from eval.studies import agreement
from eval.studies.agreement import AgreementSettings
from eval.subjects import data, networks
from jaxcam.classifier import Classifier
from tests.eval.conftest import PHOTOS, SIZE, forward


@pytest.fixture
def student(network, monkeypatch):
    """The network "other": as "tiny", a little disturbed."""
    leaves, tree = jax.tree.flatten(network.params)
    rng = np.random.default_rng(1)
    params = tree.unflatten([x + 0.02 * rng.normal(size=x.shape).astype(x.dtype) for x in leaves])
    made = Classifier(params, network.apply, network.preprocess, SIZE, network.stages)
    monkeypatch.setitem(networks.OURS, "other", lambda root: made)
    return made


def settings(photos, tmp_path, **fields):
    defaults = {
        "output": tmp_path / "run",
        "model": "tiny",
        "student": "other",
        "data": "tiny20",
        "root": photos[1],
    }
    return AgreementSettings(**defaults | {"batch": 1} | fields)


def test_agreement(network, student, photos, tmp_path):
    chosen = settings(photos, tmp_path, top=4)
    record = agreement.run(chosen)
    found = data.load("tiny20", SIZE, 1000, 0, photos[1])
    orders = []
    for net in (network, student):
        model, prepare = forward(net)
        orders.append(np.argsort(-np.asarray(model(prepare(found.images))), 1))
    same = [[all(a[:n] == b[:n]) for n in range(1, 5)] for a, b in zip(*orders, strict=True)]
    assert 0 < np.mean(same) < 1
    with np.load(chosen.output / "values.npz") as values:
        for n in range(4):
            np.testing.assert_array_equal(values[f"other/logits/sim_{n + 1}"], np.array(same)[:, n])
    means = [record["results"]["other"]["logits"][f"sim_{n + 1}"]["mean"] for n in range(4)]
    np.testing.assert_allclose(means, np.mean(same, 0))
    assert record["student_accuracy"] == pytest.approx(np.mean(orders[1][:, 0] == found.labels))
    assert record["accuracy"] == pytest.approx(np.mean(orders[0][:, 0] == found.labels))
    assert record["photos"] == PHOTOS
    assert json.loads((chosen.output / "agreement.json").read_text()) == record


def test_command_line(network, photos, tmp_path, capsys):
    """A network agrees with itself."""
    words = [
        "--model",
        "tiny",
        "--student",
        "tiny",
        "--data",
        "tiny20",
        "--top",
        "2",
        "-n",
        "3",
        "--batch",
        "1",
    ]
    agreement.main(
        tyro.cli(
            AgreementSettings, args=[*words, "--output", str(tmp_path), "--root", str(photos[1])]
        )
    )
    assert "| tiny | logits | 1 (of 3) | 1 (of 3) |" in capsys.readouterr().out


def test_bad_input_is_named(network, photos, tmp_path):
    with pytest.raises(ValueError, match="n: got 9, expected 1 to 5, the number of classes"):
        agreement.run(settings(photos, tmp_path, student="tiny", top=9))
    assert not (tmp_path / "run").exists()
