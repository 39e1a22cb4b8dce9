"""A labelled photo, and a set of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxcam._ground import decoding
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted

__all__ = ["NO_BOXES", "UNKNOWN", "Dataset", "Record", "decode", "multi_hot", "photo_size"]

UNKNOWN = -1  # the label of a photo whose class is not known
NO_BOXES = np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Record:
    """One photo.

    Args:
        image: an encoded file (JPEG, PNG...), or uint8 RGB `[H, W, 3]`.
        label: class index, `UNKNOWN` if there is none; or multi-hot float32 `[N]`.
        boxes: objects `[K, 4]` float32 in pixels of the upright photo: xmin, ymin, xmax, ymax,
            from 0 and inclusive.
        id: its name in the set.
        box_labels: `[K]` the class of each box; None: all are of the photo's.
    """

    image: bytes | np.ndarray
    label: int | np.ndarray
    boxes: np.ndarray
    id: str
    box_labels: np.ndarray | None = None

    def boxes_of(self, label: int | np.ndarray) -> np.ndarray:
        """The boxes `[k, 4]` of the objects of a class."""
        if self.box_labels is None:
            return self.boxes
        return self.boxes[self.box_labels == label]


@dataclass(frozen=True, repr=False)
class Dataset:
    """Records by index and the names of their classes.

    Args:
        records: any sequence; it is read from several threads at once.
        classes: name of each class.
    """

    records: Sequence[Record]
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        """Numbers alone: Grain, for one, writes out what its functions are bound to."""
        records = counted(len(self.records), "record")
        return f"Dataset({records}, {counted(len(self.classes), 'class')})"

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        """The record at an index from 0 to the length.

        Raises:
            IndexError: there is none.
        """
        if not 0 <= index < len(self.records):
            raise IndexError(f"index: got {index}, expected 0 to {len(self.records) - 1}")
        return self.records[int(index)]


def photo_size(record: Record) -> tuple[int, int]:
    """Height and width of the upright photo, in pixels; of an encoded one the header is read.

    Raises:
        ValueError: not a picture, or not uint8 RGB.
    """
    if isinstance(record.image, np.ndarray):
        height, width, _ = _checked(record, record.image).shape
        return height, width
    try:
        return decoding.size(record.image)
    except decoding.UnreadableError as error:
        raise _unreadable(record, error) from error


def decode(record: Record, *, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """The pixels of a record, upright: uint8 RGB `[H, W, 3]`, as `jaxcam.photos.read` reads a file.

    Args:
        record: of an encoded or decoded photo.
        at_least: (width, height) in pixels that are enough: a JPEG is then decoded at a half, a
            quarter or an eighth of its size, the smallest that has them, which is faster than to
            decode all of it. None: in full.

    Raises:
        ValueError: not a picture, or one that is cut off, too large or has values that are not
            finite.
    """
    if isinstance(record.image, np.ndarray):
        return _checked(record, record.image)
    try:
        return decoding.read(record.image, at_least=at_least)
    except decoding.UnreadableError as error:
        raise _unreadable(record, error) from error


def _checked(record: Record, pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        got = f"{record.id}, which is {pixels.dtype} {pixels.shape}"
        raise ArgumentError("image", got, "uint8 [H, W, 3]")
    return pixels


def _unreadable(record: Record, error: Exception) -> ArgumentError:
    return ArgumentError("image", f"{record.id}, which {error}", "a picture that can be decoded")


def multi_hot(labels: Iterable[int], num_classes: int) -> np.ndarray:
    """float32 `[num_classes]`: 1 for classes that are there, 0 for others; `UNKNOWN` is none."""
    present = np.zeros(num_classes, np.float32)
    for label in labels:
        if label != UNKNOWN:
            present[label] = 1.0
    return present
