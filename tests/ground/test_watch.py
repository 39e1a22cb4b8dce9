"""Of two processes one is gone: the other ends, with a line that says which and what to do."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Joins, and then lives a minute, or fails.
PROGRAM = """
import sys, time
from jaxcam._ground import devices, watch
watch.SILENCE, watch.EVERY = 4.0, 0.5
devices.join(sys.argv[1:4])
print("joined", flush=True)
if sys.argv[4] == "fails":
    watch.fail("no photos")
time.sleep(60)
"""


def two(*ways):
    """Both processes, once both have joined."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, "2", str(index), way],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, way in enumerate(ways)
    ]
    for each in started:
        assert each.stdout.readline() == "joined\n"
    return started


WAITS = "process {} of 2 waits for the others at 127.0.0.1:"
ADVICE = (
    "; start them all again (training with --resume), or this one alone: what was saved is whole"
)


@pytest.mark.parametrize(
    ("gone", "ways", "why"),
    [
        (0, ("lives", "lives"), "is gone (its connection is closed)"),
        (1, ("lives", "lives"), "is gone (not heard of for 4 s)"),
        (1, ("lives", "fails"), "has failed: no photos"),
    ],
)
def test_the_other_ends_with_a_line(gone, ways, why):
    processes = two(*ways)
    other = 1 - gone
    try:
        if ways[gone] == "lives":
            processes[gone].send_signal(signal.SIGKILL)
        _, said = processes[other].communicate(timeout=50)
        waits, line = said.splitlines()
        assert waits.startswith(WAITS.format(other))
        assert line == f"process {other} of 2: process {gone} {why}{ADVICE}"
        assert processes[other].returncode == 75
        _, said = processes[gone].communicate(timeout=50)
        if ways[gone] == "fails":
            assert said.splitlines()[1:] == ["no photos"]
            assert processes[gone].returncode == 1
    finally:
        for each in processes:
            each.kill()
