"""The loop that all programs share: steps, validation, logs and checkpoints of one run."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from configs import Classification, Config
from jaxcam import datasets, models
from jaxcam._ground.devices import Devices, is_writer, wait_for_all
from jaxcam._ground.errors import ArgumentError, renaming
from train import checkpoint, initial, objectives, parallel, pipeline, synthetic, workdir
from train.logs import Logs
from train.optimizer import optimizer, schedule
from train.state import State, Variables, create, train_step, validation_step

# Steps that are queued before the loop waits; more could hold every thread of a small host.
_AHEAD = 2
Checkpoints = checkpoint.Checkpoints
Thing = TypeVar("Thing")


def fit(
    config: Config,
    factory: objectives.Factory[Config] = objectives.classification,
    resume: bool = False,
    devices: Devices | None = None,
) -> State:
    """Trains from the start or the latest checkpoint, exports the averaged network; the last state.

    In a run of several processes (`jaxcam._ground.devices.join`) each calls this with the same
    arguments, on the same files.

    Args:
        config: every number.
        factory: config and classes -> what is minimised.
        resume: go on from the latest checkpoint in the workdir, as if the run had not been stopped.
        devices: of this process, which must then be the only one; None: all.

    Raises:
        ValueError: another run is at work in the workdir.
        FileExistsError: the workdir holds checkpoints and `resume` is not set.
        FileNotFoundError: no checkpoint to resume from, or no data.
        FloatingPointError: a loss or a parameter is not finite; step and last good checkpoint are
            named.
    """
    with workdir.claimed(config, resume), closing(Run(config, factory, devices)) as run:
        state = run.train(*run.begin(resume))
        run.finish(state)
    return state


def export(config: Config, factory: objectives.Factory[Config]) -> None:
    """Exports the latest checkpoint.

    Args:
        config: of the run.
        factory: as of `fit`.

    Raises:
        ValueError: the run is still at work.
        FileNotFoundError: no checkpoint, or no data.
    """
    with workdir.claimed(config, resume=True), closing(Run(config, factory)) as run:
        run.finish(run.begin(resume=True)[0])


def data(config: Classification, split: str) -> datasets.Dataset:
    """The photos of a split of the config's data: "train" or "val"."""
    if config.data == "synthetic":
        return synthetic.load(config, split)
    names = {"train": config.train_split, "val": config.val_split}
    name = names[split]
    with renaming(name="data"):  # which is what a config calls it
        return datasets.load(config.data, name, multilabel=config.loss == "sigmoid")


class Run:
    """What stays fixed while a network trains, and its logs."""

    def __init__(
        self,
        config: Config,
        factory: objectives.Factory[Config] = objectives.classification,
        devices: Devices | None = None,
    ) -> None:
        """Loads the data and makes the network; nothing is placed on the devices yet."""
        self.config: Classification = config
        self.devices = devices
        self.parallel = parallel.choose(config, devices)
        self.photos = data(config, "train")
        self.validation = data(config, "val")
        self.steps = pipeline.steps_per_epoch(self.photos, config)
        self.model = initial.network(config, len(self.photos.classes), self.parallel.axis_name)
        self.tx = optimizer(config, self.steps)
        self.rate = schedule(config, self.steps)
        self.objective = factory(config, self.photos.classes)
        self.validate = validator(config, self.model, devices)
        self._logs: Logs | None = None  # from `begin` on
        self._checkpoints: Checkpoints | None = None  # likewise
        self._steps: dict[int, parallel.Step] = {}

    @property
    def logs(self) -> Logs:
        """The run's, from `begin` on."""
        if self._logs is None:
            raise RuntimeError("logs: the run has not begun")
        return self._logs

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's, from `begin` on: to look there is to clean up what a killed run has left."""
        if self._checkpoints is None:
            raise RuntimeError("checkpoints: the run has not begun")
        return self._checkpoints

    def begin(self, resume: bool) -> tuple[State, int]:
        """The state to go on from, on the devices, and the steps that it has seen.

        Raises:
            FileExistsError: the workdir holds checkpoints and `resume` is not set.
            FileNotFoundError: there is no checkpoint to resume from.
            ValueError: the checkpoint has seen more steps than the config has.
        """
        workdir.check(self.config, resume)
        self._checkpoints = checkpoint.manager(self.config.workdir)
        drawn, said = initial.variables(self.config, self.model)
        state = self.parallel.replicate(create(self.config, drawn, self.tx))
        step = 0
        if resume:
            state, step = checkpoint.restore(self.checkpoints, state)
            self._check_resumed(step)
            said = f"resumed after step {step}"
        self._logs = Logs(self.config, step)
        self.logs.line(said)
        return state, step

    def _check_resumed(self, step: int) -> None:
        total = self.config.epochs * self.steps
        if step > total:
            raise ArgumentError(
                "epochs",
                f"{self.config.epochs}, {total} steps",
                f"as many as the {step} steps in {self.config.workdir}; name another workdir for a "
                "shorter run",
            )

    def train(self, state: State, first: int) -> State:
        """All steps from `first` on.

        Raises:
            FloatingPointError: a loss or a parameter is not finite; looked at where a window of the
                log ends.
        """
        total = self.config.epochs * self.steps
        window = _Window(first)
        constants = self.parallel.replicate(self.objective.constants)
        batches = self._batches(first)
        hidden = None  # where there is no terminal
        if not self.logs.writes:
            hidden = True
        with tqdm(total=total, initial=first, leave=False, disable=hidden, unit="step") as bar:
            for step in range(first + 1, total + 1):
                batch = window.waiting(lambda: next(batches))
                state, metrics = self._step((step - 1) // self.steps)(state, batch, constants)
                window.add(metrics)
                bar.update()
                if self._ends_window(step):
                    self._end_window(state, step, window)
                    window = _Window(step)
        return state

    def _batches(self, first: int) -> Iterator[dict[str, jax.Array]]:
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        host = pipeline.batches(self.photos, self.config, first_step=first, **share)
        return pipeline.prefetch(map(self.objective.prepare, host), self.parallel.place)

    def _step(self, epoch: int) -> parallel.Step:
        """The compiled step for the crops of an epoch, made once for each size."""
        size = self.config.crop_size(epoch)
        if size not in self._steps:
            step = partial(
                train_step,
                config=self.config,
                model=self.model,
                tx=self.tx,
                loss=self.objective.loss,
                crop_size=size,
                axis_name=self.parallel.axis_name,
            )
            self._steps[size] = self.parallel.compile(step)
        return self._steps[size]

    def _ends_window(self, step: int) -> bool:
        return self._ends_epoch(step) or step % self.config.log_every == 0 or self._saves(step)

    def _ends_epoch(self, step: int) -> bool:
        return step % self.steps == 0

    def _saves(self, step: int) -> bool:
        every = self.config.checkpoint_every
        return self._ends_epoch(step) or (every > 0 and step % every == 0)

    def _end_window(self, state: State, step: int, window: "_Window") -> None:
        """Logs it; at an epoch's end also validates; saves if it is time."""
        self._log_window(window)
        if not self._saves(step):
            return
        if not bool(_finite(state)):
            raise self._stopped(
                f"parameters: got NaN or infinite ones after step {step}, expected finite ones"
            )
        metrics = None
        if self._ends_epoch(step):
            metrics = self.validate(state.averaged, self.validation)
            self.logs.epoch({"step": step, "epoch": step // self.steps, **metrics})
        checkpoint.save(self.checkpoints, state, step, metrics)

    def _log_window(self, window: "_Window") -> None:
        losses = window.close()
        for step, loss in enumerate(losses, window.first):
            if not np.isfinite(loss):
                raise self._stopped(f"loss: got {loss} in step {step}, expected a finite number")
        epoch = (window.last - 1) // self.steps
        rate = self.rate((window.last - 1) // self.config.accumulate)
        row = {
            "step": window.last,
            "epoch": epoch + 1,
            "steps": len(losses),
            "crop": self.config.crop_size(epoch),
            "learning_rate": float(np.asarray(rate)),
        }
        self.logs.window({**row, **window.means, "seconds": window.seconds})

    def _stopped(self, why: str) -> FloatingPointError:
        self.checkpoints.wait_until_finished()
        last = self.checkpoints.latest_step()
        if last is None:
            return FloatingPointError(f"{why}; last good checkpoint: none")
        where = self.checkpoints.directory
        return FloatingPointError(f"{why}; last good checkpoint: step {last} in {where}")

    def finish(self, state: State) -> None:
        """Exports the averaged variables, whatever their accuracy; validates the written file."""
        metrics = self.validate(state.averaged, self.validation)
        notes = {"steps": int(state.step), **metrics}
        if self.logs.writes:
            checkpoint.export(
                self.config, jax.device_get(state.averaged), self.photos.classes, notes
            )
        wait_for_all("exported")
        exported = evaluate(self.config, self.validation, self.devices)
        self.logs.report({**notes, "exported_accuracy": exported})

    def close(self) -> None:
        """Ends what is still being written, also when the training was stopped."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._logs is not None:
            self._logs.close()


class _Window:
    """Steps between two lines of the log. Metrics stay on the devices until it is closed."""

    def __init__(self, last: int) -> None:
        self.first = last + 1
        self.last = last
        self.metrics: list[objectives.Metrics] = []
        self.means: dict[str, float] = {}  # from `close` on
        self.waited = 0.0
        self.seconds = 0.0
        self.began = time.perf_counter()

    def waiting(self, get: Callable[[], Thing]) -> Thing:
        """What `get` returns; the time is counted as waiting for the input pipeline."""
        began = time.perf_counter()
        found = get()
        self.waited += time.perf_counter() - began
        return found

    def add(self, metrics: objectives.Metrics) -> None:
        """Counts a step, and waits for an earlier one if too many are queued."""
        self.metrics.append(metrics)
        self.last += 1
        if len(self.metrics) > _AHEAD:
            jax.block_until_ready(self.metrics[-1 - _AHEAD])

    def close(self) -> list[float]:
        """Takes the means over the steps, and the share of waiting; the loss of each."""
        metrics = jax.device_get(self.metrics)
        self.seconds = time.perf_counter() - self.began
        together = jax.tree.map(lambda *values: np.array(values, np.float64), *metrics)
        self.means = {key: float(values.mean()) for key, values in together.items()}
        self.means["waiting"] = self.waited / self.seconds
        return together["loss"].tolist()


@jax.jit
def _finite(state: State) -> jax.Array:
    each = jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), (state.variables, state.ema))
    return jnp.stack(jax.tree.leaves(each)).all()


def validator(
    config: Classification, model: nn.Module, devices: Devices | None = None
) -> Callable[[Variables, datasets.Dataset], dict[str, float]]:
    """Replicated variables and photos -> `val_accuracy` and `val_loss`, of all processes together.

    Args:
        config: the run's; the loss is without smoothing.
        model: whose variables they are.
        devices: of this process, which must then be the only one; None: all.
    """
    how = parallel.choose(config, devices)
    step = partial(validation_step, config=config, model=model, axis_name=how.axis_name)
    compiled = how.compile(step, donate=())

    def validate(variables: Variables, photos: datasets.Dataset) -> dict[str, float]:
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        batches = pipeline.validation_batches(photos, config, config.batch_size, **share)
        placed = pipeline.prefetch(batches, how.place)
        each = [jax.device_get(compiled(variables, batch, None)) for batch in placed]
        sums = jax.tree.map(lambda *values: np.array(values, np.float64).sum(), *each)
        return {
            "val_accuracy": float(sums["correct"] / sums["count"]),
            "val_loss": float(sums["loss"] / sums["count"]),
        }

    return validate


def evaluate(
    config: Classification, photos: datasets.Dataset, devices: Devices | None = None
) -> float:
    """Prints and returns the accuracy of the exported file."""
    model, variables = models.load(config.export)
    placed = parallel.choose(config, devices).replicate(variables)
    share = validator(config, model, devices)(placed, photos)["val_accuracy"]
    if is_writer():
        size = Path(config.export).stat().st_size / 1e6
        said = (
            f"{config.export} ({size:.2f} MB): top-1 {100 * share:.1f} % of {len(photos)} "
            "validation photos"
        )
        print(said, flush=True)
    return share
