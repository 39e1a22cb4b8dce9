"""What a run says before it trains: network, photos, devices, folders."""

import datetime

import jax

from configs import Classification
from jaxcam import datasets
from jaxcam._ground.text import counted
from train.state import State


def banner(
    config: Classification,
    state: State,
    photos: datasets.Dataset,
    validation: datasets.Dataset,
    steps: int,
) -> list[str]:
    """Lines for the start of a log.

    Args:
        config: of the run.
        state: whose parameters are counted.
        photos: to train with.
        validation: to validate with.
        steps: in an epoch.
    """
    leaves = jax.tree.leaves(state.variables["params"])
    parameters = sum(leaf.size for leaf in leaves)
    network = (
        f"{config.architecture}, {parameters:,} parameters, {counted(len(photos.classes), 'class')}"
    )
    if config.frozen:
        network += f", frozen: {', '.join(config.frozen)}"
    plan = (
        f"{counted(config.epochs, 'epoch')} of {counted(steps, 'step')} of {config.batch_size}, "
        f"{config.epochs * steps:,} steps in all"
    )
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind}"
    if jax.process_count() > 1:
        devices += f" in {jax.process_count()} processes"
    return [
        f"{config.name}: {network}",
        f"photos: {len(photos):,} to train with, {len(validation):,} to validate; {plan}",
        f"devices: {devices}, {config.parallel}, {config.compute_dtype}",
        f"logs and checkpoints: {config.workdir}; the network: {config.export}",
    ]


def remaining(steps: int, seconds: float, left: int) -> str:
    """The time that what is left takes at the pace of a window, as h:mm:ss.

    Args:
        steps: of the window.
        seconds: that they took.
        left: steps.
    """
    return str(datetime.timedelta(seconds=round(left * seconds / steps)))
