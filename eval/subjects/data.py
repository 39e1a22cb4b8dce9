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
from jaxcam._ground.errors import ArgumentError, ArgumentFileError, check_within, renaming
from jaxcam.datasets import UNKNOWN, Dataset, Record

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Photos:
    """Photos at a network's input size.

    Args:
        ids: their names in the set.
        labels: `[N]` class indices, `UNKNOWN` where there is none.
        boxes: `[N, K, 4]` of the labels' objects in these images (xmin, ymin, xmax, ymax,
            inclusive), or None; NaN for no box.
        read: from indices `[k]` to images `[k, H, W, 3]` uint8 of the size.
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
    second: int = UNKNOWN  # the class of the largest object of another class
    second_boxes: np.ndarray = datasets.NO_BOXES


@dataclass(frozen=True)
class Drawn:
    """Photos drawn from a set by seed, of which nothing has been read.

    Args:
        dataset: the set.
        order: `[N]` their indices in it.
        size: (height, width) of the network's input.
        crop: as in `fitted`.
        more: the indices of all others, in the order in which they would be drawn next.
    """

    dataset: Dataset
    order: np.ndarray
    size: tuple[int, int]
    crop: float = 0.0
    more: np.ndarray = field(default_factory=lambda: np.empty(0, int))

    def __len__(self) -> int:
        return len(self.order)

    def grown(self, count: int) -> "Drawn":
        """The same draw of `count` photos; of all if there are fewer."""
        everything = np.concatenate([self.order, self.more])
        return replace(self, order=everything[:count], more=everything[count:])

    def records(self, rows: np.ndarray) -> Iterator[Record]:
        """Their records, one by one."""
        for row in rows:
            yield self.dataset[int(self.order[row])]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images `[k, H, W, 3]` uint8 of the photos in some rows."""

        def image(row: int) -> np.ndarray:
            return fitted(self.dataset[int(self.order[row])], self.size, self.crop)

        with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
            return np.stack(list(pool.map(image, rows)))

    def describe(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of some photos, each of which is decoded once, and not held.

        Returns:
            `ids`, `labels` `[k]`, and why they are `unreadable`, "" for those that are not; all
            their `boxes` `[b, 4]` and the row of each, `boxed` `[b]`. Of the largest object of
            another class its class, `second` `[k]`, and likewise `second_boxes`, `second_boxed`.
        """
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(self._described, rows))
        ids, labels, boxes, unreadable, second, others = zip(*found, strict=True)
        return {
            "ids": np.array(ids),
            "labels": np.array(labels),
            "unreadable": np.array(unreadable),
            "boxes": np.concatenate(boxes).astype(np.float32),
            "boxed": np.repeat(rows, list(map(len, boxes))),
            "second": np.array(second, np.int32),
            "second_boxes": np.concatenate(others).astype(np.float32),
            "second_boxed": np.repeat(rows, list(map(len, others))),
        }

    def _described(self, row: int) -> "_About":
        number = int(self.order[row])
        try:
            record = self.dataset[number]
        except ArgumentError as error:  # a damaged member of a zip
            return _About(f"photo {number}", UNKNOWN, datasets.NO_BOXES, error.got)
        try:
            fitted(record, self.size, self.crop)
            boxes = others = datasets.NO_BOXES
            second = second_class(record)
            if len(record.boxes):
                boxes = _boxes(record, record.label, self.size, self.crop)
            if second != UNKNOWN:
                others = _boxes(record, second, self.size, self.crop)
        except ArgumentError as error:
            return _About(record.id, record.label, datasets.NO_BOXES, error.got)
        if not len(others):  # or what a crop leaves nothing of
            second = UNKNOWN
        return _About(record.id, record.label, boxes, "", second, others)

    def photos(self, about: Arrays) -> Photos:
        """The photos that can be read, given what `describe` says of all of them."""
        boxes = _by_row(about["boxes"], about["boxed"], len(self))
        extra = {}
        if "second" in about and (about["second"] != UNKNOWN).any():
            second = _by_row(about["second_boxes"], about["second_boxed"], len(self))
            extra = {"second_target": about["second"], "second_boxes": second}
        names = tuple(map(str, about["ids"]))
        found = Photos(names, about["labels"], boxes, self.read, extra)
        # A run of before this was looked at does not say.
        if "unreadable" not in about or not about["unreadable"].any():
            return found
        return found.take(np.flatnonzero(about["unreadable"] == ""))


def _by_row(boxes: np.ndarray, rows: np.ndarray, count: int) -> Any:
    """Boxes `[b, 4]` as `[count, K, 4]`, NaN for no box; None if there is none at all."""
    counts = np.bincount(rows, minlength=count)
    if not counts.max():
        return None
    found = np.full((count, counts.max(), 4), np.nan, np.float32)
    columns = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    found[rows, columns] = boxes
    return found


def second_class(record: Record) -> int:
    """The class of the largest object that is not of the photo's class; `UNKNOWN` if none is."""
    if record.box_labels is None or np.ndim(record.label):
        return UNKNOWN
    left, top, right, bottom = record.boxes.T
    areas = np.maximum(right - left + 1, 0) * np.maximum(bottom - top + 1, 0)
    other = (record.box_labels != record.label) & (record.box_labels != UNKNOWN)
    if not other.any():
        return UNKNOWN
    return int(record.box_labels[np.where(other, areas, -1).argmax()])


def draw(
    name: str,
    size: int | tuple[int, int],
    n: int,
    seed: int,
    root: Path | None = None,
    split: str = "",
    crop: float = 0.0,
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
        crop: as in `fitted`.

    Raises:
        FileNotFoundError: no such set, folder or zip, or no photo in it.
        ValueError: n below 1; no such split; a crop that is no part of a side.
    """
    if n < 1:
        raise ArgumentError("n", n, "at least 1")
    check_within("crop", crop, 0, 1)
    try:
        found = _dataset(name, root, split)
    except ArgumentFileError as error:
        expected = f"{error.expected}; or one of {', '.join(SETS)}"
        raise ArgumentFileError("data", error.got, expected) from error
    order = np.random.default_rng(seed).permutation(len(found))
    if isinstance(size, int):
        size = (size, size)
    return Drawn(found, order[:n], size, crop, order[n:])


def load(
    name: str,
    size: int | tuple[int, int],
    n: int,
    seed: int,
    root: Path | None = None,
    split: str = "",
    crop: float = 0.0,
) -> Photos:
    """As `draw`, with names, labels and boxes.

    Raises:
        FileNotFoundError: as `draw`.
        ValueError: as `draw`; photos that cannot be read.
    """
    drawn = draw(name, size, n, seed, root, split, crop)
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
    return Path(folder).expanduser() / name


def fitted(record: Record, size: tuple[int, int], crop: float = 0.0) -> np.ndarray:
    """The photo at the network's size, (height, width), bilinear with antialiasing.

    Args:
        record: of the photo.
        size: of the result.
        crop: 0 stretches the whole photo, torchvision's Resize((size, size)), as in most papers.
            Else the middle, which is this part of the shorter side: 0.875 is Resize(256) and
            CenterCrop(224), 1 is Resize(224) and CenterCrop(224).
    """
    photo = Image.fromarray(datasets.decode(record))
    height, width = size
    whole, (top, left) = _place((photo.height, photo.width), size, crop)
    resized = photo.resize((whole[1], whole[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + width, top + height)))


def _place(
    photo: tuple[int, int], size: tuple[int, int], crop: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What size a photo is resized to, and the top and left of what is shown of that."""
    if not crop:
        return size, (0, 0)
    scale = max(size[0] / photo[0], size[1] / photo[1]) / crop
    # The shorter side is round(size / crop), and the other is cut off, as torchvision has it.
    height = max(round(size[0] / crop), int(scale * photo[0]))
    width = max(round(size[1] / crop), int(scale * photo[1]))
    return (height, width), (round((height - size[0]) / 2), round((width - size[1]) / 2))


def _boxes(record: Record, label: Any, size: tuple[int, int], crop: float) -> np.ndarray:
    """The boxes `[K, 4]` of a class at the network's size: a person beside the dog is no dog.

    Of those that a crop leaves something of, what it leaves.
    """
    photo = datasets.photo_size(record)
    whole, (top, left) = _place(photo, size, crop)
    resized = np.asarray(metrics.resize_boxes(record.boxes_of(label), photo, whole))
    height, width = size
    shown = resized - np.array([left, top, left, top])
    last = np.array([width - 1, height - 1, width - 1, height - 1])
    inside = np.clip(shown, 0, last)
    return inside[((shown[:, 2:] >= 0) & (shown[:, :2] <= last[:2])).all(1)]


# Sets by a short name -------------------------------------------------


def _dataset(name: str, root: Path | None, split: str) -> Dataset:
    if name in SETS:
        return SETS[name](root, split)
    with renaming(name="data"):
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
