"""The grid of a layer: how its activations, whatever their axes, become `[B, *spatial, c]`.

The program says which axes are the batch, positions and channels (`axes`). Where it does not,
images and layers of their rank are taken to have the batch first and the channels last, as
everywhere here, unless that contradicts what is known; nothing else is guessed. A caller may say
what it is: `layout`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxcam._program.axes import BATCH, CHANNEL, Atom, Axes, Axis, whole

LAYOUTS = ("channels_last", "channels_first")


class Tokens(NamedTuple):
    """A layer `[B, T, c]` of tokens: those of a grid, and others before or after them.

    Args:
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
    """

    shape: tuple[int, ...]
    kept: tuple[tuple[int, int], ...]
    atoms: tuple[int, ...]
    order: tuple[int, ...]
    view: tuple[int, ...]
    space: tuple[int, ...]

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
        inside = tuple(slice(*each) for each in self.kept)
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
    if not any(_has(axis, BATCH) for axis in axes) and axes[0].size == batch and not axes[0].atoms:
        axes = (whole(BATCH, batch), *axes[1:])
    lost = [index for index, axis in enumerate(axes) if not axis.atoms and axis.size > 1]
    dimensions = {atom.source for axis in axes for atom in axis.positions}
    if len(lost) == 1 and len(dimensions) == rank - 2 and not any(_has(a, CHANNEL) for a in axes):
        return _built(axes, batch)  # the one that is left is the channels
    if lost:
        return _built(_channels_last(axes, batch), batch) if _may_be_last(axes, rank) else None
    return _built(axes, batch)


def declared(layout: Layout, shape: Sequence[int], batch: int, name: str) -> Grid:
    """The grid that a caller says a layer has.

    Raises:
        ValueError: an unknown layout, or one that does not fit the layer's shape.
    """
    inner = tuple(shape[1:-1])
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            known = ", ".join(map(repr, LAYOUTS))
            raise ValueError(f"layout: got {layout!r}, expected {known}, (h, w) or jaxcam.Tokens")
        if len(shape) < 3:
            raise ValueError(f"layout: got {layout!r} for layer {name!r} of shape {tuple(shape)}")
        first = layout == "channels_first"
        sizes = tuple(shape[2:]) if first else inner
        spatial = [whole(k, size) for k, size in enumerate(sizes)]
        channels = whole(CHANNEL, shape[1] if first else shape[-1])
        inside = (channels, *spatial) if first else (*spatial, channels)
    else:
        tokens = layout if isinstance(layout, Tokens) else Tokens(_sizes(layout))
        inside = (_token_axis(tokens, shape, name), whole(CHANNEL, shape[-1]))
    found = _built((whole(BATCH, batch), *inside), batch) if shape[0] == batch else None
    if found is None:
        raise ValueError(
            f"layout: got {layout!r} for layer {name!r} of shape {tuple(shape)}, expected the "
            f"first axis to be the batch of {batch}"
        )
    return found


def _token_axis(tokens: Tokens, shape: Sequence[int], name: str) -> Axis:
    count = math.prod(tokens.grid)
    others = (shape[1] if len(shape) == 3 else 0) - count
    before = others if tokens.before is None else tokens.before
    if len(shape) != 3 or not tokens.grid or not 0 <= before <= others:
        raise ValueError(
            f"layout: got {tuple(tokens)} for layer {name!r} of shape {tuple(shape)}, expected the "
            "grid of [B, T, c] tokens and how many others come before it"
        )
    atoms = tuple(Atom(k, size, size) for k, size in enumerate(tokens.grid))
    return Axis(shape[1], atoms, before, others - before)


def _sizes(layout: Any) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in layout)
    except (TypeError, ValueError):
        known = ", ".join(map(repr, LAYOUTS))
        raise ValueError(
            f"layout: got {layout!r}, expected {known}, (h, w) or jaxcam.Tokens"
        ) from None


def _has(axis: Axis, source: str) -> bool:
    return any(atom.source == source for atom in axis.atoms)


def _may_be_last(axes: Axes, rank: int) -> bool:
    """Whether nothing known speaks against the batch first and the channels last."""
    if len(axes) != rank or _has(axes[-1], BATCH) or axes[-1].positions:
        return False
    for k, axis in enumerate(axes[1:-1]):
        if axis.extra or any(atom.source != k for atom in axis.atoms):
            return False
    return True


def _channels_last(axes: Axes, batch: int) -> Axes:
    spatial = [whole(k, axis.size) for k, axis in enumerate(axes[1:-1])]
    return (axes[0], *spatial, whole(CHANNEL, axes[-1].size))


def _built(axes: Axes, batch: int) -> Grid | None:
    atoms: list[Atom] = []
    for axis in axes:
        atoms += axis.atoms or (Atom(CHANNEL, axis.size, axis.size),)
    dimensions = sorted({atom.source for axis in axes for atom in axis.positions})
    groups = []
    for source in (BATCH, *dimensions):
        places = _places(atoms, source)
        if places is None:
            return None
        groups.append(places)
    spent = [index for group in groups for index in group]
    rest = [index for index in range(len(atoms)) if index not in spent]
    sizes = [math.prod(atoms[index].size for index in group) for group in (*groups, rest)]
    if sizes[0] != batch:
        return None
    return Grid(
        shape=tuple(axis.size for axis in axes),
        kept=tuple((axis.before, axis.size - axis.after) for axis in axes),
        atoms=tuple(atom.size for atom in atoms),
        order=(*spent, *rest),
        view=tuple(sizes),
        space=tuple(index for index, axis in enumerate(axes) if axis.positions),
    )


def _places(atoms: Sequence[Atom], source: str | int) -> list[int] | None:
    """Where the atoms of a source stand, slowest first; None if they do not make up all of it."""
    places = [index for index, atom in enumerate(atoms) if atom.source == source]
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
