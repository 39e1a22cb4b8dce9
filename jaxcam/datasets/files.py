"""Photos in folders and zips."""

import csv
import io
import os
import re
import threading
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from jaxcam.datasets.records import NO_BOXES, UNKNOWN, Dataset, Record, multi_hot

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SPLITS = ("train", "val", "validation", "test")
ALL = "all"  # the sum of all splits, as in TFDS


class Folder:
    """Files below a folder, by their relative names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Of all files, at any depth."""
        walk = os.walk(self.path, followlinks=True)
        return [
            Path(top, name).relative_to(self.path).as_posix()
            for top, _, names in walk
            for name in names
        ]

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
            raise ValueError(f"name: {path} is no zip: {error}") from error
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
        raise FileNotFoundError(f"name: got {path}, expected a folder or zip of photos")
    if path.suffix.lower() != ".zip":
        raise ValueError(f"name: got the file {path}, expected a folder or a zip")
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
        label = (
            entry.label if self.num_classes is None else multi_hot([entry.label], self.num_classes)
        )
        return Record(self.files.read(entry.file), label, entry.boxes, entry.id)


def load(path: Path, split: str, multilabel: bool) -> Dataset:
    """The photos of a split of a folder or zip; see `jaxcam.datasets.load`."""
    files = open_files(path)
    listing = listed(files)
    entries = select(split, listing.splits)
    if not entries:
        raise ValueError(f"split: {split!r} of {path} is empty, expected at least one photo")
    return Dataset(
        _Photos(files, entries, len(listing.classes) if multilabel else None), listing.classes
    )


def listed(files: Folder | Zip) -> Listing:
    """Sorts the photos into splits and classes.

    Raises:
        FileNotFoundError: there are none.
        ValueError: classes.csv or boxes.csv do not fit the folders.
    """
    tree = _Tree(files)
    names = [name for name in tree.names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not names:
        raise FileNotFoundError(
            f"name: {files.path} holds no photos ({', '.join(sorted(SUFFIXES))})"
        )
    photos = {
        split: [name.split("/", 1)[1] for name in names if name.startswith(f"{split}/")]
        for split in SPLITS
    }
    photos = {split: inner for split, inner in photos.items() if inner}
    folders, classes = _classes(tree, photos or {"": names})
    boxes = _boxes(tree)
    if not photos:
        return Listing(
            classes, {SPLITS[0]: _entries(tree.prefix, SPLITS[0], names, folders, boxes)}
        )
    top = {split: f"{tree.prefix}{split}/" for split in photos}
    return Listing(
        classes,
        {split: _entries(top[split], split, photos[split], folders, boxes) for split in photos},
    )


class _Tree:
    """Names below the set's root, the top or the only folder in it; hidden ones are left out."""

    def __init__(self, files: Folder | Zip) -> None:
        names = [name for name in files.names() if not re.search(r"(^|/)(\.|__MACOSX/)", name)]
        tops = {name.partition("/")[0] for name in names}
        # One folder around all is a wrapping if it holds folders itself; else it is a class.
        wrapped = (
            len(tops) == 1
            and tops.isdisjoint(SPLITS)
            and any(name.count("/") > 1 for name in names)
        )
        self.files, self.prefix = files, f"{tops.pop()}/" if wrapped else ""
        self.names = [name.removeprefix(self.prefix) for name in names]

    def rows(self, name: str) -> list[dict[str, str]]:
        """A CSV file at the root, or nothing."""
        if name not in self.names:
            return []
        return list(
            csv.DictReader(io.StringIO(self.files.read(self.prefix + name).decode("utf-8-sig")))
        )


def _classes(
    tree: _Tree, photos: Mapping[str, list[str]]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The index of each class folder, and the classes' names."""
    found = sorted(
        {name.partition("/")[0] for names in photos.values() for name in names if "/" in name}
    )
    rows = tree.rows("classes.csv")
    if not rows:
        return {folder: index for index, folder in enumerate(found)}, tuple(found)
    if "wnid" not in rows[0] or "name" not in rows[0]:
        raise ValueError(
            f"classes.csv: got the columns {', '.join(rows[0])}, expected wnid, name and perhaps "
            "index"
        )
    rows.sort(key=lambda row: int(row.get("index") or 0))
    if "index" in rows[0] and [int(row["index"]) for row in rows] != list(range(len(rows))):
        raise ValueError(
            f"classes.csv: got other indices than 0 to {len(rows) - 1}, expected each once"
        )
    folders = {row["wnid"]: index for index, row in enumerate(rows)}
    if unknown := [folder for folder in found if folder not in folders]:
        raise ValueError(
            f"classes.csv: has no row for the folder {unknown[0]!r}, expected one for each class"
        )
    return folders, tuple(row["name"] for row in rows)


def _boxes(tree: _Tree) -> dict[tuple[str, str, str], np.ndarray]:
    """Boxes by split, class folder and file."""
    rows, boxes = tree.rows("boxes.csv"), defaultdict(list)
    expected = ("split", "wnid", "file", "xmin", "ymin", "xmax", "ymax")
    if rows and (missing := [column for column in expected if column not in rows[0]]):
        raise ValueError(
            f"boxes.csv: lacks the column {missing[0]!r}, expected {', '.join(expected)}"
        )
    for row in rows:
        boxes[tuple(row[key] for key in expected[:3])].append(
            [float(row[key]) for key in expected[3:]]
        )
    return {key: np.array(value, np.float32) for key, value in boxes.items()}


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
        folder = inner.parts[0] if len(inner.parts) > 1 else None
        found = boxes.get((split, folder, inner.name), NO_BOXES)
        entries.append(Entry(top + name, folders.get(folder, UNKNOWN), found, str(inner)))
    # In sorted order, since that of a listing is the file system's own and would change a run.
    return sorted(entries, key=lambda entry: (entry.label, entry.id))


def select(split: str, splits: Mapping[str, Sequence[Entry]]) -> list[Entry]:
    """The entries of a split expression: `name`, `name[from:to]` (also percent), a sum, or "all".

    Raises:
        ValueError: it is none, or names an unknown split.
    """
    chosen = []
    for part in (split if split != ALL else "+".join(splits)).split("+"):
        match = re.fullmatch(r"\s*(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*", part)
        if not match or match[1] not in splits:
            raise ValueError(split_message(split, splits))
        entries = splits[match[1]]
        chosen += entries[slice(_bound(match[2], len(entries)), _bound(match[3], len(entries)))]
    return chosen


def split_message(split: str, splits: Mapping[str, object]) -> str:
    """What to say about a split that is not there."""
    return (
        f"split: got {split!r}, expected one of {', '.join(splits)}, or a part such as "
        f"{next(iter(splits))}[:50%]"
    )


def _bound(text: str | None, length: int) -> int | None:
    if text is None:
        return None
    return round(int(text[:-1]) * length / 100) if text.endswith("%") else int(text)
