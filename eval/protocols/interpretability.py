r"""Entropy, area and dispersion of maps as the layer has them: the CAM-fostering paper's measures.

python -m eval interpretability --model tiny20 --data tiny20 --target label \
    --output runs/interpretability
"""

import jax

from eval.run.protocol import Explained, Metric, Protocol
from jaxcam import metrics


def measure(case: Explained) -> dict[str, jax.Array]:
    """ce, ca and cd of the rectified map, and whether there is nothing left of it."""
    raw = case.maps
    return {
        "entropy": metrics.entropy(raw),
        "area": metrics.area(raw),
        "dispersion": metrics.dispersion(raw),
        "relative_difference": metrics.relative_difference(raw),
        "empty": (raw <= 0).all((1, 2)).astype(raw.dtype),
    }


PROTOCOL = Protocol(
    "interpretability",
    measure,
    metrics={
        "entropy": Metric("Entropy of the map, nats"),
        "area": Metric("Area of the map, cells"),
        "dispersion": Metric("Dispersion of the map"),
        "relative_difference": Metric("Active to inactive cells, relative difference, %"),
        "empty": Metric("Share of maps without a positive cell"),
    },
    raw=True,
)
