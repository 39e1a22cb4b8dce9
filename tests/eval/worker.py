"""One process of several of a protocol on "tiny": `python -m tests.eval.worker GROUP WORDS...`."""

import sys

import tyro

from eval import common, models, parts
from eval.games import GameSettings, protocol
from tests.eval.conftest import tiny

if __name__ == "__main__":
    models.OURS["tiny"] = lambda root: tiny()
    parts.GROUP = int(sys.argv[1])
    settings = tyro.cli(GameSettings, args=sys.argv[2:])
    common.run(settings, protocol(settings))
