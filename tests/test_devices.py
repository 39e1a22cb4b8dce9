"""Devices and processes: shares put together are the whole, on any number of either."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam._ground import devices
from tests import flags


def scaled(params, batch):
    """A sum and a difference of each example."""
    total = batch["a"].sum(1) * params["w"]
    return {"sum": total, "both": (total, batch["a"] - batch["b"][:, None])}


def expected(params, arrays):
    total = arrays["a"].sum(1) * np.asarray(params["w"])
    return {"sum": total, "both": (total, arrays["a"] - arrays["b"][:, None])}


def assert_same(found, wanted):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, wanted)


def arrays_of(rng, count):
    return {"a": rng.normal(size=(count, 3)).astype("f"), "b": rng.normal(size=count).astype("f")}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_function_over_devices_is_the_function(rng, count):
    if count > jax.device_count():  # not at import: a process may join others only before
        pytest.skip(f"needs {count} devices")
    used = jax.devices()[:count]
    params = devices.replicate({"w": jnp.float32(2.0)}, used)
    arrays = arrays_of(rng, 8)
    shares = []

    def recorded(params, batch):
        shares.append(batch["a"].shape)
        return scaled(params, batch)

    found = devices.over_devices(recorded, used)(params, arrays)
    assert set(shares) == {(8 // count, 3)}
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
    assert_same(found, expected(params, arrays))


def test_parameters_may_have_no_arrays(rng):
    """With a batch of two: `in_axes` of two arguments is no list of two leaves' axes."""
    arrays = {"a": rng.normal(size=(8, 3)), "b": rng.normal(size=8)}
    shapes = []

    def subtracted(params, batch):
        shapes.append(batch["a"].shape)
        return batch["a"] - batch["b"][:, None]

    found = devices.over_devices(subtracted)(devices.replicate(()), arrays)
    np.testing.assert_allclose(found, arrays["a"] - arrays["b"][:, None], rtol=1e-6, atol=1e-6)
    assert set(shapes) == {(2, 3)}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 21])
def test_batches_cover_every_example_once(rng, count):
    """The last batch is filled up, and what fills it is cut off."""
    params = devices.replicate({"w": jnp.float32(2.0)})
    arrays = arrays_of(rng, count)
    found = devices.in_batches(devices.over_devices(scaled), params, arrays, 2)
    assert_same(found, expected(params, arrays))


def test_every_batch_has_the_same_size():
    seen = []

    def host(params, batch):
        seen.append(batch["a"].tolist())
        return params + batch["a"]

    found = devices.in_batches(host, 10, {"a": np.arange(5)}, 3)
    size = 3 * jax.local_device_count()
    assert {len(each) for each in seen} == {size}
    assert seen[-1][-1] == 4  # the last example again
    np.testing.assert_array_equal(found, np.arange(10, 15))


def test_replicate_places_a_copy_on_each_device():
    placed = devices.replicate({"x": jnp.arange(3)}, jax.devices()[:2])["x"]
    assert placed.is_fully_replicated
    assert placed.sharding.device_set == set(jax.devices()[:2])
    everywhere = devices.replicate(jnp.arange(3))
    assert everywhere.sharding.device_set == set(jax.devices())


def test_a_batch_is_split_and_filled_up(rng):
    batch = {"a": np.arange(12).reshape(6, 2)}
    np.testing.assert_array_equal(devices.split(batch, 3)["a"][1], [[4, 5], [6, 7]])
    filled = devices.fill_up(batch, 8)["a"]
    np.testing.assert_array_equal(filled[5:], [[10, 11]] * 3)
    np.testing.assert_array_equal(devices.fill_up(batch, 6)["a"], batch["a"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: devices.split({"a": np.zeros(6)}, 4),
            "batch: got 6 examples, expected a multiple of 4 devices",
        ),
        (
            lambda: devices.split({"a": np.zeros(6), "b": np.zeros(4)}, 2),
            "arrays: got lengths {'a': 6, 'b': 4}, expected equal ones",
        ),
        (
            lambda: devices.fill_up({"a": np.zeros(0)}, 4),
            "batch: got 0 examples, expected 1 to 4",
        ),
        (
            lambda: devices.fill_up({"a": np.zeros(5)}, 4),
            "batch: got 5 examples, expected 1 to 4",
        ),
        (
            lambda: devices.in_batches(scaled, None, {"a": np.zeros((0, 3))}, 4),
            "arrays: got no examples, expected one or more",
        ),
        (
            lambda: devices.in_batches(scaled, None, {"a": np.zeros(3), "b": np.zeros(4)}, 4),
            "arrays: got lengths {'a': 3, 'b': 4}, expected equal ones",
        ),
    ],
)
def test_what_cannot_be_shared_is_named(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    "address",
    [
        ["host:1"],
        ["host:1", "2"],
        ["host:1", "two", "0"],
        ["host:1", "2", "-1"],
        ["host:1", "2", "2"],
        ["host", "2", "0"],
        [":1", "2", "0"],
        ["host:x", "2", "0"],
    ],
)
def test_a_wrong_address_is_named(address):
    words = ", ".join(map(repr, address))
    message = re.escape(f"--distributed: got {words}, expected nothing or HOST:PORT COUNT INDEX")
    with pytest.raises(ValueError, match=message):
        devices.join(address)


def test_an_address_alone_is_left_to_jax(monkeypatch):
    for name in devices.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert devices._parsed(()) is None
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1")
    assert devices._parsed(()) is None


def test_a_host_that_cannot_be_resolved_is_named(capsys):
    expected = "--distributed: got the host 'no-such-host.invalid', which cannot be resolved"
    with pytest.raises(ValueError, match=expected):
        devices.join(["no-such-host.invalid:1234", "2", "1"])


def test_a_half_set_environment_is_named(monkeypatch):
    for name in devices.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    message = (
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID: got '', '', '1', expected "
        "nothing or HOST:PORT COUNT INDEX"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        devices.join()


def test_alone_one_writes_and_waits_for_nobody():
    assert devices.is_writer()
    devices.wait_for_all("here")
    assert devices.all_say(True) and not devices.all_say(False)
    assert not devices.any_reached(3)


# In processes of their own --------------------------------------------


def _process(output, words):
    """What a process of `_start` does: it joins the others and says what it sees."""
    devices.join(words)
    devices.join(words)  # a second call is none
    index = jax.process_index()
    said = {"writer": devices.is_writer(), "processes": jax.process_count()}
    devices.wait_for_all("the end")
    params = devices.replicate({"w": jnp.float32(2.0)})
    own = devices.in_batches(devices.over_devices(scaled), params, _own(index), 1)
    said["own"] = own["sum"].tolist()
    pathlib.Path(output).write_text(json.dumps(said))


def _own(index):
    return {"a": np.full((2, 3), index, "f"), "b": np.zeros(2, "f")}


def _start(folder, commands, environments):
    """The ends of some processes, with standard error."""
    root = pathlib.Path(__file__).parents[1]
    kept = {name: value for name, value in os.environ.items() if name not in devices.VARIABLES}
    kept |= {"XLA_FLAGS": flags.devices(2), "JAX_PLATFORMS": "cpu"}
    started = []
    for index, (words, environment) in enumerate(zip(commands, environments, strict=True)):
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.test_devices", f"{folder}/{index}.json", *words],
                env={**kept, **environment},
                cwd=root,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        return [(each.communicate(timeout=240)[1], each.returncode) for each in started]
    finally:
        for each in started:
            each.kill()


def _free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("way", ["arguments", "environment"])
def test_two_processes_find_each_other(tmp_path, way):
    address = _free_address()
    words = [(address, "2", str(index)) for index in range(2)]
    if way == "arguments":
        ended = _start(tmp_path, words, [{}, {}])
    else:
        environments = [dict(zip(devices.VARIABLES, each, strict=True)) for each in words]
        ended = _start(tmp_path, [(), ()], environments)
    assert [status for _, status in ended] == [0, 0], ended
    said = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    assert [each["writer"] for each in said] == [True, False]
    for each in said:
        assert each["processes"] == 2
    assert [each["own"] for each in said] == [[0, 0], [6, 6]]


def test_no_cluster_is_one_line(tmp_path):
    ((error, status),) = _start(tmp_path, [()], [{}])
    assert status == 1
    last = error.splitlines()[-1]
    assert last.startswith(
        "jaxcam._ground.errors.ArgumentError: --distributed: got no address and no cluster that JAX"
    )
    assert last.endswith(", ".join(devices.VARIABLES))


def test_joining_too_late_is_one_line():
    jax.devices()
    with pytest.raises(ConnectionError, match=r"--distributed: .*must be called before any JAX"):
        devices.join(("127.0.0.1:1", "1", "0"))


if __name__ == "__main__":
    _process(sys.argv[1], sys.argv[2:])
