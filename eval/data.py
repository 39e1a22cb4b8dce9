"""Photos for the protocols, at a network's input size.

Whatever `jaxcam.datasets` reads, and sets by a short name.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxcam import datasets, metrics
from jaxcam.datasets import UNKNOWN, Dataset, Record

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Photos:
    """Photos at a network's input size.

    Args:
        ids: their names in the set.
        images: `[N, H, W, 3]` uint8, stretched to the size.
        labels: `[N]` class indices, `UNKNOWN` where there is none.
        boxes: `[N, K, 4]` of the stretched images (xmin, ymin, xmax, ymax, inclusive), or None; NaN
            for no box.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> "Photos":
        """Some of them, in this order."""
        boxes = None if self.boxes is None else self.boxes[indices]
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            images=self.images[indices],
            labels=self.labels[indices],
            boxes=boxes,
        )


def load(name: str, size: int, n: int, seed: int, root: Path = SHARED, split: str = "") -> Photos:
    """`n` photos drawn by seed.

    Args:
        name: one of `SETS`, or what `jaxcam.datasets.load` takes: a folder or zip, a folder that
            TFDS prepared, the name of a TFDS set.
        size: height and width of the network's input.
        n: how many; all if there are fewer.
        seed: decides which and in what order; a smaller n takes the first of them.
        root: folder of the named sets.
        split: of the set; none is the validation photos of tiny20, and all photos of any other.

    Raises:
        FileNotFoundError: no such set, folder or zip, or no photo in it.
        ValueError: n below 1; no such split.
    """
    records = draw(name, n, seed, root, split)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        found = list(pool.map(lambda record: stretched(record, size), records))
    most = max(len(boxes) for _, boxes in found)
    padded = np.full((len(found), most, 4), np.nan, np.float32)
    for row, (_, boxes) in zip(padded, found, strict=True):
        row[: len(boxes)] = boxes
    images, labels = (
        np.stack([image for image, _ in found]),
        np.array([record.label for record in records]),
    )
    return Photos(tuple(record.id for record in records), images, labels, padded if most else None)


def draw(name: str, n: int, seed: int, root: Path = SHARED, split: str = "") -> list[Record]:
    """`n` records drawn by seed, as in `load`.

    Raises:
        FileNotFoundError: no such set, folder or zip, or no photo in it.
        ValueError: n below 1; no such split.
    """
    if n < 1:
        raise ValueError(f"n: got {n}, expected at least 1")
    try:
        found = SETS[name](root, split) if name in SETS else datasets.load(name, split or "all")
    except FileNotFoundError as error:
        text = str(error).removeprefix("name: ")
        raise FileNotFoundError(f"data: {text}; or one of {', '.join(SETS)}") from error
    order = np.random.default_rng(seed).permutation(len(found))[:n]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(found.__getitem__, map(int, order)))


def stretched(record: Record, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The photo at the network's size, and its boxes `[K, 4]` there."""
    photo = Image.fromarray(datasets.decode(record))
    # Bilinear with antialiasing, the aspect ratio not kept: torchvision's Resize((size, size)), as
    # in the papers.
    image = np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR))
    if not len(record.boxes):
        return image, record.boxes
    return image, np.asarray(
        metrics.resize_boxes(record.boxes, (photo.height, photo.width), (size, size))
    )


# Sets by a short name -------------------------------------------------


def _tiny20(root: Path, split: str) -> Dataset:
    """In the order of the original's numbers, `val_8.JPEG`, over all classes."""
    found = datasets.load(root / "tiny20.zip", split or "val")
    number = lambda record: int(re.findall(r"\d+", record.id)[-1])
    return replace(found, records=sorted(found.records, key=number))


def _imagenet100(root: Path, split: str) -> Dataset:
    """`III_WNID_name.JPEG`: III is the class."""
    found = datasets.load(root / "imagenet100.zip", split or "all")
    labelled = [replace(record, label=int(Path(record.id).name[:3])) for record in found.records]
    return replace(found, records=labelled)


def _cifar10(root: Path, split: str) -> Dataset:
    return datasets.load(root / "cifar10_test1000.zip", split or "all")


def _skimage(root: Path, split: str) -> Dataset:
    """The photos of the demo, which scikit-image brings: pictures of these may be published."""
    import skimage.data

    del root, split
    photos = {"cat": skimage.data.cat, "coffee": skimage.data.coffee}
    return Dataset(
        [Record(read(), UNKNOWN, datasets.NO_BOXES, name) for name, read in photos.items()], ()
    )


SETS: dict[str, Callable[[Path, str], Dataset]] = {
    "tiny20": _tiny20,
    "imagenet100": _imagenet100,
    "cifar10_test1000": _cifar10,
    "skimage": _skimage,
}
