"""The loop that all programs share: steps, validation, logs and checkpoints of one run."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from configs import Classification, Config
from jaxcam import datasets
from jaxcam._ground.devices import Devices, any_reached, wait_for_all
from jaxcam._ground.errors import ArgumentError, renaming
from jaxcam._ground.stops import Notice, Stopped, end_at_once, noticed
from jaxcam._ground.text import counted
from train import checkpoint, initial, objectives, parallel, pipeline, synthetic, workdir
from train.banner import banner
from train.history import History
from train.logs import Logs
from train.optimizer import optimizer, schedule
from train.state import State, create, train_step
from train.unreadable import Unreadable, check_labelled
from train.validation import evaluate, validator
from train.window import Window

Checkpoints = checkpoint.Checkpoints
__all__ = ["Run", "data", "evaluate", "export", "fit"]


def fit(
    config: Config,
    factory: objectives.Factory[Config] = objectives.classification,
    resume: bool = False,
    devices: Devices | None = None,
    allow_changes: bool = False,
) -> State:
    """Trains from the start or the latest checkpoint, exports the averaged network; the last state.

    In a run of several processes (`jaxcam._ground.devices.join`) each calls this with the same
    arguments, on the same files.

    Args:
        config: every number.
        factory: config and classes -> what is minimised.
        resume: go on from the latest checkpoint in the workdir, as if the run had not been stopped.
        devices: of this process, which must then be the only one; None: all.
        allow_changes: go on though the config is not what the run was trained with; the report
            says what has changed.

    Raises:
        ValueError: another run is at work in the workdir; a config that is not what the run was
            trained with.
        Stopped: SIGTERM; the state has been saved.
        FileExistsError: the workdir holds checkpoints and `resume` is not set.
        FileNotFoundError: no checkpoint to resume from, or no data.
        FloatingPointError: a loss or a parameter is not finite; step and last good checkpoint are
            named.
    """
    with workdir.claimed(config, resume), closing(Run(config, factory, devices)) as run:
        state = run.train(*run.begin(resume, allow_changes))
        run.finish(state)
    return state


def export(config: Config, factory: objectives.Factory[Config]) -> None:
    """Exports the latest checkpoint.

    Args:
        config: of the run.
        factory: as of `fit`.

    Raises:
        ValueError: the run is still at work; a config that is not what it was trained with.
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
        self._factory = partial(factory, config, self.photos.classes)
        self.history = History(config, len(self.photos), self.photos.classes)
        self.notice = Notice()
        self.unreadable = Unreadable(config.unreadable)
        self.validate = validator(config, self.model, devices, self.unreadable)
        self._logs: Logs | None = None  # from `begin` on
        self._checkpoints: Checkpoints | None = None  # likewise
        self._named = 0  # photos that cannot be read and have been named in the log
        self._steps: dict[int, parallel.Step] = {}

    @cached_property
    def objective(self) -> objectives.Objective:
        """What is minimised; made when it is first asked for, as a teacher may have to answer."""
        return self._factory()

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.config.epochs * self.steps

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

    def begin(self, resume: bool, allow_changes: bool = False) -> tuple[State, int]:
        """The state to go on from, on the devices, and the steps that it has seen.

        Args:
            resume: from the latest checkpoint.
            allow_changes: though the config is not what the run was trained with.

        Raises:
            FileExistsError: the workdir holds checkpoints and `resume` is not set.
            FileNotFoundError: there is no checkpoint to resume from.
            ValueError: the checkpoint has seen more steps than the config has, or was trained with
                another config.
        """
        workdir.check(self.config, resume)
        check_labelled(self.photos, self.config.train_split, "train_split")
        check_labelled(self.validation, self.config.val_split, "val_split")
        if resume:  # before anything is made that may not fit
            latest = workdir.steps(self.config.workdir)[-1]
            about = checkpoint.about_latest(self.config.workdir, latest)
            self.history.check(about, allow_changes)
        drawn, said = initial.variables(self.config, self.model)
        state = self.parallel.replicate(create(self.config, drawn, self.tx))
        constants = self.objective.constants
        del constants  # a teacher that cannot answer is refused before there are logs
        self._checkpoints = checkpoint.manager(self.config.workdir)
        if resume:
            return self._resumed(state, allow_changes)
        self._logs = Logs(self.config, 0, self.total)
        self._introduce(state)
        self.logs.line(said)
        return state, 0

    def _introduce(self, state: State) -> None:
        for line in banner(self.config, state, self.photos, self.validation, self.steps):
            self.logs.line(line)

    def _resumed(self, state: State, allow_changes: bool) -> tuple[State, int]:
        found = checkpoint.restore(self.checkpoints, state)
        self.history.check(found.about, allow_changes)
        self._check_resumed(found.step)
        before = len(found.about.get("changes", []))
        self.unreadable.found += found.about.get("unreadable", [])
        self._named = len(self.unreadable.found)
        self.history.go_on(found.about, found.step, self.total)
        self._logs = Logs(self.config, found.step, self.total)
        self._introduce(found.state)
        for step, why in found.damaged.items():
            self.history.damaged[str(step)] = why
            self.logs.line(
                f"the checkpoint after step {step} is damaged ({why}) and not used; it now is in "
                f"{self.config.workdir}/damaged"
            )
        for change in self.history.changes[before:]:
            self.logs.line(f"changed {change}")
        self.logs.line(f"resumed after step {found.step}")
        if not found.about.get("validated", True):
            self._validated(found.state, found.step)
        return found.state, found.step

    def _check_resumed(self, step: int) -> None:
        if step > self.total:
            raise ArgumentError(
                "epochs",
                f"{self.config.epochs}, {counted(self.total, 'step')}",
                f"as many as the {counted(step, 'step')} in {self.config.workdir}; name another "
                "workdir for a shorter run",
            )

    def train(self, state: State, first: int) -> State:
        """All steps from `first` on.

        Raises:
            FloatingPointError: a loss or a parameter is not finite; looked at where a window of the
                log ends.
            Stopped: SIGTERM; the state has been saved.
        """
        window = Window(first)
        constants = self.parallel.replicate(self.objective.constants)
        batches = self._batches(first)
        hidden = None  # where there is no terminal
        if not self.logs.writes:
            hidden = True
        about = {"total": self.total, "initial": first, "leave": False, "unit": "step"}
        with self._noticed() as self.notice, tqdm(**about, disable=hidden) as bar:
            for step in range(first + 1, self.total + 1):
                batch = window.waiting(lambda: next(batches))
                state, metrics = self._step((step - 1) // self.steps)(state, batch, constants)
                window.add(metrics)
                bar.update()
                self._look_for_notice(step)
                if self.notice.asked or self._ends_window(step):
                    self._end_window(state, step, window)
                    window = Window(step)
        return state

    def _noticed(self) -> AbstractContextManager[Notice]:
        """SIGTERM is noticed here; of several processes JAX notices it, for all."""
        if jax.process_count() > 1:
            return nullcontext(Notice())
        return noticed("saving after this step")

    def _look_for_notice(self, step: int) -> None:
        if any_reached(step):
            self.notice.asked = True
            end_at_once()  # at a second signal

    def _batches(self, first: int) -> Iterator[dict[str, jax.Array]]:
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        host = pipeline.batches(
            self.photos, self.config, first_step=first, **share, left_out=self.unreadable
        )
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

    def _end_window(self, state: State, step: int, window: Window) -> None:
        """Logs it; at an epoch's end also validates; saves if it is time.

        Raises:
            Stopped: the run was asked to end; then it has saved, and leaves the validation.
        """
        self._log_window(window)
        if not (self.notice.asked or self._saves(step)):
            return
        if not bool(_finite(state)):
            raise self._stopped(
                f"parameters: got NaN or infinite ones after step {step}, expected finite ones"
            )
        metrics = None
        if self._ends_epoch(step):
            metrics = self._validated(state, step)
        validated = metrics is not None or not self._ends_epoch(step)
        about = {**self.history.about(), "validated": validated}
        about["unreadable"] = list(self.unreadable.found)
        with checkpoint.naming(self.config.workdir):
            checkpoint.save(self.checkpoints, state, step, metrics, about)
            if self.notice.asked:
                self.checkpoints.wait_until_finished()
        if self.notice.asked:
            self.notice.check(f"saved after step {step} in {self.config.workdir}; --resume goes on")

    def _validated(self, state: State, step: int) -> dict[str, float] | None:
        """The metrics at an epoch's end, which are logged; None if the run was asked to end."""
        try:
            metrics = self.validate(state.averaged, self.validation, self.notice)
        except Stopped:
            return None
        self.logs.epoch({"step": step, "epoch": step // self.steps, **metrics})
        return metrics

    def _log_window(self, window: Window) -> None:
        self._name_unreadable()
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

    def _name_unreadable(self) -> None:
        found = self.unreadable.found
        for number, photo in enumerate(found[self._named :], self._named + 1):
            self.logs.line(f"left out: {photo} ({number} of at most {self.config.unreadable})")
        self._named = len(found)

    def _stopped(self, why: str) -> FloatingPointError:
        self.checkpoints.wait_until_finished()
        last = self.checkpoints.latest_step()
        if last is None:
            return FloatingPointError(f"{why}; last good checkpoint: none")
        where = self.checkpoints.directory
        return FloatingPointError(f"{why}; last good checkpoint: step {last} in {where}")

    def finish(self, state: State) -> None:
        """Exports the averaged variables, whatever their accuracy; validates the written file."""
        with checkpoint.naming(self.config.workdir):
            self.checkpoints.wait_until_finished()
        metrics = self.validate(state.averaged, self.validation)
        notes = {"steps": int(state.step), **metrics}
        if self.logs.writes:
            checkpoint.export(
                self.config, jax.device_get(state.averaged), self.photos.classes, notes
            )
        wait_for_all("exported")
        exported = evaluate(self.config, self.validation, self.devices, self.unreadable)
        self._name_unreadable()
        history = {
            "changes": self.history.changes,
            "damaged_checkpoints": self.history.damaged,
            "unreadable_photos": self.unreadable.of_all(),
        }
        self.logs.report({**notes, "exported_accuracy": exported}, history)

    def close(self) -> None:
        """Ends what is still being written, also when the training was stopped."""
        if self._checkpoints is not None:
            with checkpoint.naming(self.config.workdir):
                self._checkpoints.close()
        if self._logs is not None:
            self._logs.close()


@jax.jit
def _finite(state: State) -> jax.Array:
    each = jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), (state.variables, state.ema))
    return jnp.stack(jax.tree.leaves(each)).all()
