"""The bars of a picture: what the network says of a photo."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxcam import _canvas as canvas
from jaxcam._layouts import Page, Rect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TOP = 5


def draw(
    figure: "Figure",
    page: Page,
    place: Rect,
    classes: Sequence[str],
    probabilities: np.ndarray,
    target: int,
) -> None:
    """The likeliest classes, and the target where it is none of them."""
    order: list[int] = np.argsort(-np.nan_to_num(probabilities), kind="stable").tolist()
    shown = order[:_TOP]
    if target not in shown:
        shown = [*shown[:-1], target]
    step = min(0.42, place.height / len(shown))
    for row, index in enumerate(shown):
        name = classes[index]
        if order.index(index) >= _TOP:
            name = f"{order.index(index) + 1}.  {name}"
        bar = place._replace(top=place.top + row * step)
        _draw_bar(figure, page, bar, name, float(probabilities[index]), index == target)


def _draw_bar(
    figure: "Figure", page: Page, place: Rect, name: str, share: float, explained: bool
) -> None:
    weight, colour = ("bold", canvas.ACCENT) if explained else ("normal", "#adb5bd")
    style = {"size": 8.5, "weight": weight}
    right = place.left + place.width
    label = canvas.elided(name, place.width - 0.6, 8.5, weight)
    canvas.add_text(figure, page, place.left, place.top + 0.13, label, **style)
    canvas.add_text(figure, page, right, place.top + 0.13, percent(share), ha="right", **style)
    axes = canvas.add_axes(figure, page, Rect(place.left, place.top + 0.19, place.width, 0.07))
    axes.barh([0, 0], [1, np.nan_to_num(share)], height=1, color=[canvas.RULE, colour])
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))


def percent(share: float) -> str:
    """A share in words."""
    if np.isnan(share):
        return "NaN"
    return f"{100 * share:.1f} %"
