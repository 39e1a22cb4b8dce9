"""SIGKILL during a checkpoint's writing: nothing saved is lost, the end is the same to the bit."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import pytest
from safetensors.numpy import load_file

from configs import smoke
from tests import flags
from train import checkpoint, loop

ROOT = pathlib.Path(smoke.__file__).parents[1]


@pytest.fixture
def start(compiled):
    """Starts a training and kills it at a step: its exit status and output."""
    environment = {**os.environ, **compiled, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.QUICK}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "tests.train.killed"]
    with subprocess.Popen(command, env=environment, cwd=ROOT, **pipes) as process:

        def start(step, milliseconds, *arguments):
            process.stdin.write(json.dumps([step, milliseconds, list(arguments)]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield start


def _config(folder):
    folders = {"workdir": f"{folder}/run", "export": f"{folder}/net.safetensors"}
    return dataclasses.replace(
        smoke.config, **folders, checkpoint_every=3, epochs=2, log_every=4, crop_sizes=((0, 12),)
    )


def _arguments(folder):
    config = _config(folder)
    fields = ("workdir", "export", "checkpoint_every", "epochs", "log_every", "crop_sizes")
    return [
        "--config",
        smoke.__file__,
        "--set",
        *(f"{name}={getattr(config, name)}" for name in fields),
    ]


def test_killed_while_saving_and_resumed_it_ends_bit_for_bit_the_same(start, tmp_path):
    whole, torn, kept, resume = tmp_path / "whole", tmp_path / "torn", 0, []
    loop.fit(_config(whole), devices=jax.devices()[:1])
    # Checkpoints come every 3 steps and at the epochs' ends, 8 and 16; `before` is the one before
    # the torn one.
    for step, before, milliseconds in ((6, 3, 0), (9, 8, 5)):
        status, output = start(step, milliseconds, *_arguments(torn), *resume)
        assert status == -signal.SIGKILL, output
        left = [path.name for path in checkpoint.folder(f"{torn}/run").iterdir()]
        kept, resume = max(int(name) for name in left if name.isdigit()), ["--resume"]
        assert kept in (before, step), left  # `step` if it was whole when the process died
        assert milliseconds or "6.orbax-checkpoint-tmp" in left  # in the middle of it
    status, output = start(0, 0, *_arguments(torn), "--resume")
    assert status == 0 and f"resumed after step {kept}" in output, output
    mine, theirs = (load_file(folder / "net.safetensors") for folder in (torn, whole))
    assert mine.keys() == theirs.keys() and all((mine[key] == theirs[key]).all() for key in mine)
    assert _steps(torn) == _steps(whole) == [3, 4, 6, 8, 9, 12, 15, 16]
    assert sorted(path.name for path in checkpoint.folder(f"{torn}/run").iterdir()) == ["15", "16"]


def _steps(folder):
    return [
        int(line.split(",")[0]) for line in (folder / "run/steps.csv").read_text().splitlines()[1:]
    ]
