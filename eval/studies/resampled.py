"""Numbers of all photos together, such as a ratio of means, with intervals over the photos."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.run.record import FEWEST, RESAMPLES

Values = Mapping[str, np.ndarray]


def resampled(values: Values, statistic: Callable[[Values], float], seed: int) -> dict[str, Any]:
    """A statistic of `[N]` photos, and its 95 % percentile bootstrap interval.

    Args:
        values: `[N]` each, of the same photos.
        statistic: of such values, of as many photos -> a number.
        seed: of the draws.

    Returns:
        `mean`, the statistic of all; `low` and `high`, None of fewer than `FEWEST` photos; `n`.
    """
    count = len(next(iter(values.values())))
    draws = np.random.default_rng(seed)
    found = {"mean": float(statistic(values)), "low": None, "high": None, "n": count}
    if count < FEWEST or not np.isfinite(found["mean"]):
        return found
    again = []
    for _ in range(RESAMPLES):
        chosen = draws.integers(count, size=count)
        again.append(statistic({name: each[chosen] for name, each in values.items()}))
    low, high = np.percentile(np.array(again)[np.isfinite(again)], [2.5, 97.5])
    return {**found, "low": float(low), "high": float(high)}


def values_of(file: Path, place: str) -> dict[str, np.ndarray]:
    """A run's values `[N]` by metric.

    Args:
        file: `values.npz` of a run.
        place: METHOD/LAYER.
    """
    found = {}
    with np.load(file) as arrays:
        for name in arrays.files:
            if name.startswith(f"{place}/") and arrays[name].ndim == 1:
                found[name.removeprefix(f"{place}/")] = arrays[name].astype(np.float64)
    return found


def to_inactive(relative: np.ndarray) -> np.ndarray:
    """100 (a - i) / i, of what is 200 (a - i) / (a + i): infinite where i is 0."""
    with np.errstate(divide="ignore"):
        return 200 * relative / (200 - relative)


def ratio(name: str) -> Callable[[Values], float]:
    """The mean of `NAME` over that of `NAME before`, each over the photos that have it."""
    return lambda values: float(np.nanmean(values[name]) / np.nanmean(values[f"{name} before"]))
