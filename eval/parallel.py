"""The one place where the protocols meet several devices and processes."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def join() -> None:
    """Makes this process one of several, if it is not yet; before anything else is asked of JAX.

    Clusters that JAX knows tell it of each other. Elsewhere JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID do.
    """
    if not jax.distributed.is_initialized():
        count, index = os.environ.get("JAX_NUM_PROCESSES"), os.environ.get("JAX_PROCESS_ID")
        jax.distributed.initialize(
            num_processes=count and int(count), process_id=index and int(index)
        )


def replicate(tree: Any) -> Any:
    """One copy of every array on each device of this process."""
    mesh = Mesh(np.array(jax.local_devices()), ("device",))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def over_devices(function: Callable) -> Callable:
    """Maps `function(params, batch) -> pytree`, every array `[B, ...]`, over the devices.

    Compiled once for each shape. The result takes replicated params and
    `{name: [devices * B, ...]}`, and returns NumPy arrays `[devices * B, ...]`.
    """
    count = jax.local_device_count()
    mapped = jax.pmap(function, in_axes=(None, 0), devices=jax.local_devices())

    def call(params: Any, batch: Mapping[str, np.ndarray]) -> Any:
        shards = {k: v.reshape(count, -1, *v.shape[1:]) for k, v in batch.items()}
        return jax.tree.map(
            lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), mapped(params, shards)
        )

    return call


def in_batches(
    function: Callable, params: Any, arrays: Mapping[str, np.ndarray], batch: int
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
    """
    size, count, parts = batch * jax.local_device_count(), len(next(iter(arrays.values()))), []
    for first in range(0, count, size):
        index = np.minimum(np.arange(first, first + size), count - 1)
        parts.append(
            jax.tree.map(np.asarray, function(params, {k: v[index] for k, v in arrays.items()}))
        )
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
