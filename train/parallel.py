"""The one place where training meets several devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "device"


def initialize(address: Sequence[str]) -> None:
    """Joins the other processes of this run, each of which has its own devices.

    Before anything else uses JAX.

    Args:
        address: nothing on a TPU pod, under Slurm, Open MPI or Kubernetes, where JAX finds the
            others itself; else host:port of process 0, the number of processes and this one's
            index.

    Raises:
        ValueError: another number of arguments, or numbers that are none.
    """
    if not address:
        jax.distributed.initialize()
        return
    if len(address) != 3 or not all(text.isdigit() for text in address[1:]):
        raise ValueError(
            f"--distributed: got {' '.join(address)!r}, expected nothing or HOST:PORT COUNT INDEX"
        )
    jax.distributed.initialize(address[0], int(address[1]), int(address[2]))


def _sharding(devices: Sequence[jax.Device] | None, *axes: str) -> NamedSharding:
    return NamedSharding(
        Mesh(np.array(devices or jax.local_devices()), (AXIS,)), PartitionSpec(*axes)
    )


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Places one copy of every array on each device, as a mapped step returns it.

    So that the step compiles once.

    Args:
        tree: of arrays, the same in every process.
        devices: of this process; None: all of them.
    """
    return jax.device_put(tree, _sharding(devices))


def shard(batch: dict[str, np.ndarray], device_count: int) -> dict[str, np.ndarray]:
    """Splits the leading axis: `[B, ...]` -> `[device_count, B / device_count, ...]`.

    Raises:
        ValueError: a device's share is no even number (CutMix pairs neighbours).
    """
    size = len(next(iter(batch.values())))
    if size % (2 * device_count):
        raise ValueError(
            f"batch_size: got {size}, expected a multiple of 2 x {device_count} devices"
        )
    return {key: value.reshape(device_count, -1, *value.shape[1:]) for key, value in batch.items()}


def place(
    batch: dict[str, np.ndarray], devices: Sequence[jax.Device] | None = None
) -> dict[str, jax.Array]:
    """`shard` onto the devices, without waiting for the transfer."""
    return jax.device_put(
        shard(batch, len(devices or jax.local_devices())), _sharding(devices, AXIS)
    )


def pmap_step(
    step: Callable, devices: Sequence[jax.Device] | None = None, donate: bool = True
) -> Callable:
    """Maps `step(state, batch, constants) -> results` over the devices of all processes.

    State and constants are one replicated copy (`replicate`), the batch is sharded on its leading
    axis (`place`) and the results are taken as equal on all devices: `step` must average whatever
    it derives from its share over the axis `AXIS`. pmap does not check that; the test that 1 and 4
    devices end with the same parameters does.

    Args:
        step: pure.
        devices: of this process, which must then be the only one; None: all of all processes.
        donate: whether the state's memory is reused for the result.
    """
    donated = (0,) if donate else ()
    return jax.pmap(
        step, AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices, donate_argnums=donated
    )


def wait_for_all(what: str) -> None:
    """Returns when every process has come here."""
    if _many():
        multihost_utils.sync_global_devices(what)


def to_global(tree: Any) -> Any:
    """A replicated tree as one of all processes, as checkpoints take it; the same memory."""
    return (
        multihost_utils.host_local_array_to_global_array(tree, _global_mesh(), PartitionSpec())
        if _many()
        else tree
    )


def to_local(tree: Any) -> Any:
    """The inverse of `to_global`."""
    return (
        multihost_utils.global_array_to_host_local_array(tree, _global_mesh(), PartitionSpec())
        if _many()
        else tree
    )


def _many() -> bool:
    return jax.process_count() > 1


def _global_mesh() -> Mesh:
    return Mesh(np.array(jax.devices()), (AXIS,))
