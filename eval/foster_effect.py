"""What CAM fostering does to a network: the measures on nets of different beta, over seeds.

Accuracy, entropy, area and dispersion of the Grad-CAM of the photo's own class, its overlap with
the box, and the deletion and insertion games of the predicted class, at the last stage; a table,
and pictures of the same photos.

    python -m eval.foster_effect --models runs/foster/*.safetensors --output runs/foster_effect
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import jaxcam
from eval import data as datasets
from eval import games, interpretability, localization
from eval import models as networks
from eval.command import command
from eval.common import Settings, run
from eval.record import write_json
from jaxcam import models, photos

# Column of the table -> (run, metric of its record); accuracy is the record's own.
COLUMNS: dict[str, tuple[str, str]] = {
    "top-1, %": ("interpretability", "accuracy"),
    "entropy": ("interpretability", "entropy"),
    "area": ("interpretability", "area"),
    "dispersion": ("interpretability", "dispersion"),
    "no map, %": ("interpretability", "empty"),
    "IoU": ("localization", "mask_iou"),
    "pointing": ("localization", "pointing_game"),
    "energy in box": ("localization", "energy_in_box"),
    "deletion": ("games", "deletion"),
    "insertion": ("games", "insertion"),
}
_PERCENT = ("accuracy", "empty")
_EXAMPLES = {"tabby": ("cat", np.s_[:, 75:375]), "espresso": ("coffee", np.s_[:, 100:500])}


@dataclasses.dataclass(frozen=True)
class EffectSettings:
    """Which networks are compared.

    Args:
        models: files that `train.foster` exported; each says its beta and seed.
        output: folder of the runs, `effect.json`, `table.md` and `pictures.png`.
        data: as of every protocol; with boxes.
        n: photos.
        n_games: photos of deletion and insertion, which cost 56 forward passes each.
        batch: photos a device at a time.
        pictured: in the pictures, TERM_BETA: entropy_0.3; none: all, and beta 0 always.
        root: folder of the named data sets.
    """

    models: tuple[Path, ...]
    output: Path
    data: str = "tiny20"
    n: int = 1000
    n_games: int = 300
    batch: int = 50
    pictured: tuple[str, ...] = ()
    root: Path = datasets.SHARED


@dataclasses.dataclass(frozen=True)
class Net:
    """One trained network: its file, and what its config says of the loss."""

    path: Path
    term: str
    beta: float
    seed: int


def read(path: Path) -> Net:
    """What a file says of its training.

    Raises:
        ValueError: it was not exported by `train.foster`.
    """
    config = json.loads(models.describe(str(path)).metadata.get("config", "{}"))
    if "beta" not in config:
        raise ValueError(
            f"models: {path} does not say its beta; expected a file that train.foster exported"
        )
    return Net(path, config["term"], float(config["beta"]), config["seed"])


def measure(net: Net, settings: EffectSettings) -> dict[str, float]:
    """A number for each column; NaN where no map has a positive cell."""
    last = networks.load(str(net.path), settings.root).layers[-1]
    common = {"model": str(net.path), "data": settings.data, "root": settings.root}
    common |= {"methods": ("grad_cam",), "layers": (last,)}
    folder = settings.output / net.path.stem
    made = lambda kind, name, n, **more: kind(
        folder / name, n=n, batch=settings.batch, **common, **more
    )
    game = made(games.GameSettings, "games", settings.n_games)
    records = {
        "interpretability": run(
            made(Settings, "interpretability", settings.n, target="label"),
            interpretability.PROTOCOL,
        ),
        "localization": run(made(Settings, "localization", settings.n), localization.PROTOCOL),
        "games": run(game, games.protocol(game)),
    }
    return {title: _number(records[name], metric) for title, (name, metric) in COLUMNS.items()}


def _number(record: Mapping[str, Any], metric: str) -> float:
    (found,) = record["results"]["grad_cam"].values()
    value = record["accuracy"] if metric == "accuracy" else found[metric]["mean"]
    value = np.nan if value is None else value
    return 100 * value if metric in _PERCENT else value


def table(nets: Sequence[Net], numbers: Sequence[Mapping[str, float]]) -> str:
    """Means over the seeds, with the smallest and largest in brackets where there are several."""
    lines = [
        f"| term | beta | seeds | {' | '.join(COLUMNS)} |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for term, beta in sorted({(net.term, net.beta) for net in nets}):
        rows = [
            row
            for net, row in zip(nets, numbers, strict=True)
            if (net.term, net.beta) == (term, beta)
        ]
        cells = [_cell([row[title] for row in rows]) for title in COLUMNS]
        lines.append(f"| {term} | {beta:g} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return "-"
    spread = f" [{min(finite):.3g}, {max(finite):.3g}]" if len(finite) > 1 else ""
    return f"{np.mean(finite):.3g}{spread}"


def _label(net: Net) -> str:
    return f"{net.term}_{net.beta:g}"


def pictures(nets: Sequence[Net], path: Path) -> None:
    """Grad-CAM of the same two photos of scikit-image by the first seed of each term and beta."""
    import skimage

    first = {
        (net.beta > 0 and net.term, net.beta): net
        for net in sorted(nets, key=lambda net: -net.seed)
    }
    shown = [
        photos.prepare(getattr(skimage.data, name)()[crop], (300, 300))
        for name, crop in _EXAMPLES.values()
    ]
    about = models.describe(str(nets[0].path))
    small = np.stack([photos.prepare(photo, (about.preprocess.size,) * 2) for photo in shown])
    targets = np.array([about.classes.index(name) for name in _EXAMPLES])
    heat = {}
    for term, beta in sorted(first, key=lambda key: (str(key[0] or ""), key[1])):
        model, variables = models.load(str(first[term, beta].path))
        forward = partial(model.apply, variables)
        maps = jaxcam.grad_cam(forward, about.preprocess(small / 255), targets)
        heat[f"{term}, beta {beta:g}" if term else "beta 0"] = jaxcam.maps.normalize(
            jaxcam.maps.resize(maps, (300, 300))
        )
    jaxcam.maps.figure(np.stack(shown) / 255, heat, list(_EXAMPLES)).savefig(path, dpi=110)


def main(settings: EffectSettings) -> None:
    """Measures, prints the table and draws the pictures.

    Raises:
        ValueError: no networks, or one that `train.foster` did not export; unknown `pictured`.
    """
    if not settings.models:
        raise ValueError("models: got none, expected files that train.foster exported")
    nets = [read(path) for path in settings.models]
    known = {_label(net) for net in nets}
    if unknown := set(settings.pictured) - known:
        raise ValueError(
            f"pictured: got {', '.join(sorted(unknown))}, expected any of {sorted(known)}"
        )
    numbers = [measure(net, settings) for net in tqdm(nets, unit="network", disable=None)]
    found = [{**dataclasses.asdict(net), **row} for net, row in zip(nets, numbers, strict=True)]
    settings.output.mkdir(parents=True, exist_ok=True)
    write_json(settings.output / "effect.json", json.loads(json.dumps(found, default=str)))
    text = table(nets, numbers)
    (settings.output / "table.md").write_text(text + "\n")
    print(text)
    wanted = lambda net: net.beta == 0 or not settings.pictured or _label(net) in settings.pictured
    chosen = [net for net in nets if wanted(net)]
    pictures(chosen, settings.output / "pictures.png")


if __name__ == "__main__":
    command(main, EffectSettings, __doc__)
