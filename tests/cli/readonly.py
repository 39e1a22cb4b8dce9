"""Commands that write into a folder of mode 0555, by one whom modes bind; a line of JSON each.

python -m tests.cli.readonly FOLDER WEIGHTS PHOTOS
"""

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from configs import smoke
from eval import programs
from eval.subjects import networks
from jaxcam import cli, models
from tests.eval.conftest import tiny
from train import classify


def carried_out(command: Callable) -> tuple[str, str]:
    """A command's status, and what it says of what is wrong."""
    said = io.StringIO()
    status: object = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = command()
        except SystemExit as error:
            status = error.code
        except OSError as error:
            status = error
    return str(status), said.getvalue()


def main(folder: str, weights: str, photos: str) -> None:
    """Carries them out."""
    networks.OURS["tiny"] = lambda root: tiny()
    photo = str(next(Path(photos).rglob("*.png")))
    measured = ["--model", "tiny", "--data", photos, "--methods", "noise", "--layers", "top"]
    trained = [f"workdir={folder}/run", f"export={folder}/net.safetensors"]
    _, variables = models.load(weights)
    about = models.describe(weights)
    kind = (about.architecture, dict(about.options))
    commands = {
        "games": lambda: programs.carry_out("games", [*measured, "--output", f"{folder}/run"]),
        "explain": lambda: cli.main(["explain", photo, "--model", weights, "-o", folder]),
        "train": lambda: classify.main(["--config", smoke.__file__, "--set", *trained]),
        "save": lambda: models.save(f"{folder}/x.safetensors", *kind, variables),
    }
    with contextlib.suppress(PermissionError):
        (Path(folder) / "probe").touch()
        print("modes do not bind")
        return
    for name, command in commands.items():
        print(json.dumps([name, *carried_out(command)]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
