"""What the axes of a program's values stand for: the batch, positions of the image, tokens.

Every axis is a product of atoms, as in einops: a reshape splits and joins them, a transposition
moves them, a convolution makes new ones. So `[B, h, w, c] -> [B, h w, c]` leaves an axis of two
atoms, a window of attention an axis of the batch and of parts of both sides, and what was
concatenated to the tokens stands before or after them. Where in the image a position lies is
carried along: strides and paddings move it (`centers`). Nothing is run.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxcam._program import centers
from jaxcam._program.centers import Line, Move

BATCH = "batch"
CHANNEL = "channel"


class Atom(NamedTuple):
    """A factor of an axis: every `stride`-th index of something of which there are `whole`."""

    source: str | int  # BATCH, CHANNEL, or the number of a spatial dimension
    whole: int  # how many positions the source has
    size: int
    stride: int = 1
    line: Line | None = None  # where the source's positions lie in the image, if that is known

    @property
    def center(self) -> Line | None:
        """Where the atom's own indices lie: in the middle of what they stand for."""
        inside = Move((self.stride - 1) / 2, self.stride)
        return centers.moved(self.line, inside)


class Axis(NamedTuple):
    """An axis of a value: its atoms, slowest first; none if nothing is known of it."""

    size: int
    atoms: tuple[Atom, ...] = ()
    before: int = 0  # entries before the atoms' own: class tokens, say
    after: int = 0

    @property
    def positions(self) -> tuple[Atom, ...]:
        """The atoms that are positions in space."""
        return tuple(filter(lambda atom: isinstance(atom.source, int), self.atoms))

    @property
    def extra(self) -> int:
        """How many entries are no product of the atoms."""
        return self.before + self.after


Axes = tuple[Axis, ...]


def whole(source: str | int, size: int, line: Line | None = None) -> Axis:
    """An axis that is all of one thing."""
    return Axis(size, (Atom(source, size, size, line=line),))


def unknown(shape: Sequence[int]) -> Axes:
    """Axes of which nothing is known."""
    return tuple(map(Axis, shape))


def of_images(shape: Sequence[int]) -> Axes:
    """The batch first, the channels last, positions between: the pixels."""
    pixels = spatial(shape[1:-1], centers.PIXELS)
    return (whole(BATCH, shape[0]), *pixels, whole(CHANNEL, shape[-1]))


def spatial(sizes: Sequence[int], line: Line | None = None) -> Axes:
    """Positions, an axis for each dimension of space."""
    return tuple(whole(k, size, line) for k, size in enumerate(sizes))


def sizes(axes: Axes) -> tuple[int, ...]:
    """The shape of a value."""
    return tuple(axis.size for axis in axes)
