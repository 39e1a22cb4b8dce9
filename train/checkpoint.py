"""Checkpoints of a run (Orbax) and the export of its network."""

import dataclasses
from typing import Any

import jax
import orbax.checkpoint as ocp

from configs import Classification
from jaxcam import models
from jaxcam._ground.errors import ArgumentFileError
from train import parallel
from train.state import State, Variables
from train.workdir import folder

Checkpoints = ocp.CheckpointManager
# of the machine that trained, no business of the network's users
_PATHS = ("data", "workdir", "export", "answers")
_UNRANKED = {"val_accuracy": -1.0}  # below any validated checkpoint


def manager(workdir: str) -> ocp.CheckpointManager:
    """Keeps the latest and the best checkpoint by validation accuracy; writes behind the training.

    A checkpoint appears under its step's number when it is whole; what a killed process left is
    removed by the next.
    """
    policies = ocp.checkpoint_managers

    def accuracy(metrics: dict[str, float]) -> float:
        return metrics["val_accuracy"]

    keep = policies.AnyPreservationPolicy(
        [policies.LatestN(1), policies.BestN(get_metric_fn=accuracy, n=1, reverse=False)]
    )
    options = ocp.CheckpointManagerOptions(
        best_fn=accuracy, best_mode="max", preservation_policy=keep, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager(folder(workdir), item_names=("state",), options=options)


def save(
    checkpoints: ocp.CheckpointManager, state: State, step: int, metrics: dict[str, float] | None
) -> None:
    """Saves the state after `step` steps: step and seed are all order and augmentation hang on.

    Args:
        checkpoints: made by `manager`.
        state: replicated over the devices; every process calls this.
        step: counted over all epochs.
        metrics: of the validation that ranks it; None at a step without one.
    """
    arguments = ocp.args.Composite(state=ocp.args.StandardSave(parallel.to_global(state)))
    checkpoints.save(step, args=arguments, metrics=metrics or _UNRANKED)


def restore(checkpoints: ocp.CheckpointManager, state: State) -> tuple[State, int]:
    """The latest state, placed as `state` is, and the number of steps that it has seen.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    step = checkpoints.latest_step()
    if step is None:
        raise ArgumentFileError(
            "--resume", f"no checkpoint in {checkpoints.directory}", "one to go on from"
        )
    template = jax.tree.map(_described, parallel.to_global(state))
    arguments = ocp.args.Composite(state=ocp.args.StandardRestore(template))
    restored = checkpoints.restore(step, args=arguments)["state"]
    return parallel.as_placed(restored, like=state), step


def _described(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def export(
    config: Classification, variables: Variables, classes: tuple[str, ...], notes: dict[str, Any]
) -> None:
    """Writes the network to `config.export`, which `jaxcam.models.load` reads.

    Args:
        config: the run's.
        variables: parameters and batch statistics.
        classes: name of each class.
        notes: what else the file's metadata is to say: steps, accuracy.
    """
    numbers = {key: value for key, value in dataclasses.asdict(config).items() if key not in _PATHS}
    resize = None
    if config.crop_fraction < 1:
        resize = round(config.image_size / config.crop_fraction)
    models.save(
        config.export,
        config.architecture,
        dict(config.options),
        variables,
        classes=classes,
        preprocess={
            "size": config.image_size,
            "resize": resize,
            "mean": list(config.mean),
            "std": list(config.std),
        },
        dtype=config.export_dtype,
        extra_metadata={**notes, "config": numbers},
    )
