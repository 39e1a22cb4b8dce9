"""What a run is asked to do."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxcam import classifier
from jaxcam._ground.errors import check_whole

FILES = "files"  # in what JSON holds: digests of the files of one's own models
BEFORE = "before"  # in a field's metadata: what runs did before there was that setting


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run explains.

    Args:
        output: folder of the run.
        model: squeezenet, cifar10_resnet20, cifar10_resnet56, tiny20 (bundled), another that
            jaxcam.models loads, or FILE.py:function, which returns your own (docs/own_model.md).
        data: skimage (two photos that come with scikit-image), tiny20, imagenet100,
            cifar10_test1000; a folder or zip of photos; a folder that TFDS prepared, or a TFDS name
            such as voc/2012.
        split: of the data, such as validation or test[:50%]; none means tiny20's validation photos,
            and all photos of any other set.
        crop: what is shown of a photo: 0, all of it, stretched to the network's input; else the
            middle, this part of the shorter side (0.875 is Resize(256) and CenterCrop(224)).
        explainer: another network whose maps are measured on `model`: a student that was distilled
            from it.
        methods: names of the table in eval/subjects/methods.py.
        options: of methods, as METHOD.OPTION=VALUE: rise.num_masks=500.
        layers: layers to explain; none means the ends of the model's stages.
        n: photos, drawn by seed.
        unreadable: photos that may be unreadable, which are left out and named; more end the run.
        seed: of the draw and of the bootstrap.
        batch: photos a device at a time.
        target: the explained class: the predicted one or the photo's own.
        place: how a layer's map becomes one of the photo: stretched over it, as published codes do,
            or each cell in the middle of what it sees (jaxcam.layers(...).centers).
        maps: folder of a finished run of `python -m eval explain` with the same settings, whose
            maps are measured instead of new ones: costly maps are made once.
        root: folder of the named data sets and nets; none means that of the variable JAXCAM_DATA.
        distributed: whether this is one of several processes, which share the photos and the folder
            `output`. On clusters that JAX knows they find each other; elsewhere set
            JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """

    output: Path
    model: str = "tiny20"
    data: str = "skimage"
    split: str = ""
    crop: float = 0.0
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
    unreadable: int = 10
    seed: int = 0
    batch: int = 16
    target: Literal["predicted", "label"] = "predicted"
    place: Literal["stretch", "centers"] = "stretch"
    maps: Path | None = None
    root: Path | None = None
    distributed: bool = False


# Of all programs' settings, what they call numbers of which so many is the least.
_LEAST = {
    **dict.fromkeys(("n", "batch", "chunk", "samples", "steps", "side", "top", "rounds"), 1),
    **dict.fromkeys(("seed", "unreadable", "photos"), 0),
}


def check_numbers(settings: Any) -> None:
    """ArgumentError for a number of a program's settings that is too small."""
    for name, least in _LEAST.items():
        value = getattr(settings, name, None)
        if isinstance(value, int):
            check_whole(name, value, least)


def plain(settings: Any, protocol: str, version: int = 1) -> dict[str, Any]:
    """Settings, of a dataclass, as JSON holds them.

    With the protocol's name, and its version if its values once meant something else.
    """
    fields = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    held = {"protocol": protocol, **fields}
    if version != 1:
        held["version"] = version
    if digests := _digests(fields):
        held[FILES] = digests
    return held


def _digests(fields: Mapping[str, Any]) -> dict[str, str]:
    """Of the files of one's own models, by setting: a file that has changed is another network."""
    found = {}
    for name in ("model", "explainer"):
        path = classifier.own_file(fields.get(name) or "")
        if path is not None and path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def options_of(settings: Mapping[str, Any], methods: Collection[str]) -> list[str]:
    """The options of some methods, in an order of their own. `settings` are as JSON holds them."""
    chosen = []
    for option in settings.get("options", ()):
        if option.partition(".")[0] in methods:
            chosen.append(option)
    return sorted(chosen)
