"""The grid of a layer: how its activations, whatever their axes, become `[B, *spatial, c]`.

The program says which axes are the batch, positions and channels (`axes`). Where it does not,
images and layers of their rank are taken to have the batch first and the channels last, as
everywhere here, unless that contradicts what is known; nothing else is guessed. A caller may say
what it is: `layout`.
"""

import math
from collections.abc import Sequence
from itertools import starmap
from typing import Any, NamedTuple

from jaxcam._ground.errors import ArgumentError, listing
from jaxcam._program.axes import BATCH, CHANNEL, Atom, Axes, Axis, sizes, spatial, whole
from jaxcam._program.centers import Line

LAYOUTS = ("channels_last", "channels_first")


class Tokens(NamedTuple):
    """A layer `[B, T, c]` of tokens: those of a grid, and others before or after them.

    Attributes:
        grid: `(h, w)`, how many tokens high and wide; any number of axes.
        before: how many class and register tokens come first; None is all that are no positions.
    """

    grid: tuple[int, ...]
    before: int | None = None


# None: as the program says | a name of LAYOUTS | (h, w) of tokens | Tokens
Layout = None | str | Sequence[int] | Tokens


class Grid(NamedTuple):
    """How activations become `[B, *spatial, c]`, without what is no position.

    Args:
        shape: of the activations.
        kept: of each axis, from which entry to which the positions go.
        atoms: the sizes into which the axes fall, in their order.
        order: the atoms' order in the view.
        view: `(B, *spatial, c)`.
        space: which of the activations' axes hold positions.
        lines: where along each spatial axis the cells lie, if that is known.
    """

    shape: tuple[int, ...]
    kept: tuple[tuple[int, int], ...]
    atoms: tuple[int, ...]
    order: tuple[int, ...]
    view: tuple[int, ...]
    space: tuple[int, ...]
    lines: tuple[Line | None, ...]

    @property
    def spatial(self) -> tuple[int, ...]:
        """The sizes of the spatial axes."""
        return self.view[1:-1]

    @property
    def positions(self) -> int:
        """How many positions there are."""
        return math.prod(self.spatial)

    @property
    def plain(self) -> bool:
        """Whether the activations are `[B, *spatial, c]` as they are."""
        return self.shape == self.view and self.order == tuple(range(len(self.order)))

    def __call__(self, activations: Any) -> Any:
        """`[..., *shape]` to `[..., B, *spatial, c]`; axes in front are left as they are."""
        if self.plain:
            return activations
        front = activations.ndim - len(self.shape)
        lead = activations.shape[:front]
        inside = starmap(slice, self.kept)
        parts = activations[(..., *inside)].reshape(*lead, *self.atoms)
        moved = parts.transpose(*range(front), *(front + index for index in self.order))
        return moved.reshape(*lead, *self.view)


def find(axes: Axes, batch: int, rank: int) -> Grid | None:
    """The grid of a layer, or None where the program does not say which axes are what.

    Args:
        axes: of the activations.
        batch: B.
        rank: of the images, the batch and the channels among them.
    """
    if not axes:
        return None
    if BATCH not in _sources(axes) and axes[0].size == batch and not axes[0].atoms:
        axes = (whole(BATCH, batch), *axes[1:])
    lost = 0
    for axis in axes:
        if not axis.atoms and axis.size > 1:
            lost += 1
    sources = _sources(axes)
    # If there is one left it is the channels.
    left = lost == 1 and len(_dimensions(axes)) == rank - 2 and CHANNEL not in sources
    if lost == 0 or left:
        return _built(axes, batch)
    if _may_be_last(axes, rank):
        return _built(_channels_last(axes), batch)
    return None


def _sources(axes: Axes) -> set[str | int]:
    """Of what all the axes are parts."""
    return {atom.source for axis in axes for atom in axis.atoms}


def declared(layout: Layout, shape: Sequence[int], batch: int, name: str) -> Grid:
    """The grid that a caller says a layer has.

    Raises:
        ValueError: an unknown layout, or one that does not fit the layer's shape.
    """
    where = f"for layer {name!r} of shape {tuple(shape)}"
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise _unknown(layout)
        if len(shape) < 3:
            raise ArgumentError("layout", f"{layout!r} {where}", "a layer with spatial extent")
        if layout == "channels_first":
            inside = (whole(CHANNEL, shape[1]), *spatial(shape[2:]))
        else:
            inside = (*spatial(shape[1:-1]), whole(CHANNEL, shape[-1]))
    else:
        tokens = layout
        if not isinstance(tokens, Tokens):
            tokens = Tokens(_sizes(layout))
        inside = (_token_axis(tokens, shape, where), whole(CHANNEL, shape[-1]))
    found = None
    if shape[0] == batch:
        found = _built((whole(BATCH, batch), *inside), batch)
    if found is None:
        expected = f"the first axis to be the batch of {batch}"
        raise ArgumentError("layout", f"{layout!r} {where}", expected)
    return found


def _token_axis(tokens: Tokens, shape: Sequence[int], where: str) -> Axis:
    others = -1
    if len(shape) == 3 and tokens.grid:
        others = shape[1] - math.prod(tokens.grid)
    before = tokens.before
    if before is None:
        before = others
    if not 0 <= before <= others:
        expected = "the grid of [B, T, c] tokens and how many others come before it"
        raise ArgumentError("layout", f"{tuple(tokens)} {where}", expected)
    atoms = tuple(Atom(k, size, size) for k, size in enumerate(tokens.grid))
    return Axis(shape[1], atoms, before, others - before)


def _sizes(layout: Any) -> tuple[int, ...]:
    try:
        return tuple(map(int, layout))
    except (TypeError, ValueError):
        raise _unknown(layout) from None


def _unknown(layout: Any) -> ArgumentError:
    expected = f"{listing(LAYOUTS)}, (h, w) or jaxcam.Tokens"
    return ArgumentError("layout", repr(layout), expected)


def _may_be_last(axes: Axes, rank: int) -> bool:
    """Whether nothing known speaks against the batch first and the channels last."""
    if len(axes) != rank or not _sources(axes[-1:]) <= {CHANNEL}:
        return False
    for k, axis in enumerate(axes[1:-1]):
        if axis.extra or not _sources((axis,)) <= {k}:
            return False
    return True


def _channels_last(axes: Axes) -> Axes:
    return (axes[0], *spatial(sizes(axes[1:-1])), whole(CHANNEL, axes[-1].size))


def _built(axes: Axes, batch: int) -> Grid | None:
    atoms: list[Atom] = []
    for axis in axes:
        atoms += axis.atoms or (Atom(CHANNEL, axis.size, axis.size),)
    order: list[int] = []
    view = []
    lines = []
    for source in (BATCH, *sorted(_dimensions(axes))):
        places = _places(atoms, source)
        if places is None:
            return None
        order += places
        lines.append(atoms[places[-1]].center)
        view.append(math.prod(atoms[index].size for index in places))
    if view[0] != batch:
        return None
    rest = [index for index in range(len(atoms)) if index not in order]
    view.append(math.prod(atoms[index].size for index in rest))
    return Grid(
        shape=sizes(axes),
        kept=tuple((axis.before, axis.size - axis.after) for axis in axes),
        atoms=tuple(atom.size for atom in atoms),
        order=(*order, *rest),
        view=tuple(view),
        space=tuple(index for index, axis in enumerate(axes) if axis.positions),
        lines=tuple(lines[1:]),
    )


def _dimensions(axes: Axes) -> set[int]:
    """The dimensions of space of which there are positions."""
    found = set()
    for source in _sources(axes):
        if isinstance(source, int):
            found.add(source)
    return found


def _places(atoms: Sequence[Atom], source: str | int) -> list[int] | None:
    """Where the atoms of a source stand, slowest first; None if they do not make up all of it."""
    places = []
    for index, atom in enumerate(atoms):
        if atom.source == source:
            places.append(index)
    places.sort(key=lambda index: -atoms[index].stride)
    span = None
    for index in places:
        atom = atoms[index]
        if span is None:
            span = atom.whole
        if atom.size * atom.stride != span:
            return None
        span = atom.stride
    return places or None
