"""What pictures are drawn with: text and images at places in inches, and how long a text is."""

import bisect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxcam._ground.text import printable
from jaxcam._layouts import Page, Rect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT = "#d9480f"
INK = "#212529"
FAINT = "#868e96"
RULE = "#dee2e6"

_LONGEST = 300  # characters of a line


def elided(text: str, room: float, points: float, weight: str = "normal") -> str:
    """As much of a line as there is room for, and at least four characters."""
    if len(text) <= _LONGEST and length(text, points, weight) <= room:
        return text
    fits = lambda kept: length(f"{text[:kept]}…", points, weight) <= room
    lengths = range(4, min(len(text) - 1, _LONGEST))
    kept = 3 + bisect.bisect_left(lengths, True, key=lambda kept: not fits(kept))
    return f"{text[:kept].rstrip()}…"


def with_facts(name: str, facts: Sequence[str], room: float, points: float) -> str:
    """A name and what is known of it in a line; the last facts go where there is no room."""
    kept = list(facts)
    after = lambda: "".join(f"  ·  {fact}" for fact in kept)
    while kept and length(f"{name[:4]}…{after()}", points) > room:
        kept.pop()
    return elided(name, room - length(after(), points), points) + after()


def length(text: str, points: float, weight: str = "normal") -> float:
    """How long a line is when it is drawn, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points, weight=weight)
    return text_to_path.get_text_width_height_descent(_drawable(text), font, False)[0] / 72


def to_panel(photo: np.ndarray, page: Page, place: Rect) -> np.ndarray:
    """The photo at the panel's resolution, `[h, w, 3]` float32 in [0, 1]; its own aspect ratio."""
    height, width = photo.shape[:2]
    scale = page.dpi * min(place.width / width, place.height / height)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    resized = Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float32) / 255


def draw_image(figure: "Figure", page: Page, place: Rect, pixels: np.ndarray) -> "Axes":
    """An image that fills a place."""
    axes = add_axes(figure, page, place)
    axes.imshow(pixels)
    return axes


def add_axes(figure: "Figure", page: Page, place: Rect) -> "Axes":
    """Axes without a frame."""
    width, height = page.size
    bottom = height - place.top - place.height
    corner = (place.left / width, bottom / height)
    axes = figure.add_axes((*corner, place.width / width, place.height / height))
    axes.set_axis_off()
    return axes


def add_text(
    figure: "Figure", page: Page, left: float, top: float, text: str, **style: Any
) -> None:
    """Text with its baseline at `top`, taken literally: a name may hold "$" or non-text bytes."""
    style = {"color": INK, "parse_math": False} | style
    figure.text(left / page.size[0], 1 - top / page.size[1], _drawable(text), **style)


def _drawable(text: str) -> str:
    return re.sub(r"[\n\t]", " ", printable(text))
