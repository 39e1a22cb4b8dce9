"""Photos in folders and zips."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from jaxcam._ground import decoding, tables
from jaxcam._ground.errors import ArgumentError, ArgumentFileError, listing
from jaxcam.datasets.records import NO_BOXES, UNKNOWN, Dataset, Record, multi_hot
from jaxcam.datasets.sources import Folder, Zip, open_files

__all__ = [
    "ALL",
    "SPLITS",
    "SUFFIXES",
    "Entry",
    "Listing",
    "check_apart",
    "listed",
    "load",
    "select",
    "unknown_split",
]

SUFFIXES = decoding.SUFFIXES
SPLITS = ("train", "val", "validation", "test")
ALL = "all"  # the sum of all splits, as in TFDS
# What folders of splits are called, in small letters.
_SPLIT_OF = {
    **{split: split for split in SPLITS},
    "training": "train",
    "valid": "val",
    "testing": "test",
}
_OWN_TABLES = ("classes.csv", "boxes.csv")


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
        ValueError: folders of which it is not clear what they are, or classes.csv or boxes.csv that
            do not fit them.
    """
    tree = _Tree(files)
    if not tree.photos:
        expected = f"files that end in one of {listing(sorted(SUFFIXES))}"
        raise ArgumentFileError("name", f"{files.path}, which holds no photos", expected)
    tops = _split_folders(tree)
    places = [_Place(split, f"{top}/", tree) for split, top in tops.items()]
    if not places:
        places = [_Place(SPLITS[0], "", tree)]
    folders, classes = _classes(tree, places)
    splits = {place.split: _entries(tree, place, folders) for place in places}
    return Listing(classes, _boxed(tree, splits))


def check_apart(argument: str, written: Path, photos: Path) -> None:
    """ArgumentError if what is written would be read as photos or classes the next time.

    Folders beside those of splits are not read, nor hidden ones.

    Args:
        argument: whose value `written` is.
        written: a folder or file that need not be there.
        photos: a folder of photos.
    """
    top = photos.resolve()
    inside = written.resolve()
    if not (top.is_dir() and inside.is_relative_to(top)):
        return
    parts = inside.relative_to(top).parts
    if any(part.startswith(".") for part in parts):
        return
    folders = [each for each in top.iterdir() if each.is_dir() and each.name[0] != "."]
    if any(each.name.casefold() in _SPLIT_OF for each in folders):
        among = bool(parts) and parts[0].casefold() in _SPLIT_OF
    else:
        others = [each for each in folders if each != inside]
        among = any(_is_photo(name) for each in others for name in os.listdir(each))
    if among:
        got = f"{written}, which lies among the photos of {photos}"
        raise ArgumentError(argument, got, "a folder outside of them")


class _Tree:
    """Names below the set's root, the top or the only folder in it; hidden ones are left out."""

    def __init__(self, files: Folder | Zip) -> None:
        names = [name for name in files.names() if not re.search(r"(^|/)(\.|__MACOSX/)", name)]
        self.files = files
        self.prefix = ""
        while wrapping := _wrapping(names):
            self.prefix += wrapping
            inner = [name for name in names if name.startswith(wrapping) and name != wrapping]
            names = [name.removeprefix(wrapping) for name in inner]
        self.folders = [name for name in names if name.endswith("/")]
        self.photos = list(filter(_is_photo, names))
        self._tables = {name.casefold(): name for name in names}

    def rows(self, table: str) -> list[tables.Row]:
        """A CSV file at the root, or nothing."""
        if table not in self._tables:
            return []
        return tables.rows(self.files.read(self.prefix + self._tables[table]), table)


def _wrapping(names: Sequence[str]) -> str:
    """The folder around all photos, if it holds folders of them itself; else it is a class."""
    photos = list(filter(_is_photo, names))
    tops = {name.partition("/")[0] for name in photos}
    nested = any(name.count("/") > 1 for name in photos)
    own = not _SPLIT_OF.keys().isdisjoint(map(str.casefold, tops))
    own = own or any(name.casefold() in _OWN_TABLES for name in names)
    if len(tops) != 1 or own or not nested:
        return ""
    return f"{tops.pop()}/"


def _is_photo(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not name.endswith("/")


class _Place:
    """The folder of a split, or the root of a set without splits: what lies in it."""

    def __init__(self, split: str, top: str, tree: _Tree) -> None:
        self.split = split
        self.top = top
        self.photos = [name.removeprefix(top) for name in tree.photos if name.startswith(top)]
        inner = [name.removeprefix(top) for name in tree.folders if name.startswith(top)]
        # Folders at its top, those without a photo too.
        self.folders = {name.partition("/")[0] for name in inner if name}
        self.classes = {name.partition("/")[0] for name in self.photos if "/" in name}


def _split_folders(tree: _Tree) -> dict[str, str]:
    """The folder of each split, in the order of `SPLITS`; none if the set has no splits."""
    found: dict[str, str] = {}
    others = []
    for top in sorted({name.partition("/")[0] for name in tree.photos if "/" in name}):
        split = _SPLIT_OF.get(top.casefold())
        if split is None:
            others.append(top)
        elif split in found:
            got = f"the folders {listing([found[split], top])} in {tree.files.path}"
            raise ArgumentError("name", got, f"one that is the split {split!r}")
        else:
            found[split] = top
    if found and others:
        got = f"{tree.files.path}, where {listing(found.values())} and {listing(others[:4])} lie"
        expected = "folders of splits, or folders of classes, but not both"
        raise ArgumentError("name", f"{got} side by side", expected)
    return {split: found[split] for split in SPLITS if split in found}


def _classes(tree: _Tree, places: Sequence[_Place]) -> tuple[dict[str, int], tuple[str, ...]]:
    """The index of each class folder, and the classes' names."""
    found = sorted(set().union(*(place.classes for place in places)))
    rows = tree.rows("classes.csv")
    if not rows:
        _check_folders(tree, places, found)
        return {folder: index for index, folder in enumerate(found)}, tuple(found)
    expected = "wnid, name and perhaps index"
    tables.need(rows, "classes.csv", ("wnid", "name"), expected)
    rows = tables.in_order(rows, "classes.csv")
    wnids = [row["wnid"] for row in rows]
    tables.unique(wnids, "classes.csv", "wnid")
    for folder in found:
        if folder not in wnids:
            got = f"no row for the folder {folder!r}"
            raise ArgumentError("classes.csv", got, "one for each class")
    folders = {wnid: index for index, wnid in enumerate(wnids)}
    return folders, tuple(row["name"] for row in rows)


def _check_folders(tree: _Tree, places: Sequence[_Place], found: Sequence[str]) -> None:
    """Without a table folders are the classes: each must be one, and training must know all."""
    several = "photos in each folder of a class, or the classes in a classes.csv"
    for place in places:
        empty = sorted(place.folders.difference(found))
        if found and empty:
            got = f"{listing(empty[:4])} in {tree.files.path}/{tree.prefix}{place.top}"
            raise ArgumentError("name", f"{got} without a photo", several)
    if places[0].split != SPLITS[0]:
        return
    for place in places[1:]:
        unknown = sorted(place.classes - places[0].classes)
        if unknown:
            got = f"{place.top}{unknown[0]} in {tree.files.path}, of {len(unknown)} folders"
            expected = f"the classes of {places[0].top}, or all in a classes.csv; or the path of"
            raise ArgumentError("name", f"{got} that are none there", f"{expected} one split")


def _entries(tree: _Tree, place: _Place, folders: Mapping[str, int]) -> list[Entry]:
    entries = []
    for name in place.photos:
        folder, slash, _ = name.partition("/")
        label = UNKNOWN
        if slash:
            label = folders[folder]
        entries.append(Entry(f"{tree.prefix}{place.top}{name}", label, NO_BOXES, name))
    # In sorted order, since that of a listing is the file system's own and would change a run.
    return sorted(entries, key=lambda entry: (entry.label, entry.id))


# Boxes ----------------------------------------------------------------


_WHERE = ("split", "wnid", "file")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def _boxed(tree: _Tree, splits: dict[str, list[Entry]]) -> dict[str, list[Entry]]:
    """The entries with the boxes of boxes.csv, each row of which must be of one photo."""
    rows = tree.rows("boxes.csv")
    tables.need(rows, "boxes.csv", (*_WHERE, *_EDGES), ", ".join((*_WHERE, *_EDGES)))
    if not rows:
        return splits
    ids = _ids(splits)
    boxes = defaultdict(list)
    lost = []
    for row in rows:
        split = _SPLIT_OF.get(row["split"].casefold(), row["split"])
        found = ids.get((split, row["wnid"], row["file"]), [])
        if len(found) > 1:
            got = f"{row['file']} of {row['wnid']}, of which there are {listing(found[:3])}"
            raise ArgumentError("boxes.csv", got, "its path in the folder of its class")
        if not found:
            lost.append("/".join(map(row.__getitem__, _WHERE)))
            continue
        boxes[split, found[0]].append(_box(row))
    if lost:
        got = f"{len(lost)} of {len(rows)} rows that match no photo, the first {lost[0]!r}"
        raise ArgumentError("boxes.csv", got, "rows of photos that are there")
    boxed = {}
    for split, entries in splits.items():
        boxed[split] = []
        for entry in entries:
            found = np.array(boxes.get((split, entry.id), NO_BOXES), np.float32)
            boxed[split].append(replace(entry, boxes=found))
    return boxed


def _ids(splits: Mapping[str, Sequence[Entry]]) -> dict[tuple[str, str, str], list[str]]:
    """The ids of the photos that a row may mean: by split, class folder, and name or path in it."""
    found = defaultdict(list)
    for split, entries in splits.items():
        for entry in entries:
            inner = PurePosixPath(entry.id)
            folder = ""  # no class
            if len(inner.parts) > 1:
                folder = inner.parts[0]
            found[split, folder, inner.name].append(entry.id)
            path = "/".join(inner.parts[1:])
            if len(inner.parts) > 2:
                found[split, folder, path].append(entry.id)
    return found


def _box(row: tables.Row) -> list[float]:
    """xmin, ymin, xmax, ymax of a row."""
    box = [_number(row[edge]) for edge in _EDGES]
    if box[2] < box[0] or box[3] < box[1]:
        got = f"{', '.join(map(row.__getitem__, _EDGES))} of {row['file']}"
        raise ArgumentError("boxes.csv", got, "xmin <= xmax and ymin <= ymax")
    return box


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ArgumentError("boxes.csv", repr(text), "a number in each row")
    return found


# Splits ---------------------------------------------------------------


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
        if not match:
            raise unknown_split(split, splits)
        name = match[1]
        if name not in splits:
            name = _SPLIT_OF.get(name.casefold(), name)
        if name not in splits:
            raise unknown_split(split, splits)
        entries = splits[name]
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
