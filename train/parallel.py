"""The one place where training meets several devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcam._ground import devices as ground
from jaxcam._ground.devices import AXIS, Devices


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
    return ground.split(batch, device_count)


def place(batch: dict[str, np.ndarray], devices: Devices | None = None) -> dict[str, jax.Array]:
    """`shard` onto the devices, without waiting for the transfer."""
    sharding = NamedSharding(ground.mesh(devices), PartitionSpec(AXIS))
    return jax.device_put(shard(batch, sharding.num_devices), sharding)


def pmap_step(step: Callable, devices: Devices | None = None, donate: bool = True) -> Callable:
    """Maps `step(state, batch, constants) -> results` over the devices of all processes.

    State and constants are one replicated copy (`devices.replicate`), the batch is sharded on its
    leading axis (`place`) and the results are taken as equal on all devices: `step` must average
    whatever it derives from its share over the axis `AXIS`. pmap does not check that; the test that
    1 and 4 devices end with the same parameters does.

    Args:
        step: pure.
        devices: of this process, which must then be the only one; None: all of all processes.
        donate: whether the state's memory is reused for the result.
    """
    donated = (0,) if donate else ()
    return jax.pmap(
        step, AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices, donate_argnums=donated
    )


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
