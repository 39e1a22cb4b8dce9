"""What a run leaves behind: per-example values as `.npz`, means and intervals as JSON, both written atomically."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

RESAMPLES = 2000


def interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `[N]` finite numbers."""
    counts = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), RESAMPLES)
    low, high = np.percentile(counts @ values / len(values), [2.5, 97.5])
    return float(low), float(high)


def summary(values: np.ndarray, seed: int) -> dict[str, Any]:
    """Mean, interval and counts of `[N]` values, the mean curve of `[N, k]`. NaN values are left out, and counted."""
    known = values[np.isfinite(values).reshape(len(values), -1).all(1)].astype(np.float64)
    counts = {"n": len(known), "undefined": len(values) - len(known)}
    if not len(known):
        return {"mean": None, "low": None, "high": None, **counts}
    if values.ndim > 2:
        return {"shape": list(values.shape[1:]), **counts}
    if values.ndim == 2:
        return {"mean": known.mean(0).tolist(), **counts}
    low, high = interval(known, seed)
    return {"mean": float(known.mean()), "low": low, "high": high, **counts}


def save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary := path.with_suffix(".npz.tmp"), "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(temporary, path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically."""
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


def table(record: Mapping[str, Any], metrics: Iterable[str]) -> str:
    """Means and intervals as a Markdown table, a row for each method and layer."""
    metrics = list(metrics)
    lines = [f"| method | layer | {' | '.join(metrics)} |", "|---|---|" + "---|" * len(metrics)]
    for method, by_layer in record["results"].items():
        for layer, found in by_layer.items():
            lines.append(f"| {method} | {layer} | {' | '.join(_cell(found.get(m)) for m in metrics)} |")
    return "\n".join(lines)


def _cell(found: Mapping[str, Any] | None) -> str:
    if not found or found["mean"] is None:
        return "-"
    return f"{found['mean']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"
