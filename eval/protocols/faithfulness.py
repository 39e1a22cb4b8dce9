"""Average drop and increase of methods by layer: Tables 1 and 2 of Relevance-CAM, with either mask.

python -m eval faithfulness --model squeezenet --data imagenet100 -n 100 --output runs/faithfulness
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from eval.run.protocol import Explained, Metric, Protocol
from jaxcam import maps, metrics

TOP_HALF = 0.5


def measure(case: Explained) -> dict[str, jax.Array]:
    """Confidences on the image and under the soft and the top half's mask, and what follows."""
    call = (case.forward, case.images, case.maps, case.targets)
    soft = metrics.confidences(*call, activation=case.forward.activation)
    half = metrics.confidences(*call, top=TOP_HALF, activation=case.forward.activation)
    return {
        "confidence": soft.full,
        "confidence_soft": soft.masked,
        "confidence_half": half.masked,
        "drop_soft": metrics.drop(*soft),
        "drop_half": metrics.drop(*half),
        "increase_soft": metrics.increase(*soft),
        "increase_half": metrics.increase(*half),
        "increase_half_ties": metrics.increase(*half, ties=True),
        "drop_in_deletion": metrics.drop_in_deletion(*call, activation=case.forward.activation),
        "complexity": maps.normalize(case.maps).mean((1, 2)),
    }


def finish(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Win rates in percent, by layer: of a row's method over a column's, by soft-mask drop."""
    drops: dict[str, dict[str, np.ndarray]] = {}
    for key in values:
        method, layer, metric = key.split("/", 2)
        if metric == "drop_soft":
            drops.setdefault(layer, {})[method] = values[key]
    return {"win_rate": {layer: _win_rates(found) for layer, found in drops.items()}}


def _win_rates(drops: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    rates: dict[str, dict[str, float]] = {}
    for method, drop in drops.items():
        rates[method] = {}
        for other, rival in drops.items():
            if other != method:
                won = metrics.win_rate(drop, rival)
                rates[method][other] = float(np.nanmean(np.asarray(won)))
    return rates


PROTOCOL = Protocol(
    "faithfulness",
    measure,
    metrics={
        "drop_half": Metric("Average drop, %, most salient half kept", -1),
        "increase_half": Metric("Average increase, %, most salient half kept", 1),
        "drop_soft": Metric("Average drop, %, soft mask", -1),
        "increase_soft": Metric("Average increase, %, soft mask", 1),
        "drop_in_deletion": Metric(
            "Average drop in deletion, %, soft mask inverted", 1, shown=False
        ),
    },
    finish=finish,
)
