"""One step on one device, on several and in several processes is the same step."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import socket
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from configs import smoke
from tests import flags
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


def _run(folder, kind, count, monkeypatch=None, forgotten=None, steps=4):
    """The state after four steps (two updates) on `count` devices, and the last metrics."""
    devices = jax.devices()[:count]
    run = loop.Run(_config(folder / f"{kind}{count}{forgotten}", parallel=kind), devices=devices)
    if forgotten == "batch_norm":
        run.model = run.model.clone(axis_name=None)
    if forgotten == "gradients":
        monkeypatch.setattr(jax.lax, "pmean", _only_statistics(jax.lax.pmean))
    state, _ = run.begin(resume=False)
    for batch in itertools.islice(run._batches(0), steps):
        state, metrics = jax.block_until_ready(run._step(0)(state, batch, None))
    sums = run.validate(state.averaged, run.validation)
    return jax.device_get((state, {**metrics, **sums}))


def _only_statistics(pmean):
    """`pmean` that forgets the pair of gradients and metrics, a tuple of dicts."""
    return lambda x, axis, **kwargs: (
        x if isinstance(x, tuple) and isinstance(x[1], dict) else pmean(x, axis, **kwargs)
    )


def _largest_difference(a, b):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)))


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("one"), "pmap", 1)


@pytest.fixture(scope="module")
def one_step(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("step"), "pmap", 1, steps=1)


@needs_four
@pytest.mark.parametrize(("kind", "count"), [("pmap", 2), ("pmap", 4), ("jit", 1), ("jit", 4)])
def test_several_devices_train_and_validate_as_one(one_device, tmp_path, kind, count):
    """Parameters, batch statistics, optimiser, averages and metrics, to float32 rounding."""
    assert _largest_difference(_run(tmp_path, kind, count), one_device) < 2e-5


@needs_four
@pytest.mark.parametrize("count", [1, 4])
def test_one_step_by_jit_is_one_step_by_pmap(one_step, tmp_path, count):
    """Of the first step the batch statistics and the accumulated gradients tell."""
    assert _largest_difference(_run(tmp_path, "jit", count, steps=1), one_step) < 2e-6


@needs_four
@pytest.mark.parametrize("forgotten", ["batch_norm", "gradients"])
def test_a_forgotten_mean_over_the_devices_would_show(one_device, tmp_path, monkeypatch, forgotten):
    """The comparison above is worth something: without either mean it fails by far."""
    state, _ = _run(tmp_path, "pmap", 4, monkeypatch, forgotten)
    assert _largest_difference(state.variables, one_device[0].variables) > 1e-3


@needs_four
def test_by_jit_there_is_no_mean_to_forget(one_device, tmp_path, monkeypatch):
    """The step names no axis: what would forget one by pmap changes nothing."""
    state, _ = _run(tmp_path, "jit", 4, monkeypatch, "gradients")
    assert _largest_difference(state.variables, one_device[0].variables) < 2e-5


@needs_four
@pytest.mark.parametrize("kind", ["pmap", "jit"])
def test_devices_exchange_sums_and_nothing_else(tmp_path, kind):
    """No device gathers the others' photos or activations: XLA has split the whole step."""
    run = loop.Run(_config(tmp_path, parallel=kind), devices=jax.devices()[:4])
    state, _ = run.begin(resume=False)
    program = run._step(0).lower(state, next(run._batches(0)), None).compile().as_text()
    assert "all-reduce" in program
    for other in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert other not in program


@needs_four
@pytest.mark.parametrize("kind", ["pmap", "jit"])
@pytest.mark.parametrize("count", [1, 4])
def test_a_step_is_compiled_once(tmp_path, kind, count):
    """The state lies on the devices as the step returns it before the first step."""
    run = loop.Run(_config(tmp_path, parallel=kind), devices=jax.devices()[:count])
    state, _ = run.begin(resume=False)
    batches = list(itertools.islice(run._batches(0), 3))
    step = run._step(0)
    compiled = []
    for batch in batches:
        with _compilations() as names:
            state, _ = jax.block_until_ready(step(state, batch, None))
        compiled.append(len(names))
    assert compiled == [1, 0, 0]


@needs_four
@pytest.mark.parametrize("kind", ["pmap", "jit"])
def test_a_step_reuses_the_states_memory_and_validation_does_not(tmp_path, kind):
    run = loop.Run(_config(tmp_path, parallel=kind), devices=jax.devices()[:4])
    first, _ = run.begin(resume=False)
    second, _ = run._step(0)(first, next(run._batches(0)), None)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.variables))
    with warnings.catch_warnings(action="error"):  # as of memory that could not be reused
        run.validate(second.averaged, run.validation)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(second))
    run.close()


@needs_four
@pytest.mark.parametrize("kind", ["pmap", "jit"])
def test_state_and_constants_lie_on_every_device_before_the_first_step(kind):
    config = dataclasses.replace(CONFIG, parallel=kind)
    used = jax.devices()[:2]
    chosen = parallel.choose(config, used)
    name = {"pmap": "device", "jit": None}[kind]
    assert (chosen.axis_name, parallel.axis_name(config)) == (name, name)
    tree = {"a": np.arange(3.0, dtype=np.float32), "none": None}
    placed = chosen.replicate(tree)
    assert placed["none"] is None and placed["a"].is_fully_replicated
    assert placed["a"].sharding.device_set == set(used)
    step = chosen.compile(lambda state, batch, constants: {"a": state["a"] + constants}, ())
    batch = chosen.place({"x": np.zeros((4, 3))})
    moved = step(placed, batch, chosen.replicate(np.float32(2)))["a"]
    assert moved.is_fully_replicated and moved.sharding.device_set == set(used)
    np.testing.assert_array_equal(moved, tree["a"] + 2)
    np.testing.assert_array_equal(placed["a"], tree["a"])


@contextlib.contextmanager
def _compilations():
    """The names of what is lowered for a compiler within."""
    names = []

    def listen(event, seconds, **about):
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            names.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_a_run_stopped_under_one_goes_on_under_the_other(tmp_path):
    """An epoch each: whichever comes first, the end is the same."""
    ends = []
    for first, then in (("pmap", "jit"), ("jit", "pmap")):
        short = _config(tmp_path / first, parallel=first, epochs=1)
        loop.fit(short, devices=jax.devices()[:1])
        longer = dataclasses.replace(short, parallel=then, epochs=2)
        ends.append(jax.device_get(loop.fit(longer, resume=True, devices=jax.devices()[:1])))
    assert int(ends[0].step) == 16
    assert _largest_difference(*ends) < 2e-5


@pytest.mark.parametrize("kind", ["pmap", "jit"])
def test_two_processes_train_validate_and_save_as_one(tmp_path, kind):
    """Two processes of two devices each: state, logs and export as on one, which can resume."""
    processes = started(_config(tmp_path, parallel=kind))
    try:
        ended = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], ended
    outputs = [out for out, _ in ended]
    assert "top-1" in outputs[0] and "top-1" not in outputs[1]  # one of them speaks
    alone = _config(tmp_path / "alone")
    expected = loop.fit(alone, devices=jax.devices()[:1])
    with checkpoint.manager(_config(tmp_path).workdir) as checkpoints:
        state, step, *_ = checkpoint.restore(checkpoints, expected)
    assert step == 8
    assert _largest_difference(jax.device_get(state), jax.device_get(expected)) < 1e-4
    rows = [
        (pathlib.Path(config.workdir) / "epochs.csv").read_text().splitlines()
        for config in (_config(tmp_path), alone)
    ]
    assert len(rows[0]) == len(rows[1]) == 2
    accuracy = rows[0][0].split(",").index("val_accuracy")
    assert rows[0][1].split(",")[accuracy] == rows[1][1].split(",")[accuracy]


def started(config):
    """The two processes of a run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **os.environ,
        "XLA_FLAGS": flags.devices(2),
        "PJRT_NPROC": "16",
        "JAX_PLATFORMS": "cpu",
    }
    sets = [
        f"{f.name}={getattr(config, f.name)}"
        for f in dataclasses.fields(config)
        if _differs(config, f.name)
    ]
    command = [sys.executable, "-m", "train.classify", "--config", smoke.__file__, "--set", *sets]
    return [
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


def _differs(config, name):
    return getattr(config, name) != getattr(smoke.config, name)


@needs_four
@pytest.mark.parametrize("kind", ["pmap", "jit"])
def test_shares_must_be_equal_and_even(kind):
    config = dataclasses.replace(CONFIG, parallel=kind)
    chosen = parallel.choose(config, jax.devices()[:4])
    placed = chosen.place({"x": np.arange(24.0).reshape(8, 3)})["x"]
    assert placed.shape == {"pmap": (4, 2, 3), "jit": (8, 3)}[kind]
    assert [shard.data.size for shard in placed.addressable_shards] == [6] * 4
    with pytest.raises(
        ValueError, match="batch_size: got 12, expected a multiple of 2 x 4 devices"
    ):
        chosen.place({"x": np.zeros((12, 3))})
