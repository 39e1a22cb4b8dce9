"""ADCC: is a map true to itself, small, and enough?

The harmonic mean of coherency, 1 - complexity and 1 - drop. Every photo is explained again with all
but what its map marks masked away, so a run costs two explanations a map.

    python -m eval.adcc --model tiny20 --data tiny20 -n 200 --output runs/adcc
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax

from eval.command import command
from eval.common import Bench, Protocol, Settings, Values, Work, begin, carry_out, load_photos
from eval.methods import Method
from eval.parallel import in_batches, over_devices
from eval.record import table
from jaxcam import metrics

COLUMNS = ("adcc", "coherency", "complexity", "drop")
PROTOCOL = Protocol("adcc")


def measure(forward: Callable, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """ADCC and its parts, of the maps and those of the photos masked by them, `again`."""
    call = (forward, batch["image"], batch["maps"], batch["again"], batch["target"])
    found = metrics.adcc_of_maps(*call, activation=forward.activation)
    return dict(zip(COLUMNS, found, strict=True))


def _work_of(bench: Bench) -> Work:
    network = bench.network

    def measured(params: Any, batch: Mapping[str, jax.Array]) -> Mapping[str, jax.Array]:
        return measure(network.forward(params), {**batch, "image": network.prepare(batch["image"])})

    # The second explanation is of one layer, since each layer's map masks another photo.
    again = cache(lambda method, layer: bench.explain(method, (layer,)))
    return partial(_compared, bench, over_devices(measured), again)


def _compared(
    bench: Bench,
    measured: Callable,
    again: Callable,
    method: Method,
    explain: Callable,
    batch: Values,
) -> Values:
    """Values `LAYER/METRIC` of some photos."""
    values: Values = {}
    for layer, each in in_batches(explain, bench.explainer_params, batch, bench.batch).items():
        masked = {**batch, "shown": each}
        second = in_batches(again(method, layer), bench.explainer_params, masked, bench.batch)[
            layer
        ]
        pair = {**batch, "maps": each, "again": second}
        found = in_batches(measured, bench.params, pair, bench.batch)
        values |= {f"{layer}/{metric}": value for metric, value in found.items()}
    return values


def run(settings: Settings) -> dict[str, Any]:
    """Carries the protocol out; returns its record.

    Raises:
        FileNotFoundError, ValueError: as `eval.common.run`.
    """
    network = begin(settings)
    photos = load_photos(settings, PROTOCOL, network)
    return carry_out(settings, PROTOCOL, network, photos, _work_of)


def main(settings: Settings) -> None:
    """ADCC and its parts."""
    print(table(run(settings), COLUMNS))


if __name__ == "__main__":
    command(main, Settings, __doc__)
