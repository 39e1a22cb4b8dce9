"""`python -m eval NAME --options`; alone, it lists what there is."""

import ast
import sys
from pathlib import Path

from eval import programs


def main(words: list[str]) -> None:
    """Runs a program, or lists them with a line each.

    Args:
        words: of the command line.
    """
    if words and words[0] not in ("-h", "--help"):
        programs.carry_out(words[0], words[1:])
        return
    print("python -m eval NAME --options; NAME --help says what they are\n")
    for name, module in programs.names().items():
        print(f"  {name:18}  {about(module)}")


def about(module: str) -> str:
    """The first line of a module's docstring; the module is not imported."""
    path = programs.HERE.parent / Path(*module.split(".")).with_suffix(".py")
    documented = ast.get_docstring(ast.parse(path.read_text())) or ""
    return documented.partition("\n")[0]


if __name__ == "__main__":
    main(sys.argv[1:])
