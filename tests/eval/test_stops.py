"""Runs that are stopped, or shared by processes, end with the values of one that is neither."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from eval import programs
from eval.protocols import class_sensitivity, games
from eval.protocols.games import GameSettings
from eval.run import parts, record
from eval.run.runner import run
from jaxcam._ground.stops import Stopped
from tests import flags
from tests.eval.conftest import PHOTOS
from tests.eval.test_protocols import settings

ROOT = Path(__file__).resolve().parents[2]


def values(folder):
    with np.load(folder / "values.npz") as stored:
        return dict(stored)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        exact = value.dtype.kind != "f"
        tolerance = {} if exact else {"rtol": 1e-5, "atol": 1e-6}
        (np.testing.assert_array_equal if exact else np.testing.assert_allclose)(
            found[name], value, **tolerance
        )


def touch(folder, *ranges):
    folder.mkdir(parents=True, exist_ok=True)
    for first, last in ranges:
        record.save_npz(
            folder / f"{first:08d}-{last:08d}.npz", {"a": np.arange(first, last)}.items()
        )


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([], [(2, 6), (6, 10), (10, 11)]),
        ([(0, 4)], [(4, 8), (8, 11)]),
        ([(4, 8)], [(2, 4), (8, 11)]),
        ([(3, 5), (5, 20)], [(2, 3)]),
        ([(0, 20)], []),
        ([(11, 20)], [(2, 6), (6, 10), (10, 11)]),
    ],
)
def test_what_is_missing_is_what_no_file_covers(tmp_path, stored, expected):
    touch(tmp_path, *stored)
    assert list(parts.missing(tmp_path, 2, 11, 4)) == expected


@pytest.mark.parametrize(("count", "processes"), [(1000, 3), (10, 4), (1, 2), (64, 1)])
def test_shares_cover_the_photos_once(monkeypatch, count, processes):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    shares = []
    for index in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        shares.append(parts.share(count, 8))
    assert [first for first, _ in shares] == [0, *(last for _, last in shares[:-1])]
    assert shares[-1][1] == count
    sizes = [last - first for first, last in shares]
    assert max(sizes) - min(sizes) <= 8


def test_groups_become_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "GROUP", 3)
    touch(tmp_path / "a", (3, 6))
    asked = []

    def compute(groups):
        for group in groups:
            asked.append(group)
            yield {"a": np.arange(group.start, group.stop)}

    parts.store(tmp_path / "a.npz", 8, 3, compute, {"why": np.array("so")})
    assert asked == [slice(0, 3), slice(6, 8)]
    found = parts.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["a"], np.arange(8))
    assert str(found["why"]) == "so"
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    parts.store(tmp_path / "a.npz", 8, 3, compute, {})
    assert len(asked) == 2


def changed(content):
    """Another value, the checksum being as it was."""
    middle = content.index(b"}") + 80
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:40], lambda content: b"", changed],
    ids=["cut", "empty", "changed"],
)
@pytest.mark.parametrize("name", ["a.npz", "a/00000003-00000006.npz"])
def test_a_damaged_part_is_named_and_made_again(tmp_path, monkeypatch, capsys, damage, name):
    monkeypatch.setattr(parts, "GROUP", 3)
    values = np.arange(8.0)
    piece = slice(0, 8) if name == "a.npz" else slice(3, 6)
    sound = tmp_path / "sound.npz"
    np.savez(sound, a=values[piece])
    broken = tmp_path / name
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(damage(sound.read_bytes()))

    def compute(groups):
        for group in groups:
            yield {"a": values[group]}

    parts.store(tmp_path / "a.npz", 8, 3, compute, {})
    np.testing.assert_array_equal(parts.load(tmp_path / "a.npz")["a"], values)
    told = capsys.readouterr().err
    assert str(broken) in told and "made again" in told


class Killed(BaseException):
    pass


def killed_at(monkeypatch, save):
    """The `save`-th part from now on is left half-written, and the process ends."""
    left = [save]

    class ZipFile(zipfile.ZipFile):
        def open(self, name, mode="r", **options):
            """Reads as ever; ends in the middle of what is written."""
            if mode == "w" and not self.filelist:
                left[0] -= 1
            if mode == "w" and not left[0]:
                self.fp.write(b"half")
                raise Killed
            return super().open(name, mode, **options)

    monkeypatch.setattr(record.zipfile, "ZipFile", ZipFile)


PROTOCOLS = {
    "games": (games.PROTOCOL, {"layers": ("top", "stem")}),
    "class_sensitivity": (class_sensitivity.PROTOCOL, {"pairs": True}),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_killed_run_goes_on_after_the_last_group(network, photos, tmp_path, monkeypatch, name):
    """6 photos on 4 devices are 2 groups: 2 saves of photos, 1 of both, likewise predictions and
    each method."""
    protocol, fields = PROTOCOLS[name]
    fields = {"methods": ("grad_cam", "noise"), "output": tmp_path / "whole", **fields}
    whole = settings(photos, tmp_path, protocol.settings, **fields)
    expected = run(whole, protocol)
    monkeypatch.setattr(parts, "GROUP", 1)
    chosen = dataclasses.replace(whole, output=tmp_path / "run")
    for save in (2, 2, 3, 2, 3, 2, 3):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            killed_at(patch, save)
            run(chosen, protocol)
        assert not (chosen.output / f"{name}.json").exists()
    stored = [file.name for file in (chosen.output / "parts").rglob("*.npz")]
    assert sorted(stored) == [
        "00000000-00000004.npz",
        "grad_cam.npz",
        "photos.npz",
        "predictions.npz",
    ]
    found = run(chosen, protocol)
    assert found["results"].keys() == expected["results"].keys()
    assert_same(values(chosen.output), values(whole.output))
    names = sorted(file.name for file in (chosen.output / "parts").iterdir())
    assert names == ["grad_cam.npz", "noise.npz", "photos.npz", "predictions.npz"]


def test_two_processes_make_what_one_makes(network, photos, tmp_path):
    """Two processes of jax.distributed on this machine; each stores its own half."""
    words = [
        "--model",
        "tiny",
        "--data",
        "tiny20",
        "--methods",
        "grad_cam",
        "noise",
        "--batch",
        "2",
    ]
    words += ["--root", str(photos[1]), "--output", str(tmp_path / "two"), "--distributed"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common_env = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "PJRT_NPROC": "16"}
    command = [sys.executable, "-m", "tests.eval.worker", "2", *words]
    workers = []
    for index in range(2):
        env = {**os.environ, **common_env, "JAX_PROCESS_ID": str(index), "XLA_FLAGS": flags.QUICK}
        log = (tmp_path / f"{index}.log").open("w")
        workers.append(
            subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        )
    try:
        codes = [worker.wait(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert codes == [0, 0], "".join((tmp_path / f"{i}.log").read_text() for i in range(2))
    chosen = settings(
        photos, tmp_path, GameSettings, methods=("grad_cam", "noise"), layers=(), batch=2
    )
    expected = run(chosen, games.PROTOCOL)
    assert_same(values(tmp_path / "two"), values(chosen.output))
    found = json.loads((tmp_path / "two/games.json").read_text())
    assert (found["processes"], found["devices"].split()[0], found["photos"]) == (2, "2", PHOTOS)
    means = [made["results"]["grad_cam"]["top"]["insertion"]["mean"] for made in (found, expected)]
    assert means[0] == pytest.approx(means[1], rel=1e-5)


def test_a_run_that_is_asked_to_end_does_after_the_group(network, photos, tmp_path, monkeypatch):
    """SIGTERM comes while the first of two groups of a method is stored."""
    chosen = settings(photos, tmp_path, GameSettings, methods=("noise",), output=tmp_path / "whole")
    run(chosen, games.PROTOCOL)
    monkeypatch.setattr(parts, "GROUP", 1)
    save = parts.save_npz

    def stopping(path, arrays):
        save(path, arrays)
        if path.parent.name == "noise":
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = dataclasses.replace(chosen, output=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(parts, "save_npz", stopping)
        with pytest.raises(Stopped, match="SIGTERM: stopped after a group of photos; the same"):
            run(stopped, games.PROTOCOL)
    left = [file.name for file in (stopped.output / "parts/noise").iterdir()]
    assert left == ["00000000-00000004.npz"]
    run(stopped, games.PROTOCOL)
    assert_same(values(stopped.output), values(chosen.output))


@pytest.mark.parametrize(
    ("raised", "code"), [(Stopped("SIGTERM: x"), 143), (KeyboardInterrupt, 130)]
)
def test_what_ended_a_protocol_is_its_status_and_one_line(
    tmp_path, monkeypatch, capsys, raised, code
):
    def stopped(*words):
        raise raised

    monkeypatch.setattr(programs, "run", stopped)
    with pytest.raises(SystemExit) as ended:
        programs.carry_out("games", ["--output", str(tmp_path)])
    assert ended.value.code == code
    assert capsys.readouterr().err.count("\n") == 1


def test_alone_one_waits_for_nobody():
    with pytest.raises(FileNotFoundError, match="files of this run have been removed meanwhile"):
        parts.wait(lambda: False)


def test_waiting_is_said_and_has_an_end(monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(parts, "_TELL", 0.3)
    monkeypatch.setattr(parts, "PATIENCE", 0.8)
    with pytest.raises(TimeoutError, match=r"output: waited 0\.8 s for the other processes"):
        parts.wait(lambda: False)
    assert capsys.readouterr().err.startswith("waiting for the other processes, ")
