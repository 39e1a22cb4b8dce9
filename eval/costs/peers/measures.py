"""What turns are summed up to, and how far two results are apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def failure(answer: Mapping[str, Any]) -> str:
    """What went wrong, or ""."""
    if "missing" in answer:
        return f"{answer['missing']} is not installed"
    return answer.get("error") or answer.get("left_out") or ""


def summary(
    turns: Sequence[Mapping[str, Any]],
    passes: Sequence[Mapping[str, Any]] | None,
    less: bool = False,
) -> dict[str, Any]:
    """Median and quartiles of a call's seconds, and of their ratios to the passes of each round.

    Args:
        turns: what each call took.
        passes: what the unit took in the same rounds; None: there is none.
        less: whether the pass is taken off the call.
    """
    for turn in turns:
        if reason := failure(turn):
            return {"error": reason}
    seconds = np.array([turn["seconds"] for turn in turns])
    found: dict[str, Any] = {"rounds": len(seconds)}
    if passes:
        unit = np.array([turn["seconds"] for turn in passes])
        if less:
            seconds = seconds - unit
        found["forwards"] = _quartiles(seconds / unit)
    found["seconds"] = _quartiles(seconds)
    found["processor_seconds"] = _quartiles([turn["processor"] for turn in turns])
    memories = [turn["memory"] for turn in turns if "memory" in turn]
    if memories:
        found["memory"] = max(memories)
    return found


def difference(ours: np.ndarray, theirs: np.ndarray, sign: str) -> float:
    """The largest difference of two results; NaN if their shapes differ.

    Args:
        ours: `[B, ...]`.
        theirs: likewise.
        sign: as in `cases.Call`.
    """
    return float(differences(ours, theirs, sign).max())


def differences(ours: np.ndarray, theirs: np.ndarray, sign: str) -> np.ndarray:
    """Those of each image, `[B]`; of "values" the one of all, `[1]`. NaN if their shapes differ."""
    if ours.shape != theirs.shape:
        return np.array([np.nan])
    if sign == "positive":
        ours = np.maximum(ours, 0)
        theirs = np.maximum(theirs, 0)
    if sign in ("positive", "signed"):
        ours = _scaled(ours)
        theirs = _scaled(theirs)
        return np.abs(ours - theirs).reshape(len(ours), -1).max(1)
    return (np.abs(ours - theirs) / np.maximum(np.abs(ours), 1)).reshape(1, -1).max(1)


def _scaled(maps: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, maps.ndim))
    largest = np.abs(maps).max(axes, keepdims=True)
    return maps / np.where(largest == 0, 1, largest)


def _quartiles(values: Any) -> dict[str, float]:
    low, middle, high = np.quantile(np.asarray(values), (0.25, 0.5, 0.75))
    return {"low": float(low), "median": float(middle), "high": float(high)}
