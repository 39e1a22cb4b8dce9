"""Pictures of explain runs: every photo with all its maps, as `jaxcam compare` draws them.

Pictures show photos, which may be other people's: those of runs on `skimage` belong to a report,
all others go to a folder of their own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eval import data, models
from eval.measures import title
from eval.methods import METHODS
from eval.parts import Values, load
from jaxcam import datasets, pictures, targets
from jaxcam.methods import METHODS as LIBRARY
from jaxcam.methods import WHOLE

FREE = frozenset({"skimage"})  # sets whose photos may be published
_SAME = ("model", "data", "split", "n", "seed", "target")  # what runs of one gallery have in common
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
        return f"{Path(self.settings['model']).stem}_{Path(self.settings['data']).stem}".replace(
            " ", "_"
        )


def find(runs: Sequence[Path]) -> list[Shown]:
    """The explain runs with maps among folders, those of the same photos taken together."""
    found: dict[tuple, Shown] = {}
    for folder in runs:
        if not (folder / "explain.json").exists():
            continue
        record = json.loads((folder / "explain.json").read_text())
        key = tuple(record["settings"].get(name) for name in _SAME)
        earlier = found.get(key, Shown(record["settings"], {}))
        values = earlier.values | load(folder / "values.npz")
        found[key] = Shown(earlier.settings, values, earlier.skipped | frozenset(record["skipped"]))
    return [shown for shown in found.values() if any(key.endswith("/maps") for key in shown.values)]


def draw(shown: Shown, folder: Path, count: int) -> Iterator[Path]:
    """Writes the pictures of the first photos, `NAME_ID.jpg`.

    Args:
        shown: what to draw.
        folder: where to.
        count: of photos, at most.

    Raises:
        FileNotFoundError: no such data or model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings, values = shown.settings, shown.values
    network = models.load(settings["model"], Path(settings["root"]))
    split, root = settings.get("split", ""), Path(settings["root"])
    records = {
        r.id: r for r in data.draw(settings["data"], settings["n"], settings["seed"], root, split)
    }
    apply = jax.jit(lambda images: network.apply(network.params, network.prepare(images)))
    for row, name in enumerate(map(str, values["ids"][:count])):
        photo = data.stretched(records[name], network.size)[0]
        probabilities = np.asarray(targets.probabilities(apply(photo[None])[0], network.activation))
        path = folder / f"{shown.name}_{name.replace('/', '_').rpartition('.')[0] or name}.jpg"
        picture = pictures.draw(_explanation(shown, row, records[name], network, probabilities))
        save = partial(picture.savefig, format="jpeg", dpi=_DPI, pil_kwargs={"quality": 88})
        with pictures.atomically(path) as file:
            save(file)
        yield path


def _explanation(
    shown: Shown,
    row: int,
    record: datasets.Record,
    network: models.Network,
    probabilities: np.ndarray,
) -> pictures.Explanation:
    classes = network.classes or tuple(f"class {i}" for i in range(len(probabilities)))
    signed = frozenset(title(name) for name in METHODS if name in LIBRARY and LIBRARY[name].signed)
    return pictures.Explanation(
        name=record.id,
        photo=datasets.decode(record),
        maps={key: None if found is None else found[row] for key, found in _maps(shown)},
        classes=classes,
        probabilities=probabilities,
        target=int(shown.values["targets"][row]),
        size=(network.size, network.size),
        network=Path(shown.settings["model"]).stem,
        signed=signed,
    )


def _maps(shown: Shown) -> Iterator[tuple[tuple[str, str], np.ndarray | None]]:
    """Maps `[N, h, w]` by labels of method and layer, shallow to deep; None where none applies."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key in (key for key in shown.values if key.endswith("/maps")):
        method, layer = key.removesuffix("/maps").split("/", 1)
        found.setdefault(method, {})[layer] = shown.values[key]
    most = max(found.values(), key=len)  # a method that has all layers
    sizes = {
        layer: each.shape[1:]
        for by_layer in (most, *found.values())
        for layer, each in by_layer.items()
    }
    for method, by_layer in found.items():
        for layer, (height, width) in sizes.items():
            if layer in by_layer or f"{method}/{layer}" in shown.skipped:
                label = "" if layer == WHOLE else f"{layer}\n{height} × {width}"
                yield (title(method), label), by_layer.get(layer)
