"""A folder is one living process's, and nobody's as soon as that is dead."""

import json
import os
import signal
import subprocess
import sys

import pytest

from jaxcam._ground import locks

HOLDS = """
import sys, time
from jaxcam._ground import locks
with locks.held(sys.argv[1], "workdir"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_held_folder_is_refused_by_who_holds_it(tmp_path, holder):
    before = (tmp_path / ".lock").read_bytes()
    expected = f"workdir: got {tmp_path}, in which process {holder.pid} on .*, since .*, is at work"
    with pytest.raises(ValueError, match=expected), locks.held(tmp_path, "workdir"):
        pass
    with pytest.raises(ValueError, match=expected):
        locks.check(tmp_path, "workdir")
    assert (tmp_path / ".lock").read_bytes() == before
    assert json.loads(before).keys() == {"host", "pid", "start"}


def test_a_dead_process_holds_nothing(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    locks.check(tmp_path, "workdir")
    with locks.held(tmp_path, "workdir"):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_it_is_made_and_left_as_it_was_found(tmp_path):
    folder = tmp_path / "a/b"
    locks.check(folder, "workdir")
    assert not folder.parent.exists()
    with locks.held(folder, "workdir"):
        assert [file.name for file in folder.iterdir()] == [".lock"]
    assert not list(folder.iterdir())


def test_a_lock_that_is_removed_while_it_is_waited_for_is_no_lock(tmp_path, monkeypatch):
    """What is opened is then a file of no name: it is opened again."""
    lock, opened = locks._lock, []

    def removed(file, path, argument):
        opened.append(file)
        if len(opened) == 1:
            path.unlink()
        lock(file, path, argument)

    monkeypatch.setattr(locks, "_lock", removed)
    with locks.held(tmp_path, "workdir"):
        assert (tmp_path / ".lock").exists()
    assert len(opened) == 2


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        with (
            pytest.raises(OSError, match=f"workdir: {folder} cannot be written: "),
            locks.held(folder, "workdir"),
        ):
            pass


def test_a_full_disk_is_named_and_leaves_no_lock(tmp_path, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks.json, "dump", full)
    with (
        pytest.raises(OSError, match=f"workdir: {tmp_path} cannot be written: No space left"),
        locks.held(tmp_path, "workdir"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_where_there_are_no_locks_one_is_warned(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="no locks here"), locks.held(tmp_path, "workdir"):
        pass
