"""Seconds a map of the methods that papers time: RISE, LIME, MASK, Score-CAM, and what is quick.

    python -m eval seconds --model resnet50.tv_in1k --output runs/seconds

At the numbers of samples that the papers use: RISE with 8000 masks, LIME with 1000 samples of
quickshift's segments, MASK with 300 steps, Score-CAM with every channel of the last stage. A map of
one photo at a time, the median of some, without compilation; the superpixels of LIME count. Kang et
al. have about 9 s for LIME and 5 s for RISE, Relevance-CAM's supplement 16.67 s for Score-CAM and
0.031 s for Relevance-CAM, each on a GPU and a ResNet-50.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eval.run.record import write_json
from eval.subjects import data, methods, networks
from jaxcam import classifier
from jaxcam.classifier import Classifier
from jaxcam.methods import WHOLE

# Seconds a map, by their papers.
THEIRS = {"rise": 5.0, "lime": 9.0, "score_cam": 16.67, "relevance_cam": 0.031}


@dataclasses.dataclass(frozen=True)
class SecondsSettings:
    """What is timed.

    Args:
        output: folder of `seconds.json`; none writes nothing.
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


def seconds(settings: SecondsSettings) -> dict[str, float]:
    """The median seconds a map, by method.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: an unknown method, or an option of none that is timed.
    """
    network = networks.load(settings.model, settings.root)
    chosen = [option for option in settings.options if option.partition(".")[0] in settings.methods]
    rows = methods.find(settings.methods, chosen)
    photos = data.load(settings.data, network.input_size, 2, 0, settings.root).images
    found = {}
    for name, row in rows.items():
        call = _explained(row, network)
        times = []
        for number in range(settings.repeats + 1):
            start = time.perf_counter()
            jax.block_until_ready(call(photos[number % len(photos)][None]))
            times.append(time.perf_counter() - start)
        found[name] = statistics.median(times[1:])  # the first compiles
    return found


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


def table(found: dict[str, float]) -> str:
    """Ours beside the papers'."""
    lines = ["| method | seconds a map | the paper's |", "|---|---|---|"]
    for name, value in found.items():
        theirs = f"{THEIRS[name]:g}" if name in THEIRS else ""
        lines.append(f"| {methods.title(name)} | {value:.3g} | {theirs} |")
    return "\n".join(lines)


def main(settings: SecondsSettings) -> None:
    """Times, prints and keeps."""
    found = seconds(settings)
    device = jax.local_devices()[0].device_kind
    print(f"{settings.model} on one {device}, a photo at a time\n\n{table(found)}")
    if settings.output is not None:
        settings.output.mkdir(parents=True, exist_ok=True)
        about = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
        write_json(
            settings.output / "seconds.json",
            {"settings": about, "device": device, "seconds": found},
        )
