"""The rooms of eval: which way imports go between them, and what they may not know."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EVAL = ROOT / "eval"
FILES = sorted(EVAL.rglob("*.py"))

# A room imports from those before it, and from itself.
ROOMS = ["subjects", "run", "protocols", "programs", "reporting", "costs", "studies"]
OPEN = {"older", "__main__", "__init__"}  # they start programs, and nobody imports them


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(EVAL).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EVAL)))
def test_imports_go_one_way(path):
    for name in imports(path):
        assert not name.startswith("jaxcam.cli"), f"{path} imports the command line"
        parts = name.split(".")
        if parts[0] == "eval" and len(parts) > 1 and room(path) not in OPEN:
            assert ROOMS.index(parts[1]) <= ROOMS.index(room(path)), f"{path} imports {name}"


def test_every_room_is_known():
    found = {room(path) for path in FILES}
    assert found == set(ROOMS) | OPEN


def test_no_place_outside_the_checkout_is_a_default():
    for path in FILES:
        text = path.read_text()
        assert '"shared"' not in text and "/shared" not in text, path
        assert "parents[2]" not in text, path
