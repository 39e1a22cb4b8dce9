"""Does a map change when the photo hardly does? Max-sensitivity of methods by layer.

Every photo is explained again with small noise, several times; what counts is the largest change of
its map, as a share of the map. A map that does not look has 0, as the Gaussian in the centre has:
read it beside `python -m eval sanity`. (The noise among the controls is another for every photo.)

    python -m eval sensitivity --model tiny20 --data tiny20 -n 50 --output runs/sensitivity
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import jax
import numpy as np
import tyro

from eval.run.parts import Values
from eval.run.plan import Plan
from eval.run.protocol import Change, Changes, Explained, Metric, Protocol
from eval.run.settings import Settings
from jaxcam import metrics
from jaxcam._ground.errors import check_above
from jaxcam.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class SensitivitySettings(Settings):
    """What a run explains again, and on what.

    Args:
        n: photos, drawn by seed.
        radius: of the noise, which is uniform in [-radius, radius] at every value, in the network's
            input units.
        samples: noisy photos for each; the largest change grows with them.
    """

    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 200
    radius: float = 0.02
    samples: int = 10


def settle(settings: SensitivitySettings, network: Classifier) -> SensitivitySettings:
    """The settings as they are.

    Raises:
        ValueError: a radius that is not above 0.
    """
    del network
    check_above("radius", settings.radius, 0)
    return settings


def shaken(plan: Plan) -> Changes:
    """The photos with noise, the same for all of them."""
    settings = plan.settings
    keys = jax.random.split(jax.random.key(settings.seed), settings.samples)
    shape = plan.explainer.image().shape

    def changes(batch: Values, first: Values) -> Iterator[Change]:
        del first
        count = len(batch["target"])
        for number, key in enumerate(keys):
            bounds = {"minval": -settings.radius, "maxval": settings.radius}
            noise = np.asarray(jax.random.uniform(key, shape, **bounds))
            added = np.broadcast_to(noise, (count, *noise.shape[1:]))
            yield Change(str(number), arrays={"added": added})

    return changes


def measure(case: Explained) -> dict[str, jax.Array]:
    """How far one noisy photo's map is from the photo's, as a share of that."""
    change = metrics.max_sensitivity_of_maps(case.maps, case.again[None])
    return {"max_sensitivity": change}


def largest(values: Values) -> Values:
    """`LAYER/SAMPLE/METRIC` to `LAYER/METRIC`; NaN where one sample is."""
    found: Values = {}
    for key, value in values.items():
        place, _, metric = key.rpartition("/")
        name = f"{place.rpartition('/')[0]}/{metric}"
        found[name] = np.maximum(found.get(name, value), value)
    return found


PROTOCOL = Protocol(
    "sensitivity",
    measure,
    metrics={"max_sensitivity": Metric("Max-sensitivity: largest change, a share of the map", -1)},
    settings=SensitivitySettings,
    raw=True,
    stored=False,
    settle=settle,
    again=shaken,
    combine=largest,
)
