"""Photos for the protocols, at a network's input size: none is decoded before it is asked for.

Whatever `jaxcam.datasets` reads, and sets by a short name.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxcam import datasets, metrics
from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from jaxcam.datasets import UNKNOWN, Dataset, Record

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Photos:
    """Photos at a network's input size.

    Args:
        ids: their names in the set.
        labels: `[N]` class indices, `UNKNOWN` where there is none.
        boxes: `[N, K, 4]` of the labels' objects in the stretched images (xmin, ymin, xmax, ymax,
            inclusive), or None; NaN for no box.
        read: from indices `[k]` to images `[k, H, W, 3]` uint8, stretched to the size.
        extra: further arrays `[N, ...]` that a protocol knows of each photo.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    boxes: np.ndarray | None
    read: Callable[[np.ndarray], np.ndarray]
    extra: Arrays = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> np.ndarray:
        """All of them, decoded now: for a few photos only."""
        return self.read(np.arange(len(self)))

    def take(self, rows: np.ndarray) -> "Photos":
        """Some of them, in this order."""
        boxes = None
        if self.boxes is not None:
            boxes = self.boxes[rows]
        return Photos(
            ids=tuple(self.ids[row] for row in rows),
            labels=self.labels[rows],
            boxes=boxes,
            read=lambda some: self.read(rows[some]),
            extra={name: value[rows] for name, value in self.extra.items()},
        )


class _About(NamedTuple):
    """What `Drawn.describe` finds of one photo."""

    id: str
    label: Any
    boxes: np.ndarray
    unreadable: str


@dataclass(frozen=True)
class Drawn:
    """Photos drawn from a set by seed, of which nothing has been read.

    Args:
        dataset: the set.
        order: `[N]` their indices in it.
        size: (height, width) of the network's input.
    """

    dataset: Dataset
    order: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.order)

    def records(self, rows: np.ndarray) -> Iterator[Record]:
        """Their records, one by one."""
        for row in rows:
            yield self.dataset[int(self.order[row])]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images `[k, H, W, 3]` uint8 of the photos in some rows."""

        def image(row: int) -> np.ndarray:
            return stretched(self.dataset[int(self.order[row])], self.size)

        with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
            return np.stack(list(pool.map(image, rows)))

    def describe(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of some photos, each of which is decoded once, and not held.

        Returns:
            `ids`, `labels` `[k]`, and why they are `unreadable`, "" for those that are not; all
            their `boxes` `[b, 4]` and the row of each, `boxed` `[b]`.
        """
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(self._described, rows))
        ids, labels, boxes, unreadable = zip(*found, strict=True)
        return {
            "ids": np.array(ids),
            "labels": np.array(labels),
            "unreadable": np.array(unreadable),
            "boxes": np.concatenate(boxes).astype(np.float32),
            "boxed": np.repeat(rows, list(map(len, boxes))),
        }

    def _described(self, row: int) -> "_About":
        number = int(self.order[row])
        try:
            record = self.dataset[number]
        except ArgumentError as error:  # a damaged member of a zip
            return _About(f"photo {number}", UNKNOWN, datasets.NO_BOXES, error.got)
        try:
            stretched(record, self.size)
            boxes = datasets.NO_BOXES
            if len(record.boxes):
                boxes = _boxes(record, self.size)
        except ArgumentError as error:
            return _About(record.id, record.label, datasets.NO_BOXES, error.got)
        return _About(record.id, record.label, boxes, "")

    def photos(self, about: Arrays) -> Photos:
        """The photos that can be read, given what `describe` says of all of them."""
        counts = np.bincount(about["boxed"], minlength=len(self))
        boxes = None
        if counts.max():
            boxes = np.full((len(self), counts.max(), 4), np.nan, np.float32)
            columns = np.arange(len(about["boxed"])) - (np.cumsum(counts) - counts)[about["boxed"]]
            boxes[about["boxed"], columns] = about["boxes"]
        found = Photos(tuple(map(str, about["ids"])), about["labels"], boxes, self.read)
        # A run of before this was looked at does not say.
        if "unreadable" not in about or not about["unreadable"].any():
            return found
        return found.take(np.flatnonzero(about["unreadable"] == ""))


def draw(
    name: str,
    size: int | tuple[int, int],
    n: int,
    seed: int,
    root: Path | None = None,
    split: str = "",
) -> Drawn:
    """`n` photos drawn by seed.

    Args:
        name: one of `SETS`, or what `jaxcam.datasets.load` takes: a folder or zip, a folder that
            TFDS prepared, the name of a TFDS set.
        size: (height, width) of the network's input; one number for a square.
        n: how many; all if there are fewer.
        seed: decides which and in what order; a smaller n takes the first of them.
        root: folder of the named sets; None: that of the variable JAXCAM_DATA.
        split: of the set; none is the validation photos of tiny20, and all photos of any other.

    Raises:
        FileNotFoundError: no such set, folder or zip, or no photo in it.
        ValueError: n below 1; no such split.
    """
    if n < 1:
        raise ArgumentError("n", n, "at least 1")
    try:
        found = _dataset(name, root, split)
    except ArgumentFileError as error:
        expected = f"{error.expected}; or one of {', '.join(SETS)}"
        raise ArgumentFileError("data", error.got, expected) from error
    order = np.random.default_rng(seed).permutation(len(found))[:n]
    if isinstance(size, int):
        size = (size, size)
    return Drawn(found, order, size)


def load(
    name: str,
    size: int | tuple[int, int],
    n: int,
    seed: int,
    root: Path | None = None,
    split: str = "",
) -> Photos:
    """As `draw`, with names, labels and boxes.

    Raises:
        FileNotFoundError: as `draw`.
        ValueError: as `draw`; photos that cannot be read.
    """
    drawn = draw(name, size, n, seed, root, split)
    about = drawn.describe(np.arange(len(drawn)))
    if about["unreadable"].any():
        said = "; ".join(filter(None, map(str, about["unreadable"])))
        raise ValueError(f"data: photos that cannot be read: {said}")
    return drawn.photos(about)


def file_in(root: Path | None, name: str) -> Path:
    """A file of the folder of named sets and nets.

    Raises:
        FileNotFoundError: nothing says where that folder is.
    """
    folder = root or os.environ.get(datasets.ROOT)
    if not folder:
        got = f"{name!r}, which comes with no package"
        expected = f"its folder as --root or in the variable {datasets.ROOT}"
        raise ArgumentFileError("root", got, expected)
    return Path(folder) / name


def stretched(record: Record, size: tuple[int, int]) -> np.ndarray:
    """The photo at the network's size, (height, width).

    Bilinear with antialiasing, the aspect ratio not kept: torchvision's Resize((size, size)), as in
    the papers.
    """
    photo = Image.fromarray(datasets.decode(record))
    height, width = size
    return np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR))


def _boxes(record: Record, size: tuple[int, int]) -> np.ndarray:
    """The boxes `[K, 4]` of its class at the network's size: a person beside the dog is no dog."""
    resized = metrics.resize_boxes(record.boxes_of(record.label), datasets.photo_size(record), size)
    return np.asarray(resized)


# Sets by a short name -------------------------------------------------


def _dataset(name: str, root: Path | None, split: str) -> Dataset:
    if name in SETS:
        return SETS[name](root, split)
    return datasets.load(name, split or "all")


def _tiny20(root: Path | None, split: str) -> Dataset:
    """In the order of the original's numbers, `val_8.JPEG`, over all classes."""
    found = datasets.load(file_in(root, "tiny20.zip"), split or "val")
    return replace(found, records=sorted(found.records, key=_number))


def _number(record: Record) -> int:
    return int(re.findall(r"\d+", record.id)[-1])


def _imagenet100(root: Path | None, split: str) -> Dataset:
    """`III_WNID_name.JPEG`: III is the class."""
    found = datasets.load(file_in(root, "imagenet100.zip"), split or "all")
    labelled = []
    for record in found.records:
        labelled.append(replace(record, label=int(Path(record.id).name[:3])))
    return replace(found, records=labelled)


def _cifar10(root: Path | None, split: str) -> Dataset:
    return datasets.load(file_in(root, "cifar10_test1000.zip"), split or "all")


def _skimage(root: Path | None, split: str) -> Dataset:
    """The photos of the demo, which scikit-image brings: pictures of these may be published."""
    import skimage.data

    del root, split
    photos = []
    for name, read in (("cat", skimage.data.cat), ("coffee", skimage.data.coffee)):
        photos.append(Record(read(), UNKNOWN, datasets.NO_BOXES, name))
    return Dataset(photos, ())


SETS: dict[str, Callable[[Path | None, str], Dataset]] = {
    "skimage": _skimage,
    "tiny20": _tiny20,
    "imagenet100": _imagenet100,
    "cifar10_test1000": _cifar10,
}
