"""The figures of the house: how dense the code is, before and after.

    python -m tests.house              # the working tree, by room
    python -m tests.house REV [REV]    # revisions of the repository

Per 1000 lines of code (no blank line, comment or docstring): conditional expressions,
comprehensions, packed assignments of unrelated values (`a, b = x, y`). Lines of code of the median
function, the longest line, and public functions that return Any.
"""

import ast
import io
import pathlib
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

ROOMS = ("jaxcam", "train", "eval", "configs")
# At most so many per 1000 lines of code, in every room; rlax and optax have 0 to 4, 2, 0 to 1.
LIMITS = {"conditional": 10, "comprehension": 20, "packed": 2}
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_WITHOUT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


class Figures(NamedTuple):
    """What is counted of some files."""

    files: int
    code: int
    conditional: int
    comprehension: int
    packed: int
    median: float
    longest: int
    returns_any: int

    def per_thousand(self, name: str) -> float:
        """How many of a kind on 1000 lines of code."""
        return 1000 * getattr(self, name) / max(self.code, 1)


def count(sources: list[str]) -> Figures:
    """The figures of some Python sources."""
    trees = [ast.parse(source) for source in sources]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, _FUNCTIONS)]
    lengths = []
    code = 0
    longest = 0
    for source, tree in zip(sources, trees, strict=True):
        lines = code_lines(source, tree)
        code += len(lines)
        longest = max(longest, max(map(len, source.splitlines()), default=0))
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTIONS):
                body = range(node.lineno, node.end_lineno + 1)
                lengths.append(sum(line in lines for line in body))
    return Figures(
        files=len(sources),
        code=code,
        conditional=sum(isinstance(node, ast.IfExp) for node in nodes),
        comprehension=sum(isinstance(node, _COMPREHENSIONS) for node in nodes),
        packed=sum(_is_packed(node) for node in nodes),
        median=statistics.median(lengths or [0]),
        longest=longest,
        returns_any=sum(_returns_any(node) for node in functions),
    )


def code_lines(source: str, tree: ast.AST) -> set[int]:
    """The numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _WITHOUT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        documented = isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Module))
        if documented and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            lines -= set(range(text.lineno, text.end_lineno + 1))
    return lines


def _is_packed(node: ast.AST) -> bool:
    """`a, b = x, y`; a swap of the same names is none."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    (target, *_) = node.targets
    if not isinstance(target, ast.Tuple):
        return False
    swapped = {ast.unparse(each) for each in target.elts}
    return swapped != {ast.unparse(each) for each in node.value.elts}


def _returns_any(node: ast.AST) -> bool:
    public = not node.name.startswith("_")
    return public and isinstance(node.returns, ast.Name) and node.returns.id == "Any"


def sources(room: str, revision: str | None = None) -> Iterator[str]:
    """The Python files of a room, in the working tree or at a revision."""
    root = pathlib.Path(__file__).resolve().parents[1]
    if revision is None:
        for path in sorted((root / room).rglob("*.py")):
            yield path.read_text()
        return
    git = ["git", "-C", str(root)]
    listed = subprocess.check_output(
        [*git, "ls-tree", "-r", "--name-only", revision, room], text=True
    )
    for name in listed.splitlines():
        if name.endswith(".py"):
            yield subprocess.check_output([*git, "show", f"{revision}:{name}"], text=True)


def table(revision: str | None = None) -> str:
    """One row a room."""
    head = f"{'room':8} {'files':>5} {'code':>6} {'cond':>5} {'compr':>5} {'packed':>6}"
    rows = [f"{head} {'median':>6} {'longest':>7} {'-> Any':>6}"]
    everything: list[str] = []
    for room in (*ROOMS, "all"):
        texts = everything if room == "all" else list(sources(room, revision))
        everything += texts if room != "all" else []
        found = count(texts)
        each = " ".join(
            f"{found.per_thousand(name):{width}.1f}"
            for name, width in (("conditional", 5), ("comprehension", 5), ("packed", 6))
        )
        rows.append(
            f"{room:8} {found.files:5} {found.code:6} {each} "
            f"{found.median:6.0f} {found.longest:7} {found.returns_any:6}"
        )
    return "\n".join(rows)


def main() -> None:
    """Prints the tables."""
    for revision in sys.argv[1:] or [None]:
        print(f"{revision or 'working tree'} (conditional, comprehension, packed: per 1000 lines)")
        print(table(revision))


if __name__ == "__main__":
    main()
