"""A folder belongs to a run as soon as there is a value of it; until then another may take it."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from eval.protocols import adcc, explain, games
from eval.protocols.games import GameSettings
from eval.run import cases, folder, parts, record, work
from eval.run.runner import run
from eval.run.settings import Settings, plain
from tests.eval.test_protocols import settings
from tests.eval.test_stops import touch


def of(path, protocol="games", **fields):
    return folder.of(Settings(path, **fields), protocol)


def claimed(path, **fields):
    of(path, **fields).claim()
    return json.loads((path / "settings.json").read_text())


def test_a_folder_without_values_may_be_taken(tmp_path):
    claimed(tmp_path, n=8)
    record.save_npz(of(tmp_path).part("predictions"), {"predicted": np.arange(8)}.items())
    touch(tmp_path / "parts/predictions", (0, 4))
    of(tmp_path, n=6).check()
    assert json.loads((tmp_path / "settings.json").read_text())["n"] == 8
    assert of(tmp_path).part("predictions").exists()
    assert claimed(tmp_path, n=6)["n"] == 6
    assert not (tmp_path / "parts").exists()


def test_the_same_run_keeps_its_predictions(tmp_path):
    claimed(tmp_path, n=8)
    record.save_npz(of(tmp_path).part("predictions"), {"predicted": np.arange(8)}.items())
    assert claimed(tmp_path, n=8, methods=("lrp",))["methods"] == ["lrp"]
    assert of(tmp_path).part("predictions").exists()


@pytest.mark.parametrize(
    "value", ["parts/noise.npz", "parts/noise/00000000-00000004.npz", "games.json"]
)
def test_a_folder_with_a_value_is_refused(tmp_path, value):
    claimed(tmp_path, n=8)
    touch(tmp_path / "parts/predictions", (0, 4))
    if value.endswith(".json"):
        record.write_json(tmp_path / value, {})
    else:
        record.save_npz(tmp_path / value, [])
    for refused in (of(tmp_path, n=6).check, of(tmp_path, n=6).claim):
        with pytest.raises(ValueError, match="holds another run: n 8 there, 6 here"):
            refused()
    with pytest.raises(ValueError, match="holds another run: protocol 'games' there, 'adcc' here"):
        of(tmp_path, "adcc", n=8).claim()
    assert (tmp_path / "parts/predictions").exists()
    assert claimed(tmp_path, n=8)["n"] == 8


def test_a_run_whose_folder_was_taken_stores_nothing(network, photos, tmp_path, monkeypatch):
    """The other run comes while the predictions of the first are computed."""
    chosen = settings(photos, tmp_path, seed=1)

    def overtaken(*_):
        folder.of(dataclasses.replace(chosen, seed=2), "explain").claim()
        return np.zeros((6, 5), np.float32)

    monkeypatch.setattr(cases, "in_batches", overtaken)
    with pytest.raises(
        ValueError, match=r"which another run has taken meanwhile: seed 2 there, 1 here"
    ):
        run(chosen, explain.PROTOCOL)
    assert not (tmp_path / "run/parts").exists()
    folder.of(dataclasses.replace(chosen, seed=2), "explain").confirm()


@pytest.mark.parametrize("fields", [{"batch": 0}, {"chunk": 0}, {"seed": -1}, {"n": 0}], ids=str)
def test_numbers_out_of_range_are_refused_by_name(network, photos, tmp_path, fields):
    """A batch of 0 was a division by zero."""
    (name,) = fields
    with pytest.raises(ValueError, match=rf"^{name}: got .*, expected a whole number, at least"):
        run(settings(photos, tmp_path, GameSettings, **fields), games.PROTOCOL)
    among = settings(photos, tmp_path, data=str(photos[0]), output=photos[0] / "run")
    with pytest.raises(ValueError, match=r"^output: got .*, which lies among the photos of"):
        run(among, explain.PROTOCOL)
    assert not (photos[0] / "run").exists()


def test_a_refused_run_does_not_hinder_its_correction(network, photos, tmp_path):
    """Maps of too few photos: it is known only when the predictions are there."""
    few = settings(photos, tmp_path, data=str(photos[0]), output=tmp_path / "few", n=2)
    run(few, explain.PROTOCOL)
    wrong = dataclasses.replace(few, n=6, maps=few.output, output=tmp_path / "run")
    with pytest.raises(ValueError, match="was made of other photos"):
        run(wrong, explain.PROTOCOL)
    assert run(dataclasses.replace(wrong, n=2), explain.PROTOCOL)["photos"] == 2


def test_a_method_that_fails_in_its_first_group_does_not_either(
    network, photos, tmp_path, monkeypatch
):
    chosen = settings(photos, tmp_path, methods=("noise",), seed=1)

    def fails(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory"):
        patch.setattr(work.Work, "_first", fails)
        run(chosen, explain.PROTOCOL)
    found = run(dataclasses.replace(chosen, seed=2), explain.PROTOCOL)
    assert found["seed"] == 2
    anew = dataclasses.replace(chosen, seed=2, output=tmp_path / "anew")
    run(anew, explain.PROTOCOL)
    for name, value in parts.load(anew.output / "values.npz").items():
        np.testing.assert_array_equal(parts.load(chosen.output / "values.npz")[name], value)


def test_what_does_not_change_values_may_differ(tmp_path):
    """Batches, chunks, places and methods; but not the class that is explained."""
    first = GameSettings(tmp_path, methods=("noise",))
    folder.of(first, "games").claim()
    record.save_npz(tmp_path / "parts/noise.npz", [])
    free = {"batch": 3, "chunk": 9, "maps": tmp_path, "root": tmp_path, "distributed": True}
    folder.of(dataclasses.replace(first, **free, methods=("cam",)), "games").check()
    for field, value in {"target": "label", "n": 3, "variant": "rise_fine"}.items():
        with pytest.raises(ValueError, match=f"holds another run: {field} "):
            folder.of(dataclasses.replace(first, **{field: value}), "games").check()


def test_values_that_have_changed_their_meaning_are_not_mixed(tmp_path):
    """Once ADCC's drop was a fraction: a folder of that time is refused, or taken when empty."""
    old = plain(Settings(tmp_path), "adcc")
    assert "version" not in old
    record.write_json(tmp_path / "settings.json", old)
    ours = folder.of(Settings(tmp_path), "adcc", adcc.PROTOCOL.version)
    ours.check()
    record.save_npz(tmp_path / "parts/noise.npz", [])
    with pytest.raises(ValueError, match="holds another run: version 1 there, 2 here"):
        ours.claim()
    (tmp_path / "parts/noise.npz").unlink()
    ours.claim()
    assert json.loads((tmp_path / "settings.json").read_text())["version"] == 2
    record.save_npz(tmp_path / "parts/noise.npz", [])
    ours.check()


def test_a_run_from_before_photos_were_a_part_goes_on(network, photos, tmp_path):
    """Its predictions and finished methods stay; what it did not store is found anew."""
    chosen = settings(photos, tmp_path, methods=("noise", "centre"))
    expected = run(chosen, explain.PROTOCOL)
    for name in ("parts/photos.npz", "parts/centre.npz", "explain.json", "values.npz"):
        (chosen.output / name).unlink()
    again = run(chosen, explain.PROTOCOL)
    assert again["earlier"] == ["noise"]
    assert again["results"] == expected["results"]


def test_a_second_run_in_a_folder_is_refused_while_the_first_lives(network, photos, tmp_path):
    chosen = settings(photos, tmp_path)
    with (
        folder.of(chosen, "games").held(),
        pytest.raises(ValueError, match=r"output: got .*, in which process .* is at work"),
    ):
        run(chosen, games.PROTOCOL)
    assert not list(chosen.output.iterdir())


def test_a_changed_file_of_ones_own_model_is_another_network(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def net(): ...")
    fields = {"model": f"{mine}:net"}
    run_folder = tmp_path / "run"
    held = claimed(run_folder, **fields)
    assert held["files"] == {"model": hashlib.sha256(b"def net(): ...").hexdigest()[:16]}
    record.save_npz(of(run_folder).part("grad_cam"), {"x": np.zeros(1)}.items())
    of(run_folder, **fields).check()
    mine.write_text("def net(): return 1")
    with pytest.raises(
        ValueError, match=r"holds another run: files \{'model': .* there, \{'model'"
    ):
        of(run_folder, **fields).check()
    del held["files"]  # a run of before there were digests is taken at its word
    (run_folder / "settings.json").write_text(json.dumps(held))
    of(run_folder, **fields).check()
    assert "files" not in plain(Settings(tmp_path), "games")
