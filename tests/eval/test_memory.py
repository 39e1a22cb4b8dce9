"""The memory of an evaluation: nobody holds all photos, and a command measures it."""

import jax
import numpy as np
import pytest

from eval.costs import memory
from eval.protocols import explain
from eval.run import parts
from eval.run.runner import run
from eval.subjects import data
from tests.eval.conftest import PHOTOS
from tests.eval.test_protocols import settings


def test_the_command_measures_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(memory.Path(memory.__file__).parents[2]))
    chosen = memory.Settings(photos=(2, 3), methods=("noise",), batch=1, pixels=16)
    peaks = memory.measure(chosen, tmp_path)
    assert list(peaks) == [2, 3]
    assert all(50 * 2**20 < peak.memory < 2**34 and peak.seconds > 0 for peak in peaks.values())
    assert len(list((tmp_path / "photos").rglob("*.jpg"))) == 3
    assert memory.table({7: memory.Peak(3 * 2**20, 2.0)}).endswith("| 7 | 3 | 2 |")


def test_what_cannot_be_measured_is_named(tmp_path):
    for photos in ((), (0, 4)):
        with pytest.raises(ValueError, match=r"photos: got .*, expected numbers of at least 1"):
            memory.measure(memory.Settings(photos=photos), tmp_path)
    with pytest.raises(ChildProcessError, match=r"failed with 1 photo: .* eval explain "):
        memory.measure(memory.Settings((1,), "explain", "none", pixels=8), tmp_path)


def rows_read(monkeypatch):
    """The rows of photos that are decoded from now on."""
    read, asked = data.Drawn.read, []

    def recorded(self, rows):
        asked.append(rows)
        return read(self, rows)

    monkeypatch.setattr(data.Drawn, "read", recorded)
    return asked


def test_photos_are_decoded_group_by_group(network, photos, tmp_path, monkeypatch):
    """Two photos at a time, and one group ahead; each group once for predictions and a method."""
    monkeypatch.setattr(parts, "GROUP", 1)
    asked = rows_read(monkeypatch)
    monkeypatch.setattr("jax.local_device_count", lambda: 2)
    two = jax.devices()[:2]
    monkeypatch.setattr("jax.local_devices", lambda: two)
    run(settings(photos, tmp_path, methods=("noise", "centre")), explain.PROTOCOL)
    assert [list(rows) for rows in asked] == [[0, 1], [2, 3], [4, 5]] * 3
    assert PHOTOS == 6


def test_a_process_decodes_its_own_photos_only(network, photos, tmp_path, monkeypatch):
    """The second of two, whose other has done its part."""
    chosen = settings(photos, tmp_path, methods=("noise",))
    run(chosen, explain.PROTOCOL)
    expected = parts.load(chosen.output / "values.npz")
    (chosen.output / "parts/noise.npz").unlink()
    monkeypatch.setattr(parts, "GROUP", 1)
    asked = rows_read(monkeypatch)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr("jax.process_index", lambda: 1)

    class Left(Exception):
        pass

    def wait(condition):
        raise Left

    monkeypatch.setattr(parts, "wait", wait)
    monkeypatch.setattr("eval.run.folder.wait", lambda condition: None)
    monkeypatch.setattr("eval.run.folder.by_writer", lambda action: None)
    with pytest.raises(Left):
        run(chosen, explain.PROTOCOL)
    assert [list(rows) for rows in asked] == [[4, 5]]
    made = parts.load(chosen.output / "parts/noise/00000004-00000006.npz")
    np.testing.assert_array_equal(made["top/maps"], expected["noise/top/maps"][4:])


def test_arrays_of_parts_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    parts.save_npz(tmp_path / "a.npz", {"x": np.arange(3), "y": np.arange(4)}.items())
    stored = parts.Stored({"a/x": (tmp_path / "a.npz", "x"), "a/y": (tmp_path / "a.npz", "y")})
    assert (list(stored), len(stored)) == (["a/x", "a/y"], 2)
    loaded, load = [], parts.load_array
    monkeypatch.setattr(parts, "load_array", lambda *at: loaded.append(at[1]) or load(*at))
    items = iter(stored.items())
    np.testing.assert_array_equal(next(items)[1], np.arange(3))
    assert loaded == ["x"]
