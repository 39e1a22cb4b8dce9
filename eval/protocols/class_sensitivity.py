r"""Does a method explain two classes of one photo by different places?

Figures 6 and 7 of Relevance-CAM, measured. `--pairs` sets two photos of different classes side by
side, each at half its width, and explains both classes: each has its own box (the photo's, or its
half of the image where there are none). `--objects` takes the photos of a set that have boxes of
two classes, as many of VOC's have: each is explained for its own class and that of its largest
object of another class, each with its own boxes. Otherwise every photo is explained for the two
classes that score highest, and the energies in its box, where it has one, tell how the second class
differs.

    python -m eval class_sensitivity --model tiny20 --data tiny20 --pairs \
        --output runs/class_sensitivity
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from eval.run.parts import Values
from eval.run.plan import Plan
from eval.run.protocol import Change, Changes, Explained, Metric, Protocol
from eval.run.settings import Settings
from eval.subjects.data import Photos
from jaxcam import metrics
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted
from jaxcam.classifier import Classifier
from jaxcam.datasets import UNKNOWN


@dataclasses.dataclass(frozen=True)
class ClassSettings(Settings):
    """What a run explains.

    Args:
        pairs: whether two photos side by side make an image of two classes.
        objects: whether photos with boxes of two classes are explained for these; no others are.
    """

    pairs: bool = False
    objects: bool = False

    @property
    def boxed(self) -> bool:
        """Whether each class has a box of its own."""
        return self.pairs or self.objects


def settle(settings: ClassSettings, network: Classifier) -> ClassSettings:
    """Pairs and objects are explained for their own classes, other photos for the predicted one.

    Raises:
        ValueError: a network of one logit; pairs and objects at once.
    """
    if settings.pairs and settings.objects:
        raise ArgumentError("objects", "True with pairs", "one of both")
    if network.num_logits == 1:
        raise ArgumentError(
            "model", f"{network.name}, which has one logit", "at least two: a second class"
        )
    if settings.boxed:
        return dataclasses.replace(settings, target="label")
    return dataclasses.replace(settings, target="predicted")


def arrange(settings: ClassSettings, photos: Photos) -> Photos:
    """The photos, pairs of them, or those with boxes of two classes.

    Raises:
        ValueError: objects of photos none of which has boxes of two classes; as `side_by_side`.
    """
    if settings.pairs:
        return side_by_side(photos)
    if not settings.objects:
        return photos
    if "second_target" not in photos.extra:
        got = f"{counted(len(photos), 'photo')} without boxes of two classes"
        raise ArgumentError("data", got, "some that have, such as voc/2012")
    return photos.take(np.flatnonzero(photos.extra["second_target"] != UNKNOWN))


def side_by_side(photos: Photos) -> Photos:
    """Every photo beside the next one of another class, each at half its width.

    Returns:
        The images with the left photo's class and boxes; the right photo's as `second_target` and
        `second_boxes`.

    Raises:
        ValueError: all photos are of one class.
    """
    right = _partners(photos.labels)
    height, width = photos.read(np.arange(1)).shape[1:3]
    half = width // 2
    boxes = _half_boxes(photos, height, width)
    names = []
    for left, partner in zip(photos.ids, right, strict=True):
        names.append(f"{left} {photos.ids[partner]}")

    def read(rows: np.ndarray) -> np.ndarray:
        images = np.zeros((len(rows), height, width, 3), np.uint8)
        images[:, :, :half] = _halved(photos.read(rows))
        images[:, :, half : 2 * half] = _halved(photos.read(right[rows]))
        return images

    second = {
        "second_target": photos.labels[right].astype(np.int32),
        "second_boxes": boxes[right] + np.array([half, 0, half, 0], np.float32),
    }
    return Photos(tuple(names), photos.labels, boxes, read, second)


def _halved(images: np.ndarray) -> np.ndarray:
    """Images `[k, H, W, 3]` at half their width, two columns to their mean."""
    count, height, width, _ = images.shape
    half = width // 2
    columns = images[:, :, : 2 * half].reshape(count, height, half, 2, 3)
    return columns.mean(3).round().astype(np.uint8)


def _partners(labels: np.ndarray) -> np.ndarray:
    """For each photo the next one, in turn, of another class."""
    if (labels == labels[0]).all():
        raise ArgumentError(
            "data",
            f"{counted(len(labels), 'photo')} of one class",
            "two classes to set side by side",
        )
    partners = []
    for number, label in enumerate(labels):
        ahead = np.flatnonzero(np.roll(labels, -number) != label)[0]
        partners.append((number + ahead) % len(labels))
    return np.array(partners)


def _half_boxes(photos: Photos, height: int, width: int) -> np.ndarray:
    """Boxes `[N, K, 4]` of the photos at half their width; the whole half where they have none."""
    half = width // 2
    if photos.boxes is None:
        whole = np.array([0, 0, half - 1, height - 1], np.float32)
        return np.broadcast_to(whole, (len(photos), 1, 4)).copy()
    resized = metrics.resize_boxes(photos.boxes, (height, width), (height, half))
    return np.asarray(resized, np.float32)


def other_class(plan: Plan) -> Changes:
    """The same photos explained for their second class."""
    second = "runner_up"
    if plan.settings.boxed:
        second = "second_target"

    def changes(batch: Values, first: Values) -> Iterator[Change]:
        del first
        yield Change(arrays={"target": batch[second]})

    return changes


def measure(case: Explained) -> dict[str, jax.Array]:
    """What distinguishes the maps of two classes."""
    if case.settings.boxed:
        return _of_two_boxed(case)
    return _of_two_highest(case)


def _of_two_boxed(case: Explained) -> dict[str, jax.Array]:
    """Correlation of two classes' maps, their energy in own and other box, and own over both."""
    found = metrics.class_sensitivity(case.maps, case.again, case.boxes, case.extra["second_boxes"])
    return {**found._asdict(), "own_share": found.own / (found.own + found.other)}


def _of_two_highest(case: Explained) -> dict[str, jax.Array]:
    """Correlation of the two classes' maps, and the energy of each in the photo's box."""
    unknown = jnp.full((len(case.maps), 1, 4), jnp.nan)
    found = metrics.class_sensitivity(case.maps, case.again, unknown, unknown)
    values = {"correlation": found.correlation}
    if case.boxes.shape[1]:
        values["energy_first"] = metrics.energy_in_box(case.maps, case.boxes)
        values["energy_second"] = metrics.energy_in_box(case.again, case.boxes)
    return values


PROTOCOL = Protocol(
    "class_sensitivity",
    measure,
    metrics={
        "correlation": Metric("Correlation of two classes' maps", -1),
        "own": Metric("Energy in the class's own box", 1),
        "other": Metric("Energy in the other class's box", -1),
        "own_share": Metric("Own box's share of both boxes' energy", 1),
        "energy_first": Metric("Energy of the first class in the box"),
        "energy_second": Metric("Energy of the second class in the box"),
    },
    settings=ClassSettings,
    stored=False,
    settle=settle,
    arrange=arrange,
    again=other_class,
)
