"""Entropy, area and dispersion of maps as the layer has them: the CAM-fostering paper's measures.

python -m eval.interpretability --model tiny20 --data tiny20 --target label --output
runs/interpretability
"""

from collections.abc import Callable, Mapping

import jax

from eval.command import command
from eval.common import Protocol, Settings, run
from eval.record import table
from jaxcam import metrics

COLUMNS = ("entropy", "area", "dispersion", "empty")


def measure(
    forward: Callable, batch: Mapping[str, jax.Array], raw: jax.Array
) -> dict[str, jax.Array]:
    """ce, ca and cd of the rectified map, and whether there is nothing left of it."""
    del forward, batch
    return {
        "entropy": metrics.entropy(raw),
        "area": metrics.area(raw),
        "dispersion": metrics.dispersion(raw),
        "empty": (raw <= 0).all((1, 2)).astype(raw.dtype),
    }


PROTOCOL = Protocol("interpretability", measure, raw=True)


def main(settings: Settings) -> None:
    """Entropy, area, dispersion."""
    print(table(run(settings, PROTOCOL), COLUMNS))


if __name__ == "__main__":
    command(main, Settings, __doc__)
