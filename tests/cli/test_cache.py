"""Compiled programs are found by the next command; whatever is wrong with their folder passes."""

import contextlib
import os
import subprocess
import sys
import types
from typing import Any

import jax
import pytest

from eval.costs import first
from jaxcam import cli
from jaxcam.cli import cache

CONFIG: Any = jax.config  # whose options no type checker knows


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's cache folder; what other tests of this process compile is kept nowhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = CONFIG.jax_compilation_cache_dir
    CONFIG.update("jax_compilation_cache_dir", None)
    yield tmp_path / "home"
    CONFIG.update("jax_compilation_cache_dir", before)


def test_the_second_command_compiles_nothing(weights):
    runs = first.measure(("--model", weights), rounds=1)
    asked = runs["first"].asked
    assert asked >= 4
    assert (runs["first"].found, runs["second"].asked, runs["second"].found) == (0, asked, asked)
    for run in runs.values():
        assert set(run.phases) == set(first.PHASES)
        assert all(seconds.user + seconds.system > 0 for seconds in run.phases.values())
        assert sum(each.user for each in run.phases.values()) == pytest.approx(run.total.user)
    *_, last = first.table(runs).splitlines()
    assert last == f"| programs compiled | {asked} | 0 |"


# A folder with entries that are damaged in turn; then one that takes no further byte.
DAMAGED = """
import resource, sys
import jax
from jaxcam.cli import cache

def answer():
    jax.clear_caches()
    return float(jax.jit(lambda x: x * 3 + 1)(2.0))

def entries():
    return list(cache.folder().glob("*-cache"))

found = []
with cache.kept(True):
    for damage in (b"", b"nonsense", None):
        found.append(answer())
        whole = entries()
        assert whole
        for entry in whole:
            entry.write_bytes(entry.read_bytes()[:-9] if damage is None else damage)
        found.append(answer())
        assert {entry.name for entry in entries()} == {entry.name for entry in whole}
        found.append(answer())
    for entry in cache.folder().iterdir():
        entry.unlink()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    found.append(answer())
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert found == [7.0] * 10
"""


def test_damaged_entries_and_full_disks_do_no_harm(home):
    ran = subprocess.run([sys.executable, "-c", DAMAGED], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert home.exists()


def test_without_a_folder_nothing_is_kept(home, monkeypatch):
    home.write_text("a file where a folder should be")
    with cache.kept(True):
        assert CONFIG.jax_compilation_cache_dir is None
    home.unlink()
    with cache.kept(False):
        assert CONFIG.jax_compilation_cache_dir is None
    monkeypatch.setenv(cache.OFF, "1")
    with cache.kept(True):
        assert CONFIG.jax_compilation_cache_dir is None
    assert not (home / "jaxcam" / "programs").exists()


def test_a_cache_of_the_users_own_is_left_alone(home, monkeypatch, tmp_path):
    mine = types.SimpleNamespace(jax_compilation_cache_dir=str(tmp_path))
    monkeypatch.setattr(cache, "_CONFIG", mine)
    with cache.kept(True):  # which would fail at setting anything
        assert vars(mine) == {"jax_compilation_cache_dir": str(tmp_path)}
    assert not home.exists()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "given", "kept"),
    [([], False, True), (["--no-cache"], False, False), ([], True, False)],
)
def test_commands_of_a_process_keep_programs(run, monkeypatch, words, given, kept):
    """One that is called from Python changes nothing in the caller's JAX."""
    asked = []
    monkeypatch.setattr(cache, "kept", lambda wanted: asked.append(wanted) or contextlib.suppress())
    words = ["layers", *words]
    monkeypatch.setattr(sys, "argv", ["jaxcam", *words])
    assert cli.main(words if given else None) == 0
    assert asked == [kept]
