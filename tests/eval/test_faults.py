"""Full disks, damaged files and files in place of folders: one line, and a run that goes on."""

import dataclasses
import errno
import json

import numpy as np
import pytest

from eval import programs
from eval.protocols import explain, games
from eval.reporting import report
from eval.run import parts, record, stored
from eval.run.runner import run
from eval.subjects import onnx_export
from jaxcam import models
from jaxcam._ground import files
from tests.eval.test_protocols import settings
from tests.eval.test_stops import assert_same, values


def full_at(monkeypatch, write):
    """The `write`-th file from now on finds no room when half of it is there."""
    left = [write]
    replace = files.os.replace

    def full(part, target):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(part))
        replace(part, target)

    monkeypatch.setattr(files.os, "replace", full)


def test_a_full_disk_is_one_line_and_a_protocol_goes_on_to_the_same_values(
    network, photos, tmp_path, monkeypatch, capsys
):
    """Each start writes one file more."""
    fields = {"methods": ("noise",), "layers": ("top",)}
    whole = settings(photos, tmp_path, output=tmp_path / "whole", **fields)
    expected = run(whole, explain.PROTOCOL)
    chosen = dataclasses.replace(whole, output=tmp_path / "run")
    words = ["--output", str(chosen.output), "--root", str(photos[1]), "--data", "tiny20"]
    words += ["--model", "tiny", "--methods", "noise", "--layers", "top", "--batch", "1"]
    named = []
    while "explain.json" not in named:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            full_at(patch, 3)  # the first is settings.json, each time
            programs.carry_out("explain", words)
        told = capsys.readouterr().err + str(ended.value.code)
        assert told.count("\n") == 0
        assert "cannot be written: No space left on device" in told
        named.append(told.split("'")[1].removeprefix(f"{chosen.output}/"))
        assert not [file for file in chosen.output.rglob("*") if ".part" in file.name]
    assert "parts/noise/00000000-00000006.npz" in named and len(named) == len(set(named)) < 9
    programs.carry_out("explain", words)
    found = json.loads((chosen.output / "explain.json").read_text())
    assert found["results"] == json.loads(json.dumps(expected["results"]))
    assert_same(values(chosen.output), values(whole.output))


@pytest.mark.parametrize("name", ["", "below", "parts", "settings.json", "values.npz"])
def test_a_file_or_folder_in_the_place_of_another_is_named(network, photos, tmp_path, name):
    output = tmp_path / "run"
    place = output / name
    if name.endswith((".json", ".npz")):
        place.mkdir(parents=True)
    else:
        if name == "parts":
            output.mkdir()
        (output if name == "below" else place).write_text("")
    if name == "below":
        output = place
    chosen = settings(photos, tmp_path, methods=("noise",), output=output)
    with pytest.raises(OSError, match=f"{place}"):
        run(chosen, explain.PROTOCOL)


def test_one_changed_bit_of_a_part_is_seen_or_changes_nothing(tmp_path):
    arrays = {"layer4/area": np.arange(3, dtype=np.float32), "ids": np.array(["a", "b", "c"])}
    record.save_npz(tmp_path / "sound.npz", arrays.items())
    sound, path, seen = (tmp_path / "sound.npz").read_bytes(), tmp_path / "part.npz", 0
    for index in range(len(sound)):
        path.write_bytes(sound[:index] + bytes([sound[index] ^ 0x80]) + sound[index + 1 :])
        if parts._damage(path):
            seen += 1
            continue
        found = parts.load(path)
        assert list(found) == list(arrays)
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name], value, strict=True)
    assert seen > len(sound) / 2


def test_damaged_files_of_a_finished_run_are_named(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, methods=("noise",))
    run(chosen, explain.PROTOCOL)
    measured = settings(
        photos, tmp_path, games.GameSettings, methods=("noise",), output=tmp_path / "games"
    )
    measured = dataclasses.replace(measured, maps=chosen.output)
    stored.load(measured)
    sound = (chosen.output / "values.npz").read_bytes()
    (chosen.output / "values.npz").write_bytes(sound[:-30])
    with pytest.raises(ValueError, match=r"run/values\.npz is damaged .*: the command"):
        stored.load(measured)
    for name in ("explain.json", "settings.json"):
        (chosen.output / name).write_text('{"cut')
    with pytest.raises(ValueError, match=r"run/explain\.json' is damaged: no JSON"):
        stored.load(measured)
    with pytest.raises(ValueError, match=r"run/explain\.json' is damaged: no JSON"):
        report.read(chosen.output)
    with pytest.raises(ValueError, match=r"run/settings\.json' is damaged: no JSON"):
        run(chosen, explain.PROTOCOL)


def test_a_full_disk_leaves_no_half_of_a_network(tmp_path, monkeypatch):
    full_at(monkeypatch, 1)
    with pytest.raises(OSError, match=r"x\.onnx' cannot be written: No space left on device"):
        onnx_export.main(onnx_export.Settings(tmp_path / "x.onnx"))
    full_at(monkeypatch, 1)
    _, variables = models.load("tiny20")
    about = models.describe("tiny20")
    with pytest.raises(OSError, match=r"x\.safetensors' cannot be written: No space left"):
        models.save(tmp_path / "x.safetensors", about.architecture, about.options, variables)
    assert not list(tmp_path.iterdir())
