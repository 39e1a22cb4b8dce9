"""The page of `--html`: every photo's maps, of its likeliest classes too, in one file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam._ground.text import counted
from jaxcam.cli import results
from jaxcam.cli.black_boxes import BLACK_BOXES
from jaxcam.cli.network import Network
from jaxcam.explorer import Heat, Shown, encoded, write
from jaxcam.methods import METHODS, WHOLE
from jaxcam.pictures import Style, verdict

Maps = Mapping[tuple[str, str], np.ndarray | None]
NAME = "explorer.html"


class Page:
    """The photos explained so far."""

    def __init__(self, path: Path, network: Network, fit: str, classes: int) -> None:
        """An empty page.

        Args:
            path: where it goes.
            network: what is explained.
            fit: as `jaxcam.photos.prepare` is given it.
            classes: how many of the likeliest classes are explained, beside the one asked for.
        """
        self.path = path
        self._network = network
        self._fit = fit
        self._classes = classes
        self._photos: list[dict[str, Any]] = []

    @staticmethod
    def place(out: Path) -> Path:
        """Where the page goes, beside a first picture `out` that was named, else in its folder."""
        return out.with_name(NAME)

    def others(self, logits: np.ndarray, target: int) -> list[int]:
        """The classes to explain beside the target, likeliest first."""
        order: list[int] = np.argsort(-logits, kind="stable").tolist()
        return [index for index in order[: self._classes] if index != target]

    def add(
        self,
        name: str,
        photo: np.ndarray,
        logits: np.ndarray,
        target: int,
        raw: Maps,
        explain: Callable[[str, int], Maps],
    ) -> None:
        """A photo.

        Args:
            name: of the photo.
            photo: `[H, W, 3]` uint8.
            logits: `[N]`.
            target: the class of the maps at hand.
            raw: by method and layer.
            explain: from a method and a class to its maps.
        """
        heats = self._heats(raw, target, logits)
        for index in self.others(logits, target):
            for method in dict.fromkeys(method for method, _ in raw):
                if method not in BLACK_BOXES:  # too slow to be asked again
                    heats += self._heats(explain(method, index), index, logits)
        shown = Shown(
            name=name,
            photo=photo,
            classes=self._network.about.classes,
            probabilities=self._network.about.probabilities(logits),
            target=target,
            heats=heats,
            size=self._network.size,
            fit=self._fit,
        )
        self._photos.append(encoded(shown))

    def _heats(self, raw: Maps, target: int, logits: np.ndarray) -> list[Heat]:
        found = []
        for (method, layer), each in raw.items():
            if each is not None:
                found.append(self._heat(method, layer, target, each, float(logits[target])))
        return found

    def _heat(self, method: str, layer: str, target: int, raw: np.ndarray, score: float) -> Heat:
        row = METHODS[method]
        signed = row.signed and layer == WHOLE
        values = np.asarray(row.evidence(raw, score))
        style = Style("signed" if signed else "positive")
        note = verdict(values, style) or ""
        measured = {}
        if not note:
            measured = results.measured(values)
        return Heat(
            method=row.title,
            layer="" if layer == WHOLE else layer,
            target=target,
            values=values,
            centers=self._network.layers.centers.get(layer),
            signed=signed,
            note=note,
            metrics=measured,
        )

    def write(self) -> str:
        """Writes the page; returns the line to print. Nothing is written of no photos."""
        if not self._photos:
            return ""
        write(self.path, self._photos, network=self._network.name)
        kilobytes = self.path.stat().st_size / 1e3
        return f"{counted(len(self._photos), 'photo')} -> {self.path} ({kilobytes:.0f} kB)"
