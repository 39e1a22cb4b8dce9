"""Commands that a study is made of: printed as a shell takes them, and each carried out once."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from jaxcam._ground import files


class Run(NamedTuple):
    """One protocol on one network."""

    network: str
    protocol: str
    folder: Path
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """As a shell takes it, and as a record holds it."""
        return shlex.join(
            ["python", "-m", "eval", self.protocol, "--output", str(self.folder), *self.words]
        )

    def record(self) -> dict[str, Any]:
        """What the run has found."""
        return files.read_json(self.folder / f"{self.protocol}.json")

    def finished(self) -> bool:
        """Whether the folder holds just this run."""
        if not (self.folder / f"{self.protocol}.json").exists():
            return False
        made_by = self.record()["command"]
        return made_by.replace("-m eval.", "-m eval ", 1) == self.command  # as it was written once


def carry_out(words: str, *, skip: bool, dry: bool) -> None:
    """Prints a command and carries it out in a process of its own.

    Args:
        words: of the command line, from `python` on.
        skip: whether it is finished.
        dry: whether it is only printed.

    Raises:
        ChildProcessError: it failed, and has said why.
    """
    if skip and not dry:
        words = f"# finished: {words}"
    print(words, flush=True)
    if skip or dry:
        return
    try:
        subprocess.run([sys.executable, *shlex.split(words)[1:]], check=True)
    except subprocess.CalledProcessError as error:
        raise ChildProcessError(f"failed with status {error.returncode}: {words}") from error
