"""Small changes made to the code, one at a time, and which of them no test notices.

    python -m tests.mutations jaxcam/metrics/_games.py                 # ten, at random
    python -m tests.mutations jaxcam/lrp/rules.py --count 30 --seed 1
    python -m tests.mutations train/objectives.py --tests tests/train/test_objectives.py

A change is another operator, comparison, number, truth value or name of a function (`max` for
`min`), or a keyword argument left out. Each is made in a copy of the working tree, where the tests
of the file's room run until one fails. What is printed at the end are the survivors: code that
could be wrong and no test would say so, or that means the same (read them before you believe
either). Not part of CI: a change takes as long as the tests up to the first failure.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[1]
# Where the tests of a room are, by the beginning of a file's path; the longest counts.
ROOMS = {
    "jaxcam": ["tests"],
    "jaxcam/_explainers": ["tests/explainers", "tests/test_laws.py", "tests/test_golden.py"],
    "jaxcam/_ground": ["tests/ground", "tests/metrics", "tests/explainers"],
    "jaxcam/_program": ["tests/test_layers.py", "tests/test_sites.py", "tests/test_axes.py"],
    "jaxcam/lrp": ["tests/lrp"],
    "jaxcam/metrics": ["tests/metrics"],
    "jaxcam/models": ["tests/models"],
    "jaxcam/datasets": ["tests/datasets", "tests/train"],
    "jaxcam/targets": ["tests/test_targets.py", "tests/test_confidence.py"],
    "jaxcam/cli": ["tests/cli"],
    "jaxcam/maps.py": ["tests/test_maps.py", "tests/metrics"],
    "jaxcam/fostering.py": ["tests/test_fostering_loss.py", "tests/test_fostering.py"],
    "train": ["tests/train"],
    "eval": ["tests/eval"],
    "configs": ["tests/train/test_configs.py", "tests/train/test_papers.py"],
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
}
_COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_BOOLEANS = {ast.And: ast.Or, ast.Or: ast.And}
_NAMES = {
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "mean": "sum",
    "sum": "mean",
    "argmax": "argmin",
    "argsort": "sort",
    "abs": "square",
    "ones_like": "zeros_like",
    "zeros_like": "ones_like",
    "floor": "ceil",
    "any": "all",
    "all": "any",
}
_SECONDS = 900  # a loop that no longer ends counts as noticed


class Change(NamedTuple):
    """A change: the line it is on, in words, and the whole file with it."""

    line: int
    what: str
    source: str


def changes(source: str) -> list[Change]:
    """Every change that can be made to a file.

    Args:
        source: Python code.

    Returns:
        In the order of the tree; messages of errors, docstrings and annotations stay as they are.
    """
    tree = ast.parse(source)
    places = list(_places(tree))
    found = []
    for number, node in enumerate(places):
        for kind in _kinds(node):
            twin = copy.deepcopy(tree)
            changed = list(_places(twin))[number]
            what = kind(changed)
            found.append(Change(node.lineno, what, ast.unparse(ast.fix_missing_locations(twin))))
    return found


def _places(node: ast.AST) -> Iterator[ast.AST]:
    """What may be changed, outside of what no test should hold."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        children = value if isinstance(value, list) else [value]
        for child in children:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise):
                continue
            yield child
            yield from _places(child)


def _kinds(node: ast.AST) -> list:
    """The functions that change a node and say how."""
    kinds = []
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _OPERATORS:
        kinds.append(_operator)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        kinds.append(_comparison)
    if isinstance(node, ast.BoolOp):
        kinds.append(_boolean)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        kinds.append(_constant)
    if isinstance(node, ast.Attribute) and node.attr in _NAMES:
        kinds.append(_name)
    if isinstance(node, ast.Call) and any(k.arg for k in node.keywords):
        kinds.append(_keyword)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        kinds.append(_sign)
    return kinds


def _operator(node: ast.BinOp) -> str:
    before = ast.unparse(node)
    node.op = _OPERATORS[type(node.op)]()
    return f"{before} -> {ast.unparse(node)}"


def _comparison(node: ast.Compare) -> str:
    before = ast.unparse(node)
    node.ops[0] = _COMPARISONS[type(node.ops[0])]()
    return f"{before} -> {ast.unparse(node)}"


def _boolean(node: ast.BoolOp) -> str:
    before = ast.unparse(node)
    node.op = _BOOLEANS[type(node.op)]()
    return f"{before} -> {ast.unparse(node)}"


def _constant(node: ast.Constant) -> str:
    before = node.value
    if isinstance(before, bool):
        node.value = not before
    elif before == 0:
        node.value = 1
    elif isinstance(before, int):
        node.value = before + 1
    else:
        node.value = 2 * before
    return f"{before} -> {node.value}"


def _name(node: ast.Attribute) -> str:
    before = node.attr
    node.attr = _NAMES[before]
    return f"{before} -> {node.attr}"


def _keyword(node: ast.Call) -> str:
    named = [k for k in node.keywords if k.arg]
    node.keywords.remove(named[-1])
    return f"{named[-1].arg}= left out of {ast.unparse(node.func)}"


def _sign(node: ast.UnaryOp) -> str:
    before = ast.unparse(node)
    node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
    if isinstance(node.op, ast.Not):
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    return f"{before} -> {ast.unparse(node)}"


def tests_of(path: str) -> list[str]:
    """The tests of a file's room."""
    rooms = [room for room in ROOMS if path.startswith(room)]
    if not rooms:
        raise SystemExit(f"{path}: none of the rooms {', '.join(ROOMS)}; name --tests")
    return ROOMS[max(rooms, key=len)]


def survives(place: Path, path: str, change: Change, tests: list[str]) -> bool:
    """Whether the tests pass in a copy of the tree with the change."""
    kept = (place / path).read_text()
    (place / path).write_text(change.source)
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        run = subprocess.run(
            command, cwd=place, timeout=_SECONDS, capture_output=True, env=_environment(place)
        )
        return run.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        (place / path).write_text(kept)


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}


def main() -> int:
    """Make changes to a file, in a copy, and print those that no test notices."""
    parser = argparse.ArgumentParser("python -m tests.mutations")
    parser.add_argument("files", nargs="+", help="of jaxcam/, train/, eval/ or configs/")
    parser.add_argument("--tests", nargs="+", help="in place of those of the file's room")
    parser.add_argument("--count", type=int, default=10, help="changes in each file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tried = 0
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        place = _copy(Path(folder))
        for path in arguments.files:
            tests = arguments.tests or tests_of(path)
            possible = changes((TOP / path).read_text())
            count = min(arguments.count, len(possible))
            for change in random.Random(arguments.seed).sample(possible, count):
                alive = survives(place, path, change, tests)
                print(("SURVIVED" if alive else "noticed "), f"{path}:{change.line}", change.what)
                sys.stdout.flush()
                tried += 1
                if alive:
                    survivors.append(f"{path}:{change.line}  {change.what}")
    print(f"\n{tried} changes, {len(survivors)} survived")
    print("\n".join(survivors))
    return 0


def _copy(folder: Path) -> Path:
    """The working tree without what is ignored, with the reference data beside it."""
    place = folder / "jaxcam"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=TOP, text=True).splitlines():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, place / name)
    if (TOP.parent / "shared").is_dir():
        (folder / "shared").symlink_to(TOP.parent / "shared")
    return place


if __name__ == "__main__":
    sys.exit(main())
