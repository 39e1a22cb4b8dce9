"""Pictures of explain runs: every photo with all its maps, as `jaxcam compare` draws them.

Pictures show photos, which may be other people's: those of runs on `skimage` belong to a report,
all others go to a folder of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eval.run.parts import Values, check, load
from eval.subjects import data, networks
from eval.subjects.methods import METHODS, title
from jaxcam import datasets, pictures
from jaxcam._ground import files
from jaxcam.classifier import Classifier
from jaxcam.methods import WHOLE

FREE = frozenset({"skimage"})  # sets whose photos may be published
# Where runs of one gallery may differ.
_FREE = frozenset(
    {"output", "root", "methods", "options", "layers", "batch", "maps", "distributed", "unreadable"}
)
_DPI = 110


@dataclass(frozen=True)
class Shown:
    """Explain runs of the same photos.

    Args:
        settings: of the first of them.
        values: of all of them, `METHOD/LAYER/maps`, `ids`, `targets`.
        skipped: `METHOD/LAYER` of what does not apply.
    """

    settings: Mapping[str, Any]
    values: Values
    skipped: frozenset[str] = frozenset()

    @property
    def free(self) -> bool:
        """Whether the photos may be published."""
        return self.settings["data"] in FREE

    @property
    def name(self) -> str:
        """Of the network and the set."""
        model = Path(self.settings["model"]).stem
        photos = Path(self.settings["data"]).stem
        return f"{model}_{photos}".replace(" ", "_")

    @property
    def root(self) -> Path | None:
        """Folder of the named data sets and nets."""
        if self.settings["root"] is None:
            return None
        return Path(self.settings["root"])


def find(runs: Sequence[Path]) -> list[Shown]:
    """The explain runs with maps among folders, those of the same photos taken together."""
    found: list[Shown] = []
    for folder in runs:
        if not (folder / "explain.json").exists():
            continue
        record = files.read_json(folder / "explain.json")
        check(folder / "values.npz")
        values = load(folder / "values.npz")
        made = Shown(record["settings"], values, frozenset(record["skipped"]))
        for index, earlier in enumerate(found):
            if _go_together(earlier, made):
                skipped = earlier.skipped | made.skipped
                found[index] = Shown(earlier.settings, earlier.values | values, skipped)
                break
        else:
            found.append(made)
    return [shown for shown in found if _has_maps(shown)]


def _go_together(one: Shown, other: Shown) -> bool:
    """Whether they show the same photos in the same way, and no map of one is another there."""
    known = (one.settings.keys() & other.settings.keys()) - _FREE
    if any(one.settings[name] != other.settings[name] for name in known):
        return False
    both = one.values.keys() & other.values.keys()
    return all(np.array_equal(one.values[name], other.values[name]) for name in both)


def _has_maps(shown: Shown) -> bool:
    return any(key.endswith("/maps") for key in shown.values)


def draw(shown: Shown, folder: Path, count: int, taken: set[str] | None = None) -> Iterator[Path]:
    """Writes the pictures of the first photos, `NAME_ID.jpg`.

    Args:
        shown: what to draw.
        folder: where to.
        count: of photos, at most.
        taken: names of files that others have; those of these pictures are added.

    Raises:
        FileNotFoundError: no such data or model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = set() if taken is None else taken
    network = networks.load(shown.settings["model"], shown.root)
    names = list(map(str, shown.values["ids"][:count]))
    records = _records(shown, network.input_size, names)
    apply = jax.jit(lambda photos: network.apply(network.params, network.prepare(photos)))
    for row, name in enumerate(names):
        photo = data.fitted(records[name], network.input_size, shown.settings.get("crop", 0.0))
        logits = np.asarray(apply(photo[None])[0])
        picture = pictures.draw(_explanation(shown, row, records[name], network, logits))
        stem = name.replace("/", "_")
        stem = stem.rpartition(".")[0] or stem
        path = folder / files.unused(f"{shown.name}_{stem}", "jpg", taken)
        pictures.write(picture, path, format="jpeg", dpi=_DPI, pil_kwargs={"quality": 88})
        yield path


def _records(
    shown: Shown, size: tuple[int, int], names: Sequence[str]
) -> dict[str, datasets.Record]:
    """The photos by their names; no further ones are read than it takes to find these."""
    settings = shown.settings
    split = settings.get("split", "")
    drawn = data.draw(settings["data"], size, settings["n"], settings["seed"], shown.root, split)
    missing = set(names)
    found = {}
    for record in drawn.records(np.arange(len(drawn))):
        if record.id in missing:
            found[record.id] = record
            missing.remove(record.id)
        if not missing:
            break
    return found


def _explanation(
    shown: Shown,
    row: int,
    record: datasets.Record,
    network: Classifier,
    logits: np.ndarray,
) -> pictures.Explanation:
    classes = network.classes or tuple(f"class {i}" for i in range(len(logits)))
    target = int(shown.values["targets"][row])
    signed = frozenset(row.title for row in METHODS.values() if row.signed)
    return pictures.Explanation(
        name=record.id,
        photo=datasets.decode(record),
        maps=_maps(shown, row, float(logits[target])),
        classes=classes,
        probabilities=network.probabilities(logits),
        target=target,
        size=network.input_size,
        network=Path(shown.settings["model"]).stem,
        signed=signed,
    )


def _maps(shown: Shown, row: int, score: float) -> dict[tuple[str, str], np.ndarray | None]:
    """A photo's maps `[h, w]` by labels of method and layer, shallow to deep; None: not applicable.

    A method that has all layers says how they follow on one another.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, value in shown.values.items():
        if key.endswith("/maps"):
            method, layer = key.removesuffix("/maps").split("/", 1)
            each = value[row]
            if method in METHODS:
                each = METHODS[method].evidence(each, score)
            found.setdefault(method, {})[layer] = each
    sizes = {}
    for by_layer in (max(found.values(), key=len), *found.values()):
        for layer, each in by_layer.items():
            sizes[layer] = each.shape
    maps = {}
    for method, by_layer in found.items():
        for layer, (height, width) in sizes.items():
            if layer in by_layer or f"{method}/{layer}" in shown.skipped:
                label = f"{layer}\n{height} × {width}"
                if layer == WHOLE:
                    label = ""
                maps[title(method), label] = by_layer.get(layer)
    return maps
