"""The one place where training meets several devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "device"


def replicate(tree: Any, devices: list[jax.Device] | None = None) -> Any:
    """Places one copy of every array on each device, as a mapped step returns it, so that the step compiles once."""
    mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(batch: dict[str, np.ndarray], device_count: int) -> dict[str, np.ndarray]:
    """Splits the leading axis: `[B, ...]` -> `[device_count, B / device_count, ...]`.

    Raises:
        ValueError: a device's share is no even number (CutMix pairs neighbours).
    """
    size = len(next(iter(batch.values())))
    if size % (2 * device_count):
        raise ValueError(f"batch_size: got {size}, expected a multiple of 2 x {device_count} devices")
    return {key: value.reshape(device_count, -1, *value.shape[1:]) for key, value in batch.items()}


def pmap_step(step: Callable, devices: list[jax.Device] | None = None) -> Callable:
    """Maps `step(state, batch) -> (state, metrics)` over the devices.

    The state is one replicated copy (`replicate`), the batch is sharded on its leading axis (`shard`) and the results
    are taken as equal on all devices: `step` must average whatever it derives from its share over the axis `AXIS`.
    pmap does not check that; the test that 1 and 4 devices end with the same parameters does.
    """
    return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0)
