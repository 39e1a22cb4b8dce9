"""Maps against boxes: the IoU figure of Relevance-CAM, the pointing games, Loc and CAM's boxes.

Only photos that the network classifies correctly count, as in Relevance-CAM: those of the -n that
are drawn, or n of them with `--count correct`, as the paper has 2000 that it classifies correctly.
Boxes are those of the photo's class: what else VOC has boxes of in it does not count.

    python -m eval localization --model tiny20 --data tiny20 -n 1000 --output runs/localization
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from eval.run.protocol import Explained, Metric, Protocol
from eval.run.settings import Settings
from jaxcam import metrics

DELTAS = (0.0, 0.25, 0.5)  # Loc's thresholds, of Grad-CAM++
HIT = 0.5  # the IoU from which CAM's box counts as found


@dataclasses.dataclass(frozen=True)
class LocalizationSettings(Settings):
    """What a run of localisation explains.

    Args:
        count: what n counts: photos that are drawn, or those of them that the network classifies
            correctly, as the paper does; then it is drawn until there are n, or no more.
    """

    count: Literal["drawn", "correct"] = "drawn"


def measure(case: Explained) -> dict[str, jax.Array]:
    """Every measure of overlap, and CAM's box with whether its IoU reaches one half.

    The object of mass and rank accuracy is the union of the boxes.
    """
    saliency = case.maps
    boxes = case.boxes
    inside = metrics.box_mask(boxes, (saliency.shape[1], saliency.shape[2]))
    overlap = metrics.box_iou(metrics.box_from_map(saliency), boxes)
    overlap = jnp.where(jnp.isfinite(saliency).all((1, 2)), overlap, jnp.nan)
    found = {
        "mask_iou": metrics.mask_iou(saliency, boxes),
        "pointing_game": metrics.pointing_game(saliency, boxes),
        "energy_in_box": metrics.energy_in_box(saliency, boxes),
        "box_iou": overlap,
        "box_hit": jnp.where(jnp.isnan(overlap), jnp.nan, overlap >= HIT),
        "mass_accuracy": metrics.mass_accuracy(saliency, inside),
        "rank_accuracy": metrics.rank_accuracy(saliency, inside),
        "box_share": inside.mean((1, 2)),
    }
    for delta in DELTAS:
        found[f"loc_{delta:g}"] = metrics.loc(saliency, boxes, delta=delta)
    return found


PROTOCOL = Protocol(
    "localization",
    measure,
    metrics={
        "mask_iou": Metric("IoU of the map above mean + std and the box", 1),
        "pointing_game": Metric("Pointing game: maximum in the box", 1),
        "energy_in_box": Metric("Energy in the box", 1),
        "rank_accuracy": Metric("Rank accuracy: share of the best pixels in the box", 1),
        "loc_0.25": Metric("Loc at threshold 0.25", 1),
        "box_iou": Metric("IoU of the map's box and the box", 1),
        "box_hit": Metric("Share of boxes with IoU of at least 0.5", 1),
        # Where objects are boxes, the number of another column: recorded, not shown twice.
        "mass_accuracy": Metric("Mass accuracy: the energy in the box", 1, shown=False),
    },
    settings=LocalizationSettings,
    boxes=True,
    correct_only=True,
)
