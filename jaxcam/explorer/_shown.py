"""What the page shows of a photo, and how that is written into it."""

import base64
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxcam import photos
from jaxcam._ground.errors import ArgumentError
from jaxcam._program.centers import Centers

_SIDE = 640  # pixels along the longer side of a photo in the page
_QUALITY = 85
_FINE = 64 * 64  # larger maps are stored in 8 bits, smaller ones in 16
_CLASSES = 5


class Heat(NamedTuple):
    """A map.

    Args:
        method: what to call the method.
        layer: the layer's name; "" for the whole network.
        target: the class that is explained.
        values: `[h, w]`, raw.
        centers: where the layer's cells lie; None stretches the map over the image.
        signed: whether what speaks against the class is drawn too.
        note: why there is no map; "" if there is one.
        metrics: numbers to show of it, by name.
    """

    method: str
    layer: str
    target: int
    values: np.ndarray
    centers: Centers | None = None
    signed: bool = False
    note: str = ""
    metrics: Mapping[str, float] = MappingProxyType({})


class Shown(NamedTuple):
    """A photo and its maps.

    Args:
        name: of the photo.
        photo: `[H, W, 3]` uint8.
        classes: names of all classes.
        probabilities: `[N]`.
        target: the class shown first.
        heats: the maps, of one or several classes.
        size: (height, width) of the network's input; None: square, the whole photo.
        fit: as `jaxcam.photos.prepare` was given it.
    """

    name: str
    photo: np.ndarray
    classes: Sequence[str]
    probabilities: np.ndarray
    target: int
    heats: Sequence[Heat]
    size: tuple[int, int] | None = None
    fit: str = "stretch"


def encoded(shown: Shown) -> dict[str, Any]:
    """A photo's part of the page, ready for JSON.

    Raises:
        ValueError: a photo without maps, or a map that is not `[h, w]`.

    Example:
        >>> import jaxcam.explorer
        >>> import numpy as np
        >>> photo = (255 * np.asarray(images[0])).astype(np.uint8)
        >>> maps = [jaxcam.explorer.Heat("Grad-CAM", "features", 0, np.asarray(heat[0]))]
        >>> names = ["red", "green", "blue"]
        >>> odds = np.array([0.9, 0.1, 0.0])
        >>> shown = jaxcam.explorer.Shown("spot", photo, names, odds, 0, maps)
        >>> sorted(jaxcam.explorer.encoded(shown))
        ['box', 'classes', 'heats', 'image', 'name', 'target']
    """
    if not shown.heats:
        raise ArgumentError("heats", f"none for photo {shown.name!r}", "one map at least")
    height, width = shown.photo.shape[:2]
    box = photos.seen((height, width), shown.size or (1, 1), shown.fit)
    heats = []
    for heat in shown.heats:
        heats.append(_heat(heat))
    return {
        "name": shown.name,
        "image": _jpeg(shown.photo),
        "box": [box.left / width, box.top / height, box.right / width, box.bottom / height],
        "classes": _classes(shown),
        "target": int(shown.target),
        "heats": heats,
    }


def _classes(shown: Shown) -> list[list]:
    """The likeliest classes and those that are explained."""
    shares = np.nan_to_num(np.asarray(shown.probabilities, np.float64))
    order = np.argsort(-shares, kind="stable").tolist()
    explained = {int(heat.target) for heat in shown.heats}
    rows = []
    for rank, index in enumerate(order):
        if rank < _CLASSES or index in explained:
            rows.append([index, str(shown.classes[index]), float(shares[index])])
    return rows


def _heat(heat: Heat) -> dict[str, Any]:
    values = np.asarray(heat.values, np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ArgumentError("values", f"shape {values.shape}", "[h, w] with h, w > 0")
    note = heat.note
    if not np.isfinite(values).all():
        note = note or "no map: NaN or infinity"
        values = np.zeros_like(values)
    bits = 16 if values.size <= _FINE else 8
    stored, scale = quantized(values, bits, heat.signed)
    centers = None
    if heat.centers is not None:
        centers = heat.centers._asdict()
    metrics = {}
    for name, value in heat.metrics.items():
        if np.isfinite(value):
            metrics[name] = float(value)
    return {
        "method": heat.method,
        "title": heat.method,
        "layer": heat.layer,
        "target": int(heat.target),
        "h": values.shape[0],
        "w": values.shape[1],
        "bits": bits,
        "scale": scale,
        "values": base64.b64encode(stored.tobytes()).decode(),
        "centers": centers,
        "signed": heat.signed,
        "note": note.replace("\n", " "),
        "metrics": metrics,
    }


def quantized(values: np.ndarray, bits: int, signed: bool) -> tuple[np.ndarray, float]:
    """Integers and their unit: the largest value, of its magnitude if signed, is the last integer.

    What is below 0 is kept where it fits, also of maps that are drawn from 0 on.
    """
    top = 2 ** (bits - 1) - 1
    largest = float(np.abs(values).max() if signed else values.max())
    if largest <= 0:
        return np.zeros(values.shape, f"<i{bits // 8}"), 0.0
    scale = largest / top
    if scale == 0:  # denormal
        return np.zeros(values.shape, f"<i{bits // 8}"), 0.0
    stored = np.clip(np.rint(values / scale), -top, top)
    return stored.astype(f"<i{bits // 8}"), scale


def _jpeg(photo: np.ndarray) -> str:
    image = Image.fromarray(photo)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
