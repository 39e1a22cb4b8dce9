"""How a step meets several devices: each runs it on its share (pmap), or all run one program (jit).

The same pure step serves both, and both give the same numbers but for rounding, on any number of
devices and processes: metrics and gradients are means over the whole batch, and so are the
statistics of batch norm. (Dropout is the exception: by pmap each device draws its own units, by jit
the draw is that of one device.)

pmap is the default: it is what this project is asked for. JAX calls it "the old way" and keeps it
as `jax.jit` of `jax.shard_map`; what is written for JAX today is jit with global arrays, and
`--set parallel=jit` is that. There the compiler adds the sums over devices, so none can be
forgotten.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs import Classification
from jaxcam._ground import devices as ground
from jaxcam._ground.devices import AXIS, Devices, Tree
from jaxcam._ground.errors import ArgumentError

# (state, batch, constants) -> results
Step = Callable[[Any, Any, Any], Any]


class Parallel(Protocol):
    """Places arrays on the devices, and compiles a step for arrays placed so.

    `axis_name` is the mapped axis over which the step is to average what it derives from its share,
    None where its share is the whole batch.
    """

    axis_name: str | None

    def replicate(self, tree: Tree) -> Tree:
        """State or constants, the same in every process, as one copy on each device.

        As a step returns them, so that it is compiled once.
        """
        ...

    def place(self, batch: ground.Arrays) -> dict[str, jax.Array]:
        """This process's share of a batch onto the devices, without waiting for the transfer.

        Raises:
            ValueError: a device's share is no even number (CutMix pairs neighbours).
        """
        ...

    def compile(self, step: Step, donate: tuple[int, ...] = (0,)) -> Step:
        """`step(state, batch, constants) -> results` for all devices.

        Args:
            step: pure; its results are equal on all devices.
            donate: arguments whose memory is reused for the results.
        """
        ...


class Mapped:
    """`jax.pmap`: each device runs the step on its share and averages over `AXIS`.

    pmap does not check that the results are equal; the test that 1 and 4 devices end with the same
    parameters does.
    """

    axis_name: str | None = AXIS

    def __init__(self, devices: Devices | None = None) -> None:
        """On devices of this process, which must then be the only one; None: all of all."""
        self.devices = devices
        self.mesh = ground.mesh(devices)  # of this process

    def replicate(self, tree: Tree) -> Tree:
        """See `Parallel`."""
        return ground.replicate(tree, self.devices)

    def place(self, batch: ground.Arrays) -> dict[str, jax.Array]:
        """See `Parallel`: `[B, ...]` -> `[devices, B / devices, ...]`."""
        _check_even(batch, self.mesh.size)
        shares = ground.split(batch, self.mesh.size)
        return jax.device_put(shares, NamedSharding(self.mesh, PartitionSpec(AXIS)))

    def compile(self, step: Step, donate: tuple[int, ...] = (0,)) -> Step:
        """See `Parallel`."""
        return jax.pmap(
            step,
            AXIS,
            in_axes=(None, 0, None),
            out_axes=None,
            devices=self.devices,
            donate_argnums=donate,
        )


class Sharded:
    """`jax.jit` on global arrays: one program, whose batch lies in shares on all devices.

    The step sees the whole batch. XLA splits the work by where the arrays lie and adds the sums
    over the devices.
    """

    axis_name: str | None = None

    def __init__(self, devices: Devices | None = None) -> None:
        """On devices of this process, which must then be the only one; None: all of all."""
        self.mesh = ground.mesh(devices or jax.devices())
        self._everywhere = NamedSharding(self.mesh, PartitionSpec())
        self._shares = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def replicate(self, tree: Tree) -> Tree:
        """See `Parallel`."""
        return jax.tree.map(lambda leaf: _global(self._everywhere, leaf), tree)

    def place(self, batch: ground.Arrays) -> dict[str, jax.Array]:
        """See `Parallel`: `[B of this process, ...]` -> `[B, ...]`."""
        _check_even(batch, len(self.mesh.local_devices))
        return jax.tree.map(lambda leaf: _global(self._shares, leaf), dict(batch))

    def compile(self, step: Step, donate: tuple[int, ...] = (0,)) -> Step:
        """See `Parallel`."""
        return jax.jit(
            step,
            in_shardings=(self._everywhere, self._shares, self._everywhere),
            out_shardings=self._everywhere,
            donate_argnums=donate,
        )


KINDS: dict[str, type[Mapped] | type[Sharded]] = {"pmap": Mapped, "jit": Sharded}


def choose(config: Classification, devices: Devices | None = None) -> Parallel:
    """What `config.parallel` says, on devices of this process or, for None, on all of all."""
    return KINDS[config.parallel](devices)


def axis_name(config: Classification) -> str | None:
    """The axis that the step of a run is mapped over, None if it is not."""
    return KINDS[config.parallel].axis_name


def _global(sharding: NamedSharding, local: Any) -> jax.Array:
    return jax.make_array_from_process_local_data(sharding, np.asarray(local))


def _check_even(batch: ground.Arrays, local_devices: int) -> None:
    processes = jax.process_count()
    size = len(next(iter(batch.values())))
    if size % (2 * local_devices):
        raise ArgumentError(
            "batch_size",
            size * processes,
            f"a multiple of 2 x {local_devices * processes} devices",
        )


# Checkpoints ----------------------------------------------------------


def to_global(tree: Tree) -> Tree:
    """A replicated tree as one of all processes, as checkpoints take it; the same memory."""
    if not _is_local(tree):
        return tree
    return multihost_utils.host_local_array_to_global_array(tree, _all(), PartitionSpec())


def as_placed(tree: Tree, like: Tree) -> Tree:
    """The inverse of `to_global`: a global tree as another is placed."""
    if not _is_local(like):
        return tree
    return multihost_utils.global_array_to_host_local_array(tree, _all(), PartitionSpec())


def _is_local(tree: Any) -> bool:
    """Whether its arrays are of this process alone, of several."""
    return jax.process_count() > 1 and jax.tree.leaves(tree)[0].is_fully_addressable


def _all() -> Mesh:
    return ground.mesh(jax.devices())
