"""Do two networks name the same classes in the same order?

Sim 1 ... Sim 5, Table 1 of the distillation paper. python -m eval.agreement --model
cifar10_resnet56 --student cifar10_resnet20 --data cifar10_test1000 --output runs/sim
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from eval import data as datasets
from eval import models
from eval.command import command
from eval.parallel import in_batches, over_devices, replicate
from eval.record import record, save, table
from eval.settings import check_folder, claim, plain
from jaxcam import metrics

NAME = "agreement"
LAYER = "logits"


@dataclasses.dataclass(frozen=True)
class AgreementSettings:
    """Which networks to compare.

    Args:
        output: folder of the run.
        model: the teacher, as for the other protocols.
        student: the other network.
        data: as for the other protocols.
        split: of the data.
        top: up to which N.
        n: photos, drawn by seed.
        seed: of the draw and of the bootstrap.
        batch: photos a device at a time.
        root: folder of the named data sets and nets.
    """

    output: Path
    model: str = "cifar10_resnet56"
    student: str = "cifar10_resnet20"
    data: str = "cifar10_test1000"
    split: str = ""
    top: int = 5
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    seed: int = 0
    batch: int = 64
    root: Path = datasets.SHARED


def predict(name: str, settings: AgreementSettings) -> tuple[datasets.Photos, np.ndarray]:
    """The photos at a network's input size, and its logits `[N, classes]`."""
    network = models.load(name, settings.root)
    photos = datasets.load(
        settings.data, network.size, settings.n, settings.seed, settings.root, settings.split
    )
    function = over_devices(
        lambda params, part: network.apply(params, network.prepare(part["image"]))
    )
    params, images = replicate(network.params), {"image": photos.images}
    return photos, in_batches(function, params, images, settings.batch)


def run(settings: AgreementSettings) -> dict[str, Any]:
    """Carries the protocol out.

    Returns its record, which has the values as `STUDENT/logits/sim_N`, of a file its stem.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: `top` out of range; networks of different numbers of classes; a folder that
            holds another run.
    """
    start = time.time()
    check_folder(settings, NAME)
    photos, teacher = predict(settings.model, settings)
    _, student = predict(settings.student, settings)
    found = np.asarray(metrics.sim(teacher, student, n=settings.top))
    name = Path(settings.student).stem  # keys are METHOD/LAYER/METRIC: a path would be taken apart
    values = {f"{name}/{LAYER}/sim_{n + 1}": found[:, n] for n in range(settings.top)}
    hits = {
        "teacher": teacher.argmax(1) == photos.labels,
        "student": student.argmax(1) == photos.labels,
    }
    info = {"ids": np.array(photos.ids), "labels": photos.labels, "predicted": teacher.argmax(1)}
    info |= {"student_predicted": student.argmax(1), "accuracy": np.array(hits["teacher"].mean())}
    made = record(plain(settings, NAME), values, info, start)
    made["student_accuracy"] = float(hits["student"].mean())
    claim(settings, NAME)
    save(settings.output, made, info | values)
    return made


def main(settings: AgreementSettings) -> None:
    """Sim 1 ... Sim N."""
    print(table(run(settings), [f"sim_{n + 1}" for n in range(settings.top)]))


if __name__ == "__main__":
    command(main, AgreementSettings, __doc__)
