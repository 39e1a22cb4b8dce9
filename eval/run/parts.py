"""Values made group by group of photos: stored as they come, shared by processes, resumed.

The values of photos `first` to `last` are a file `NAME/FIRST-LAST.npz`, written atomically. When
the groups cover all photos they become one file, `NAME.npz`. A run started again, with as many
processes as may be, does what is missing. Files are read and written array by array, so that
nobody holds the values of all photos. A file that is damaged is named and made again.
"""

import math
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import jax
import numpy as np

from eval.run.record import comment, save_npz
from jaxcam._ground.progress import told

Values = dict[str, np.ndarray]
# From slices of the photos to the values `[last - first, ...]` of each.
Compute = Callable[[Iterable[slice]], Iterator[Values]]
Item = TypeVar("Item")
Made = TypeVar("Made")
GROUP = 64  # photos, at least: what a stop may lose
PATIENCE = 86_400  # seconds that a process waits for the others' parts
_TELL = 60.0  # seconds between lines that say so
_POLL = 0.2  # seconds between looks at the folder that processes share


def store(
    path: Path,
    count: int,
    step: int,
    compute: Compute | None,
    extra: Mapping[str, np.ndarray],
) -> None:
    """Sees to it that the file `path` holds the values of all photos.

    This process computes its share of them. Returns when the file is there. It is process 0 that
    puts the groups together.

    Args:
        path: `NAME.npz`; groups go to the folder `NAME`.
        count: photos in all.
        step: photos that are computed at once.
        compute: from slices of the photos, each when it is asked for, to values by name; None if
            there are none.
        extra: further arrays for the file.
    """
    folder = path.with_suffix("")
    remove_damaged([path, *sorted(folder.glob("*.npz"))])
    if path.exists():
        return
    if compute is not None:
        _store_share(folder, count, step, compute)
    if jax.process_index() == 0:
        wait(lambda: compute is None or not list(missing(folder, 0, count, count)))
        save_npz(path, _joined(folder, extra))
        shutil.rmtree(folder, ignore_errors=True)
    wait(path.exists)


def remove_damaged(paths: Iterable[Path]) -> None:
    """Removes the `.npz` among files that cannot be read whole, and names them."""
    for path in paths:
        reason = _damage(path) or _lack(path)
        if reason:
            print(f"{path}: damaged ({reason}), made again", file=sys.stderr)
            path.unlink(missing_ok=True)


def check(path: Path) -> None:
    """Whether an `.npz` of a finished run is sound.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    if reason := _damage(path):
        raise ValueError(f"{path} is damaged ({reason}): the command that made it makes it again")


def _lack(path: Path) -> str:
    """Whether a sound `.npz` of a part has no arrays, as the values of a run may have none."""
    if not path.exists():
        return ""
    with zipfile.ZipFile(path) as archive:
        return "" if archive.namelist() else "no arrays"


def _damage(path: Path) -> str:
    """What is wrong with an `.npz`; nothing if it is sound, or not there."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.comment not in (b"", comment(archive)):
                return f"it holds {len(archive.namelist())} arrays and says: {archive.comment!r}"
            if bad := archive.testzip():
                return f"{bad}: wrong checksum"
            return _cut(archive)
    except OSError as error:
        if error.filename is not None:  # of the file itself, not of what is read in it
            if isinstance(error, FileNotFoundError):
                return ""
            raise
        return str(error)
    # what zipfile makes of a header with one bit changed: another version, a password...
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        return str(error) or type(error).__name__


def _cut(archive: zipfile.ZipFile) -> str:
    """Which array is not as long as its header says, or nothing."""
    for member in archive.infolist():
        with archive.open(member) as file:
            shape, dtype = header(file)
            if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                return f"{member.filename}: {member.file_size} bytes for {dtype} {shape}"
    return ""


def header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the array that an open `.npy` holds."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f".npy of version {version}")
    shape, _, dtype = read[version](file)
    return shape, dtype


def _store_share(folder: Path, count: int, step: int, compute: Compute) -> None:
    group = _group(step)
    pieces = list(missing(folder, *share(count, group), group))
    made = compute(slice(first, last) for first, last in pieces)
    counted = told(pieces, folder.name, "group", len(pieces))
    for (first, last), values in zip(counted, made, strict=True):
        save_npz(folder / f"{first:08d}-{last:08d}.npz", values.items())


def ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """`function` of each item; the next one is under way in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = None
        for item in items:
            coming = pool.submit(function, item)
            if pending is not None:
                yield pending.result()
            pending = coming
        if pending is not None:
            yield pending.result()


def load(path: Path) -> Values:
    """The arrays of an `.npz`."""
    with np.load(path) as stored:
        return dict(stored)


def share(count: int, group: int) -> tuple[int, int]:
    """First and last photo of this process: contiguous, of whole groups, as equal as can be."""
    groups = -(-count // group)

    def start(index: int) -> int:
        return min(groups * index // jax.process_count() * group, count)

    return start(jax.process_index()), start(jax.process_index() + 1)


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


def _joined(folder: Path, extra: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The groups' arrays one after another, each of all photos, and the further ones."""
    files = sorted(folder.glob("*.npz"))
    for name in names_in(files[:1]):
        yield name, np.concatenate([load_array(file, name) for file in files])
    yield from extra.items()


def names_in(files: Iterable[Path]) -> list[str]:
    """The names of the arrays of some `.npz`."""
    names = []
    for file in files:
        with np.load(file) as stored:
            names += stored.files
    return names


def load_array(path: Path, name: str) -> np.ndarray:
    """One array of an `.npz`."""
    with np.load(path) as stored:
        return stored[name]


def _group(step: int) -> int:
    """Photos a group: whole steps."""
    return step * max(1, GROUP // step)


def wait(condition: Callable[[], bool]) -> None:
    """Waits until the other processes have done their part, and says so every minute.

    If one dies, jax.distributed ends the others.

    Raises:
        FileNotFoundError: there is nobody to wait for: what this process wrote is gone.
        TimeoutError: they have not in `PATIENCE` seconds.
    """
    began = time.monotonic()
    told = began
    while not condition():
        if jax.process_count() == 1:
            raise FileNotFoundError("output: files of this run have been removed meanwhile")
        now = time.monotonic()
        if now - began > PATIENCE:
            raise TimeoutError(f"output: waited {PATIENCE} s for the other processes, no longer")
        if now - told > _TELL:
            print(f"waiting for the other processes, {now - began:.0f} s", file=sys.stderr)
            told = now
        time.sleep(_POLL)


@dataclass(frozen=True)
class Stored(Mapping[str, np.ndarray]):
    """Arrays of several `.npz`, each of which is read when it is asked for, and not held.

    Args:
        places: the file and the name there of each.
    """

    places: Mapping[str, tuple[Path, str]]

    def __getitem__(self, name: str) -> np.ndarray:
        """An array."""
        return load_array(*self.places[name])

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self.places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.places)
