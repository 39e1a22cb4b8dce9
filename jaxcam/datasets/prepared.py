"""Sets that TFDS prepared, through their random-access sources: no TensorFlow."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam._ground.errors import ArgumentError, ArgumentFileError, alike, listing
from jaxcam.datasets.files import unknown_split
from jaxcam.datasets.records import NO_BOXES, UNKNOWN, Dataset, Record, multi_hot, photo_size

__all__ = ["OURS", "SETS", "Features", "by_name", "find", "load"]


@dataclass(frozen=True)
class Features:
    """Which feature of a TFDS set is what; "a/b" is b of each object in a.

    Args:
        image: the encoded photo.
        label: its class, or the class of each object.
        boxes: one box, or that of each object, as TFDS has them: ymin, xmin, ymax, xmax in parts of
            the photo.
        id: its name; None: its index.
        first: what the set's own annotation calls the first pixel in a row or column.
        past_end: whether xmax and ymax are the edges behind the last pixel, not the pixel itself.
        source: what must be there to prepare it.
    """

    image: str = "image"
    label: str = "label"
    boxes: str | None = None
    id: str | None = None
    first: int = 0
    past_end: bool = False
    source: str = ""

    @property
    def of_objects(self) -> bool:
        """Whether every box has a class of its own."""
        if self.boxes is None or "/" not in self.label:
            return False
        return self.label.partition("/")[0] == self.boxes.partition("/")[0]


# VOC numbers pixels from 1, and so does Cars196, annotated in MATLAB; CUB gives x, y, width and
# height.
OURS = Features(boxes="boxes", id="id", past_end=True, source="PATH")
SETS: Mapping[str, Features] = {
    "voc": Features(label="objects/label", boxes="objects/bbox", id="image/filename", first=1),
    "imagenet2012": Features(id="file_name", source="FOLDER_OF_ILSVRC2012_TAR_FILES"),
    "stanford_dogs": Features(boxes="objects/bbox", id="image/filename"),
    "caltech_birds2011": Features(boxes="bbox", id="image/filename", past_end=True),
    "cars196": Features(boxes="bbox", id="id", first=1),
    "tiny20": OURS,
    "image_folder": OURS,
    "fgvc_aircraft": OURS,
}


def find(path: Path) -> Path | None:
    """The prepared set in a folder: itself, or the only one up to two levels below; or None.

    Raises:
        ValueError: there are several.
    """
    found: list[Path] = []
    for depth in ("", "*/", "*/*/"):
        found += [info.parent for info in path.glob(f"{depth}dataset_info.json")]
    if not found:
        return None
    if len(found) > 1:
        names = [str(folder.relative_to(path)) for folder in sorted(found)]
        got = f"{path}, which holds several prepared sets"
        raise ArgumentError("name", got, f"one of {listing(names)} in it")
    return found[0]


def by_name(name: str, split: str, root: str | Path | None, multilabel: bool) -> Dataset:
    """A split of a prepared set that goes by its TFDS name; see `jaxcam.datasets.load`."""
    if not re.fullmatch(r"[a-z]\w*(/[\w.-]+)?(:[\d.*]+)?", name):
        expected = (
            "a folder or a zip, there or in the folder that JAXCAM_DATA names, or a TFDS name such "
            "as voc/2012"
        )
        raise ArgumentFileError("name", repr(name), expected)
    tfds = _tfds()
    places = {} if root is None else {"data_dir": str(root)}
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, **places)
    except tfds.core.DatasetNotFoundError:
        raise _not_prepared(name, root) from None
    return _load(tfds, builder, split, multilabel)


def load(directory: Path, split: str, multilabel: bool) -> Dataset:
    """A split of the set prepared in a directory; see `jaxcam.datasets.load`."""
    tfds = _tfds()
    return _load(tfds, tfds.builder_from_directory(directory), split, multilabel)


def _tfds() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error}: TFDS sets need pip install "jaxcam-xai[train]"'
        ) from error
    return tfds


def _not_prepared(name: str, root: str | Path | None) -> ArgumentFileError:
    base = re.split("[/:]", name)[0]
    place = root
    if root is None:
        place = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    features = SETS.get(base, Features())
    command = f"python -m jaxcam.datasets prepare {name}"
    if features.source:
        command += f" --source {features.source}"
    command += f" --output {place}"
    if features is not OURS:
        command = f'pip install "jaxcam-xai[prepare]" && {command}'
    expected = f"a folder, a zip or a set that is prepared in {place}, once by: {command}"
    meant = alike(base, SETS, count=2)
    if meant and base not in SETS:
        expected = f"{' or '.join(meant)}, perhaps; else {expected}"
    return ArgumentFileError("name", repr(name), expected)


def _load(tfds: Any, builder: Any, split: str, multilabel: bool) -> Dataset:
    features = SETS.get(builder.name, Features())
    info = builder.info
    written = info.file_format.value if info.file_format else "tfrecord"
    if written not in ("array_record", "parquet"):
        got = f"{info.data_dir}, prepared as {written}, without random access"
        expected = "array_record, as python -m jaxcam.datasets prepare writes it"
        raise ArgumentError("name", got, expected)
    classes = tuple(_class_label(tfds, info.features, features.label, info.data_dir).names)
    try:
        count = info.splits[split].num_examples
    except (ValueError, KeyError, AssertionError) as error:
        raise unknown_split(split, info.splits) from error
    if not count:
        got = f"{split!r} of {info.data_dir}, which is empty"
        raise ArgumentError("split", got, "a photo at least")
    is_picture = lambda key: isinstance(info.features[key], tfds.features.Image)
    encoded = dict.fromkeys(filter(is_picture, info.features), tfds.decode.SkipDecoding())
    source = builder.as_data_source(split, decoders=encoded)
    return Dataset(_Examples(source, features, len(classes), multilabel), classes)


def _class_label(tfds: Any, features: Any, name: str, directory: str) -> Any:
    """The feature that knows the classes' names."""
    outer, _, inner = name.partition("/")
    found: Any = dict(features.items()).get(outer)
    if inner and isinstance(found, tfds.features.Sequence):
        found = found.feature[inner]
    if not isinstance(found, tfds.features.ClassLabel):
        got = f"{directory}, which has no class label {name!r}"
        raise ArgumentError("name", got, f"it among {listing(features)}")
    return found


@dataclass(frozen=True)
class _Examples(Sequence[Record]):
    source: Sequence[Mapping[str, Any]]
    features: Features
    num_classes: int
    multilabel: bool

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        example = self.source[index]
        features = self.features
        labels = np.atleast_1d(_value(example, features.label))
        parts = np.zeros((0, 4))
        if features.boxes is not None:
            parts = np.asarray(_value(example, features.boxes), np.float64).reshape(-1, 4)
        name = str(index)
        if features.id is not None:
            name = _text(_value(example, features.id))
        record = Record(_value(example, features.image), UNKNOWN, NO_BOXES, name)
        label = _largest(labels, parts)
        if self.multilabel:
            label = multi_hot(labels, self.num_classes)
        of_boxes = None
        if features.of_objects:
            of_boxes = labels
        boxes = _pixels(parts, record, features)
        return dataclasses.replace(record, label=label, boxes=boxes, box_labels=of_boxes)


def _value(example: Mapping[str, Any], name: str) -> Any:
    if name in example:
        return example[name]
    outer, _, inner = name.partition("/")
    return example[outer][inner]


def _text(name: str | bytes) -> str:
    if isinstance(name, bytes):
        return name.decode()
    return str(name)


def _largest(labels: np.ndarray, parts: np.ndarray) -> int:
    """The photo's label, or that of the object with the largest box, the first of equal ones."""
    if not len(labels):
        return UNKNOWN
    if len(labels) == 1:
        return int(labels[0])
    return int(labels[np.argmax((parts[:, 2] - parts[:, 0]) * (parts[:, 3] - parts[:, 1]))])


def _pixels(parts: np.ndarray, record: Record, features: Features) -> np.ndarray:
    """Boxes in parts of the photo, y first, as xmin, ymin, xmax, ymax in pixels, inclusive."""
    if not len(parts):
        return NO_BOXES
    height, width = photo_size(record)
    size = np.array([width, height] * 2)
    # TFDS keeps float32: a hundredth of a pixel is what can be told of a photo some thousand pixels
    # wide.
    pixels = (parts[:, [1, 0, 3, 2]] * size).round(2) - features.first
    pixels[:, 2:] -= features.past_end
    return np.clip(pixels, 0, size - 1).astype(np.float32)
