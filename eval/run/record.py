"""What a run leaves behind: values as `.npz`, means and intervals as JSON, written atomically."""

import json
import platform
import shlex
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxcam
from jaxcam._ground import files
from jaxcam.datasets import UNKNOWN

RESAMPLES = 2000
FEWEST = 10  # values of which a bootstrap interval says something
_AT_ONCE = 100  # resamples, of as many counts as there are photos


def interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `[N]` finite numbers."""
    shares = np.full(len(values), 1 / len(values))
    draws = np.random.default_rng(seed)
    means = []
    for first in range(0, RESAMPLES, _AT_ONCE):
        counts = draws.multinomial(len(values), shares, min(_AT_ONCE, RESAMPLES - first))
        means.append(counts @ values / len(values))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def summary(values: np.ndarray, seed: int) -> dict[str, Any]:
    """Mean, interval, counts of `[N]` values, mean curve of `[N, k]`. NaN is left out, counted.

    Of fewer than `FEWEST` values low and high are None: the resamples of a few are not the spread
    of others.
    """
    known = values[np.isfinite(values).reshape(len(values), -1).all(1)].astype(np.float64)
    counts = {"n": len(known), "undefined": len(values) - len(known)}
    if not len(known):
        return {"mean": None, "low": None, "high": None, **counts}
    if values.ndim > 2:
        return {"shape": list(values.shape[1:]), **counts}
    if values.ndim == 2:
        return {"mean": known.mean(0).tolist(), **counts}
    low, high = None, None
    if len(known) >= FEWEST:
        low, high = interval(known, seed)
    return {"mean": float(known.mean()), "low": low, "high": high, **counts}


def record(
    settings: Mapping[str, Any],
    values: Mapping[str, np.ndarray],
    info: Mapping[str, np.ndarray],
    start: float,
) -> dict[str, Any]:
    """What a run's JSON holds.

    Args:
        settings: as JSON holds them, with `protocol` and `seed` among them.
        values: per-example values by `METHOD/LAYER/METRIC`.
        info: the photos' `ids`, and the network's `accuracy` on those with a label.
        start: when the run began, `time.time()`.
    """
    results: dict[str, Any] = {}
    for key, value in values.items():
        method, layer, metric = key.split("/", 2)
        found = results.setdefault(method, {}).setdefault(layer, {})
        found[metric] = summary(value, settings["seed"])
    versions = {"python": platform.python_version(), "jaxcam": jaxcam.__version__}
    for package in ("jax", "jaxlib", "flax", "numpy"):
        versions[package] = metadata.version(package)
    return {
        "protocol": settings["protocol"],
        "command": shlex.join(["python", "-m", "eval", settings["protocol"], *sys.argv[1:]]),
        "settings": dict(settings),
        "seed": settings["seed"],
        "versions": versions,
        "devices": f"{jax.device_count()} x {jax.local_devices()[0].device_kind}",
        "processes": jax.process_count(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - start, 1),
        "photos": len(info["ids"]),
        "accuracy": known(info["accuracy"]),
        "results": results,
    }


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The share of the photos with a label whose predicted class it is; NaN if none has one."""
    labelled = labels != UNKNOWN
    if not labelled.any():
        return float("nan")
    return float((predicted == labels)[labelled].mean())


def known(value: Any) -> float | None:
    """A number as JSON holds it: NaN is none."""
    if np.isnan(value):
        return None
    return float(value)


def save_npz(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes an `.npz` atomically, array by array as they come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        archive.comment = comment(archive)


def comment(archive: zipfile.ZipFile) -> bytes:
    """What an `.npz` of ours says of itself: a damaged list of its arrays is seen by it."""
    return f"{len(archive.namelist())} arrays".encode()


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically."""
    files.write_text(path, json.dumps(content, indent=1) + "\n")


def table(record: Mapping[str, Any], metrics: Iterable[str]) -> str:
    """A Markdown table of means and intervals by method and layer, and what was skipped and why."""
    metrics = list(metrics)
    lines = [f"| method | layer | {' | '.join(metrics)} |", "|---|---|" + "---|" * len(metrics)]
    for method, by_layer in record["results"].items():
        for layer, found in by_layer.items():
            cells = [_cell(found.get(metric)) for metric in metrics]
            lines.append(f"| {method} | {layer} | {' | '.join(cells)} |")
    return "\n".join([*lines, *skipped(record)])


def skipped(record: Mapping[str, Any]) -> list[str]:
    """A line for each place where a method does not apply, and each photo that cannot be read.

    Below an empty one; or nothing.
    """
    lines = []
    for place, reason in record.get("skipped", {}).items():
        lines.append(f"skipped: {place}: {reason}")
    for photo in record.get("unreadable", []):
        lines.append(f"left out: {photo}")
    if lines:
        lines.insert(0, "")
    return lines


def _cell(found: Mapping[str, Any] | None) -> str:
    if not found or found["mean"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['mean']:.4g} (of {found['n']})"
    return f"{found['mean']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"
