"""Devices and processes: how training and the protocols start and share their work."""

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcam._ground import watch
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.relay import Relay

AXIS = "device"
# What tells a process of the others where JAX knows no cluster.
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
PATIENCE = 300  # seconds that a process waits for the others to start
_SAID = 4096  # bytes of what one process says to all
_EXPECTED = "HOST:PORT COUNT INDEX, of process 0, of all and of this one from 0 on"

Tree = TypeVar("Tree")
Arrays = Mapping[str, np.ndarray]
Devices = Sequence[Any]  # of jax.Device, which is a variable and no type to a type checker


# Processes ------------------------------------------------------------


def join(address: Sequence[str] = ()) -> None:
    """Makes this process one of several, if it is not yet; before anything else uses JAX.

    Every process calls it, and ends within a minute, with a line, when one of them is gone.

    Args:
        address: HOST:PORT of process 0, the number of processes and this one's index, from 0 on.
            Nothing: the same three from the environment's JAX_COORDINATOR_ADDRESS,
            JAX_NUM_PROCESSES and JAX_PROCESS_ID; where none of them is set, JAX finds the others
            itself: on a TPU pod, under Slurm, Open MPI or Kubernetes.

    Raises:
        ValueError: an address that is none, or none at all.
        ConnectionError: the other processes are not found in `PATIENCE` seconds.
    """
    if jax.distributed.is_initialized():
        return
    found = _parsed(address)
    try:
        if found is None:
            _find_cluster()
            watch.start(jax.process_index(), jax.process_count())
        else:
            _check_host(found[0])
            _say_waiting(*found)
            _meet(*found)
    except RuntimeError as error:
        raise ConnectionError(f"--distributed: {' '.join(str(error).split())}") from error


def _meet(address: str, count: int, index: int) -> None:
    """Joins at process 0's address: the others through a relay, which says when 0 is gone."""
    if index == 0:
        jax.distributed.initialize(address, count, index, initialization_timeout=PATIENCE)
        watch.start(index, count)
        return
    host, _, port = address.rpartition(":")
    relay = Relay(host.strip("[]"), int(port))
    jax.distributed.initialize(relay.address, count, index, initialization_timeout=PATIENCE)
    watching = watch.start(index, count)
    if watching is not None:
        relay.gone = watching.lost_process_0


def _check_host(address: str) -> None:
    """Whether the host of process 0 has an address; JAX would not say which has none."""
    host, _, port = address.rpartition(":")
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except OSError as error:
        got = f"the host {host!r}, which cannot be resolved ({error.strerror or error})"
        raise ArgumentError("--distributed", got, "that of process 0") from error


def _say_waiting(address: str, count: int, index: int) -> None:
    said = f"process {index} of {count} waits for the others at {address}, at most {PATIENCE} s"
    print(said, file=sys.stderr, flush=True)


def _find_cluster() -> None:
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise ArgumentError(
            "--distributed",
            "no address and no cluster that JAX knows",
            f"{_EXPECTED}, or the variables {', '.join(VARIABLES)}",
        ) from error


def _parsed(address: Sequence[str]) -> tuple[str, int, int] | None:
    """Host and port, count and index; None if JAX is to find them."""
    if address:
        return _checked("--distributed", address)
    words = [os.environ.get(name, "") for name in VARIABLES]
    if not any(words[1:]):  # JAX itself reads the first
        return None
    return _checked(", ".join(VARIABLES), words)


def _checked(name: str, words: Sequence[str]) -> tuple[str, int, int]:
    got = ", ".join(map(repr, words))
    wrong = ArgumentError(name, got, f"nothing or {_EXPECTED}")
    if len(words) != 3:
        raise wrong
    (address, count, index) = words
    (host, _, port) = address.rpartition(":")
    if not (host and port.isdecimal() and count.isdecimal() and index.isdecimal()):
        raise wrong
    if int(index) >= int(count):
        raise wrong
    return address, int(count), int(index)


def is_writer() -> bool:
    """Whether this process is the one that prints, and writes what all share."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when every process has come here.

    Args:
        what: a name of the place, the same in all of them.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def all_say(yes: bool) -> bool:
    """Whether every process says so; every process calls it."""
    if jax.process_count() == 1:
        return yes
    return bool(np.all(multihost_utils.process_allgather(np.array(yes, np.int32))))


def any_reached(step: int) -> bool:
    """Whether this is the step after which all processes are to end, since one was asked to.

    JAX carries the notice to all and has them agree on a step; every process calls it after each.
    A single process has no such notice.
    """
    if jax.process_count() == 1:
        return False
    return multihost_utils.reached_preemption_sync_point(step)


def by_writer(action: Callable[[], None]) -> None:
    """The first process does something for all; the others wait, and fail where it fails.

    Args:
        action: what raises ValueError or OSError if it cannot be done.

    Raises:
        OSError: what the first process raised; in that one as it is.
    """
    failure: Exception | None = None
    if is_writer():
        try:
            action()
        except (ValueError, OSError) as error:
            failure = error
    if jax.process_count() > 1:
        said = _told_by_writer(str(failure or ""))
        if said and failure is None:
            raise OSError(said)
    if failure is not None:
        raise failure


def _told_by_writer(text: str) -> str:
    """A text of the first process, cut after `_SAID` bytes."""
    heard = multihost_utils.broadcast_one_to_all(_as_bytes(text))
    return _as_text(heard)


def told_by_all(text: str) -> list[str]:
    """A text of each process, in their order, cut after `_SAID` bytes; every process calls it."""
    if jax.process_count() == 1:
        return [text]
    heard = multihost_utils.process_allgather(_as_bytes(text))
    return [_as_text(each) for each in heard]


def _as_bytes(text: str) -> np.ndarray:
    told = np.zeros(_SAID, np.uint8)
    content = text.encode()[:_SAID]
    told[: len(content)] = np.frombuffer(content, np.uint8)
    return told


def _as_text(heard: Any) -> str:
    return np.asarray(heard, np.uint8).tobytes().rstrip(b"\0").decode(errors="replace")


# Devices --------------------------------------------------------------


def mesh(devices: Devices | None = None) -> Mesh:
    """A line of devices under the name `AXIS`; None: all of this process."""
    return Mesh(np.array(devices or jax.local_devices()), (AXIS,))


def replicate(tree: Tree, devices: Devices | None = None) -> Tree:
    """Places one copy of every array on each device, as a mapped function takes it.

    Args:
        tree: of arrays, the same in every process.
        devices: of this process; None: all of them.
    """
    return jax.device_put(tree, NamedSharding(mesh(devices), PartitionSpec()))


def split(batch: Arrays, count: int) -> dict[str, np.ndarray]:
    """Splits the leading axis: `[B, ...]` -> `[count, B / count, ...]`.

    Raises:
        ValueError: B is no multiple of the count.
    """
    size = _length(batch)
    if size % count:
        raise ArgumentError("batch", f"{size} examples", f"a multiple of {count} devices")
    return {key: value.reshape(count, -1, *value.shape[1:]) for key, value in batch.items()}


def fill_up(batch: Arrays, size: int) -> dict[str, np.ndarray]:
    """Repeats the last example of a batch `[b, ...]` until there are `size`, for one program.

    Raises:
        ValueError: the batch is empty, or larger.
    """
    length = _length(batch)
    if not 1 <= length <= size:
        raise ArgumentError("batch", f"{length} examples", f"1 to {size}")
    if length == size:
        return dict(batch)
    index = np.minimum(np.arange(size), length - 1)
    return {key: value[index] for key, value in batch.items()}


def over_devices(
    function: Callable[[Any, dict[str, jax.Array]], Any],
    devices: Devices | None = None,
) -> Callable[[Any, Arrays], Any]:
    """Maps `function(params, batch) -> pytree`, every array `[B, ...]`, over the devices.

    Compiled once for each shape.

    Args:
        function: pure; example by example, so that it does not matter who shares a batch.
        devices: of this process; None: all of them.

    Returns:
        A function of params, as `replicate` places them, and of a batch `{name: [devices * B,
        ...]}`, with NumPy arrays `[devices * B, ...]`.
    """
    used = devices or jax.local_devices()
    # One argument: of two, jax.pmap takes `in_axes` for those of the leaves where params have none
    # and the batch has two (seen on jax 0.10.2), and maps the wrong ones without a word.
    mapped = jax.pmap(lambda both: function(*both), in_axes=((None, 0),), devices=used)

    def joined(leaf: jax.Array) -> np.ndarray:
        return np.asarray(leaf).reshape(-1, *leaf.shape[2:])

    def call(params: Any, batch: Arrays) -> Any:
        return jax.tree.map(joined, mapped((params, split(batch, len(used)))))

    return call


def in_batches(
    function: Callable[[Any, Arrays], Any], params: Any, arrays: Arrays, batch: int
) -> Any:
    """`function(params, batch)` over all examples.

    Args:
        function: as `over_devices` returns it, or one that works on the host.
        params: its first argument.
        arrays: by name, `[N, ...]` each. The last batch is padded with its last example, so that
            one program serves.
        batch: examples a device at a time.

    Returns:
        What function returns, with NumPy arrays `[N, ...]`.

    Raises:
        ValueError: no examples, or arrays of different lengths.
    """
    count = _length(arrays)
    if not count:
        raise ArgumentError("arrays", "no examples", "one or more")
    size = batch * jax.local_device_count()
    parts = []
    for first in range(0, count, size):
        part = {key: value[first : first + size] for key, value in arrays.items()}
        parts.append(jax.tree.map(np.asarray, function(params, fill_up(part, size))))

    def joined(*leaves: np.ndarray) -> np.ndarray:
        return np.concatenate(leaves)[:count]

    return jax.tree.map(joined, *parts)


def _length(arrays: Arrays) -> int:
    """The one length of the leading axis."""
    lengths = {key: len(value) for key, value in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ArgumentError("arrays", f"lengths {lengths}", "equal ones")
    return next(iter(lengths.values()))
