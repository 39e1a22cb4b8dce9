"""`python -m eval NAME`: programs are found by their files; expected errors are a line."""

import dataclasses
import importlib
import json
import os
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

from eval import __main__ as command
from eval import programs
from eval.run.protocol import Metric, Protocol

ROOT = Path(__file__).resolve().parents[2]
OLDER = sorted(path.stem for path in (ROOT / "eval/older").glob("*.py"))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Some."""

    number: int = 1


@pytest.fixture
def program(monkeypatch):
    """Makes `python -m eval games` do something else."""

    def make(function):
        def main(settings: Settings) -> None:
            function(settings)

        module = types.SimpleNamespace(__doc__="What it does.", main=main)
        monkeypatch.setattr(programs, "find", lambda name: module)

    monkeypatch.setattr(sys, "argv", ["eval"])
    return make


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("number: got 3,\n  expected 1"), "eval games: number: got 3, expected 1"),
        (FileNotFoundError("data: nowhere"), "eval games: data: nowhere"),
        (
            PermissionError(13, "Permission denied", "a"),
            "eval games: [Errno 13] Permission denied: 'a'",
        ),
        (ModuleNotFoundError("onnx: not installed"), "eval games: onnx: not installed"),
        (ValueError(), "eval games: ValueError"),
        (KeyError("ours"), None),
    ],
)
def test_expected_errors_are_one_line_others_keep_their_traceback(program, error, line):
    def fail(settings):
        assert settings == Settings(3)
        raise error

    program(fail)
    with pytest.raises(SystemExit if line else KeyError) as ended:
        programs.carry_out("games", ["--number", "3"])
    if line:
        assert ended.value.code == line  # which Python prints on stderr, and ends with status 1


def test_an_unknown_name_is_a_line_too():
    with pytest.raises(SystemExit, match="eval game: NAME: got 'game', expected any of adcc, "):
        command.main(["game"])


def test_alone_it_lists_every_program(capsys):
    command.main([])
    lines = capsys.readouterr().out.splitlines()[2:]
    listed = dict(line.split(maxsplit=1) for line in lines)
    assert list(listed) == list(programs.names())
    assert set(OLDER) <= set(listed)
    assert listed["agreement"] == "Do two networks name the same classes in the same order?"
    assert all(listed.values())


def test_every_program_takes_settings_and_says_what_it_does():
    for name in programs.names():
        module = programs.find(name)
        assert dataclasses.is_dataclass(programs._kind(module)), name
        assert f"python -m eval {name}" in module.__doc__, name


def test_a_protocol_is_called_as_its_file():
    found = programs.protocols()
    assert {"faithfulness", "games", "sanity"} <= set(found)
    for name, protocol in found.items():
        assert isinstance(protocol, Protocol)
        assert programs.find(name).PROTOCOL is protocol
    again = [protocol.again is not None for protocol in found.values()]
    assert again == sorted(again)  # those that explain once come first


def test_a_new_file_is_a_protocol(tmp_path, monkeypatch):
    """Nothing else has to know of it: it is listed, and its records are shown its way."""
    room = tmp_path / "protocols"
    room.mkdir()
    (room / "helper.py").write_text("x = 1\n")
    (room / "mine.py").write_text("PROTOCOL = 1\n")
    monkeypatch.setattr(programs, "HERE", tmp_path)
    programs.names.cache_clear()
    assert programs.names() == {"mine": "eval.protocols.mine"}
    mine = Protocol("mine", lambda case: {}, metrics={"a": Metric("A, %", -1)})
    monkeypatch.setattr(programs, "find", lambda name: types.SimpleNamespace(PROTOCOL=mine))
    number = {"mean": 1.0, "low": 0.0, "high": 2.0}
    record = {"protocol": "mine", "results": {"cam": {"top": {"b": number, "a": number}}}}
    assert programs.columns(record) == ["a"]
    assert programs.metrics("mine")["a"].direction == "lower is better"
    assert programs.columns({**record, "protocol": "unknown"}) == ["b", "a"]
    programs.names.cache_clear()


def test_columns_are_in_the_protocols_order_and_changes_in_the_runs():
    number = {"mean": 1.0, "low": 0.0, "high": 2.0}
    curve = {"mean": [1.0, 2.0]}
    games = {"insertion": number, "deletion": number, "deletion_curve": curve, "other": number}
    record = {"protocol": "games", "results": {"cam": {"top": games}}}
    assert programs.columns(record) == ["deletion", "insertion"]
    steps = {"b/ssim": number, "b/spearman": number, "a/ssim": number, "a/spearman_abs": number}
    record = {"protocol": "sanity", "results": {"cam": {"top": steps}}}
    assert programs.columns(record) == ["b/ssim", "a/ssim", "a/spearman_abs"]


@pytest.mark.parametrize("name", OLDER)
def test_older_names_run_the_same(name, monkeypatch):
    carried = []
    monkeypatch.setattr(programs, "carry_out", lambda *call: carried.append(call))
    monkeypatch.setattr(sys, "argv", [name, "--output", "x"])
    runpy.run_module(f"eval.{name}", run_name="__main__")
    assert carried == [(name, ["--output", "x"])]
    importlib.import_module(f"eval.{name}")
    assert len(carried) == 1
    assert name in programs.names()


def test_a_stranger_needs_nothing_but_the_package(tmp_path):
    """No data folder, no variable, two photos of scikit-image: both names of the command."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"]
    words = ["--output", "run", "--methods", "grad_cam", "noise", "--layers", "layer4"]
    for name in (["eval", "faithfulness"], ["eval.faithfulness"]):
        ended = subprocess.run(
            [sys.executable, "-m", *name, *words, "--batch", "2"],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "| grad_cam | layer4 |" in ended.stdout
    record = json.loads((tmp_path / "run/faithfulness.json").read_text())
    assert (record["photos"], record["settings"]["data"]) == (2, "skimage")
    assert record["command"].startswith("python -m eval faithfulness --output run")
    assert record["earlier"] == ["grad_cam", "noise"]  # the second run went on in the first's


def test_named_data_needs_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXCAM_DATA", raising=False)
    words = ["--output", str(tmp_path / "run"), "--data", "tiny20"]
    line = (
        "eval explain: data: got 'tiny20.zip', which comes with no package, expected its folder as "
        "--root or in the variable JAXCAM_DATA; or one of skimage"
    )
    with pytest.raises(SystemExit, match=line):
        programs.carry_out("explain", words)
    with pytest.raises(SystemExit, match="no package, expected its folder"):
        programs.carry_out("explain", [*words, "--model", "squeezenet"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [["figures", "--n", "0"], ["report", "runs", "--photos", "-1"], ["agreement", "--seed", "-1"]],
    ids=" ".join,
)
def test_numbers_of_every_program_are_refused_by_name(words, tmp_path):
    """Figures of 0 photos showed two, a gallery of -1 all but the last."""
    name, *options = words
    message = rf"^eval {name}: {options[-2][2:]}: got {options[-1]}, expected a whole number"
    with pytest.raises(SystemExit, match=message):
        programs.carry_out(name, [*options, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
