"""Where in the image the cells of a layer lie.

A cell's place is the middle of what it sees: the centre of its receptive field, which the strides
and the paddings of a program say. Cell i of an axis lies at `start + step i` pixels, a line.
JAX's "SAME" at stride 2 pads at the end alone, so every such layer moves the cells half a step
towards the lower right of where PyTorch's padding has them, and neither is where stretching the
map over the image draws them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxcam._ground import primitives


class Line(NamedTuple):
    """Index i lies at `start + step i`, in pixels from the middle of the first pixel."""

    start: float
    step: float


class Move(NamedTuple):
    """Index i of a result is in the middle of what was at `shift + scale i`."""

    shift: float
    scale: float


class Centers(NamedTuple):
    """Where the cells of a layer lie: cell i of axis k at `start[k] + step[k] i` pixels.

    Args:
        start: of each spatial axis, in pixels from the middle of the first pixel.
        step: likewise, the distance of neighbours; negative where the model flips the image.
        size: of the images that the model takes, in pixels.
    """

    start: tuple[float, ...]
    step: tuple[float, ...]
    size: tuple[int, ...]

    @property
    def pixels(self) -> bool:
        """Whether the cells are the image's pixels."""
        return set(zip(self.start, self.step, strict=True)) == {PIXELS}

    def __str__(self) -> str:
        """`every 16 px from 15`, or by axis."""
        each = []
        for line in zip(self.step, self.start, strict=True):
            each.append("every {:g} px from {:g}".format(*line))
        if len(set(each)) == 1:
            return each[0]
        return ", ".join(each)


PIXELS = Line(0.0, 1.0)
STAY = Move(0.0, 1.0)


def moved(line: Line | None, move: Move) -> Line | None:
    """A line through other indices."""
    if line is None:
        return None
    return Line(line.start + line.step * move.shift, line.step * move.scale)


def between(lines: Sequence[Line | None]) -> Line | None:
    """What lies at several places, as the branches of a sum may, lies at their mean."""
    starts = []
    steps = []
    for line in lines:
        if line is None:
            return None
        starts.append(line.start)
        steps.append(line.step)
    return Line(sum(starts) / len(starts), sum(steps) / len(steps))


def moves(eqn: Any) -> list[Move]:
    """Of each axis of a pool or a padding, of each spatial axis of a convolution."""
    params = eqn.params
    if eqn.primitive.name == primitives.PAD:
        return [Move(-low / (1 + gap), 1 / (1 + gap)) for low, _, gap in params["padding_config"]]
    if eqn.primitive.name == primitives.CONV:
        kernel = eqn.invars[1].aval.shape
        sizes = [kernel[axis] for axis in params["dimension_numbers"].rhs_spec[2:]]
        dilations = (params["lhs_dilation"], params["rhs_dilation"])
    else:
        sizes = params["window_dimensions"]
        dilations = (params["base_dilation"], params["window_dilation"])
    windows = zip(sizes, params["window_strides"], params["padding"], *dilations, strict=True)
    return [_window(*window) for window in windows]


def _window(size: int, stride: int, padding: tuple[int, int], gaps: int, dilation: int) -> Move:
    """`gaps`: how far apart the operand's entries are set before the window goes over them."""
    middle = (size - 1) * dilation / 2
    return Move((middle - padding[0]) / gaps, stride / gaps)
