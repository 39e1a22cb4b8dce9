"""Photos for the protocols: tiny20 with its boxes, the sets of `../shared/data`, and plain folders or zips."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxcam import metrics

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
UNKNOWN = -1  # the label of a photo whose class is not known


@dataclass(frozen=True)
class Photos:
    """Photos at a network's input size.

    Args:
        ids: their names in the set.
        images: `[N, H, W, 3]` uint8, stretched to the size.
        labels: `[N]` class indices, `UNKNOWN` where there is none.
        boxes: `[N, K, 4]` of the stretched images (xmin, ymin, xmax, ymax, inclusive), or None; NaN for no box.
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


Entry = tuple[Path | zipfile.Path, int, list[tuple[float, ...]]]  # a file, its label, its boxes


def load(name: str, size: int, n: int, seed: int, root: Path = SHARED) -> Photos:
    """`n` photos drawn by seed, of a set by its name or of a folder or zip.

    Args:
        name: one of `SETS`, or the path of a folder or zip; a folder's subfolders are its classes, in sorted order.
        size: height and width of the network's input.
        n: how many; all if there are fewer.
        seed: decides which and in what order; a smaller n takes the first of them.
        root: folder of the named sets.

    Raises:
        FileNotFoundError: no such set, folder or zip, or no photo in it.
        ValueError: n below 1.
    """
    if n < 1:
        raise ValueError(f"n: got {n}, expected at least 1")
    entries = list(_shared_set(name, root) if name in SETS else _folder(_open(Path(name))))
    if not entries:
        raise FileNotFoundError(f"data: {name} holds no photos ({', '.join(sorted(SUFFIXES))})")
    order = np.random.default_rng(seed).permutation(len(entries))[:n]
    return _decode([entries[i] for i in order], size)


def _shared_set(name: str, root: Path) -> Iterator["Entry"]:
    return SETS[name](_open(root / f"{name}.zip") / name)


def _open(path: Path) -> Path | zipfile.Path:
    if not path.exists():
        raise FileNotFoundError(f"data: got {path}, expected one of {', '.join(SETS)}, or a folder or zip of photos")
    return zipfile.Path(path) if path.suffix == ".zip" else path


def _files(folder: Path | zipfile.Path) -> list:
    return sorted((f for f in folder.iterdir() if Path(f.name).suffix.lower() in SUFFIXES), key=lambda f: f.name)


def _folders(folder: Path | zipfile.Path) -> list:
    return sorted((f for f in folder.iterdir() if f.is_dir()), key=lambda f: f.name)


def _tiny20(folder: zipfile.Path) -> Iterator[Entry]:
    """The validation photos, each with one box."""
    rows = lambda name: csv.DictReader(io.StringIO((folder / name).read_text()))
    labels = {row["wnid"]: int(row["index"]) for row in rows("classes.csv")}
    for row in rows("boxes.csv"):
        if row["split"] == "val":
            box = tuple(float(row[edge]) for edge in ("xmin", "ymin", "xmax", "ymax"))
            yield folder / "val" / row["wnid"] / row["file"], labels[row["wnid"]], [box]


def _imagenet100(folder: zipfile.Path) -> Iterator[Entry]:
    """`III_WNID_name.JPEG`: III is the class."""
    for file in _files(folder):
        yield file, int(file.name[:3]), []


def _folder(folder: Path | zipfile.Path) -> Iterator[Entry]:
    """Photos in the folder itself are of unknown class, those in its subfolders of the subfolder's."""
    for file in _files(folder):
        yield file, UNKNOWN, []
    for label, inner in enumerate(_folders(folder)):
        for file in _files(inner):
            yield file, label, []


SETS: dict[str, Callable[[zipfile.Path], Iterator[Entry]]] = {
    "tiny20": _tiny20,
    "imagenet100": _imagenet100,
    "cifar10_test1000": _folder,
}


def _decode(entries: list[Entry], size: int) -> Photos:
    images, boxes = [], []
    most = max(len(found) for _, _, found in entries)
    for file, _, found in entries:
        photo = Image.open(io.BytesIO(file.read_bytes())).convert("RGB")
        # Bilinear with antialiasing, the aspect ratio not kept: torchvision's Resize((size, size)), as in the papers.
        images.append(np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR)))
        padded = np.full((most, 4), np.nan, np.float32)
        if found:
            padded[: len(found)] = metrics.resize_boxes(np.array(found), (photo.height, photo.width), (size, size))
        boxes.append(padded)
    names = tuple("/".join(Path(str(file)).parts[-2:]) for file, _, _ in entries)
    labels = np.array([label for _, label, _ in entries])
    return Photos(names, np.stack(images), labels, np.stack(boxes) if most else None)
