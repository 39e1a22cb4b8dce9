"""A paper's tables: the runs that give them, and their numbers beside ours."""

import itertools
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval import programs
from eval.run.record import summary
from eval.studies import paper_page as page
from eval.studies.commands import Run, carry_out
from eval.studies.resampled import ratio, resampled, to_inactive, values_of
from eval.studies.setups import NOTHING, PAPERS, Experiment, Setup
from eval.subjects import data
from eval.subjects.networks import OURS
from jaxcam import models
from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from jaxcam._ground.files import write_bytes

_OF_STUDENT = ("attention_grad_cam", "layerwise_grad_cam", "cbam_attention")
_FOSTERING = page.FOSTERING
_AGREEMENT = "agreement"
_ADCC = "adcc"
_PARTS = ("coherency", "complexity", "drop")
_CORRECT = "localization"  # of photos that are classified correctly
_NEEDS = {"localization": "boxes", _FOSTERING: "photos to train on"}
# The bundled network's betas: at the paper's 100 it collapses (docs/fostering.md).
_BETAS = {"theirs": ("0.0", "100.0"), "stand_in": ("0.0", page.STAND_IN_BETA)}
CONFIGS = programs.HERE.parent / "configs"


class Wanted(NamedTuple):
    """What is asked for, as in `benchmark.Settings`."""

    output: Path
    paper: str
    methods: tuple[str, ...] = ()
    scale: float = 1.0
    dry_run: bool = False
    root: Path | None = None


class Training(NamedTuple):
    """A fine-tuning whose network is measured."""

    words: tuple[str, ...]
    export: Path

    @property
    def command(self) -> str:
        """As a shell takes it."""
        return shlex.join(["python", "-m", "train.foster", *self.words])


def study(wanted: Wanted) -> str:
    """Carries the runs of a paper's tables out, and writes and returns the page of its numbers.

    Of a dry run the commands alone are printed: the paper's, and those of what stands in for it.

    Raises:
        ChildProcessError: a run failed, and has said why.
    """
    known: dict[tuple, Path] = {}
    parts: dict[tuple, page.Part] = {}
    for experiment in PAPERS[wanted.paper]:
        absent = missing(experiment.theirs, wanted)
        title = page.title_of(experiment)
        if wanted.dry_run:
            print(f"# {title}: {_sized(experiment.theirs, wanted)}")
            _carried_out(experiment, experiment.theirs, wanted, known)
        setup = experiment.theirs
        if absent:
            setup = experiment.stand_in
            if missing(setup, wanted, weights=False):
                setup = setup._replace(data=NOTHING[0], photos=NOTHING[1])
            print(f"# STAND-IN for {title}: {_sized(setup, wanted)}; {absent}")
        if wanted.dry_run and not absent:
            continue
        part = page.Part(_sized(setup, wanted), {experiment: absent}, ())
        if part.key in parts:  # the same stand-in of another table's same numbers
            part = parts[part.key]
            part.experiments[experiment] = absent
            continue
        records = _carried_out(experiment, setup, wanted, known)
        parts[part.key] = part._replace(records=records)
    if wanted.dry_run:
        return ""
    text = "\n".join(itertools.chain.from_iterable(map(page.lines, parts.values())))
    folder = wanted.output / wanted.paper
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "paper.md", text.encode())
    return text


def missing(setup: Setup, wanted: Wanted, *, weights: bool = True) -> str:
    """Why a table cannot be made on this: what of it is not here; nothing if all is.

    Weights are looked for once the photos are there, and fetched from the hub if need be, though
    not by a dry run.
    """
    names: list[str] = []
    if weights and not wanted.dry_run:
        names = [name for name in (setup.model, setup.student) if name and name not in OURS]
    try:
        data.draw(setup.data, 8, 1, 0, wanted.root, setup.split)
        for name in names:
            models.describe(name)
    except (ArgumentError, ArgumentFileError) as error:
        return f"not here: {error.got}"
    return ""


# Runs --------------------------------------------------------------------------------------


def _carried_out(
    experiment: Experiment, setup: Setup, wanted: Wanted, known: dict[tuple, Path]
) -> list[Mapping[str, Any]]:
    """The records of a table's runs; none of a dry run."""
    setup = _sized(setup, wanted)
    records: list[Mapping[str, Any]] = []
    for protocol, methods in experiment.protocols():
        if protocol in _NEEDS and setup.data == NOTHING[0]:
            print(f"# {protocol} is left out: {setup.data} has no {_NEEDS[protocol]}")
            continue
        if protocol == _FOSTERING:
            records.append(_fostered(experiment, setup, wanted))
            continue
        for run in _runs(experiment, setup, wanted, protocol, methods, known):
            carry_out(run.command, skip=run.finished(), dry=wanted.dry_run)
            if not wanted.dry_run:
                records.append(_with_adcc_of_means(run))
    return list(filter(None, records))


def _runs(
    experiment: Experiment,
    setup: Setup,
    wanted: Wanted,
    protocol: str,
    methods: Sequence[str],
    known: dict[tuple, Path],
) -> Iterator[Run]:
    """Those of a protocol: of the network's own maps, then of a student's.

    What another table has run already is the same run.
    """
    chosen = [name for name in methods if not wanted.methods or name in wanted.methods]
    ours = [name for name in chosen if name not in _OF_STUDENT]
    students = [name for name in chosen if name in _OF_STUDENT]
    folder = wanted.output / wanted.paper / experiment.source
    if setup[:2] != experiment.theirs[:2]:  # another network or other photos
        folder = folder / "stand_in"
    if protocol == _AGREEMENT:
        words = (*_photos(setup, wanted), "--student", setup.student)
        yield _once(Run(setup.model, protocol, folder / protocol, words), known)
        return
    if ours:
        words = _words(setup, wanted, ours)
        if protocol == _CORRECT:
            words += ("--count", "correct")
        yield _once(Run(setup.model, protocol, folder / protocol, words), known)
    if students:
        words = (*_words(setup, wanted, students), "--explainer", setup.student)
        yield _once(Run(setup.model, protocol, folder / f"{protocol}_student", words), known)


def _once(run: Run, known: dict[tuple, Path]) -> Run:
    return run._replace(folder=known.setdefault((run.protocol, run.words), run.folder))


def _photos(setup: Setup, wanted: Wanted) -> tuple[str, ...]:
    words = ["--model", setup.model, "--data", setup.data, "-n", str(setup.photos)]
    words += ["--batch", str(min(16, setup.photos))]
    if setup.split:
        words += ["--split", setup.split]
    if setup.crop:
        words += ["--crop", str(setup.crop)]
    if wanted.root is not None:
        words += ["--root", str(wanted.root)]
    return tuple(words)


def _words(setup: Setup, wanted: Wanted, methods: Sequence[str]) -> tuple[str, ...]:
    words = [*_photos(setup, wanted), "--methods", *methods, "--layers", *setup.layers]
    options = [option for option in setup.options if option.partition(".")[0] in methods]
    if options:
        words += ["--options", *options]
    return tuple(words)


def _sized(setup: Setup, wanted: Wanted) -> Setup:
    return setup._replace(photos=max(2, round(wanted.scale * setup.photos)))


# Fostering ---------------------------------------------------------------------------------


def trainings(setup: Setup, wanted: Wanted) -> list[Training]:
    """The fine-tunings without and with fostering: the paper's, or short ones of the bundled."""
    folder = wanted.output / wanted.paper
    kind, config, more = "theirs", _config("voc2012_foster.py"), ()
    if setup.model == "tiny20":
        kind, config = "stand_in", _config("tiny20_foster.py")
        more = ("train_split=train[:2000]", f"data={data.file_in(wanted.root, 'tiny20.zip')}")
    found = []
    for beta in _BETAS[kind]:
        workdir = folder / f"{kind}_beta_{float(beta):g}"
        export = workdir / f"beta_{float(beta):g}.safetensors"
        changes = (f"beta={beta}", f"workdir={workdir}", f"export={export}", *more)
        found.append(Training(("--config", config, "--set", *changes), export))
    return found


def _config(name: str) -> str:
    """A file of the checkout's `configs`, as short as this folder allows."""
    path = CONFIGS / name
    if Path.cwd() == CONFIGS.parent:
        return str(path.relative_to(CONFIGS.parent))
    return str(path)


def _fostered(experiment: Experiment, setup: Setup, wanted: Wanted) -> Mapping[str, Any]:
    """Both networks trained and measured, as a record of `beta 0` and `beta 100`."""
    nets = trainings(setup, wanted)
    for training in nets:
        carry_out(training.command, skip=training.export.exists(), dry=wanted.dry_run)
    folder = wanted.output / wanted.paper / _FOSTERING
    files = [str(training.export) for training in nets]
    words = ["python", "-m", "eval", _FOSTERING, "--output", str(folder), "--data", setup.data]
    words += ["--n", str(setup.photos), "--n-games", str(min(20, setup.photos))]
    words += ["--batch", str(min(16, setup.photos)), "--models", *files]
    if setup.split:
        words += ["--split", setup.split]
    if wanted.root is not None:
        words += ["--root", str(wanted.root)]
    carry_out(shlex.join(words), skip=False, dry=wanted.dry_run)
    if wanted.dry_run:
        return {}
    (layer,) = setup.layers
    summaries = {}
    for name, numbers in _of_betas(folder).items():
        summaries[name] = {layer: numbers}
    return {"protocol": _FOSTERING, "photos": setup.photos, "results": summaries}


def _of_betas(folder: Path) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The numbers of both networks, those over photos with intervals.

    Args:
        folder: of `effect.json` and the runs.
    """
    nets = json.loads((folder / "effect.json").read_text())
    plain: dict[str, np.ndarray] = {}
    found = {}
    for name, net in zip(("beta 0", "beta 100"), nets, strict=True):
        file = folder / Path(net["path"]).stem / "interpretability" / "values.npz"
        values = values_of(file, _only_place(file))
        if not plain:
            for metric, each in values.items():
                plain[f"{metric} before"] = each
        relative = values["relative_difference"]
        relative = relative[np.isfinite(relative)]  # the others have no map
        found[name] = {
            "relative_difference": summary(relative, 0),
            "relative_difference_to_inactive": resampled(
                {"d": to_inactive(relative)}, lambda values: np.median(values["d"]), 0
            ),
            "epoch_seconds": {"mean": net["seconds an epoch"]},
            "area_ratio": resampled({**values, **plain}, ratio("area"), 0),
            "dispersion_ratio": resampled({**values, **plain}, ratio("dispersion"), 0),
        }
    return found


def _only_place(file: Path) -> str:
    """METHOD/LAYER of a run of one method at one layer."""
    with np.load(file) as arrays:
        places = set(map(os.path.dirname, arrays.files)) - {""}
    (place,) = places
    return place


def _with_adcc_of_means(run: Run) -> dict[str, Any]:
    """A run's record; with it ADCC of the means of its parts, as in ShapleyCAM's code.

    Ours is the mean of ADCCs.
    """
    record = run.record()
    if run.protocol != _ADCC:
        return record
    for method, by_layer in record["results"].items():
        for layer, found in by_layer.items():
            values = values_of(run.folder / "values.npz", f"{method}/{layer}")
            found["adcc_of_means"] = resampled(values, _adcc_of_means, record["seed"])
    return record


def _adcc_of_means(values: Mapping[str, np.ndarray]) -> float:
    coherency, complexity, drop = (np.nanmean(values[name]) for name in _PARTS)
    parts = (coherency, 1 - complexity, 1 - drop / 100)
    if min(parts) <= 0:
        return 0.0
    return float(3 / sum(1 / part for part in parts))
