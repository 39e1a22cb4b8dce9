"""One step on one device, on several and in several processes is the same step."""

import dataclasses
import itertools
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import smoke
from train import checkpoint, loop, parallel

# Mixing, accumulation, clipping and averaging must not depend on the number of devices either.
CONFIG = dataclasses.replace(
    smoke.config,
    cutmix=1.0,
    accumulate=2,
    clip_norm=0.5,
    warmup_epochs=0.0,
    crop_sizes=((0, 12),),
    epochs=1,
)
needs_four = pytest.mark.skipif(
    jax.device_count() < 4,
    reason="needs 4 devices (XLA_FLAGS=--xla_force_host_platform_device_count=4)",
)


def _config(folder, **changes):
    return dataclasses.replace(
        CONFIG, workdir=f"{folder}/run", export=f"{folder}/net.safetensors", **changes
    )


def _run(folder, count, monkeypatch=None, forgotten=None, steps=4):
    """The state after four steps (two updates) on `count` devices."""
    devices = jax.devices()[:count]
    run = loop.Run(_config(folder / f"{count}{forgotten}"), devices=devices)
    if forgotten == "batch_norm":
        run.model = run.model.clone(axis_name=None)
    if forgotten == "gradients":
        monkeypatch.setattr(jax.lax, "pmean", _only_statistics(jax.lax.pmean))
    state, _ = run.begin(resume=False)
    before = state.variables["params"]["fc"]["kernel"].sharding
    for batch in itertools.islice(run._batches(0), steps):
        state, metrics = jax.block_until_ready(run._step(0)(state, batch, None))
    after = state.variables["params"]["fc"]["kernel"].sharding
    # or every step but the first would be compiled a second time
    assert after.is_equivalent_to(before, 2)
    return jax.device_get((state, metrics))


def _only_statistics(pmean):
    """`pmean` that forgets the pair of gradients and metrics, a tuple of dicts."""
    return lambda x, axis, **kwargs: (
        x if isinstance(x, tuple) and isinstance(x[1], dict) else pmean(x, axis, **kwargs)
    )


def _largest_difference(a, b):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)))


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("one"), 1)


@needs_four
@pytest.mark.parametrize("count", [2, 4])
def test_several_devices_train_as_one(one_device, tmp_path, count):
    """Parameters, batch statistics, optimiser, averages and metrics, to float32 rounding."""
    assert _largest_difference(_run(tmp_path, count), one_device) < 2e-5


@needs_four
@pytest.mark.parametrize("forgotten", ["batch_norm", "gradients"])
def test_a_forgotten_mean_over_the_devices_would_show(one_device, tmp_path, monkeypatch, forgotten):
    """The comparison above is worth something: without either mean it fails by far."""
    state, _ = _run(tmp_path, 4, monkeypatch, forgotten)
    assert _largest_difference(state.variables, one_device[0].variables) > 1e-3


def test_two_processes_train_validate_and_save_as_one(tmp_path):
    """Two processes of two devices each: state, logs and export as on one, which can resume."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outputs = _start_two(_config(tmp_path), f"127.0.0.1:{port}")
    assert "top-1" in outputs[0] and "top-1" not in outputs[1]  # one of them speaks
    alone = _config(tmp_path / "alone")
    expected = loop.fit(alone, devices=jax.devices()[:1])
    with checkpoint.manager(_config(tmp_path).workdir) as checkpoints:
        state, step = checkpoint.restore(checkpoints, expected)
    assert step == 8
    assert _largest_difference(jax.device_get(state), jax.device_get(expected)) < 1e-4
    rows = [
        (pathlib.Path(config.workdir) / "epochs.csv").read_text().splitlines()
        for config in (_config(tmp_path), alone)
    ]
    assert len(rows[0]) == len(rows[1]) == 2
    accuracy = rows[0][0].split(",").index("val_accuracy")
    assert rows[0][1].split(",")[accuracy] == rows[1][1].split(",")[accuracy]


def _start_two(config, address):
    """The outputs of the two processes of a run."""
    flags = "--xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "PJRT_NPROC": "16", "JAX_PLATFORMS": "cpu"}
    sets = [
        f"{f.name}={getattr(config, f.name)}"
        for f in dataclasses.fields(config)
        if _differs(config, f.name)
    ]
    command = [sys.executable, "-m", "train.classify", "--config", smoke.__file__, "--set", *sets]
    processes = [
        subprocess.Popen(
            [*command, "--distributed", address, "2", str(index)],
            env=environment,
            cwd=pathlib.Path(smoke.__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        ended = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], ended
    return [out for out, _ in ended]


def _differs(config, name):
    return getattr(config, name) != getattr(smoke.config, name)


def test_shares_must_be_equal_and_even():
    assert parallel.shard({"x": np.zeros((8, 3))}, 4)["x"].shape == (4, 2, 3)
    with pytest.raises(
        ValueError, match="batch_size: got 12, expected a multiple of 2 x 4 devices"
    ):
        parallel.shard({"x": np.zeros((12, 3))}, 4)
