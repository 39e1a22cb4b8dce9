"""Maps that a run of `eval.explain` has made, for other protocols to measure: `--maps FOLDER`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.settings import Settings, options_of, plain
from jaxcam.maps import resize
from jaxcam.methods import WHOLE

# else they are maps of something else
_SAME = ("model", "data", "split", "explainer", "target", "options")


@dataclass(frozen=True)
class Maps:
    """The maps of a finished run.

    Args:
        folder: of the run.
        rows: of each photo in its arrays, by the photo's id.
        skipped: why a method has no maps at a layer, by METHOD/LAYER.
        methods: those with maps or a reason.
    """

    folder: Path
    rows: Mapping[str, int]
    skipped: Mapping[str, str]
    methods: frozenset[str]

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """`[N]` rows of photos.

        Raises:
            ValueError: a photo that the run did not explain.
        """
        strange = [name for name in ids if name not in self.rows]
        if strange:
            got = (
                f"{len(strange)} of {len(ids)} photos are not among its {len(self.rows)}, such as "
                f"{strange[0]}"
            )
            raise ValueError(
                f"maps: {self.folder} was made of other photos: {got}; give the same seed and no "
                "larger n"
            )
        return np.array([self.rows[name] for name in ids])

    def of(self, name: str, layers: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """A method's raw maps `[N, h, w]` by layer, and for each other layer why there are none.

        Raises:
            ValueError: it has none at a layer, and no reason.
        """
        with np.load(self.folder / "values.npz") as values:
            whole = f"{name}/{WHOLE}/maps" in values or f"{name}/{WHOLE}" in self.skipped
            places = (WHOLE,) if whole else tuple(layers)
            found = {
                at: values[f"{name}/{at}/maps"] for at in places if f"{name}/{at}/maps" in values
            }
        why = {at: self.skipped[f"{name}/{at}"] for at in places if f"{name}/{at}" in self.skipped}
        if unknown := [at for at in places if at not in found and at not in why]:
            raise ValueError(f"layers: got {unknown[0]!r}, which {self.folder} has no maps of")
        return found, why


def load(settings: Settings) -> Maps | None:
    """The maps that a run asks for, or None if it makes its own.

    Raises:
        FileNotFoundError: `settings.maps` holds no finished run of eval.explain.
        ValueError: maps of something else, or not of all methods.
    """
    if settings.maps is None:
        return None
    path = settings.maps / "explain.json"
    if not path.exists():
        raise FileNotFoundError(f"maps: {settings.maps} holds no finished run of eval.explain")
    record, ours = json.loads(path.read_text()), plain(settings, "explain")
    theirs = record["settings"]
    ours, theirs = (
        {**each, "options": options_of(each, settings.methods)} for each in (ours, theirs)
    )
    for key in _SAME:
        if theirs[key] != ours[key]:
            raise ValueError(
                f"maps: {settings.maps} was made with {key} {theirs[key]!r}, expected {ours[key]!r}"
            )
    known = frozenset(record["results"]) | {key.split("/")[0] for key in record["skipped"]}
    if absent := [name for name in settings.methods if name not in known]:
        raise ValueError(
            f"maps: {settings.maps} has none of {', '.join(absent)}, expected methods of "
            f"{sorted(known)}"
        )
    with np.load(settings.maps / "values.npz") as values:
        rows = {str(name): row for row, name in enumerate(values["ids"])}
    return Maps(settings.maps, rows, record["skipped"], known)


def explain(found: Mapping[str, np.ndarray], size: tuple[int, int] | None) -> Callable:
    """`(params, batch) -> {layer: maps}` of the photos in `batch["row"]`, resized where asked."""

    def explain(params: Any, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        del params
        chosen = {layer: each[batch["row"]] for layer, each in found.items()}
        return (
            chosen
            if size is None
            else {layer: np.asarray(resize(each, size)) for layer, each in chosen.items()}
        )

    return explain
