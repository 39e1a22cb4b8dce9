"""Seconds a map of the methods that papers time: RISE, LIME, MASK, Score-CAM, and what is quick.

    python -m eval seconds --model resnet50.tv_in1k --output runs/seconds

At the numbers of samples that the papers use: RISE with 8000 masks, LIME with 1000 samples of
quickshift's segments, MASK with 300 steps, Score-CAM with every channel of the last stage. A map of
one photo at a time, the median of some, without compilation; the superpixels of LIME count. Kang et
al. have about 9 s for LIME and 5 s for RISE, and do not state their counts; Relevance-CAM's
supplement has 16.67 s for Score-CAM and 0.031 s for Relevance-CAM. All of them are of a ResNet-50
on a GPU: beside another network on another machine they say of which order a method is, no more.
"""

import dataclasses
import inspect
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxcam
from eval.costs.peers.process import processor
from eval.run.record import write_json
from eval.subjects import data, methods, networks
from jaxcam import classifier
from jaxcam._ground import files
from jaxcam._ground.text import counted
from jaxcam.classifier import Classifier
from jaxcam.methods import WHOLE

# Seconds a map, by their papers.
THEIRS = {"rise": 5.0, "lime": 9.0, "score_cam": 16.67, "relevance_cam": 0.031}
NOTE = "The papers' numbers are of a ResNet-50 on a GPU: of another network, and another machine."
# The keyword of a method's samples, and what they are.
_COUNTED = {
    "rise": ("num_masks", "masks"),
    "lime": ("num_samples", "samples"),
    "mask": ("steps", "steps"),
}


@dataclasses.dataclass(frozen=True)
class SecondsSettings:
    """What is timed.

    Args:
        output: folder of `seconds.json` and `seconds.md`; none writes nothing.
        model: as of every protocol.
        data: as of every protocol.
        methods: names of the table in eval/subjects/methods.py.
        options: of the methods, as of every protocol.
        repeats: photos that are timed, after one that is not.
        root: folder of the named data sets and nets; none means that of the variable JAXCAM_DATA.
    """

    output: Path | None = None
    model: str = "tiny20"
    data: str = "skimage"
    methods: tuple[str, ...] = ("grad_cam", "relevance_cam", "score_cam", "rise", "lime", "mask")
    options: tuple[str, ...] = ("rise.num_masks=8000", "lime.num_samples=1000", "mask.steps=300")
    repeats: int = 3
    root: Path | None = None


class Timed(NamedTuple):
    """A method's seconds a map, medians, and what it is made of."""

    seconds: float
    processor: float  # of all cores, what a shared machine leaves as it is
    made_of: str = ""


def seconds(settings: SecondsSettings, network: Classifier) -> dict[str, Timed]:
    """What each method takes.

    Raises:
        FileNotFoundError: no such data.
        ValueError: an unknown method, or an option of none that is timed.
    """
    chosen = [option for option in settings.options if option.partition(".")[0] in settings.methods]
    rows = methods.find(settings.methods, chosen)
    photos = data.load(settings.data, network.input_size, 2, 0, settings.root).images
    found = {}
    for name, row in rows.items():
        call = _explained(row, network)
        times = []
        busy = []
        for number in range(settings.repeats + 1):
            start = time.perf_counter()
            used = time.process_time()
            jax.block_until_ready(call(photos[number % len(photos)][None]))
            times.append(time.perf_counter() - start)
            busy.append(time.process_time() - used)
        made_of = _made_of(name, row, network, photos[:1])
        # the first compiles
        found[name] = Timed(statistics.median(times[1:]), statistics.median(busy[1:]), made_of)
    return found


def _made_of(name: str, row: Any, network: Classifier, photo: np.ndarray) -> str:
    """How many passes of the network there are in a map, in words."""
    if name == "score_cam":
        forward = network.forward(network.params)
        layers = jaxcam.layers(forward, network.prepare(photo))
        return counted(layers[network.stages[-1]].shape[-1], "channel")
    if name not in _COUNTED:
        return ""
    keyword, things = _COUNTED[name]
    count = getattr(row.function, "keywords", {}).get(keyword)
    if count is None and keyword in (usual := inspect.signature(row.function).parameters):
        count = usual[keyword].default
    if count is None:
        return ""
    return f"{count} {things}"


def _explained(row: Any, network: Classifier) -> Callable[[np.ndarray], Any]:
    layers = network.stages[-1:] if row.layered else (WHOLE,)

    def explain(photos: Any) -> Any:
        images = network.prepare(photos)
        forward = network.forward(network.params)
        targets = forward(images).argmax(1)
        return classifier.explain(row, forward, images, targets, layers)

    if row.jit:
        return jax.jit(explain)
    return explain


def text(settings: SecondsSettings, network: Classifier, found: Mapping[str, Timed]) -> str:
    """The network, the machine, and ours beside the papers'."""
    height, width = network.input_size
    load = os.getloadavg()[0]
    lines = [
        f"{settings.model} at {height} x {width} on one {jax.local_devices()[0].device_kind} "
        f"({processor()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, load "
        f"{load:.1f}), a photo at a time. {NOTE}",
        "",
        "| method | made of | seconds a map | processor seconds | a paper's |",
        "|---|---|---|---|---|",
    ]
    for name, timed in found.items():
        theirs = f"{THEIRS[name]:g}" if name in THEIRS else ""
        cells = [
            methods.title(name),
            timed.made_of,
            f"{timed.seconds:.3g}",
            f"{timed.processor:.3g}",
        ]
        lines.append(f"| {' | '.join([*cells, theirs])} |")
    return "\n".join(lines)


def main(settings: SecondsSettings) -> None:
    """Times, prints and keeps.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: as `seconds`.
    """
    network = networks.load(settings.model, settings.root)
    found = seconds(settings, network)
    shown = text(settings, network, found)
    print(shown)
    if settings.output is None:
        return
    settings.output.mkdir(parents=True, exist_ok=True)
    about = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    about |= {"output": None, "root": None}  # places of one machine
    content = {"command": _command(), "settings": about, "about": shown.partition("\n")[0]}
    for name in ("seconds", "processor", "made_of"):
        content[name] = {method: getattr(timed, name) for method, timed in found.items()}
    write_json(settings.output / "seconds.json", content)
    files.write_text(settings.output / "seconds.md", f"`{_command()}`\n\n{shown}\n")


def _command() -> str:
    return shlex.join(["python", "-m", "eval", "seconds", *sys.argv[1:]])
