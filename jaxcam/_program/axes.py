"""What the axes of a program's values stand for: the batch, positions of the image, tokens.

Every axis is a product of atoms, as in einops: a reshape splits and joins them, a transposition
moves them, a convolution makes new ones. So `[B, h, w, c] -> [B, h w, c]` leaves an axis of two
atoms, a window of attention an axis of the batch and of parts of both sides, and what was
concatenated to the tokens stands before or after them. Nothing is run.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

BATCH = "batch"
CHANNEL = "channel"


class Atom(NamedTuple):
    """A factor of an axis: every `stride`-th index of something of which there are `whole`."""

    source: str | int  # BATCH, CHANNEL, or the number of a spatial dimension
    whole: int  # how many positions the source has
    size: int
    stride: int = 1


class Axis(NamedTuple):
    """An axis of a value: its atoms, slowest first; none if nothing is known of it."""

    size: int
    atoms: tuple[Atom, ...] = ()
    before: int = 0  # entries before the atoms' own: class tokens, say
    after: int = 0

    @property
    def positions(self) -> tuple[Atom, ...]:
        """The atoms that are positions in space."""
        return tuple(atom for atom in self.atoms if isinstance(atom.source, int))

    @property
    def extra(self) -> int:
        """How many entries are no product of the atoms."""
        return self.before + self.after


Axes = tuple[Axis, ...]
_names = lambda text: frozenset(text.split())
# Element by element, whatever the number of operands: axes stay, positions are not mixed.
ELEMENTWISE = _names("""
    add add_any sub mul div rem pow integer_pow max min select_n clamp neg sign abs exp exp2 expm1
    log log1p sqrt rsqrt cbrt square logistic tanh erf erfc erf_inv sin cos tan sinh cosh asinh
    acosh atanh asin acos atan atan2 floor ceil round nextafter convert_element_type is_finite not
    and or xor eq ne lt le gt ge name copy reduce_precision optimization_barrier stop_gradient
    sharding_constraint custom_jvp_call custom_vjp_call
""")


def whole(source: str | int, size: int) -> Axis:
    """An axis that is all of one thing."""
    return Axis(size, (Atom(source, size, size),))


def unknown(shape: Sequence[int]) -> Axes:
    """Axes of which nothing is known."""
    return tuple(Axis(size) for size in shape)


def of_images(shape: Sequence[int]) -> Axes:
    """The batch first, the channels last, positions between."""
    spatial = [whole(k, size) for k, size in enumerate(shape[1:-1])]
    return (whole(BATCH, shape[0]), *spatial, whole(CHANNEL, shape[-1]))


def of_results(eqn: Any, operands: Sequence[Axes]) -> list[Axes]:
    """The axes of an equation's results, given those of its operands."""
    shapes = [variable.aval.shape for variable in eqn.outvars]
    name = eqn.primitive.name
    if name == "split":
        return _split(eqn, operands, shapes)
    if name in _RULES:
        found = _RULES[name](eqn, operands, shapes[0])
        return [found] + [_fitting(found, shape) for shape in shapes[1:]]
    if name in ELEMENTWISE:
        return [_elementwise(operands, shape) for shape in shapes]
    return [unknown(shape) for shape in shapes]


def mixes(eqn: Any, index: int, operand: Axes) -> bool:
    """Whether a result of an equation may depend on several positions of its operand `index`."""
    name = eqn.primitive.name
    if name in _ALONG:
        return any(operand[axis].positions for axis in _ALONG[name](eqn, index))
    return name in _NEIGHBOURS or name not in ELEMENTWISE | _MOVES


def joins_batch(eqn: Any, index: int, operand: Axes) -> bool:
    """Whether an equation sums over or chooses from the images of a batch."""
    name = eqn.primitive.name
    if name not in _ALONG:
        return False
    atoms = [atom for axis in _ALONG[name](eqn, index) for atom in operand[axis].atoms]
    return any(atom.source == BATCH and atom.whole > 1 for atom in atoms)


def leaves_out(eqn: Any, operand: Axes) -> bool:
    """Whether an equation takes only what stands beside the positions: `tokens[:, 0]`."""
    if eqn.primitive.name != "slice":
        return False
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    for axis, start, stop in zip(operand, starts, stops, strict=True):
        first = axis.before
        last = axis.size - axis.after
        if axis.positions and axis.extra and (stop <= first or start >= last):
            return True
    return False


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
        found.append(known.pop() if len(known) == 1 else Axis(size))
    return tuple(found)


def _fitting(axes: Axes, shape: Sequence[int]) -> Axes:
    same = len(axes) == len(shape) and all(a.size == n for a, n in zip(axes, shape, strict=True))
    return axes if same else unknown(shape)


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
    rest = [atom for atom in atoms if atom.size != 1]
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
        known = taken and all(atom.source != "" for atom in taken)
        found.append(Axis(size, _joined(taken)) if known else Axis(size))
    return tuple(found)


def _joined(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Neighbours of one source that make a larger part of it, as one atom."""
    joined: list[Atom] = []
    for atom in atoms:
        last = joined[-1] if joined else None
        if last and last.source == atom.source and last.stride == atom.size * atom.stride:
            joined[-1] = atom._replace(size=last.size * atom.size)
        else:
            joined.append(atom)
    return tuple(joined)


def _around(axes: Axes, shape: Sequence[int]) -> Axes:
    """A reshape of the other axes leaves one with class tokens as it is: heads split and joined."""
    (held,) = [axis for axis in axes if axis.extra] if _one(axes) else (None,)
    places = [index for index, size in enumerate(shape) if held and size == held.size]
    if held is None or len(places) != 1:
        return unknown(shape)
    (place,) = places
    index = axes.index(held)
    low = _reshape(None, [axes[:index]], shape[:place])
    high = _reshape(None, [axes[index + 1 :]], shape[place + 1 :])
    same = math.prod(a.size for a in axes[:index]) == math.prod(shape[:place])
    return (*low, held, *high) if same else unknown(shape)


def _one(axes: Axes) -> bool:
    return sum(axis.extra > 0 for axis in axes) == 1


def _transpose(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del shape
    return tuple(operands[0][axis] for axis in eqn.params["permutation"])


def _squeeze(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del shape
    gone = {axis % len(operands[0]) for axis in eqn.params["dimensions"]}
    return tuple(axis for index, axis in enumerate(operands[0]) if index not in gone)


def _expand_dims(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    new = {axis % len(shape) for axis in eqn.params["dimensions"]}
    old = iter(operands[0])
    return tuple(Axis(1) if index in new else next(old) for index in range(len(shape)))


def _broadcast_in_dim(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    found = list(unknown(shape))
    for axis, place in zip(operands[0], eqn.params["broadcast_dimensions"], strict=True):
        if axis.size == shape[place]:
            found[place] = axis
    return tuple(found)


def _reduce(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    kept = [a for index, a in enumerate(operands[0]) if index not in eqn.params["axes"]]
    return _fitting(tuple(kept), shape)


def _window(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """A pool: another number of positions of the same dimension."""
    del eqn
    return tuple(_resized(axis, size) for axis, size in zip(operands[0], shape, strict=True))


def _resized(axis: Axis, size: int) -> Axis:
    """An axis of one source at another resolution; nothing is known of one of several."""
    if size == axis.size:
        return axis
    if len(axis.atoms) == 1 and not axis.extra and axis.atoms[0].source != BATCH:
        return whole(axis.atoms[0].source, size)
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
    for k, (before, after) in enumerate(zip(space_in, space_out, strict=True)):
        old = operands[0][before]
        found[after] = _resized(old, shape[after]) if old.atoms else whole(k, shape[after])
    return tuple(found)


def _dot_general(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Batch axes, then the free ones of the left and of the right operand."""
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = operands
    found = [_either(left[a], right[b]) for a, b in zip(left_batch, right_batch, strict=True)]
    for axes, gone in ((left, {*left_sum, *left_batch}), (right, {*right_sum, *right_batch})):
        constant = not any(axis.atoms for axis in axes)  # a matrix of parameters: its axis is new
        for index, axis in enumerate(axes):
            if index not in gone:
                found.append(whole(CHANNEL, axis.size) if constant else axis)
    return _fitting(tuple(found), shape)


def _either(first: Axis, second: Axis) -> Axis:
    return first if first.atoms else second


def _concatenate(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Along an axis of positions, what is no position stands before or after them."""
    along = eqn.params["dimension"]
    others = [tuple(a for i, a in enumerate(axes) if i != along) for axes in operands]
    found = list(_elementwise(others, [n for i, n in enumerate(shape) if i != along]))
    parts = [axes[along] for axes in operands]
    held = [index for index, axis in enumerate(parts) if axis.positions]
    joined = Axis(shape[along])
    if all(axis.atoms and axis.atoms[0].source == CHANNEL for axis in parts):
        joined = whole(CHANNEL, shape[along])
    if len(held) == 1:
        (index,) = held
        before = parts[index].before + sum(axis.size for axis in parts[:index])
        after = parts[index].after + sum(axis.size for axis in parts[index + 1 :])
        joined = Axis(shape[along], parts[index].atoms, before, after)
    found.insert(along, joined)
    return tuple(found)


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
    return _resized(axis, size)


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


def _pad(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del eqn
    return tuple(_resized(axis, size) for axis, size in zip(operands[0], shape, strict=True))


def _same(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del eqn
    return _fitting(operands[0], shape)


def _lost(eqn: Any, operands: Sequence[Axes], shape: Sequence[int]) -> Axes:
    del eqn, operands
    return unknown(shape)


_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin")
_WINDOWS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window")
_CUMULATIVE = ("cumsum", "cummax", "cummin", "cumprod", "cumlogsumexp")
_RULES: dict[str, Callable[[Any, Sequence[Axes], Sequence[int]], Axes]] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_WINDOWS, _window),
    **dict.fromkeys((*_CUMULATIVE, "sort", "rev"), _same),
    **dict.fromkeys(("gather", "dynamic_slice", "iota", "top_k"), _lost),
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "broadcast_in_dim": _broadcast_in_dim,
    "conv_general_dilated": _convolution,
    "dot_general": _dot_general,
    "concatenate": _concatenate,
    "slice": _slice,
    "pad": _pad,
}

# Mixing ------------------------------------------------------------

_MOVES = _names("""
    reshape transpose squeeze expand_dims broadcast_in_dim slice split concatenate pad rev
""")
_NEIGHBOURS = frozenset((*_WINDOWS, *_CUMULATIVE, "sort", "conv_general_dilated"))
# Which axes of an operand an equation sums over or chooses from.
_ALONG: dict[str, Callable[[Any, int], Sequence[int]]] = {
    **dict.fromkeys(_REDUCTIONS, lambda eqn, index: eqn.params["axes"]),
    "dot_general": lambda eqn, index: eqn.params["dimension_numbers"][0][index],
}
