"""What `--json` prints: results for programs, one object on a line. NaN and infinity are null."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam import metrics
from jaxcam.cli.network import Network
from jaxcam.methods import METHODS, WHOLE
from jaxcam.pictures import Style, verdict

_TOP = 5
MEASURES = {
    "entropy": metrics.entropy,
    "area": metrics.area,
    "dispersion": metrics.dispersion,
}


def photo(
    name: str,
    out: Path,
    network: Network,
    logits: np.ndarray,
    target: int,
    raw: Mapping[tuple[str, str], np.ndarray | None],
) -> str:
    """A photo's line: its picture, the likeliest classes, and what there is to say of every map.

    Args:
        name: of the photo.
        out: its picture.
        network: what was explained.
        logits: `[N]`.
        target: the class explained.
        raw: `[h, w]` by method and layer, None where the method does not apply.
    """
    shares = network.about.probabilities(logits)
    named = lambda index: _class(index, network.about.classes, logits, shares)
    order: list[int] = np.argsort(-logits, kind="stable").tolist()
    maps = []
    for (method, layer), each in raw.items():
        maps.append(_map(method, layer, each, float(logits[target])))
    found = {
        "photo": name,
        "picture": str(out),
        "network": network.name,
        "target": named(target),
        "likeliest": [named(index) for index in order[:_TOP]],
        "maps": maps,
    }
    return _line(found)


def failure(name: str, message: str) -> str:
    """The line of a photo that could not be explained."""
    return _line({"photo": name, "error": message})


def layers(network: Network) -> str:
    """The line of `jaxcam layers`."""
    rows = []
    for name, aval in network.layers.items():
        row = {"name": name, "shape": list(aval.shape[1:]), "stage": name in network.about.stages}
        rows.append(row | {"default": name == network.layers.default})
    found = {
        "network": network.name,
        "architecture": network.about.architecture,
        "input": list(network.size),
        "layers": rows,
        "classes": list(network.about.classes),
    }
    return _line(found)


def measured(values: np.ndarray) -> dict[str, float]:
    """How sharp a map is."""
    found = {}
    for name, measure in MEASURES.items():
        found[name] = float(measure(values[None])[0])
    return found


def _class(
    index: int, classes: Any, logits: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    return {
        "index": index,
        "name": classes[index],
        "logit": float(logits[index]),
        "probability": float(probabilities[index]),
    }


def _map(method: str, layer: str, raw: np.ndarray | None, score: float) -> dict[str, Any]:
    """`note` says why a map must not be read as heat; the measures then are none."""
    found: dict[str, Any] = {"method": method, "layer": None if layer == WHOLE else layer}
    if raw is None:
        return found | {"note": "does not apply"}
    row = METHODS[method]
    values = np.asarray(row.evidence(raw, score))
    signed = row.signed and layer == WHOLE
    note = verdict(values, Style("signed" if signed else "positive"))
    found |= {
        "shape": list(values.shape),
        "least": float(values.min()),
        "most": float(values.max()),
    }
    if note:
        return found | {"note": " ".join(note.split())}
    return found | measured(values)


def _line(found: dict[str, Any]) -> str:
    return json.dumps(_finite(found), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return list(map(_finite, value))
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
