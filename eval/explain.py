"""A data set to maps on disk: `values.npz` holds raw maps `[N, h, w]`, ids, labels, targets.

The maps are `METHOD/LAYER/maps`. python -m eval.explain --model tiny20 --data photos/ --methods
grad_cam --layers layer4 --output runs/maps
"""

from collections.abc import Callable, Mapping

import jax

from eval.command import command
from eval.common import Protocol, Settings, run
from eval.record import skipped


def measure(
    forward: Callable, batch: Mapping[str, jax.Array], raw: jax.Array
) -> dict[str, jax.Array]:
    """The maps as they are."""
    del forward, batch
    return {"maps": raw}


PROTOCOL = Protocol("explain", measure, raw=True)


def main(settings: Settings) -> None:
    """Raw maps of photos."""
    record = run(settings, PROTOCOL)
    found = [
        f"{method}/{layer}" for method, by_layer in record["results"].items() for layer in by_layer
    ]
    print(
        f"{record['photos']} photos: {', '.join(found)} -> {settings.output / 'values.npz'}",
        *skipped(record),
        sep="\n",
    )


if __name__ == "__main__":
    command(main, Settings, __doc__)
