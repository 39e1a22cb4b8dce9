"""A data set to maps on disk: `values.npz` holds raw maps `[N, h, w]`, ids, labels, targets.

The maps are `METHOD/LAYER/maps`.

    python -m eval explain --data photos/ --methods grad_cam --layers layer4 --output runs/maps
"""

import jax

from eval.run.protocol import Explained, Protocol
from eval.run.record import skipped
from eval.run.runner import run
from eval.run.settings import Settings
from jaxcam._ground.text import counted


def measure(case: Explained) -> dict[str, jax.Array]:
    """The maps as they are."""
    return {"maps": case.maps}


PROTOCOL = Protocol("explain", measure, raw=True)


def main(settings: Settings) -> None:
    """Raw maps of photos."""
    record = run(settings, PROTOCOL)
    found = []
    for method, by_layer in record["results"].items():
        found += [f"{method}/{layer}" for layer in by_layer]
    values = settings.output / "values.npz"
    print(
        f"{counted(record['photos'], 'photo')}: {', '.join(found)} -> {values}",
        *skipped(record),
        sep="\n",
    )
