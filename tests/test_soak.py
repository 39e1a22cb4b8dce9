"""The soak itself for seconds: a protocol killed five times. The whole: `python -m tests.soak`."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_a_protocol_killed_at_random_moments_loses_nothing():
    command = [sys.executable, "-m", "tests.soak", "--only", "games", "--kills", "5"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    name, _, _, kills, _, lost = ended.stdout.splitlines()[-1].split()
    assert (name, kills, lost) == ("games", "5", "none")
