"""Photos in folders and zips."""

import csv
import io
import os
import re
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from jaxcam._ground.errors import ArgumentError, ArgumentFileError, listing
from jaxcam.datasets.records import NO_BOXES, UNKNOWN, Dataset, Record, multi_hot

__all__ = [
    "ALL",
    "SPLITS",
    "SUFFIXES",
    "Entry",
    "Folder",
    "Listing",
    "Zip",
    "listed",
    "load",
    "open_files",
    "select",
    "unknown_split",
]

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SPLITS = ("train", "val", "validation", "test")
ALL = "all"  # the sum of all splits, as in TFDS


class Folder:
    """Files below a folder, by their relative names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Of all files, at any depth."""
        found = []
        for top, _, names in os.walk(self.path, followlinks=True):
            folder = Path(top).relative_to(self.path)
            found += [(folder / name).as_posix() for name in names]
        return found

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()


class Zip:
    """Files in a zip, read from any number of threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ArgumentError("name", path, f"a zip ({error})") from error
        # ZipFile reads under its own lock, but counts its open members without one and closes
        # itself at zero.
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Of all files, at any depth."""
        return [name for name in self._zip.namelist() if not name.endswith("/")]

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        with self._lock:
            member = self._zip.open(name)
        try:
            return member.read()
        finally:
            with self._lock:
                member.close()


def open_files(path: Path) -> Folder | Zip:
    """The files of a folder or zip.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: a file that is no zip.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise ArgumentFileError("name", path, "a folder or zip of photos")
    if path.suffix.lower() != ".zip":
        raise ArgumentError("name", f"the file {path}", "a folder or a zip")
    return Zip(path)


@dataclass(frozen=True)
class Entry:
    """A photo that has not been read: `file` within its folder or zip."""

    file: str
    label: int
    boxes: np.ndarray
    id: str


@dataclass(frozen=True)
class Listing:
    """What a folder or zip holds: its class names, and each split's entries by class, then name."""

    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Entry]]


@dataclass(frozen=True)
class _Photos(Sequence[Record]):
    files: Folder | Zip
    entries: Sequence[Entry]
    num_classes: int | None  # where labels are to be multi-hot

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Record:
        entry = self.entries[index]
        label = entry.label
        if self.num_classes is not None:
            label = multi_hot([label], self.num_classes)
        return Record(self.files.read(entry.file), label, entry.boxes, entry.id)


def load(path: Path, split: str, multilabel: bool) -> Dataset:
    """The photos of a split of a folder or zip; see `jaxcam.datasets.load`."""
    files = open_files(path)
    found = listed(files)
    entries = select(split, found.splits)
    if not entries:
        raise ArgumentError("split", f"{split!r} of {path}, which is empty", "a photo at least")
    num_classes = len(found.classes) if multilabel else None
    return Dataset(_Photos(files, entries, num_classes), found.classes)


def listed(files: Folder | Zip) -> Listing:
    """Sorts the photos into splits and classes.

    Raises:
        FileNotFoundError: there are none.
        ValueError: classes.csv or boxes.csv do not fit the folders.
    """
    tree = _Tree(files)
    names = [name for name in tree.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not names:
        expected = f"files that end in one of {listing(sorted(SUFFIXES))}"
        raise ArgumentFileError("name", f"{files.path}, which holds no photos", expected)
    photos = _by_split(names)
    folders, classes = _classes(tree, photos or {"": names})
    boxes = _boxes(tree)
    if not photos:
        entries = _entries(tree.prefix, SPLITS[0], names, folders, boxes)
        return Listing(classes, {SPLITS[0]: entries})
    splits = {}
    for split, inner in photos.items():
        splits[split] = _entries(f"{tree.prefix}{split}/", split, inner, folders, boxes)
    return Listing(classes, splits)


def _by_split(names: Iterable[str]) -> dict[str, list[str]]:
    """Of the photos that lie in a split's folder their names in it, in the order of `SPLITS`."""
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        split, _, inner = name.partition("/")
        if inner and split in found:
            found[split].append(inner)
    return {split: inner for split, inner in found.items() if inner}


class _Tree:
    """Names below the set's root, the top or the only folder in it; hidden ones are left out."""

    def __init__(self, files: Folder | Zip) -> None:
        names = [name for name in files.names() if not re.search(r"(^|/)(\.|__MACOSX/)", name)]
        tops = {name.partition("/")[0] for name in names}
        self.files = files
        self.prefix = ""
        # One folder around all is a wrapping if it holds folders itself; else it is a class.
        nested = any(name.count("/") > 1 for name in names)
        if len(tops) == 1 and tops.isdisjoint(SPLITS) and nested:
            self.prefix = f"{tops.pop()}/"
        self.names = [name.removeprefix(self.prefix) for name in names]

    def rows(self, name: str) -> list[dict[str, str]]:
        """A CSV file at the root, or nothing."""
        if name not in self.names:
            return []
        text = self.files.read(self.prefix + name).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))


def _classes(
    tree: _Tree, photos: Mapping[str, list[str]]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The index of each class folder, and the classes' names."""
    names = chain.from_iterable(photos.values())
    found = sorted({name.partition("/")[0] for name in names if "/" in name})
    rows = tree.rows("classes.csv")
    if not rows:
        return {folder: index for index, folder in enumerate(found)}, tuple(found)
    if "wnid" not in rows[0] or "name" not in rows[0]:
        got = f"the columns {', '.join(rows[0])}"
        raise ArgumentError("classes.csv", got, "wnid, name and perhaps index")
    if "index" in rows[0]:
        indices = [int(_number("classes.csv", row["index"])) for row in rows]
        if sorted(indices) != list(range(len(rows))):
            raise ArgumentError("classes.csv", "other indices", f"0 to {len(rows) - 1}, each once")
        rows = [row for _, row in sorted(zip(indices, rows, strict=True))]
    folders = {row["wnid"]: index for index, row in enumerate(rows)}
    for folder in found:
        if folder not in folders:
            got = f"no row for the folder {folder!r}"
            raise ArgumentError("classes.csv", got, "one for each class")
    return folders, tuple(row["name"] for row in rows)


def _boxes(tree: _Tree) -> dict[tuple[str, str, str], np.ndarray]:
    """Boxes by split, class folder and file."""
    rows = tree.rows("boxes.csv")
    where = ("split", "wnid", "file")
    edges = ("xmin", "ymin", "xmax", "ymax")
    for column in (*where, *edges):
        if rows and column not in rows[0]:
            got = f"no column {column!r}"
            raise ArgumentError("boxes.csv", got, ", ".join((*where, *edges)))
    boxes = defaultdict(list)
    for row in rows:
        split, folder, file = map(row.__getitem__, where)
        boxes[split, folder, file].append([_number("boxes.csv", row[edge]) for edge in edges])
    return {key: np.array(value, np.float32) for key, value in boxes.items()}


def _number(table: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise ArgumentError(table, repr(text), "a number in each row") from None


def _entries(
    top: str,
    split: str,
    names: list[str],
    folders: Mapping[str, int],
    boxes: Mapping[tuple, np.ndarray],
) -> list[Entry]:
    entries = []
    for name in names:
        inner = PurePosixPath(name)
        folder = ""  # no class
        if len(inner.parts) > 1:
            folder = inner.parts[0]
        found = boxes.get((split, folder, inner.name), NO_BOXES)
        entries.append(Entry(top + name, folders.get(folder, UNKNOWN), found, str(inner)))
    # In sorted order, since that of a listing is the file system's own and would change a run.
    return sorted(entries, key=lambda entry: (entry.label, entry.id))


def select(split: str, splits: Mapping[str, Sequence[Entry]]) -> list[Entry]:
    """The entries of a split expression: `name`, `name[from:to]` (also percent), a sum, or "all".

    Raises:
        ValueError: it is none, or names an unknown split.
    """
    if split == ALL:
        return list(chain.from_iterable(splits.values()))
    chosen = []
    for part in split.split("+"):
        match = re.fullmatch(r"\s*(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*", part)
        if not match or match[1] not in splits:
            raise unknown_split(split, splits)
        entries = splits[match[1]]
        chosen += entries[slice(_bound(match[2], len(entries)), _bound(match[3], len(entries)))]
    return chosen


def unknown_split(split: str, splits: Iterable[str]) -> ArgumentError:
    """What to say about a split that is not there."""
    names = list(splits)
    expected = f"one of {listing(names)}, or a part such as {names[0]}[:50%]"
    return ArgumentError("split", repr(split), expected)


def _bound(text: str | None, length: int) -> int | None:
    if text is None:
        return None
    if text.endswith("%"):
        return round(int(text[:-1]) * length / 100)
    return int(text)
