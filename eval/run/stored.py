"""Maps that a run of explain has made, for other protocols to measure: `--maps FOLDER`."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from eval.run import parts
from eval.run.settings import FILES, Settings, options_of, plain
from jaxcam._ground import files
from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from jaxcam.methods import WHOLE

# else they are maps of something else
_SAME = ("model", "data", "split", "crop", "explainer", "target", "options", FILES)
_USUAL = {"crop": 0.0}  # of runs of before there was that setting
_VALUES = "values.npz"


@dataclass(frozen=True)
class Maps:
    """The maps of a finished run.

    Args:
        folder: of the run.
        rows: of each photo in its arrays, by the photo's id.
        skipped: why a method has no maps at a layer, by METHOD/LAYER.
        names: of the arrays.
    """

    folder: Path
    rows: Mapping[str, int]
    skipped: Mapping[str, str]
    names: frozenset[str]

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """`[N]` rows of photos.

        Raises:
            ValueError: a photo that the run did not explain.
        """
        strange = [name for name in ids if name not in self.rows]
        if strange:
            raise ArgumentError(
                "maps",
                f"{self.folder}, which was made of other photos: {len(strange)} of {len(ids)} "
                f"photos are not among its {len(self.rows)}, such as {strange[0]}",
                "the same seed and no larger n",
            )
        return np.array([self.rows[name] for name in ids])

    def places(
        self, method: str, layers: tuple[str, ...]
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """The layers at which a method has maps, and why it has none at the others.

        Raises:
            ValueError: it has none at a layer, and no reason.
        """
        if f"{method}/{WHOLE}/maps" in self.names or f"{method}/{WHOLE}" in self.skipped:
            layers = (WHOLE,)
        found = []
        why = {}
        for layer in layers:
            if f"{method}/{layer}/maps" in self.names:
                found.append(layer)
            elif f"{method}/{layer}" in self.skipped:
                why[layer] = self.skipped[f"{method}/{layer}"]
            else:
                got = f"{layer!r}, which {self.folder} has no maps of"
                raise ArgumentError("layers", got, "one that it has explained")
        return tuple(found), why

    def reader(self, method: str, layer: str) -> "Rows":
        """A method's raw maps at a layer."""
        return Rows(self.folder / _VALUES, f"{method}/{layer}/maps")


class Rows:
    """The rows of one array of an `.npz`, of which no more is held than is asked for.

    Rows that are asked for in their order are read through once.
    """

    def __init__(self, path: Path, name: str) -> None:
        archive = zipfile.ZipFile(path)
        self._file: IO[bytes] = archive.open(f"{name}.npy")
        (_, *shape), self._dtype = parts.header(self._file)
        self._shape = tuple(shape)
        self._start = self._file.tell()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, `[k, ...]`."""
        found = np.empty((len(rows), *self._shape), self._dtype)
        stride = found.itemsize * int(np.prod(self._shape))
        for number, row in enumerate(rows):
            self._file.seek(self._start + int(row) * stride)
            content = np.frombuffer(self._file.read(stride), self._dtype)
            found[number] = content.reshape(self._shape)
        return found


def load(settings: Settings) -> Maps | None:
    """The maps that a run asks for, or None if it makes its own.

    Raises:
        FileNotFoundError: `settings.maps` holds no finished run of explain.
        ValueError: maps of something else, or not of all methods; a damaged file.
    """
    if settings.maps is None:
        return None
    path = settings.maps / "explain.json"
    if not path.exists():
        raise ArgumentFileError("maps", settings.maps, "the folder of a finished run of explain")
    record = files.read_json(path)
    theirs = record["settings"]
    ours = plain(settings, "explain")
    for each in (theirs, ours):
        each["options"] = options_of(each, settings.methods)
    for key in _SAME:
        if theirs.get(key, _USUAL.get(key)) != ours.get(key):
            got = f"{settings.maps}, which was made with {key} {theirs.get(key)!r}"
            raise ArgumentError("maps", got, repr(ours.get(key)))
    known = set(record["results"])
    for place in record["skipped"]:
        known.add(place.split("/")[0])
    if absent := [name for name in settings.methods if name not in known]:
        got = f"{settings.maps}, which has none of {', '.join(absent)}"
        raise ArgumentError("maps", got, f"methods of {sorted(known)}")
    parts.check(settings.maps / _VALUES)
    with np.load(settings.maps / _VALUES) as values:
        rows = {str(name): row for row, name in enumerate(values["ids"])}
        names = frozenset(values.files)
    return Maps(settings.maps, rows, record["skipped"], names)
