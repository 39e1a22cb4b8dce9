"""What a run is asked to do, and the folder that it claims."""

import dataclasses
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from eval import data as datasets
from eval.parts import wait
from eval.record import write_json

_FILE, _PARTS = "settings.json", "parts"
PREDICTIONS = "predictions"  # the part that is not a method's
BEFORE = "before"  # in a field's metadata: what runs did before there was that setting
# What does not change a method's values.
_FREE = frozenset({"output", "root", "methods", "batch", "chunk", "maps", "distributed"})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run explains.

    Args:
        output: folder of the run.
        model: squeezenet, cifar10_resnet20, cifar10_resnet56, tiny20 (bundled), or another that
            jaxcam.models loads.
        data: tiny20, imagenet100, cifar10_test1000, skimage; a folder or zip of photos; a folder
            that TFDS prepared, or a TFDS name such as voc/2012.
        split: of the data, such as validation or test[:50%]; none means tiny20's validation photos,
            and all photos of any other set.
        explainer: another network whose maps are measured on `model`: a student that was distilled
            from it.
        methods: names of the table in eval/methods.py.
        options: of methods, as METHOD.OPTION=VALUE: rise.num_masks=500.
        layers: layers to explain; none means the ends of the model's stages.
        n: photos, drawn by seed.
        seed: of the draw and of the bootstrap.
        batch: photos a device at a time.
        target: the explained class: the predicted one or the photo's own.
        maps: folder of a finished run of eval.explain with the same settings, whose maps are
            measured instead of new ones: costly maps are made once.
        root: folder of the named data sets and nets.
        distributed: whether this is one of several processes, which share the photos and the folder
            `output`. On clusters that JAX knows they find each other; elsewhere set
            JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """

    output: Path
    model: str = "tiny20"
    data: str = "tiny20"
    split: str = ""
    explainer: str = ""
    methods: tuple[str, ...] = (
        "grad_cam",
        "grad_cam_plus_plus",
        "relevance_cam",
        "noise",
        "centre",
    )
    options: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    seed: int = 0
    batch: int = 16
    target: Literal["predicted", "label"] = "predicted"
    maps: Path | None = None
    root: Path = datasets.SHARED
    distributed: bool = False


def plain(settings: Any, protocol: str) -> dict[str, Any]:
    """Settings, of a dataclass, as JSON holds them, with the protocol's name."""
    return {
        "protocol": protocol,
        **json.loads(json.dumps(dataclasses.asdict(settings), default=str)),
    }


def check_folder(settings: Any, protocol: str) -> None:
    """Whether `settings.output` is a folder without a run, or one of a run with the same settings.

    Methods may differ, and options of methods that only one of the two names. Another run that has
    no value yet, because it was refused or stopped early, does not count. Changes nothing.

    Raises:
        ValueError: the folder holds another run.
    """
    if _has_values(settings.output) and (different := _different(settings, protocol)):
        raise ValueError(f"output: {settings.output} holds another run: {different}")


def _different(settings: Any, protocol: str) -> str:
    """What distinguishes the run in the folder from this one; nothing if there is none."""
    path, ours = settings.output / _FILE, plain(settings, protocol)
    if not path.exists():
        return ""
    # A setting that did not exist then had the value that is its default now, unless its field says
    # otherwise.
    usual = {
        field.name: field.metadata.get(BEFORE, field.default)
        for field in dataclasses.fields(settings)
    }
    theirs = {**usual, **json.loads(path.read_text())}
    both = set(ours.get("methods", ())) & set(theirs.get("methods", ()))
    ours, theirs = ({**each, "options": options_of(each, both)} for each in (ours, theirs))
    different = [key for key in ours if key not in _FREE and ours[key] != theirs[key]]
    return ", ".join(f"{key} {theirs[key]!r} there, {ours[key]!r} here" for key in different)


def options_of(settings: Mapping[str, Any], methods: Collection[str]) -> list[str]:
    """The options of some methods, in an order of their own. `settings` are as JSON holds them."""
    return sorted(
        option for option in settings.get("options", ()) if option.partition(".")[0] in methods
    )


def _with_earlier(ours: dict[str, Any], path: Path) -> dict[str, Any]:
    """Settings with the methods, and options, of which the run has values from before."""
    theirs = json.loads(path.read_text())
    if "methods" not in ours:
        return ours
    begun = {each.stem for each in (path.parent / _PARTS).glob("*")}  # NAME.npz, or NAME/ under way
    more = [name for name in theirs["methods"] if name in begun and name not in ours["methods"]]
    return {
        **ours,
        "methods": ours["methods"] + more,
        "options": ours["options"] + options_of(theirs, more),
    }


def _has_values(folder: Path) -> bool:
    """Whether a run has a value: a group of photos explained by a method, or all it was to make."""
    groups = [
        file.relative_to(folder / _PARTS).parts[0] for file in (folder / _PARTS).rglob("*.npz")
    ]
    made = [file for file in folder.glob("*.json") if file.name != _FILE]
    return bool(made) or any(Path(name).stem != PREDICTIONS for name in groups)


def claim(settings: Any, protocol: str) -> None:
    """Takes the folder `settings.output`, and removes predictions of a run without values.

    Process 0 does it for all; the others return when it is done.

    Raises:
        ValueError: the folder holds another run.
    """
    check_folder(settings, protocol)
    if jax.process_index() == 0:
        held, path = plain(settings, protocol), settings.output / _FILE
        if _different(settings, protocol):
            shutil.rmtree(settings.output / _PARTS, ignore_errors=True)
        elif path.exists():
            held = _with_earlier(held, path)
        settings.output.mkdir(parents=True, exist_ok=True)
        write_json(path, held)
    wait(lambda: (settings.output / _FILE).exists() and not _different(settings, protocol))


def confirm(settings: Any, protocol: str) -> None:
    """Whether the folder `settings.output` is still this run's, as one without values can be taken.

    Raises:
        ValueError: another run has taken it.
    """
    if different := _different(settings, protocol):
        raise ValueError(f"output: another run has taken {settings.output} meanwhile: {different}")


def part(folder: Path, name: str) -> Path:
    """The file of a run's folder that holds a method's values, or its `PREDICTIONS`."""
    return folder / _PARTS / f"{name}.npz"
