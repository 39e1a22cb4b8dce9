"""What a run explains: the photos that count, their classes and boxes, found by all processes."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from eval.run import parts
from eval.run.folder import PHOTOS, PREDICTIONS
from eval.run.parts import Compute, Values
from eval.run.plan import Plan
from eval.run.record import accuracy
from eval.subjects.data import UNKNOWN, Drawn, Photos
from jaxcam import loops
from jaxcam._ground.devices import in_batches, over_devices
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted

_GO_ON = "the same command goes on after it"


@dataclass(frozen=True)
class Cases:
    """The photos of a run.

    Args:
        photos: those that count.
        arrays: `[N, ...]` of each: `target`, `runner_up`, and what else the protocol knows.
        about: what the record says of them.
        unreadable: those that were left out, a name and a reason each.
    """

    photos: Photos
    arrays: Values
    about: Values
    unreadable: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.photos)

    def batch(self, group: slice) -> Values:
        """The images and arrays of some photos, which are decoded now."""
        batch = {name: value[group] for name, value in self.arrays.items()}
        batch["image"] = self.photos.read(np.arange(group.start, group.stop))
        return batch


def find(plan: Plan, params: Any) -> Cases:
    """The photos that count, in a folder that is this run's.

    Args:
        plan: of the run.
        params: the network's, on every device.

    Raises:
        ValueError: data without the boxes or labels that are needed; no photo that counts.
    """
    photos, unreadable, predictions = _seen(plan, params)
    predicted = predictions["predicted"]
    share = accuracy(predicted, photos.labels)
    keep = np.arange(len(photos))
    if plan.protocol.correct_only:
        keep = np.flatnonzero(predicted == photos.labels)[: plan.settings.n]
    if not len(keep):
        got = f"{counted(len(photos), 'photo')}, none of which the network classifies correctly"
        raise ArgumentError("data", got, "some that it does")
    photos = photos.take(keep)
    target = predicted[keep]
    if plan.settings.target == "label":
        target = photos.labels
    if plan.network.num_logits == 1:
        target = np.zeros_like(target)  # the only logit
    arrays = {
        "target": target.astype(np.int32),
        "runner_up": predictions["runner_up"][keep].astype(np.int32),
        **photos.extra,
    }
    if photos.boxes is not None:
        arrays["boxes"] = photos.boxes
    if plan.maps is not None:
        arrays["row"] = plan.maps.rows_of(photos.ids)
    about = {
        "ids": np.array(photos.ids),
        "labels": photos.labels,
        "predicted": predicted[keep],
        "targets": target,
        "accuracy": np.array(share),
    }
    return Cases(photos, arrays, about, unreadable)


def keep_part(plan: Plan, name: str, count: int, compute: Compute | None, extra: Values) -> None:
    """`parts.store`, unless the folder has become another run's while a group was computed."""
    if compute is not None:
        compute = _confirmed(plan, compute)
    step = plan.settings.batch * jax.local_device_count()
    parts.store(plan.folder.part(name), count, step, compute, extra)


def _confirmed(plan: Plan, compute: Compute) -> Compute:
    def confirmed(groups: Iterable[slice]) -> Iterator[Values]:
        for values in compute(groups):
            plan.folder.confirm()
            yield values
            # asked for the next group: this one is stored
            plan.notice.check(f"stopped after a group of photos; {_GO_ON}")

    return confirmed


class _Seen(NamedTuple):
    """Photos that can be read, which cannot and why, and the two highest classes of the former."""

    photos: Photos
    unreadable: tuple[str, ...]
    predictions: Values


def _seen(plan: Plan, params: Any) -> _Seen:
    """The drawn photos; of a run that counts correct ones as many as it takes, if there are.

    Each further draw is larger and looked at whole: prediction costs little beside explanation.
    """
    drawn = plan.photos
    while True:
        readable, unreadable = _photos(plan, drawn)
        photos = plan.protocol.arrange(plan.settings, readable)
        suffix = _suffix(plan, drawn)
        predictions = _predictions(plan, params, photos, f"{PREDICTIONS}{suffix}")
        found = _Seen(photos, unreadable, predictions)
        correct = int((predictions["predicted"] == photos.labels).sum())
        counts = getattr(plan.settings, "count", "drawn") == "correct"
        if not counts or correct >= plan.settings.n or not len(drawn.more):
            return found
        # By the share that is correct, and some for luck; twice as many where none is.
        enough = 1.05 * len(drawn) * plan.settings.n / correct if correct else 2 * len(drawn)
        drawn = drawn.grown(math.ceil(enough) + plan.settings.batch)


def _suffix(plan: Plan, drawn: Drawn) -> str:
    """Of the names of what is known of a larger draw."""
    if len(drawn) == len(plan.photos):
        return ""
    return f"-{len(drawn)}"


def _photos(plan: Plan, drawn: Drawn) -> tuple[Photos, tuple[str, ...]]:
    """The drawn photos that can be read, and those that cannot, a name and a reason each.

    What is known of them is a part of the folder.
    """

    def describe(groups: Iterable[slice]) -> Iterator[Values]:
        for group in groups:
            yield drawn.describe(np.arange(group.start, group.stop))

    name = f"{PHOTOS}{_suffix(plan, drawn)}"
    keep_part(plan, name, len(drawn), describe, {})
    known = parts.load(plan.folder.part(name))
    unreadable = tuple(map(str, filter(None, known.get("unreadable", ()))))
    _check_unreadable(plan, len(drawn), unreadable)
    photos = drawn.photos(known)
    _check(plan, photos)
    return photos, unreadable


def _check_unreadable(plan: Plan, drawn: int, unreadable: tuple[str, ...]) -> None:
    limit = plan.settings.unreadable
    if len(unreadable) > limit or len(unreadable) == drawn:
        raise ValueError(
            f"data: {len(unreadable)} of {counted(drawn, 'photo')} cannot be read, expected at "
            f"most {limit}, as --unreadable says: {'; '.join(unreadable[: limit + 1])}"
        )


def _check(plan: Plan, photos: Photos) -> None:
    name = plan.settings.data
    if plan.protocol.boxes and photos.boxes is None:
        got = f"{name}, which has no boxes"
        expected = "a boxes.csv in the folder of the photos (docs/measuring.md), or tiny20"
        raise ArgumentError("data", got, expected)
    labelled = plan.settings.target == "label" or plan.protocol.correct_only
    if labelled and (photos.labels == UNKNOWN).any():
        got = f"{name}, which has photos without a class"
        raise ArgumentError("data", got, "them in a subfolder for each class")
    classes = max(plan.network.num_logits, 2)  # one logit tells two classes apart
    most = photos.labels.max()
    if most >= classes:
        expected = f"0 to {classes - 1}, as {plan.network.name}"
        raise ArgumentError("data", f"{name}, which has class {most}", expected)


def _predictions(plan: Plan, params: Any, photos: Photos, name: str) -> Values:
    """The classes of the two highest logits, `[N]` each; a part of the folder like a method's."""
    network = plan.network
    apply = loops.quick(network.apply)
    predict = over_devices(lambda params, part: apply(params, network.prepare(part["image"])))

    def images(group: slice) -> Values:
        return {"image": photos.read(np.arange(group.start, group.stop))}

    def compute(groups: Iterable[slice]) -> Iterator[Values]:
        for batch in parts.ahead(images, groups):
            yield _two_highest(in_batches(predict, params, batch, plan.settings.batch))

    keep_part(plan, name, len(photos), compute, {})
    return parts.load(plan.folder.part(name))


def _two_highest(logits: np.ndarray) -> Values:
    if logits.shape[1] == 1:
        # A yes or no: classes 1 and 0, of which the one logit speaks for the former.
        yes = logits[:, 0] > 0
        return {"predicted": yes.astype(int), "runner_up": 1 - yes}
    order = np.argsort(-logits, axis=1, kind="stable")
    return {"predicted": order[:, 0], "runner_up": order[:, 1]}
