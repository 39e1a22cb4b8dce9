"""Checkpoints of a run (Orbax) and the export of its network."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from configs import Classification
from jaxcam import models
from train.state import State, Variables

_PATHS = ("data", "workdir", "export")  # of the machine that trained, no business of the network's users


def manager(workdir: str) -> ocp.CheckpointManager:
    """Keeps the latest checkpoint and that of the best validation accuracy; writes behind the training."""
    policies = ocp.checkpoint_managers

    def accuracy(metrics: dict[str, float]) -> float:
        return metrics["val_accuracy"]

    keep = policies.AnyPreservationPolicy(
        [policies.LatestN(1), policies.BestN(get_metric_fn=accuracy, n=1, reverse=False)]
    )
    options = ocp.CheckpointManagerOptions(best_fn=accuracy, best_mode="max", preservation_policy=keep)
    return ocp.CheckpointManager((Path(workdir) / "checkpoints").absolute(), item_names=("state",), options=options)


def save(checkpoints: ocp.CheckpointManager, state: State, epoch: int, metrics: dict[str, float]) -> None:
    """Saves the state after `epoch` epochs: epoch and seed are all that order and augmentation hang on."""
    checkpoints.save(epoch, args=ocp.args.Composite(state=ocp.args.StandardSave(state)), metrics=metrics)


def restore(checkpoints: ocp.CheckpointManager, state: State) -> tuple[State, int]:
    """The latest state, placed as `state` is, and the number of epochs that it has seen.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    epoch = checkpoints.latest_step()
    if epoch is None:
        raise FileNotFoundError(f"--resume: found no checkpoint in {checkpoints.directory}")
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    arguments = ocp.args.Composite(state=ocp.args.StandardRestore(template))
    return checkpoints.restore(epoch, args=arguments).state, epoch


def export(config: Classification, variables: Variables, classes: list[str], notes: dict[str, Any]) -> None:
    """Writes the network to `config.export`, which `jaxcam.models.load` reads.

    Args:
        config: the run's.
        variables: parameters and batch statistics.
        classes: name of each class.
        notes: what else the file's metadata is to say: epochs, accuracy.
    """
    numbers = {key: value for key, value in dataclasses.asdict(config).items() if key not in _PATHS}
    models.save(
        config.export,
        config.architecture,
        dict(config.options),
        variables,
        classes=classes,
        preprocess={"size": config.image_size, "mean": list(config.mean), "std": list(config.std)},
        dtype=config.export_dtype,
        extra_metadata={**notes, "config": numbers},
    )
