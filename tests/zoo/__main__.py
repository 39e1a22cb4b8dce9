"""The page's table of families, from what the tests hold of each.

python -m tests.zoo            # prints the table of docs/models.md
python -m tests.zoo --write    # and writes it there
"""

import pathlib
import sys

from tests.zoo.networks import FAMILIES, WHY, Family

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/models.md"
_START = "<!-- python -m tests.zoo --write -->\n"
_END = "<!-- end -->"
_HEAD = """| network | from | default layer | its cells | gradient CAMs | relevance, by z+ |
| --- | --- | --- | --- | --- | --- |"""
_CONSERVED = {
    "pixels": "conserved at every cut and at the pixels",
    "last": "conserved at the default layer; below it {}",
}


def row(family: Family) -> str:
    """A family's line."""
    cells = " x ".join(map(str, family.grid))
    relevance = _CONSERVED[family.conserved].format(WHY.get(family.why, ""))
    return (
        f"| {family.title} | {family.library} | `{family.default}` | {cells} "
        f"| as of the network split by hand | {relevance} |"
    )


def table() -> str:
    """All families."""
    return "\n".join([_HEAD, *map(row, FAMILIES.values())]) + "\n"


def written(page: str) -> str:
    """The page with the table in its place."""
    start = page.index(_START) + len(_START)
    return page[:start] + table() + page[page.index(_END) :]


def main() -> None:
    """Prints the table, or writes it."""
    print(table(), end="")
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
