"""ROAD, regions, infidelity, correlation, gain and drop in deletion of methods by layer.

python -m eval perturbation --model squeezenet --data imagenet100 -n 100 --output runs/perturbation
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from eval.run.protocol import Explained, Metric, Protocol
from eval.run.settings import Settings
from jaxcam import metrics


@dataclasses.dataclass(frozen=True)
class PerturbationSettings(Settings):
    """What a run of the perturbations explains, and how it perturbs.

    Args:
        chunk: changes of a photo evaluated at once; memory is that of chunk * batch photos.
        samples: of infidelity's noise, whose deviation is 0.2 in the network's input units.
        side: of the squares of region perturbation, in pixels.
        steps: of region perturbation.
        sets: of cells that go, of the faithfulness correlation.
        grid: cells of a photo along each side, of which a fifth goes at a time.
    """

    chunk: int = 4
    samples: int = 100
    side: int = 9
    steps: int = 100
    sets: int = 100
    grid: int = 9


def measure(case: Explained) -> dict[str, jax.Array]:
    """All of them; the pixels' noise is the same for all photos and methods."""
    settings = case.settings
    call = (case.forward, case.images, case.maps, case.targets)
    activation = case.forward.activation
    many: dict[str, Any] = {"activation": activation, "chunk": settings.chunk}
    road = metrics.road(*call, **many)
    curve = metrics.region_perturbation(*call, **many, side=settings.side, steps=settings.steps)
    error, worst = _infidelity(case, many)
    return {
        "road": road.combined,
        "road_morf": road.morf.mean(1),
        "road_lerf": road.lerf.mean(1),
        "aopc": metrics.aopc(curve),
        "faithfulness_correlation": metrics.faithfulness_correlation(
            *call, **many, grid=settings.grid, num_samples=settings.sets
        ),
        "infidelity": error,
        "infidelity_share": error / worst,
        "gain_soft": metrics.average_gain(*call, activation=activation),
        "drop_in_deletion": metrics.drop_in_deletion(*call, activation=activation),
        "aopc_curve": curve,
    }


def _infidelity(case: Explained, many: dict[str, Any]) -> jax.Array:
    """`[2, B]`: of the maps, and of maps of zeros.

    These foretell nothing: theirs is the mean square of what the noise changes, the worst there is
    at the best scale. Both are of the same forward passes, as only the maps are mapped over.
    """

    def error(maps: jax.Array) -> jax.Array:
        call = (case.forward, case.images, maps, case.targets)
        return metrics.infidelity(*call, **many, num_samples=case.settings.samples)

    return jax.vmap(error)(jnp.stack([case.maps, jnp.zeros_like(case.maps)]))


PROTOCOL = Protocol(
    "perturbation",
    measure,
    metrics={
        "road": Metric("ROAD: (LeRF - MoRF) / 2, confidence", 1),
        "road_morf": Metric("ROAD, most relevant removed first: confidence", -1),
        "road_lerf": Metric("ROAD, least relevant removed first: confidence", 1),
        "aopc": Metric("Region perturbation, AOPC", 1),
        "faithfulness_correlation": Metric("Faithfulness correlation, cells of a grid", 1),
        "infidelity": Metric("Infidelity to noise, best scale", -1),
        "infidelity_share": Metric("Infidelity to noise, share of a map of zeros", -1),
        "gain_soft": Metric("Average gain, %, soft mask", 1),
        "drop_in_deletion": Metric("Average drop in deletion, %, soft mask inverted", 1),
        "aopc_curve": Metric("Region perturbation", -1, shown=False),
    },
    settings=PerturbationSettings,
)
