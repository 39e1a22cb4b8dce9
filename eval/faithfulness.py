"""Average drop and increase of methods by layer: Tables 1 and 2 of Relevance-CAM, with either mask.

python -m eval.faithfulness --model squeezenet --data imagenet100 -n 100 --output runs/faithfulness
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from eval.command import command
from eval.common import Protocol, Settings, Values, run
from eval.record import table
from jaxcam import maps, metrics

COLUMNS = ("drop_half", "increase_half", "drop_soft", "increase_soft")


def measure(
    forward: Callable, batch: Mapping[str, jax.Array], saliency: jax.Array
) -> dict[str, jax.Array]:
    """Confidences on the image and under the soft and the top half's mask, and what follows."""
    call = (forward, batch["image"], saliency, batch["target"])
    soft, half = (
        metrics.confidences(*call, top=top, activation=forward.activation) for top in (None, 0.5)
    )
    return {
        "confidence": soft.full,
        "confidence_soft": soft.masked,
        "confidence_half": half.masked,
        "drop_soft": metrics.drop(*soft),
        "drop_half": metrics.drop(*half),
        "increase_soft": metrics.increase(*soft),
        "increase_half": metrics.increase(*half),
        "increase_half_ties": metrics.increase(*half, ties=True),
        "complexity": maps.normalize(saliency).mean((1, 2)),
    }


def finish(values: Values) -> dict[str, Any]:
    """Win rates in percent, by layer: of a row's method over a column's, by soft-mask drop."""
    drops: dict[str, Values] = {}
    for key, value in values.items():
        method, layer, metric = key.split("/", 2)
        if metric == "drop_soft":
            drops.setdefault(layer, {})[method] = value
    rate = lambda a, b: float(np.nanmean(np.asarray(metrics.win_rate(a, b))))
    return {
        "win_rate": {
            layer: {
                a: {b: rate(drop, rival) for b, rival in found.items() if b != a}
                for a, drop in found.items()
            }
            for layer, found in drops.items()
        }
    }


PROTOCOL = Protocol("faithfulness", measure, finish=finish)


def main(settings: Settings) -> None:
    """Average drop and average increase."""
    print(table(run(settings, PROTOCOL), COLUMNS))


if __name__ == "__main__":
    command(main, Settings, __doc__)
