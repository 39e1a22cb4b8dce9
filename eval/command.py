"""The command line that all programs here share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro


def command(main: Callable[[Any], None], kind: type, about: str | None) -> None:
    """Runs `python -m eval.NAME ...`.

    What is wrong with its words or its files is one line on stderr, and status 1.

    Args:
        main: what the program does.
        kind: of the settings that it takes, a dataclass.
        about: the help's description.
    """
    try:
        main(tyro.cli(kind, description=about))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(
            f"eval.{Path(sys.argv[0]).stem}: {' '.join(str(error).split()) or type(error).__name__}"
        )
