"""Do two networks name the same classes in the same order?

Sim 1 ... Sim 5, Table 1 of the distillation paper. python -m eval agreement --model
cifar10_resnet56 --student cifar10_resnet20 --data cifar10_test1000 --output runs/sim
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from eval.run import folder
from eval.run.parts import GROUP, ahead
from eval.run.protocol import Metric
from eval.run.record import accuracy, known, record, save_npz, table, write_json
from eval.subjects import data, networks
from jaxcam import metrics
from jaxcam._ground.devices import in_batches, over_devices, replicate

NAME = "agreement"
LAYER = "logits"
MOST = 100  # of N, for which reports have a title
METRICS = {f"sim_{n}": Metric(f"Sim {n}", 1) for n in range(1, MOST + 1)}


@dataclasses.dataclass(frozen=True)
class AgreementSettings:
    """Which networks to compare.

    Args:
        output: folder of the run.
        model: the teacher, as for the other protocols.
        student: the other network.
        data: as for the other protocols.
        split: of the data.
        crop: as for the other protocols.
        top: up to which N.
        n: photos, drawn by seed.
        seed: of the draw and of the bootstrap.
        batch: photos a device at a time.
        root: folder of the named data sets and nets; none means that of the variable JAXCAM_DATA.
    """

    output: Path
    model: str = "cifar10_resnet56"
    student: str = "cifar10_resnet20"
    data: str = "cifar10_test1000"
    split: str = ""
    crop: float = 0.0
    top: int = 5
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    seed: int = 0
    batch: int = 64
    root: Path | None = None


def predict(name: str, settings: AgreementSettings) -> tuple[data.Photos, np.ndarray]:
    """The photos at a network's input size, and its logits `[N, classes]`."""
    network = networks.load(name, settings.root)
    photos = data.load(
        settings.data,
        network.input_size,
        settings.n,
        settings.seed,
        settings.root,
        settings.split,
        settings.crop,
    )
    function = over_devices(
        lambda params, part: network.apply(params, network.prepare(part["image"]))
    )
    params = replicate(network.params)
    step = settings.batch * jax.local_device_count()
    group = step * max(1, GROUP // step)
    rows = np.split(np.arange(len(photos)), range(group, len(photos), group))
    logits = []
    for images in ahead(photos.read, rows):
        logits.append(in_batches(function, params, {"image": images}, settings.batch))
    return photos, np.concatenate(logits)


def run(settings: AgreementSettings) -> dict[str, Any]:
    """Carries the protocol out.

    Returns its record, which has the values as `STUDENT/logits/sim_N`, of a file its stem.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: `top` out of range; networks of different numbers of classes; a folder that
            holds another run.
    """
    start = time.time()
    ours = folder.of(settings, NAME)
    ours.check()
    photos, teacher = predict(settings.model, settings)
    _, student = predict(settings.student, settings)
    found = np.asarray(metrics.sim(teacher, student, n=settings.top))
    name = Path(settings.student).stem  # keys are METHOD/LAYER/METRIC: a path would be taken apart
    values = {}
    for n in range(settings.top):
        values[f"{name}/{LAYER}/sim_{n + 1}"] = found[:, n]
    about = {
        "ids": np.array(photos.ids),
        "labels": photos.labels,
        "predicted": teacher.argmax(1),
        "student_predicted": student.argmax(1),
        "accuracy": np.array(accuracy(teacher.argmax(1), photos.labels)),
    }
    made = record(ours.settings, values, about, start)
    made["student_accuracy"] = known(accuracy(student.argmax(1), photos.labels))
    with ours.held():
        ours.claim()
        save_npz(settings.output / "values.npz", (about | values).items())
        write_json(settings.output / f"{NAME}.json", made)
    return made


def main(settings: AgreementSettings) -> None:
    """Sim 1 ... Sim N."""
    print(table(run(settings), [f"sim_{n + 1}" for n in range(settings.top)]))
