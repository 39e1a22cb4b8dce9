"""Every program of eval has one command line: expected errors are a line, the rest a traceback."""

import ast
import dataclasses
import sys
from pathlib import Path

import pytest

from eval.command import command

EVAL = Path(__file__).resolve().parents[2] / "eval"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Some."""

    number: int = 1


def fail(error):
    def main(settings):
        assert settings == Settings(3)
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("number: got 3,\n  expected 1"), "eval.games: number: got 3, expected 1"),
        (FileNotFoundError("data: nowhere"), "eval.games: data: nowhere"),
        (
            PermissionError(13, "Permission denied", "a"),
            "eval.games: [Errno 13] Permission denied: 'a'",
        ),
        (ModuleNotFoundError("onnx: not installed"), "eval.games: onnx: not installed"),
        (ValueError(), "eval.games: ValueError"),
    ],
)
def test_expected_errors_are_one_line(monkeypatch, error, line):
    monkeypatch.setattr(sys, "argv", ["/somewhere/eval/games.py", "--number", "3"])
    with pytest.raises(SystemExit) as ended:
        command(fail(error), Settings, "What it does.")
    assert ended.value.code == line  # which Python prints on stderr, and ends with status 1


def test_other_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["games.py", "--number", "3"])
    with pytest.raises(KeyError, match="ours"):
        command(fail(KeyError("ours")), Settings, None)


@pytest.mark.parametrize("path", sorted(EVAL.glob("*.py")), ids=lambda path: path.stem)
def test_every_program_uses_it(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            (call,) = node.body
            assert ast.unparse(call).startswith("command(main, ")
