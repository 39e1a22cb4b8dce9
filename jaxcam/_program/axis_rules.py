"""What an equation does to the axes of its operands: a rule for each primitive that moves them."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxcam._ground import primitives
from jaxcam._program import centers
from jaxcam._program.axes import BATCH, CHANNEL, Atom, Axes, Axis, sizes, unknown, whole
from jaxcam._program.centers import STAY, Move

# Element by element, whatever the number of operands: axes stay, positions are not mixed.
ELEMENTWISE = (
    primitives.ELEMENTWISE
    | primitives.IDENTITIES
    | primitives.CUSTOM_DERIVATIVES
    | {primitives.STOP}
)


def of_results(eqn: Any, operands: Sequence[Axes]) -> list[Axes]:
    """The axes of an equation's results, given those of its operands."""
    shapes = [variable.aval.shape for variable in eqn.outvars]
    name = eqn.primitive.name
    if name == "split":
        return _split(eqn, operands, shapes)
    if name in _RULES:
        first = _RULES[name](eqn, operands, shapes[0])
        return [first, *map(partial(_fitting, first), shapes[1:])]
    if name in ELEMENTWISE:
        return list(map(partial(_elementwise, operands), shapes))
    return list(map(unknown, shapes))


# Rules ------------------------------------------------------------


def _elementwise(operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Of each axis what an operand of this size knows; nothing where two operands differ."""
    found = []
    for index, size in enumerate(shape):
        known: set[Axis] = set()
        for axes in operands:
            fits = len(axes) == len(shape) and axes[index].size == size
            if fits and axes[index].atoms:
                known.add(axes[index])
        found.append(_agreed(known, size))
    return tuple(found)


def _agreed(known: set[Axis], size: int) -> Axis:
    """The axis that several values have in common; what lies at two places lies between them."""
    places = []
    bare = set()
    for axis in known:
        places.append([atom.line for atom in axis.atoms])
        bare.add(axis._replace(atoms=tuple(atom._replace(line=None) for atom in axis.atoms)))
    if len(bare) != 1:
        return Axis(size)
    (axis,) = bare
    lines = map(centers.between, zip(*places, strict=True))
    atoms = map(lambda atom, line: atom._replace(line=line), axis.atoms, lines)
    return axis._replace(atoms=tuple(atoms))


def _fitting(axes: Axes, shape: Sequence[int]) -> Axes:
    if sizes(axes) != tuple(shape):
        return unknown(shape)
    return axes


def _reshape(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Atoms in their order, cut where the new axes end."""
    del eqn
    atoms: list[Atom] = []
    for axis in operands[0]:
        if axis.extra:
            return _around(operands[0], shape)
        atoms += axis.atoms or (Atom("", axis.size, axis.size),)
    return _dealt(atoms, shape)


def _dealt(atoms: list[Atom], shape: Sequence[int]) -> Axes:
    """Axes of the given sizes made of atoms in order; an atom may be split between two axes."""
    rest = list(filter(lambda atom: atom.size != 1, atoms))
    found = []
    for size in shape:
        taken: list[Atom] = []
        left = size
        while left > 1 and rest:
            atom = rest.pop(0)
            if left % atom.size == 0:
                taken.append(atom)
                left //= atom.size
            elif atom.size % left == 0:
                inner = atom.size // left
                taken.append(atom._replace(size=left, stride=atom.stride * inner))
                rest.insert(0, atom._replace(size=inner))
                left = 1
            else:
                return unknown(shape)
        found.append(Axis(size, _joined(taken)))
    return tuple(found)


def _joined(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Neighbours of one source that make a larger part of it, as one; none if any is unknown."""
    joined: list[Atom] = []
    for atom in atoms:
        if atom.source == "":
            return ()
        if joined and _continues(joined[-1], atom):
            joined[-1] = atom._replace(size=joined[-1].size * atom.size)
        else:
            joined.append(atom)
    return tuple(joined)


def _continues(last: Atom, atom: Atom) -> bool:
    return last.source == atom.source and last.stride == atom.size * atom.stride


def _around(axes: Axes, shape: Sequence[int]) -> Axes:
    """A reshape of the other axes leaves one with class tokens as it is: heads split and joined."""
    held = list(filter(lambda axis: axis.extra > 0, axes))
    if len(held) != 1 or list(shape).count(held[0].size) != 1:
        return unknown(shape)
    place = list(shape).index(held[0].size)
    index = axes.index(held[0])
    if math.prod(sizes(axes[:index])) != math.prod(shape[:place]):
        return unknown(shape)
    low = _reshape(None, [axes[:index]], shape[:place])
    high = _reshape(None, [axes[index + 1 :]], shape[place + 1 :])
    return (*low, held[0], *high)


def _transpose(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del shape
    return tuple(map(operands[0].__getitem__, eqn.params["permutation"]))


def _squeeze(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del shape
    return _without(operands[0], eqn.params["dimensions"])


def _expand_dims(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    found = list(operands[0])
    for index in sorted(axis % len(shape) for axis in eqn.params["dimensions"]):
        found.insert(index, Axis(1))
    return tuple(found)


def _broadcast_in_dim(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    found = list(unknown(shape))
    for axis, place in zip(operands[0], eqn.params["broadcast_dimensions"], strict=True):
        if axis.size == shape[place]:
            found[place] = axis
    return tuple(found)


def _reduce(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    return _fitting(_without(operands[0], eqn.params["axes"]), shape)


def _without(axes: Axes, gone: Sequence[int]) -> Axes:
    found = list(axes)
    for index in sorted((axis % len(axes) for axis in gone), reverse=True):
        del found[index]
    return tuple(found)


def _window(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """A pool or a padding: another number of positions of the same dimension, somewhere else."""
    return tuple(map(_resized, operands[0], shape, centers.moves(eqn)))


def _resized(axis: Axis, size: int, move: Move) -> Axis:
    """An axis of one source at another resolution; nothing is known of one of several."""
    if size == axis.size and move == STAY:
        return axis
    if len(axis.atoms) == 1 and not axis.extra and axis.atoms[0].source != BATCH:
        atom = axis.atoms[0]
        return whole(atom.source, size, centers.moved(atom.center, move))
    if size == axis.size and move.scale > 0:
        return axis._replace(atoms=tuple(atom._replace(line=None) for atom in axis.atoms))
    return Axis(size)


def _convolution(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """The dimension numbers say which axes are positions, whatever came in."""
    numbers = eqn.params["dimension_numbers"]
    found = list(unknown(shape))
    batch_in, _, *space_in = numbers.lhs_spec
    batch_out, features, *space_out = numbers.out_spec
    found[features] = whole(CHANNEL, shape[features])
    if eqn.params["batch_group_count"] == 1:
        found[batch_out] = operands[0][batch_in]
    for k, move in enumerate(centers.moves(eqn)):
        old = operands[0][space_in[k]]
        after = space_out[k]
        found[after] = whole(k, shape[after])
        if old.atoms:
            found[after] = _resized(old, shape[after], move)
    return tuple(found)


def _dot_general(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Batch axes, then the free ones of the left and of the right operand."""
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = operands
    found = []
    for a, b in zip(left_batch, right_batch, strict=True):
        known = left[a]
        if not known.atoms:
            known = right[b]
        found.append(known)
    found += _free(left, (*left_sum, *left_batch))
    found += _free(right, (*right_sum, *right_batch))
    return _fitting(tuple(found), shape)


def _free(axes: Axes, gone: Sequence[int]) -> Axes:
    """The axes of a factor that a product keeps."""
    kept = _without(axes, gone)
    for axis in axes:
        if axis.atoms:
            return kept
    # A matrix of parameters: its axis is new.
    return tuple(whole(CHANNEL, axis.size) for axis in kept)


def _concatenate(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Along an axis of positions, what is no position stands before or after them."""
    along = eqn.params["dimension"]
    others = []
    parts = []
    for axes in operands:
        others.append(_without(axes, [along]))
        parts.append(axes[along])
    rest = list(shape)
    del rest[along]
    found = list(_elementwise(others, rest))
    found.insert(along, _row(parts, shape[along]))
    return tuple(found)


def _row(parts: Sequence[Axis], size: int) -> Axis:
    """Axes one after the other."""
    held = []
    channels = 0
    for index, axis in enumerate(parts):
        if axis.positions:
            held.append(index)
        if axis.atoms and axis.atoms[0].source == CHANNEL:
            channels += 1
    if len(held) == 1:
        (index,) = held
        before = parts[index].before + sum(sizes(tuple(parts[:index])))
        after = parts[index].after + sum(sizes(tuple(parts[index + 1 :])))
        return Axis(size, parts[index].atoms, before, after)
    if channels == len(parts):
        return whole(CHANNEL, size)
    return Axis(size)


def _slice(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    found = []
    strides = eqn.params["strides"] or (1,) * len(shape)
    limits = zip(eqn.params["start_indices"], eqn.params["limit_indices"], strides, strict=True)
    for axis, (start, stop, stride) in zip(operands[0], limits, strict=True):
        found.append(_sliced(axis, start, stop, stride))
    return tuple(found)


def _sliced(axis: Axis, start: int, stop: int, stride: int) -> Axis:
    size = -(-(stop - start) // stride)
    if size == axis.size:
        return axis
    last = axis.size - axis.after
    if axis.extra and stride == 1 and start <= axis.before and stop >= last:
        return axis._replace(size=size, before=axis.before - start, after=stop - last)
    return _resized(axis, size, Move(start, stride))


def _split(eqn: Any, operands: Sequence[Axes], shapes: Sequence[Sequence[int]]) -> list[Axes]:
    """Slices, one after the other."""
    along = eqn.params["axis"]
    start = 0
    found = []
    for shape in shapes:
        part = list(operands[0])
        part[along] = _sliced(part[along], start, start + shape[along], 1)
        found.append(tuple(part))
        start += shape[along]
    return found


def _reversed(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    found = list(operands[0])
    for index in eqn.params["dimensions"]:
        found[index] = _resized(found[index], shape[index], Move(shape[index] - 1, -1))
    return tuple(found)


def _unstack(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Of each result: `q, k, v = tokens`."""
    return _fitting(_without(operands[0], [eqn.params["axis"]]), shape)


def _stack(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    along = eqn.params["axis"]
    rest = list(shape)
    del rest[along]
    found = list(_elementwise(operands, rest))
    found.insert(along, Axis(shape[along]))
    return tuple(found)


def _sorted(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Along the axis that is sorted an index stands for no position."""
    found = list(_same(eqn, operands, shape))
    index = eqn.params["dimension"]
    found[index] = Axis(shape[index])
    return tuple(found)


def _same(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del eqn
    return _fitting(operands[0], shape)


def _lost(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del eqn, operands
    return unknown(shape)


_RULES: dict[str, Callable[[Any, Sequence[Axes], Sequence[int]], Axes]] = {
    **dict.fromkeys(primitives.REDUCTIONS, _reduce),
    **dict.fromkeys(primitives.WINDOWS | {primitives.PAD}, _window),
    **dict.fromkeys(primitives.CUMULATIVE, _same),
    **dict.fromkeys(("gather", "dynamic_slice", "iota", "top_k"), _lost),
    "rev": _reversed,
    "sort": _sorted,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "broadcast_in_dim": _broadcast_in_dim,
    primitives.CONV: _convolution,
    primitives.DENSE: _dot_general,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    primitives.SLICE: _slice,
}
