"""Protocols that explain every photo more than once, with other parameters or for another class."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from eval import common, data, methods, models
from eval.common import Protocol, Settings, Values
from eval.parallel import in_batches, over_devices, replicate
from eval.record import save_npz, write_json


class Variant(NamedTuple):
    """A second explanation: what is changed for it. Its values are `NAME/METRIC`, or `METRIC` without a name."""

    name: str
    params: Any
    changed: Mapping[str, Any]  # arrays `[N, ...]` of the batch


# (batch, with the maps `first` and `second` [B, H, W]) -> values [B, ...] by metric
Compare = Callable[[Mapping[str, jax.Array]], Mapping[str, jax.Array]]


def run(
    settings: Settings,
    name: str,
    network: models.Network,
    photos: data.Photos,
    variants: Callable[[Any, Values], Iterable[Variant]],
    compare: Compare,
) -> dict[str, Any]:
    """Carries a protocol of this kind out; see `eval.common.run`.

    Args:
        settings: what to explain.
        name: of the protocol.
        network: its network.
        photos: its photos.
        variants: `(replicated params, batch) -> second explanations`; called for each method.
        compare: the metrics of maps at the photos' size.

    Returns:
        The record, as written to `settings.output / f"{name}.json"`.

    Raises:
        ValueError: as `eval.common.run`.
    """
    start, chosen = time.time(), methods.find(settings.methods)
    protocol = Protocol(name, lambda *_: {})
    common._claim(settings, protocol)
    common._check(photos, settings, protocol)
    params = replicate(network.params)
    batch, info = common._explained(network, params, photos, settings, protocol)
    measure = over_devices(lambda _, part: compare(part))
    for label, method in (bar := tqdm(chosen.items(), unit="method", disable=None)):
        bar.set_description(label)
        if not (part := common._part(settings, label)).exists():
            usable, skipped = common._usable(method, network, settings.layers or network.layers)
            explain = common._explain(method, usable, network, protocol)
            found = _compared(explain, measure, params, batch, variants, settings.batch) if usable else {}
            save_npz(part, found | {f"{common.SKIPPED}{layer}": reason for layer, reason in skipped.items()})
    values, skipped = common._gather(settings, chosen)
    save_npz(settings.output / "values.npz", info | values)
    record = common._record(settings, protocol, values, skipped, time.time() - start, info)
    write_json(settings.output / f"{name}.json", record)
    return record


def _compared(
    explain: Callable, measure: Callable, params: Any, batch: Values, variants: Callable, size: int
) -> Values:
    """Per-example values of one method, `LAYER/VARIANT/METRIC`."""
    first, values = in_batches(explain, params, batch, size, "explain"), {}
    for variant in variants(params, batch):
        title = f"explain {variant.name}".strip()
        second = in_batches(explain, variant.params, {**batch, **variant.changed}, size, title)
        for layer, each in first.items():
            pair = {**batch, **variant.changed, "first": each, "second": second[layer]}
            prefix = f"{layer}/{variant.name}/" if variant.name else f"{layer}/"
            found = in_batches(measure, params, pair, size, f"measure {layer}")
            values |= {f"{prefix}{metric}": value for metric, value in found.items()}
    return values
