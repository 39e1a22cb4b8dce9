"""One process of several of a protocol on "tiny": `python -m tests.eval.worker GROUP WORDS...`."""

import sys

import tyro

from eval.protocols.games import PROTOCOL, GameSettings
from eval.run import parts
from eval.run.runner import run
from eval.subjects import networks
from tests.eval.conftest import tiny

if __name__ == "__main__":
    networks.OURS["tiny"] = lambda root: tiny()
    parts.GROUP = int(sys.argv[1])
    run(tyro.cli(GameSettings, args=sys.argv[2:]), PROTOCOL)
