"""Values made group by group of photos: stored as they come, shared by processes, resumed.

The values of photos `first` to `last` are a file `NAME/FIRST-LAST.npz`, written atomically. When
the groups cover all photos they become one file, `NAME.npz`. A run started again, with as many
processes as may be, does what is missing.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from eval.record import save_npz

Values = dict[str, np.ndarray]
GROUP = 64  # photos, at least: what a stop may lose
_POLL = 0.2  # seconds between looks at the folder that processes share


def store(
    path: Path,
    count: int,
    step: int,
    compute: Callable[[slice], Values] | None,
    extra: Mapping[str, np.ndarray],
) -> None:
    """Sees to it that the file `path` holds the values of all photos.

    This process computes its share of them. Returns when the file is there. It is process 0 that
    puts the groups together.

    Args:
        path: `NAME.npz`; groups go to the folder `NAME`.
        count: photos in all.
        step: photos that are computed at once.
        compute: from a slice of the photos to values `[last - first, ...]` by name; None if there
            are none.
        extra: further arrays for the file.
    """
    if path.exists():
        return
    folder = path.with_suffix("")
    if compute is not None:
        pieces = list(missing(folder, *share(count, _group(step)), _group(step)))
        for first, last in tqdm(pieces, desc=path.stem, unit="group", leave=False, disable=None):
            save_npz(folder / f"{first:08d}-{last:08d}.npz", compute(slice(first, last)))
    if jax.process_index() == 0:
        wait(lambda: compute is None or not list(missing(folder, 0, count, count)))
        save_npz(path, {**(_joined(folder) if compute else {}), **extra})
        shutil.rmtree(folder, ignore_errors=True)
    wait(path.exists)


def load(path: Path) -> Values:
    """The arrays of an `.npz`."""
    with np.load(path) as stored:
        return dict(stored)


def share(count: int, group: int) -> tuple[int, int]:
    """First and last photo of this process: contiguous, of whole groups, as equal as can be."""
    index, processes, groups = jax.process_index(), jax.process_count(), -(-count // group)
    first, last = (min(groups * i // processes * group, count) for i in (index, index + 1))
    return first, last


def missing(folder: Path, first: int, last: int, group: int) -> Iterator[tuple[int, int]]:
    """Ranges of photos between `first` and `last` that no file covers, none longer than `group`."""
    for start, end in [*_ranges(folder), (last, last)]:
        while first < min(start, last):
            piece = min(first + group, start, last)
            yield first, piece
            first = piece
        first = max(first, end)


def _ranges(folder: Path) -> list[tuple[int, int]]:
    return sorted((int(file.stem[:8]), int(file.stem[9:])) for file in folder.glob("*.npz"))


def _joined(folder: Path) -> Values:
    groups = [load(file) for file in sorted(folder.glob("*.npz"))]
    return {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}


def _group(step: int) -> int:
    """Photos a group: whole steps."""
    return step * max(1, GROUP // step)


def wait(condition: Callable[[], bool]) -> None:
    """Waits until the others have done their part; if one dies, jax.distributed ends the others."""
    while not condition():
        time.sleep(_POLL)
