"""Trains a classifier: `python -m train.classify --config configs/tiny20.py [--set key=value ...] [--resume]`.

`--evaluate` prints the accuracy of the exported network instead; `--export-only` exports the latest checkpoint.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from tqdm import tqdm

import configs
from configs import Classification
from jaxcam import models
from train import checkpoint, data, parallel
from train.state import State, Variables, create, optimizer, predict, train_step


def train(config: Classification, resume: bool = False, devices: list[jax.Device] | None = None) -> State:
    """Trains from the start or from the latest checkpoint, exports the averaged network and returns the last state.

    Raises:
        FileExistsError: the workdir holds checkpoints and `resume` is not set.
        FloatingPointError: the loss of an epoch is not finite; the last checkpoint is the one before.
    """
    photos, validation, classes = data.load(config)
    run = _Run(config, len(classes), data.steps_per_epoch(photos, config), devices)
    with run.checkpoints:  # ends what is still being written, also when the training is stopped
        state, start = run.begin(resume)
        for epoch in range(start, config.epochs):
            began = time.perf_counter()
            state, metrics = run.epoch(state, photos, epoch)
            metrics["images_per_s"] = run.steps * config.batch_size / (time.perf_counter() - began)
            metrics["val_accuracy"] = accuracy(run.predict, state.ema, validation)
            _log(config, epoch, metrics)
            checkpoint.save(run.checkpoints, state, epoch + 1, metrics)
    export(config, state, validation, classes, run.predict)
    return state


class _Run:
    """What stays fixed while a network trains."""

    def __init__(self, config: Classification, num_classes: int, steps: int, devices: list[jax.Device] | None) -> None:
        options = dict(config.options)
        self.config, self.steps, self.devices = config, steps, devices or jax.devices()
        self.model = models.create(config.architecture, num_classes, **options, axis_name=parallel.AXIS)
        self.tx = optimizer(config, steps)
        self.predict = predict(config, self.model)
        self.checkpoints = checkpoint.manager(config.workdir)
        self._mapped: dict[int, Callable] = {}

    def begin(self, resume: bool) -> tuple[State, int]:
        """The state to go on from, on the devices, and the epochs that it has seen."""
        state = parallel.replicate(create(self.config, self.model, self.tx), self.devices)
        if resume:
            return checkpoint.restore(self.checkpoints, state)
        if self.checkpoints.latest_step() is not None:
            raise FileExistsError(f"workdir: {self.config.workdir} holds checkpoints; --resume, or name another")
        return state, 0

    def step(self, crop_size: int) -> Callable:
        """The mapped step for crops of a size, made once."""
        if crop_size not in self._mapped:
            fixed = {"config": self.config, "model": self.model, "tx": self.tx, "crop_size": crop_size}
            self._mapped[crop_size] = parallel.pmap_step(
                partial(train_step, **fixed, axis_name=parallel.AXIS), self.devices
            )
        return self._mapped[crop_size]

    def epoch(self, state: State, photos: data.Photos, epoch: int) -> tuple[State, dict[str, float]]:
        """Trains one epoch; the metrics are means over its steps."""
        step, collected = self.step(self.config.crop_size(epoch)), []
        batches = data.batches(photos, self.config, epoch)
        for batch in tqdm(batches, f"epoch {epoch + 1}", self.steps, leave=False, disable=None):
            state, metrics = step(state, parallel.shard(batch, len(self.devices)))
            # Waiting keeps queued steps from holding every thread of a small host (design.md, forced devices).
            collected.append(jax.block_until_ready(metrics))
        means = {key: float(np.mean([metrics[key] for metrics in collected])) for key in collected[0]}
        if not np.isfinite(means["loss"]):
            raise FloatingPointError(f"loss: got {means['loss']} in epoch {epoch + 1}, expected a finite number")
        return state, means


def accuracy(predict: Callable, variables: Variables, photos: data.Photos, batch_size: int = 100) -> float:
    """Share of the photos whose arg-max class is the right one."""
    local = jax.device_put(variables, jax.local_devices()[0])
    starts = range(0, len(photos.labels), batch_size)
    guesses = [np.argmax(predict(local, photos.images[i : i + batch_size]), axis=-1) for i in starts]
    return float(np.mean(np.concatenate(guesses) == photos.labels))


def _log(config: Classification, epoch: int, metrics: dict[str, float]) -> None:
    """Appends to `metrics.csv` and prints one line."""
    path = Path(config.workdir) / "metrics.csv"
    row = {"epoch": epoch + 1, "crop": config.crop_size(epoch), **metrics}
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)


def export(
    config: Classification, state: State, validation: data.Photos, classes: list[str], predict: Callable
) -> None:
    """Exports the averaged variables, always: no choice by validation accuracy; then validates the written file."""
    ema = jax.device_get(state.ema)
    steps = int(state.step)
    checkpoint.export(config, ema, classes, {"steps": steps, "val_accuracy": accuracy(predict, ema, validation)})
    evaluate(config, validation)


def evaluate(config: Classification, validation: data.Photos) -> float:
    """Prints and returns the accuracy of the exported file."""
    loaded = models.load(config.export)
    model: nn.Module = loaded[0]
    share = accuracy(predict(config, model), loaded[1], validation)
    size = Path(config.export).stat().st_size / 1e6
    count = len(validation.labels)
    print(f"{config.export} ({size:.2f} MB): top-1 {100 * share:.1f} % of {count} validation photos", flush=True)
    return share


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser("python -m train.classify", description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="a Python file that defines `config`: configs/NAME.py")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="replace fields")
    parser.add_argument("--resume", action="store_true", help="go on from the latest checkpoint in the workdir")
    parser.add_argument("--evaluate", action="store_true", help="only print the accuracy of the exported network")
    parser.add_argument("--export-only", action="store_true", help="only export the latest checkpoint")
    chosen = parser.parse_args(arguments)
    try:
        _dispatch(configs.override(configs.load(chosen.config), chosen.set), chosen)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"train.classify: {error}")


def _dispatch(config: Classification, chosen: argparse.Namespace) -> None:
    if chosen.evaluate:
        evaluate(config, data.load(config)[1])
    elif chosen.export_only:
        photos, validation, classes = data.load(config)
        run = _Run(config, len(classes), data.steps_per_epoch(photos, config), None)
        export(config, run.begin(resume=True)[0], validation, classes, run.predict)
    else:
        train(config, chosen.resume)


if __name__ == "__main__":
    main()
