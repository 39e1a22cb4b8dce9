"""Protocols that explain every photo more than once, with other parameters or for another class."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from eval import common, data, methods, models
from eval.common import Bench, Protocol, Settings, Values
from eval.parallel import in_batches, over_devices


class Variant(NamedTuple):
    """A second explanation: what is changed for it.

    Its values are `NAME/METRIC`, or `METRIC` without a name.
    """

    name: str
    params: Any
    changed: Mapping[str, Any]  # arrays `[N, ...]` of the photos at hand


# (batch, with the maps `first` and `second` [B, H, W]) -> values [B, ...] by metric
Compare = Callable[[Mapping[str, jax.Array]], Mapping[str, jax.Array]]
Variants = Callable[[Any, Values], Iterable[Variant]]


def run(
    settings: Settings,
    protocol: Protocol,
    network: models.Network,
    photos: data.Photos,
    variants: Variants,
    compare: Compare,
    extra: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Carries a protocol of this kind out; see `eval.common.carry_out`.

    Args:
        settings: of a run that has begun.
        protocol: its name.
        network: its network.
        photos: its photos.
        variants: `(replicated params, some photos) -> second explanations`; called for each method
            and group.
        compare: the metrics of maps at the photos' size.
        extra: further arrays `[N, ...]` of the photos, for `variants` and `compare`.

    Returns:
        The record, as written to `settings.output / f"{protocol.name}.json"`.

    Raises:
        ValueError: `settings.maps`, for there are maps to be made; as `eval.common.carry_out`.
    """
    if settings.maps:
        raise ValueError(
            f"maps: got {settings.maps}, but {protocol.name} explains every photo more than once"
        )

    def work_of(bench: Bench) -> common.Work:
        return partial(_compared, bench, over_devices(lambda _, part: compare(part)), variants)

    return common.carry_out(settings, protocol, network, photos, work_of, extra)


def _compared(
    bench: Bench,
    measure: Callable,
    variants: Variants,
    method: methods.Method,
    explain: Callable,
    batch: Values,
) -> Values:
    """Values `LAYER/VARIANT/METRIC` of some photos."""
    del method
    first, values = in_batches(explain, bench.explainer_params, batch, bench.batch), {}
    for variant in variants(bench.explainer_params, batch):
        changed = {**batch, **variant.changed}
        second = in_batches(explain, variant.params, changed, bench.batch)
        for layer, each in first.items():
            pair = {**changed, "first": each, "second": second[layer]}
            prefix = f"{layer}/{variant.name}/" if variant.name else f"{layer}/"
            found = in_batches(measure, bench.params, pair, bench.batch)
            values |= {f"{prefix}{metric}": value for metric, value in found.items()}
    return values
