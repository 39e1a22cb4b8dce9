"""A page to explore explanations in: one HTML file that opens from disk, without a network.

    jaxcam explain cat.jpg --method grad_cam relevance_cam --layer layer2 layer4 --html

It holds the photos and the maps as they were stored, at their layers' resolution with scale and
sign, and blends them in the browser: two maps side by side under one pointer, classes, methods and
layers to pick, an address that keeps what is shown.
"""

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from jaxcam import _overlays
from jaxcam._ground import files, style
from jaxcam._ground.errors import ArgumentError
from jaxcam.explorer._shown import Heat, Shown, encoded

__all__ = ["Heat", "Shown", "encoded", "page", "write"]

_LUT = 256


def page(photos: Sequence[Shown | Mapping[str, Any]], *, network: str, title: str = "") -> str:
    """The page as text.

    Args:
        photos: what is shown, in this order; each may be `encoded` before, which takes the memory
            of its part of the page only.
        network: what to call it.
        title: of the page; none means "Where NETWORK looks".

    Returns:
        HTML that refers to nothing outside itself.

    Raises:
        ValueError: there are no photos, or none of a photo's maps.

    Example:
        >>> import jaxcam.explorer
        >>> import numpy as np
        >>> photo = (255 * np.asarray(images[0])).astype(np.uint8)
        >>> maps = [jaxcam.explorer.Heat("Grad-CAM", "features", 0, np.asarray(heat[0]))]
        >>> names = ["red", "green", "blue"]
        >>> odds = np.array([0.9, 0.1, 0.0])
        >>> shown = jaxcam.explorer.Shown("spot", photo, names, odds, 0, maps)
        >>> text = jaxcam.explorer.page([shown], network="my network")
        >>> text[:15]
        '<!DOCTYPE html>'
    """
    if not photos:
        raise ArgumentError("photos", "none", "one at least")
    rows = []
    for each in photos:
        if isinstance(each, Shown):
            each = encoded(each)
        rows.append(each)
    luts = {
        "plain": _colours(_overlays.COLORMAP),
        "signed": _colours(_overlays.SIGNED_COLORMAP),
    }
    text = json.dumps({"network": network, "luts": luts, "photos": rows}, allow_nan=False)
    room = resources.files("jaxcam.explorer")
    parts = {
        "title": html.escape(title or f"Where {network} looks"),
        "style": room.joinpath("page.css").read_text(encoding="utf-8"),
        "script": room.joinpath("page.js").read_text(encoding="utf-8"),
        "data": text.replace("<", "\\u003c"),  # so that no name ends the script
    }
    out = room.joinpath("page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        before, _, after = out.partition("{{" + name + "}}")
        while name == "title" and "{{title}}" in after:
            after = after.replace("{{title}}", part)
        out = before + part + after
    return out


def write(
    path: str | os.PathLike,
    photos: Sequence[Shown | Mapping[str, Any]],
    *,
    network: str,
    title: str = "",
) -> None:
    """Writes the page, whole or not at all; arguments and errors are those of `page`.

    Example:
        >>> import jaxcam.explorer
        >>> import pathlib
        >>> import numpy as np
        >>> photo = (255 * np.asarray(images[0])).astype(np.uint8)
        >>> maps = [jaxcam.explorer.Heat("Grad-CAM", "features", 0, np.asarray(heat[0]))]
        >>> names = ["red", "green", "blue"]
        >>> odds = np.array([0.9, 0.1, 0.0])
        >>> shown = jaxcam.explorer.Shown("spot", photo, names, odds, 0, maps)
        >>> path = pathlib.Path("spot.html")
        >>> jaxcam.explorer.write(path, [shown], network="my network")
    """
    files.write_text(path, page(photos, network=network, title=title))


def _colours(name: str) -> str:
    table = style.matplotlib().colormaps[name](np.linspace(0, 1, _LUT), bytes=True)[:, :3]
    return base64.b64encode(np.ascontiguousarray(table, np.uint8).tobytes()).decode()
