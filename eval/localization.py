"""Maps against boxes: the IoU figure of Relevance-CAM, the pointing games, Loc and CAM's boxes.

Only photos that the network classifies correctly count, as in Relevance-CAM.

    python -m eval.localization --model tiny20 --data tiny20 -n 1000 --output runs/localization
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from eval.command import command
from eval.common import Protocol, Settings, run
from eval.record import table
from jaxcam import metrics

COLUMNS = ("mask_iou", "pointing_game", "energy_in_box", "loc_0.25", "box_iou", "box_hit")
DELTAS = (0.0, 0.25, 0.5)


def measure(
    forward: Callable, batch: Mapping[str, jax.Array], saliency: jax.Array
) -> dict[str, jax.Array]:
    """Every measure of overlap, and CAM's box with whether its IoU reaches one half."""
    del forward
    boxes = batch["boxes"]
    overlap = metrics.box_iou(metrics.box_from_map(saliency), boxes)
    overlap = jnp.where(jnp.isfinite(saliency).all((1, 2)), overlap, jnp.nan)
    return {
        "mask_iou": metrics.mask_iou(saliency, boxes),
        "pointing_game": metrics.pointing_game(saliency, boxes),
        "energy_in_box": metrics.energy_in_box(saliency, boxes),
        **{f"loc_{delta:g}": metrics.loc(saliency, boxes, delta=delta) for delta in DELTAS},
        "box_iou": overlap,
        "box_hit": jnp.where(jnp.isnan(overlap), jnp.nan, overlap >= 0.5),
        "box_share": metrics.box_mask(boxes, saliency.shape[1:]).mean((1, 2)),
    }


PROTOCOL = Protocol("localization", measure, boxes=True, correct_only=True)


def main(settings: Settings) -> None:
    """Localisation."""
    print(table(run(settings, PROTOCOL), COLUMNS))


if __name__ == "__main__":
    command(main, Settings, __doc__)
