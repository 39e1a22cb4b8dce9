r"""Does a method explain two classes of one photo by different places?

Figures 6 and 7 of Relevance-CAM, measured. `--pairs` sets two photos of different classes side by
side, each at half its width, and explains both classes: each has its own box (the photo's, or its
half of the image where there are none). Otherwise every photo is explained for the two classes that
score highest, and the energies in its box, where it has one, tell how the second class differs.

    python -m eval.class_sensitivity --model tiny20 --data tiny20 --pairs \
        --output runs/class_sensitivity
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval import data, variants
from eval.command import command
from eval.common import Protocol, Settings, Values, begin, load_photos, num_logits
from eval.record import table
from jaxcam import metrics

PROTOCOL = Protocol("class_sensitivity")
PAIRS, TOP = (
    ("correlation", "own", "other", "own_share"),
    ("correlation", "energy_first", "energy_second"),
)


@dataclasses.dataclass(frozen=True)
class ClassSettings(Settings):
    """What a run explains.

    Args:
        pairs: whether two photos side by side make an image of two classes.
    """

    pairs: bool = False


def side_by_side(photos: data.Photos) -> tuple[data.Photos, Values]:
    """Every photo beside the next one of another class, each at half its width.

    Returns:
        The images with the left photo's class and boxes; the right photo's as `second_target` and
        `second_boxes`.

    Raises:
        ValueError: all photos are of one class.
    """
    right = _partners(photos.labels)
    height, width = photos.images.shape[1:3]
    half = width // 2
    halves = (
        photos.images[:, :, : 2 * half]
        .reshape(-1, height, half, 2, 3)
        .mean(3)
        .round()
        .astype(np.uint8)
    )
    images = np.zeros_like(photos.images)
    images[:, :, :half], images[:, :, half : 2 * half] = halves, halves[right]
    left_boxes = _half_boxes(photos, height, half)
    names = tuple(f"{photos.ids[i]} {photos.ids[j]}" for i, j in enumerate(right))
    second = {"second_target": photos.labels[right].astype(np.int32)}
    second["second_boxes"] = left_boxes[right] + np.array([half, 0, half, 0], np.float32)
    return dataclasses.replace(photos, ids=names, images=images, boxes=left_boxes), second


def _partners(labels: np.ndarray) -> np.ndarray:
    """For each photo the next one, in turn, of another class."""
    if (labels == labels[0]).all():
        raise ValueError(
            f"data: got {len(labels)} photos of one class, expected two classes to set side by side"
        )
    count = len(labels)
    turns = (np.roll(np.arange(count), -first) for first in range(count))
    return np.array([next(j for j in turn if labels[j] != labels[turn[0]]) for turn in turns])


def _half_boxes(photos: data.Photos, height: int, half: int) -> np.ndarray:
    """Boxes `[N, K, 4]` of the photos at half their width; the whole half where they have none."""
    whole = np.array([0, 0, half - 1, height - 1], np.float32)
    if photos.boxes is None:
        return np.broadcast_to(whole, (len(photos.labels), 1, 4)).copy()
    return np.asarray(
        metrics.resize_boxes(photos.boxes, photos.images.shape[1:3], (height, half)), np.float32
    )


def compare_pairs(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Correlation of two classes' maps, their energy in own and other box, and own over both."""
    found = metrics.class_sensitivity(
        batch["first"], batch["second"], batch["boxes"], batch["second_boxes"]
    )
    return {**found._asdict(), "own_share": found.own / (found.own + found.other)}


def compare_top(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Correlation of the two classes' maps, and the energy of each in the photo's box."""
    first, second = batch["first"], batch["second"]
    boxes = batch.get("boxes", jnp.full((len(first), 1, 4), jnp.nan))
    values = {"correlation": metrics.class_sensitivity(first, second, boxes, boxes).correlation}
    if "boxes" in batch:
        values["energy_first"] = metrics.energy_in_box(first, batch["boxes"])
        values["energy_second"] = metrics.energy_in_box(second, batch["boxes"])
    return values


def run(settings: ClassSettings) -> dict[str, Any]:
    """Carries the protocol out; returns its record.

    Raises:
        ValueError: `--pairs` with photos of one class only or of unknown class; as
            `eval.common.run`.
    """
    settings = dataclasses.replace(settings, target="label" if settings.pairs else "predicted")
    network = begin(settings)
    if num_logits(network) == 1:
        raise ValueError(
            f"model: {settings.model} has one logit, expected at least two: a second class"
        )
    photos = load_photos(settings, PROTOCOL, network)
    second: Values = {}
    if settings.pairs:
        if (photos.labels == data.UNKNOWN).any():
            raise ValueError(
                f"data: {settings.data} has photos without a class, which --pairs needs"
            )
        photos, second = side_by_side(photos)
    other = "second_target" if settings.pairs else "runner_up"

    def other_class(params: Any, batch: Values) -> Iterator[variants.Variant]:
        yield variants.Variant("", params, {"target": batch[other]})

    compare = compare_pairs if settings.pairs else compare_top
    return variants.run(settings, PROTOCOL, network, photos, other_class, compare, second)


def main(settings: ClassSettings) -> None:
    """Class sensitivity."""
    print(table(run(settings), PAIRS if settings.pairs else TOP))


if __name__ == "__main__":
    command(main, ClassSettings, __doc__)
