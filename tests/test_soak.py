"""The soak for a minute: each kind is killed five times. The whole: `python -m tests.soak`."""

import os
import pathlib
import subprocess
import sys

from eval import programs
from tests import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_what_is_killed_at_random_moments_loses_nothing():
    """Training, distillation and every protocol."""
    command = [sys.executable, "-m", "tests.soak", "--kills", "5", "--seconds", "900"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.QUICK}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1000
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()[1:]]
    assert {row[0] for row in rows} == {"training", "distillation", *programs.names(("protocols",))}
    for name, _, _, kills, _, lost in rows:
        assert (kills, lost) == ("5", "none"), name
