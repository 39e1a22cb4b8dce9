"""ADCC: is a map true to itself, small, and enough?

The harmonic mean of coherency, 1 - complexity and 1 - drop. Every photo is explained again with all
but what its map marks masked away, so a run costs two explanations a map.

    python -m eval adcc --model tiny20 --data tiny20 -n 200 --output runs/adcc

With `--arcc` ARCC too, which has ROAD in the place of the drop: 8 more forward passes a map, of
imputed photos.
"""

import dataclasses
from collections.abc import Iterator

import jax

from eval.run.parts import Values
from eval.run.plan import Plan
from eval.run.protocol import Change, Changes, Explained, Metric, Protocol
from eval.run.settings import Settings
from jaxcam import metrics


@dataclasses.dataclass(frozen=True)
class AdccSettings(Settings):
    """What a run of ADCC explains, and whether ARCC is measured too.

    Args:
        arcc: whether ARCC is measured too.
    """

    arcc: bool = False


def measure(case: Explained) -> dict[str, jax.Array]:
    """ADCC and its parts, of the maps and those of the photos masked by them."""
    call = (case.forward, case.images, case.maps, case.again, case.targets)
    found = metrics.adcc_of_maps(*call, activation=case.forward.activation)
    values = {
        "adcc": found.adcc,
        "coherency": found.coherency,
        "complexity": found.complexity,
        "drop": found.average_drop,
    }
    if case.settings.arcc:
        values["arcc"] = metrics.arcc_of_maps(*call, activation=case.forward.activation).arcc
    return values


def masked(plan: Plan) -> Changes:
    """The photos masked by each layer's map, which is then made again."""
    del plan

    def changes(batch: Values, first: Values) -> Iterator[Change]:
        del batch
        for layer, each in first.items():
            yield Change(arrays={"shown": each}, layer=layer)

    return changes


PROTOCOL = Protocol(
    "adcc",
    measure,
    metrics={
        "adcc": Metric("ADCC", 1),
        "coherency": Metric("ADCC's coherency", 1),
        "complexity": Metric("ADCC's complexity", -1),
        "drop": Metric("ADCC's average drop, %", -1),
        "arcc": Metric("ARCC", 1),
    },
    settings=AdccSettings,
    again=masked,
    version=2,  # the drop was a fraction
)
