"""What CAM fostering does to a network: the measures on nets of different beta, over seeds.

Accuracy, entropy, area and dispersion of the Grad-CAM of the photo's own class, its overlap with
the box, and the deletion and insertion games of the predicted class, at the last stage; a table,
and pictures of the same photos.

    python -m eval foster_effect --models runs/foster/*.safetensors --output runs/foster_effect
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import jaxcam
from eval.protocols import games, interpretability, localization
from eval.run.record import write_json
from eval.run.runner import run
from eval.run.settings import Settings
from eval.subjects import networks
from jaxcam import models, photos
from jaxcam import pictures as drawing
from jaxcam._ground import files
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.progress import told

# Column of the table -> (run, metric of its record); accuracy is the record's own.
COLUMNS: dict[str, tuple[str, str]] = {
    "top-1, %": ("interpretability", "accuracy"),
    "entropy": ("interpretability", "entropy"),
    "area": ("interpretability", "area"),
    "dispersion": ("interpretability", "dispersion"),
    "relative difference, %": ("interpretability", "relative_difference"),
    "no map, %": ("interpretability", "empty"),
    "IoU": ("localization", "mask_iou"),
    "pointing": ("localization", "pointing_game"),
    "energy in box": ("localization", "energy_in_box"),
    "deletion": ("games", "deletion"),
    "insertion": ("games", "insertion"),
}
_PERCENT = ("empty",)
# Photos of scikit-image, and the class that each is pictured for where the network has it.
_EXAMPLES = {"tabby": ("cat", np.s_[:, 75:375]), "espresso": ("coffee", np.s_[:, 100:500])}
_TIME = "seconds an epoch"  # of training, which its report.json beside the network says


@dataclasses.dataclass(frozen=True)
class EffectSettings:
    """Which networks are compared.

    Args:
        models: files that `train.foster` exported; each says its beta and seed.
        output: folder of the runs, `effect.json`, `table.md` and `pictures.png`.
        data: as of every protocol; with boxes.
        split: of the data, as of every protocol.
        n: photos.
        n_games: photos of deletion and insertion, which cost 56 forward passes each.
        batch: photos a device at a time.
        pictured: in the pictures, TERM_BETA: entropy_0.3; none: all, and beta 0 always.
        root: folder of the named data sets; none means that of the variable JAXCAM_DATA.
    """

    models: tuple[Path, ...]
    output: Path
    data: str = "tiny20"
    split: str = ""
    n: int = 1000
    n_games: int = 300
    batch: int = 50
    pictured: tuple[str, ...] = ()
    root: Path | None = None


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
        got = f"{path}, which does not say its beta"
        raise ArgumentError("models", got, "a file that train.foster exported")
    return Net(path, config["term"], float(config["beta"]), config["seed"])


def measure(net: Net, settings: EffectSettings) -> dict[str, float]:
    """A number for each column; NaN where no map has a positive cell."""
    folder = settings.output / net.path.stem
    common = {
        "model": str(net.path),
        "data": settings.data,
        "split": settings.split,
        "root": settings.root,
        "batch": settings.batch,
        "methods": ("grad_cam",),
        "layers": networks.load(str(net.path), settings.root).stages[-1:],
    }
    sharp = Settings(folder / "interpretability", n=settings.n, target="label", **common)
    boxed = Settings(folder / "localization", n=settings.n, **common)
    played = games.GameSettings(folder / "games", n=settings.n_games, **common)
    records = {
        "interpretability": run(sharp, interpretability.PROTOCOL),
        "localization": run(boxed, localization.PROTOCOL),
        "games": run(played, games.PROTOCOL),
    }
    found = {}
    for title, (name, metric) in COLUMNS.items():
        found[title] = _number(records[name], metric)
    found[_TIME] = _seconds(net.path)
    return found


def _seconds(path: Path) -> float:
    """Of the last epoch's steps, without validation; NaN where no report lies beside the file."""
    report = path.parent / "report.json"
    if not report.exists():
        return np.nan
    return float(json.loads(report.read_text())["last_epoch"]["seconds"])


def _number(record: Mapping[str, Any], metric: str) -> float:
    (found,) = record["results"]["grad_cam"].values()
    if metric == "accuracy":
        return 100 * record["accuracy"]  # of photos that all have a label
    value = found[metric]["mean"]
    if value is None:
        return np.nan
    if metric in _PERCENT:
        return 100 * value
    return value


def table(nets: Sequence[Net], numbers: Sequence[Mapping[str, float]]) -> str:
    """Means over the seeds, with the smallest and largest in brackets where there are several."""
    columns = [*COLUMNS, _TIME]
    lines = [
        f"| term | beta | seeds | {' | '.join(columns)} |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    rows: dict[tuple[str, float], list[Mapping[str, float]]] = {}
    for net, row in zip(nets, numbers, strict=True):
        rows.setdefault((net.term, net.beta), []).append(row)
    for (term, beta), found in sorted(rows.items(), key=lambda item: item[0]):
        cells = []
        for title in columns:
            cells.append(_cell([row[title] for row in found]))
        lines.append(f"| {term} | {beta:g} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    finite = list(filter(np.isfinite, values))
    if not finite:
        return "-"
    if len(finite) == 1:
        return f"{finite[0]:.3g}"
    return f"{np.mean(finite):.3g} [{min(finite):.3g}, {max(finite):.3g}]"


def _label(net: Net) -> str:
    return f"{net.term}_{net.beta:g}"


def pictures(nets: Sequence[Net], path: Path) -> None:
    """Grad-CAM of the same two photos of scikit-image by the first seed of each term and beta."""
    import skimage

    shown = []
    for name, crop in _EXAMPLES.values():
        shown.append(photos.prepare(getattr(skimage.data, name)()[crop], (300, 300)))
    about = models.describe(str(nets[0].path))
    size = (about.preprocess.size, about.preprocess.size)
    small = np.stack([photos.prepare(photo, size) for photo in shown])
    targets = _shown_classes(nets[0], about.preprocess(small / 255))
    heat = {}
    for label, net in _first_seeds(nets).items():
        model, variables = models.load(str(net.path))
        forward = partial(model.apply, variables)
        maps = jaxcam.grad_cam(forward, about.preprocess(small / 255), targets)
        heat[label] = jaxcam.maps.normalize(jaxcam.maps.resize(maps, (300, 300)))
    titles = [about.classes[target] for target in targets]
    figure = jaxcam.maps.figure(np.stack(shown) / 255, heat, titles)
    drawing.write(figure, path, dpi=110)


def _shown_classes(net: Net, images: Any) -> np.ndarray:
    """Each photo's class; of a network that does not have it, what that says of the photo."""
    model, variables = models.load(str(net.path))
    classes = list(models.describe(str(net.path)).classes)
    found = np.asarray(model.apply(variables, images)).argmax(1)
    for number, name in enumerate(_EXAMPLES):
        if name in classes:
            found[number] = classes.index(name)
    return found


def _first_seeds(nets: Sequence[Net]) -> dict[str, Net]:
    """The first seed of each term and beta by what it is called; beta 0 is the same for all."""
    first = {}
    for net in sorted(nets, key=lambda net: -net.seed):
        term = net.term
        label = f"{term}, beta {net.beta:g}"
        if net.beta == 0:
            term = ""
            label = "beta 0"
        first[term, net.beta] = (label, net)
    return dict(first[key] for key in sorted(first))


def main(settings: EffectSettings) -> None:
    """Measures, prints the table and draws the pictures.

    Raises:
        ValueError: no networks, or one that `train.foster` did not export; unknown `pictured`.
    """
    if not settings.models:
        raise ArgumentError("models", "none", "files that train.foster exported")
    nets = list(map(read, settings.models))
    known = set(map(_label, nets))
    if unknown := set(settings.pictured) - known:
        raise ArgumentError("pictured", ", ".join(sorted(unknown)), f"any of {sorted(known)}")
    numbers = []
    found = []
    for net in told(nets, "foster_effect", "network", len(nets)):
        numbers.append(measure(net, settings))
        found.append({**dataclasses.asdict(net), **numbers[-1]})
    settings.output.mkdir(parents=True, exist_ok=True)
    write_json(settings.output / "effect.json", json.loads(json.dumps(found, default=str)))
    text = table(nets, numbers)
    files.write_text(settings.output / "table.md", text + "\n")
    print(text)
    chosen = []
    for net in nets:
        if net.beta == 0 or not settings.pictured or _label(net) in settings.pictured:
            chosen.append(net)
    pictures(chosen, settings.output / "pictures.png")
