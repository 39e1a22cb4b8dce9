"""The tool that changes code and asks the tests: it changes what it says, one thing at a time."""

import ast

import pytest

from tests import mutations

SOURCE = '''
import numpy as np

def scaled(x: float = 2.0, *, top: bool = True) -> float:
    """Not 1 + 1."""
    if x < 0 and top:
        raise ValueError("x" * 3)
    return np.max(x * 3, axis=-1)
'''


def test_every_kind_of_change_is_made_alone():
    found = {change.what: change.source for change in mutations.changes(SOURCE)}
    assert sorted(found) == sorted(
        [
            "2.0 -> 4.0",
            "True -> False",
            "x < 0 and top -> x < 0 or top",
            "x < 0 -> x <= 0",
            "0 -> 1",
            "axis= left out of np.max",
            "max -> min",
            "x * 3 -> x / 3",
            "3 -> 4",
            "-1 -> +1",
            "1 -> 2",
        ]
    )
    plain = ast.unparse(ast.parse(SOURCE))
    for source in found.values():
        differing = [
            a for a, b in zip(plain.split("\n"), source.split("\n"), strict=True) if a != b
        ]
        assert len(differing) == 1


def test_a_file_is_tested_by_its_own_room():
    assert mutations.tests_of("jaxcam/lrp/rules.py") == ["tests/lrp"]
    assert mutations.tests_of("jaxcam/maps.py") == ["tests/test_maps.py", "tests/metrics"]
    with pytest.raises(SystemExit, match=r"setup\.py"):
        mutations.tests_of("setup.py")
    for tests in mutations.ROOMS.values():
        assert all((mutations.TOP / each).exists() for each in tests)


def test_what_no_test_notices_survives(tmp_path):
    (tmp_path / "scale.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "test_scale.py").write_text(
        "from scale import twice\n\ndef test_zero():\n    assert twice(0) == 0\n"
    )
    kept = (tmp_path / "scale.py").read_text()
    fate = {}
    for change in mutations.changes(kept):
        fate[change.what] = mutations.survives(tmp_path, "scale.py", change, ["test_scale.py"])
    assert fate == {"2 * x -> 2 / x": False, "2 -> 3": True}  # 2 / 0 raises
    assert (tmp_path / "scale.py").read_text() == kept
