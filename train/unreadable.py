"""Photos that cannot be read, and those without a label: left out, counted and named."""

import threading

import numpy as np

from jaxcam._ground.devices import told_by_all
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted
from jaxcam.datasets import UNKNOWN, Dataset

_PHOTOS = {"image", "name"}  # what errors about a photo, or a zip's member, are about
_LOOKED_AT = 64


class Unreadable:
    """The photos of a run that could not be read, in this process.

    Args:
        limit: how many there may be.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: list[str] = []  # a name and a reason each
        self._lock = threading.Lock()

    def add(self, error: ArgumentError) -> None:
        """Counts a photo, once.

        Raises:
            ValueError: the error, if it is none about a photo; or there are more than may be.
        """
        if error.argument not in _PHOTOS or not self.limit:
            raise error
        with self._lock:
            if error.got not in self.found:
                self.found.append(error.got)
        if len(self.found) > self.limit:
            got = f"{self.limit}, and more photos that cannot be read: {'; '.join(self.found)}"
            raise ArgumentError(
                "unreadable", got, "as many as there are, or whole photos"
            ) from error

    def of_all(self) -> list[str]:
        """Those of all processes, each of which calls it."""
        together: set[str] = set()
        for said in told_by_all("\n".join(self.found)):
            together.update(filter(None, said.split("\n")))
        return sorted(together)


def unlabelled(label: np.ndarray) -> bool:
    """Whether a label says nothing: `UNKNOWN`, or no class of several."""
    if label.ndim == 0:
        return bool(label == UNKNOWN)
    return not label.any()


def check_labelled(photos: Dataset, split: str, field: str) -> None:
    """Refuses photos of which none has a label, by some that are spread over all.

    Args:
        photos: of the split.
        split: its name.
        field: the config's, that names it.

    Raises:
        ValueError: as said.
    """
    some = np.unique(np.linspace(0, len(photos) - 1, _LOOKED_AT).astype(int))
    if all(_says_nothing(photos, int(index)) for index in some):
        got = f"{split!r}, where of {counted(len(some), 'photo')} of {len(photos)} none has a label"
        raise ArgumentError(field, got, "a split with labels")


def _says_nothing(photos: Dataset, index: int) -> bool:
    try:
        return unlabelled(np.asarray(photos[index].label))
    except ArgumentError:  # it cannot be read, which is another matter
        return False
