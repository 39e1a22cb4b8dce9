"""A folder belongs to a run as soon as there is a value of it; until then another may take it."""

import dataclasses
import json

import numpy as np
import pytest

from eval import common, explain, parts, record
from eval.settings import Settings, check_folder, claim, confirm, part
from tests.eval.test_protocols import settings
from tests.eval.test_stops import touch


def claimed(folder, **fields):
    claim(Settings(folder, **fields), "games")
    return json.loads((folder / "settings.json").read_text())


def test_a_folder_without_values_may_be_taken(tmp_path):
    claimed(tmp_path, n=8)
    record.save_npz(part(tmp_path, "predictions"), {"predicted": np.arange(8)})
    touch(tmp_path / "parts/predictions", (0, 4))
    check_folder(Settings(tmp_path, n=6), "games")
    assert json.loads((tmp_path / "settings.json").read_text())["n"] == 8
    assert part(tmp_path, "predictions").exists()
    assert claimed(tmp_path, n=6)["n"] == 6
    assert not (tmp_path / "parts").exists()


def test_the_same_run_keeps_its_predictions(tmp_path):
    claimed(tmp_path, n=8)
    record.save_npz(part(tmp_path, "predictions"), {"predicted": np.arange(8)})
    assert claimed(tmp_path, n=8, methods=("lrp",))["methods"] == ["lrp"]
    assert part(tmp_path, "predictions").exists()


@pytest.mark.parametrize(
    "value", ["parts/noise.npz", "parts/noise/00000000-00000004.npz", "games.json"]
)
def test_a_folder_with_a_value_is_refused(tmp_path, value):
    claimed(tmp_path, n=8)
    touch(tmp_path / "parts/predictions", (0, 4))
    if value.endswith(".json"):
        record.write_json(tmp_path / value, {})
    else:
        record.save_npz(tmp_path / value, {})
    for refused in (check_folder, claim):
        with pytest.raises(ValueError, match="holds another run: n 8 there, 6 here"):
            refused(Settings(tmp_path, n=6), "games")
    with pytest.raises(ValueError, match="holds another run: protocol 'games' there, 'adcc' here"):
        claim(Settings(tmp_path, n=8), "adcc")
    assert (tmp_path / "parts/predictions").exists()
    assert claimed(tmp_path, n=8)["n"] == 8


def test_a_run_whose_folder_was_taken_stores_nothing(network, photos, tmp_path, monkeypatch):
    """The other run comes while the predictions of the first are computed."""
    chosen = settings(photos, tmp_path, seed=1)

    def overtaken(*_):
        claim(dataclasses.replace(chosen, seed=2), "explain")
        return np.zeros((6, 5), np.float32)

    monkeypatch.setattr(common, "in_batches", overtaken)
    with pytest.raises(
        ValueError, match=r"another run has taken .*run meanwhile: seed 2 there, 1 here"
    ):
        common.run(chosen, explain.PROTOCOL)
    assert not (tmp_path / "run/parts").exists()
    confirm(dataclasses.replace(chosen, seed=2), "explain")


def test_a_refused_run_does_not_hinder_its_correction(network, photos, tmp_path):
    """Maps of too few photos: it is known only when the predictions are there."""
    few = settings(photos, tmp_path, data=str(photos[0]), output=tmp_path / "few", n=2)
    common.run(few, explain.PROTOCOL)
    wrong = dataclasses.replace(few, n=6, maps=few.output, output=tmp_path / "run")
    with pytest.raises(ValueError, match="was made of other photos"):
        common.run(wrong, explain.PROTOCOL)
    assert common.run(dataclasses.replace(wrong, n=2), explain.PROTOCOL)["photos"] == 2


def test_a_method_that_fails_in_its_first_group_does_not_either(
    network, photos, tmp_path, monkeypatch
):
    chosen = settings(photos, tmp_path, methods=("noise",), seed=1)

    def fails(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory"):
        patch.setattr(common, "_measured", fails)
        common.run(chosen, explain.PROTOCOL)
    found = common.run(dataclasses.replace(chosen, seed=2), explain.PROTOCOL)
    assert found["seed"] == 2
    anew = dataclasses.replace(chosen, seed=2, output=tmp_path / "anew")
    common.run(anew, explain.PROTOCOL)
    for name, value in parts.load(anew.output / "values.npz").items():
        np.testing.assert_array_equal(parts.load(chosen.output / "values.npz")[name], value)
