"""What a run says while it trains: CSV files, TensorBoard, terminal lines and a final report."""

import csv
import dataclasses
import importlib.metadata
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import jaxcam
from configs import Classification
from jaxcam._ground import files
from jaxcam._ground.devices import is_writer
from train.banner import remaining

Row = dict[str, Any]
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_UNKNOWN = "nan"  # in a column that a row does not have
_WIDTHS = {"step": 7, "epoch": 4, "steps": 4, "crop": 4}
# no metrics
_KEEPING = ("step", "epoch", "steps", "crop", "learning_rate", "seconds", "images_per_s")


class Table:
    """A CSV file that grows by rows, each of which has the step after which it was written."""

    def __init__(self, path: Path, step: int) -> None:
        """Goes on with the rows up to `step`; later ones, of a stopped run, are cut off.

        The file is as it was until there is a new row.
        """
        self.path = path
        self.rows = [row for row in _read(path) if row["step"] <= step]
        self._columns: Sequence[str] = ()  # of the file, once it holds these rows and no others

    @property
    def last(self) -> Row:
        """The last row; empty where there is none."""
        if not self.rows:
            return {}
        return self.rows[-1]

    def add(self, row: Row) -> None:
        """Appends a row; the file holds it when this returns."""
        self.rows.append(row)
        if not set(row) <= set(self._columns):
            self._columns = _write(self.path, self.rows)
            return
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, _UNKNOWN).writerow(row)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"'{self.path}' cannot be written: {reason}") from error


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    rows = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if all(row.values()):  # a killed process may have left its last line unfinished
                rows.append({key: _number(text) for key, text in row.items()})
    return rows


def _number(text: str) -> int | float:
    if text.lstrip("-").isdigit():
        return int(text)
    return float(text)


def _write(path: Path, rows: Sequence[Row]) -> Sequence[str]:
    """Replaces the file at once; its columns are those of all rows, of which old ones lack some."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with files.replacing(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, _UNKNOWN)
        writer.writeheader()
        writer.writerows(rows)
    return columns


class Logs:
    """A run's logs in its workdir: `steps.csv`, `epochs.csv`, `tensorboard/` and `report.json`.

    In a run of several processes only the first one's are written.
    """

    def __init__(self, config: Classification, step: int, total: int = 0) -> None:
        """Goes on with what was logged up to `step`, of `total`; 0: nobody knows how many."""
        self.config = config
        self.total = total
        self.began = time.perf_counter()
        self.writes = is_writer()
        self.folder = Path(config.workdir)
        if self.writes:
            from tensorboardX import SummaryWriter  # slow to import, and needed only here

            self.folder.mkdir(parents=True, exist_ok=True)
            self.steps = Table(self.folder / "steps.csv", step)
            self.epochs = Table(self.folder / "epochs.csv", step)
            self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)

    def line(self, text: str) -> None:
        """A line of its own beside the progress bar."""
        if self.writes:
            tqdm.write(text)
            sys.stdout.flush()

    def window(self, row: Row) -> None:
        """A line, a row and a point on each curve for a window of steps.

        The values are `step`, `epoch`, `steps`, `seconds`, ...
        """
        if self.writes:
            row = {**row, "images_per_s": self._speed([row])}
            self._add(self.steps, row, "train", self._left(row))

    def epoch(self, row: Row) -> None:
        """The same for an epoch, to whose row the means over its windows are added."""
        if self.writes:
            windows = [window for window in self.steps.rows if window["epoch"] == row["epoch"]]
            row = {**row, **_means(windows), "images_per_s": self._speed(windows)}
            self._add(self.epochs, row, "epoch")

    def _speed(self, windows: Sequence[Row]) -> float:
        return _sum(windows, "steps") * self.config.batch_size / _sum(windows, "seconds")

    def _left(self, row: Row) -> Row:
        if not self.total:
            return {}
        left = self.total - row["step"]
        return {"remaining": remaining(row["steps"], row["seconds"], left)}

    def _add(self, table: Table, row: Row, tag: str, said: Row | None = None) -> None:
        """Into the table and onto the curves; the line has what is `said` besides."""
        table.add(row)
        for key in row.keys() - {"step", "epoch", "steps"}:
            self.board.add_scalar(f"{tag}/{key}", row[key], row["step"])
        self.board.flush()
        words = []
        for key, value in {**row, **(said or {})}.items():
            words.append(f"{key} {_short(value):<{_width(key)}}")
        self.line(" ".join(words).rstrip())

    def report(self, results: Row, history: Row | None = None) -> None:
        """Writes `report.json`: command, config, versions, devices, results, last epoch, times.

        Args:
            results: of the run.
            history: what else has happened to it.
        """
        if not self.writes:
            return
        said = {
            "command": shlex.join(sys.argv),
            "config": dataclasses.asdict(self.config),
            "python": platform.python_version(),
            "versions": _versions(),
            "devices": [f"{device.platform} {device.device_kind}" for device in jax.devices()],
            "processes": jax.process_count(),
            "results": results,
            **(history or {}),
            "last_epoch": self.epochs.last,
            # of all the sittings that the logs tell of, without validation
            "training_seconds": _sum(self.steps.rows, "seconds"),
            "wall_seconds": time.perf_counter() - self.began,  # of this one
        }
        files.write_text(self.folder / "report.json", json.dumps(said, indent=2) + "\n")

    def close(self) -> None:
        """Ends what is still being written."""
        if self.writes:
            self.board.close()


def _means(windows: Sequence[Row]) -> Row:
    """Means of the metrics over the steps of the windows, and the sum of their seconds."""
    steps = np.array([window["steps"] for window in windows])
    means = {}
    for key in windows[0]:
        if key not in _KEEPING:
            values = np.array([window[key] for window in windows])
            means[key] = float((steps * values).sum() / steps.sum())
    return {**means, "seconds": _sum(windows, "seconds")}


def _sum(windows: Sequence[Row], key: str) -> float:
    return sum(window[key] for window in windows)


def _width(key: str) -> int:
    """Of a value in a line, so that those of the next line stand below it."""
    return _WIDTHS.get(key, 9)


def _short(value: int | float | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _versions() -> dict[str, str]:
    others = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"jaxcam": jaxcam.__version__, **others}
