"""Checkpoints of a run (Orbax): what they hold, whether it is whole, and the network's export."""

import contextlib
import dataclasses
import gc
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from configs import Classification
from jaxcam import models
from jaxcam._ground import files
from jaxcam._ground.devices import all_say, by_writer
from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from train import parallel
from train.state import State, Variables
from train.workdir import folder

Checkpoints = ocp.CheckpointManager
About = Mapping[str, Any]
# of the machine that trained, no business of the network's users
_PATHS = ("data", "workdir", "export", "answers")
_UNRANKED = {"val_accuracy": -1.0}  # below any validated checkpoint
_DIGEST = "digest"
_LATEST = 2  # were the last one damaged, there is one before


class Restored(NamedTuple):
    """A state that a run goes on from.

    Args:
        state: placed as the run's.
        step: the number of steps that it has seen.
        about: what was said of it when it was saved; nothing of older runs.
        damaged: why later checkpoints could not be used, by step.
    """

    state: State
    step: int
    about: About
    damaged: Mapping[int, str]


class Damaged(Exception):
    """A checkpoint that is not as it was written; the text says why."""


def manager(workdir: str) -> Checkpoints:
    """Keeps the latest two and the best checkpoint by validation accuracy.

    Writes behind the training. A checkpoint appears under its step's number when it is whole; what
    a killed process left is removed by the next.
    """
    by_writer(lambda: _mend_ranks(folder(workdir)))
    policies = ocp.checkpoint_managers

    def accuracy(metrics: dict[str, float]) -> float:
        return metrics["val_accuracy"]

    best = policies.BestN(get_metric_fn=accuracy, n=1, reverse=False)
    keep = policies.AnyPreservationPolicy([policies.LatestN(_LATEST), best])
    options = ocp.CheckpointManagerOptions(
        best_fn=accuracy, best_mode="max", preservation_policy=keep, cleanup_tmp_directories=True
    )
    return Checkpoints(folder(workdir), item_names=("state", "about"), options=options)


def _mend_ranks(path: Path) -> None:
    """Unranks a checkpoint whose rank cannot be read, over which Orbax would stumble."""
    for file in path.glob("*/metrics/metrics"):
        try:
            float(json.loads(file.read_bytes())["val_accuracy"])
        except (ValueError, KeyError, TypeError):
            files.write_text(file, json.dumps(_UNRANKED))


def save(
    checkpoints: Checkpoints,
    state: State,
    step: int,
    metrics: dict[str, float] | None,
    about: About | None = None,
) -> None:
    """Saves the state after `step` steps: step and seed are all order and augmentation hang on.

    With it goes a digest of its arrays, by which `restore` knows it.

    Args:
        checkpoints: made by `manager`.
        state: replicated over the devices; every process calls this.
        step: counted over all epochs.
        metrics: of the validation that ranks it; None at a step without one.
        about: what else is to be known of it, as JSON holds it.
    """
    described = {**(about or {}), _DIGEST: digest(state)}
    arguments = ocp.args.Composite(
        state=ocp.args.StandardSave(parallel.to_global(state)),
        about=ocp.args.JsonSave(described),
    )
    checkpoints.save(step, args=arguments, metrics=metrics or _UNRANKED)


@contextlib.contextmanager
def naming(workdir: str) -> Iterator[None]:
    """What Orbax raises when it cannot write, a moment or a step later, as one line."""
    try:
        yield
    except Exception as error:  # of OSError, ValueError and others, whichever thread has it
        said = " ".join(str(error).split())
        raise OSError(f"workdir: {workdir} cannot be written: {said[:200]}") from error


def digest(state: State) -> str:
    """SHA-256 of all arrays of a replicated state: their paths, types, shapes and bits."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(state):
        array = np.asarray(leaf.addressable_data(0))
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def restore(checkpoints: Checkpoints, state: State) -> Restored:
    """The latest state that is whole, placed as `state` is.

    Damaged checkpoints after it are moved to the folder `damaged` beside the checkpoints: the run
    makes them again.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: there is no whole one.
    """
    damaged: dict[int, str] = {}
    for step in sorted(checkpoints.all_steps(), reverse=True):
        try:
            found, about = _read(checkpoints, step, state)
        except Damaged as error:
            damaged[step] = str(error)
            continue
        _set_aside(checkpoints, damaged)
        return Restored(found, step, about, damaged)
    if not damaged:
        got = f"no checkpoint in {checkpoints.directory}"
        raise ArgumentFileError("--resume", got, "one to go on from")
    got = f"{checkpoints.directory}, of which none can be restored: {listed(damaged)}"
    raise ArgumentError("--resume", got, "a whole one")


def listed(damaged: Mapping[int, str]) -> str:
    """Damaged checkpoints and why, in one line."""
    return "; ".join(f"step {step} ({why})" for step, why in damaged.items())


def about_latest(workdir: str, step: int) -> About:
    """What was said of a checkpoint when it was saved; nothing of an older run's, or a damaged one.

    Only looks.
    """
    path = folder(workdir) / str(step) / "about" / "metadata"
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return found


def _read(checkpoints: Checkpoints, step: int, state: State) -> tuple[State, About]:
    """The state and what is said of it, once all processes have found it whole.

    Raises:
        Damaged: a file that is cut, changed or gone.
    """
    template = jax.tree.map(_described, parallel.to_global(state))
    items: dict[str, Any] = {"state": ocp.args.StandardRestore(template)}
    # A run of before there were digests: what Orbax restores is taken as it is.
    if (Path(checkpoints.directory) / str(step) / "about").is_dir():
        items["about"] = ocp.args.JsonRestore()
    why = ""
    placed: Any = None
    about: About = {}
    try:
        with _silent():
            found = checkpoints.restore(step, args=ocp.args.Composite(**items))
        placed = parallel.as_placed(found["state"], like=state)
        if "about" in items:
            about = dict(found["about"])
            why = _difference(about, placed)
    except Exception as error:  # whatever Orbax, TensorStore, zstd and JSON have
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    if not all_say(not why):
        raise Damaged(why or "as another process has found")
    return placed, about


def _difference(about: About, state: State) -> str:
    if about.get(_DIGEST) != digest(state):
        return "its arrays are not those that were saved: their SHA-256 is another"
    return ""


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps back what threads of TensorStore and Orbax print of a failure, which is raised too."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        gc.collect()  # coroutines that were left say so as they go
        sys.unraisablehook = hook


def _set_aside(checkpoints: Checkpoints, damaged: Mapping[int, str]) -> None:
    if not damaged:
        return
    path = Path(checkpoints.directory)
    aside = path.parent / "damaged"

    def move() -> None:
        aside.mkdir(exist_ok=True)
        for step in damaged:
            shutil.rmtree(aside / str(step), ignore_errors=True)
            (path / str(step)).rename(aside / str(step))

    by_writer(move)
    checkpoints.reload()


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
