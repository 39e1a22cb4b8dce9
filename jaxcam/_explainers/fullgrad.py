"""FullGrad: a score taken apart into gradients of the images and of every bias, as a map.

Of a network of ReLUs, Y = sum x G_x + sum_l sum b_l G_l: what the images and every bias, times
their gradients, add up to. Biases are found in the program: what is added to a value that depends
on the images and does not itself depend on them. Constants that follow each other with nothing but
constant factors between them, as a batch norm's mean and bias do, are one bias, as in one affine
layer.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._ground import primitives, space
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError, check_choice
from jaxcam._program import axes as axes_of
from jaxcam._program import axis_rules, grids, quick, trace
from jaxcam._program.axes import Axes
from jaxcam._program.checks import check_images
from jaxcam._program.grids import Grid
from jaxcam._program.layers import Forward, zeros_like
from jaxcam._program.question import Question, ask
from jaxcam._program.signature import Explanation, one_answer
from jaxcam._program.versions import over_versions
from jaxcam.maps import resize
from jaxcam.targets import Targets, scores

RESCALE = ("layer", "channel", None)
_KEPT = primitives.IDENTITIES | primitives.CONVERSIONS
_SCALED = frozenset({primitives.PRODUCT, primitives.QUOTIENT, primitives.NEGATION})
_PLUS = primitives.ADDITIONS


class Box(NamedTuple):
    """A value, and what is known of it if it depends on the images."""

    value: Any
    axes: Axes = ()
    active: bool = False
    offset: Any = None  # what its affine chain has added so far
    spilled: Any = None  # a list: where the offset has been given its seed, if it has been


class Place(NamedTuple):
    """Where a bias stands: its value's shape, and how it becomes `[B, *spatial, c]`, if at all."""

    shape: tuple[int, ...]
    dtype: Any
    grid: Grid | None


@one_answer(jax.Array)
def fullgrad(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    rescale: str | None = "layer",
    has_aux: bool = False,
) -> Explanation:
    """FullGrad: L = sum_k psi(x G_x)_k + sum_l sum_k psi(b_l G_l)_k, b_l the bias of every layer.

    psi takes the magnitude, scales it to [0, 1] and resizes it to the images. Biases without
    positions, as those of a dense head, are left out. Costs a forward and a backward pass.

    Args:
        forward: as in `grad_cam`.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: as in `grad_cam`.
        rescale: what psi scales to [0, 1]: "layer" (all that belongs to the images, and to a bias,
            as the authors' code), "channel" (each map, as pytorch-grad-cam), or None (nothing, so
            that magnitudes stay comparable).
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Maps `[B, H, W]` float32, at least 0; `[B, K, H, W]` for K targets per image.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `rescale`; a model with layers inside a
            loop or inside a function with a derivative of its own, where biases cannot be seen.

    References:
        Srinivas and Fleuret, Full-gradient representation for neural network visualization, NeurIPS
        2019: full-gradients, FullGrad saliency and implicit biases.

    Example:
        >>> maps = jaxcam.fullgrad(forward, images)
        >>> maps.shape, peaks(maps)
        ((2, 8, 8), [(1, 5), (5, 3)])
    """
    check_choice("rescale", rescale, RESCALE)
    check_images(images)
    question = ask(forward, images, targets, layer="pixels", has_aux=has_aux)
    inputs, biases, aux = full_gradients(question)
    shown = []
    for term, grid in [(inputs, question.grids["pixels"]), *biases]:
        if grid is not None and grid.spatial:
            shown.append(_shown(grid(term), images.shape[1:-1], rescale))
    maps = sum(shown[1:], start=shown[0])
    if inputs.ndim > images.ndim:
        maps = jnp.moveaxis(maps, 0, 1)
    return question.answer({"pixels": maps}, aux)


def full_gradients(question: Question) -> tuple[jax.Array, list, Any]:
    """`(x G_x, [(b_l G_l, grid of l)], aux)`, K targets in front of each.

    All of them summed are the score, of a network that is linear by pieces.
    """
    images = question.images
    places: list[Place] = []
    jax.eval_shape(lambda x: _evaluate(question, x, _recording(places)), images)

    def seeded(seeds: list) -> tuple:
        values = iter(seeds[1:])
        shifted = images * (1 + seeds[0])
        output, aux = question.parted(_evaluate(question, shifted, lambda box: next(values)))
        return output, aux

    seeds = []
    for like in (images, *places):
        seeds.append(zeros_like(jax.ShapeDtypeStruct(like.shape, like.dtype), images))
    output, pull, aux = jax.vjp(seeded, seeds, has_aux=True)
    score = lambda z: scores(z, question.within, len(images))
    values, pull_scores = jax.vjp(score, output)
    back = lambda each: pull(pull_scores(each)[0])[0]
    if values.ndim == 1:
        found = back(jnp.ones_like(values))
    else:
        basis = jnp.eye(values.shape[1], dtype=values.dtype)[:, None]
        found = over_versions(back)(jnp.broadcast_to(basis, (values.shape[1], *values.shape)))
    found = list(map(at_least_float32, found))
    known = map(attrgetter("grid"), places)
    return found[0], list(zip(found[1:], known, strict=True)), aux


# Running a program with a seed at each bias ------------------------------


def _recording(places: list[Place]) -> Callable:
    """Notes where a seed is asked for, and gives zeros."""

    def seed(place: Place) -> jax.Array:
        places.append(place)
        return jnp.zeros(place.shape, place.dtype)

    return seed


def _evaluate(question: Question, images: jax.Array, seed: Callable) -> Any:
    """What the model returns, with b (1 + e) for each bias b, e = `seed(its place)`."""
    program = question.program
    batch = len(images)

    def spill(box: Box) -> Any:
        """The value, its offset b become b (1 + e); once for all who ask."""
        if box.offset is None:
            return box.value
        if not box.spilled:
            grid = grids.find(box.axes, batch, images.ndim)
            place = Place(box.value.shape, box.value.dtype, grid)
            box.spilled.append(box.value + box.offset * seed(place))
        return box.spilled[0]

    def visit(path: trace.Path, eqn: Any, boxes: list[Box]) -> list[Box]:
        del path
        if not any(map(attrgetter("active"), boxes)):
            return list(map(_constant, quick.bind(eqn, list(map(attrgetter("value"), boxes)))))
        axes = axis_rules.of_results(eqn, list(map(attrgetter("axes"), boxes)))
        if _hides_bias(eqn):
            got = f"a model with sums inside {trace.describe(eqn)!r}, where biases cannot be seen"
            raise ArgumentError("forward", got, "one whose loops are unrolled, without such calls")
        if _affine(eqn.primitive.name, boxes):
            return [_chained(eqn, boxes, axes[0])]
        results = quick.bind(eqn, list(map(spill, boxes)))
        found = []
        for value, each in zip(results, axes, strict=True):
            found.append(Box(value, each, active=_floating(value)))
        return found

    start = Box(images, axes_of.of_images(images.shape), active=True)
    opens = lambda path, eqn: eqn.primitive.name in primitives.CALLS
    outputs = trace.evaluate(program.closed, [start], visit, opens=opens, lift=_constant)
    structure = jax.tree.structure(program.shapes)
    return jax.tree.unflatten(structure, list(map(spill, outputs)))


def _hides_bias(eqn: Any) -> bool:
    """Whether layers may be inside: a loop or branch with sums, a call with products of arrays."""
    name = eqn.primitive.name
    if name in primitives.LOOPS | primitives.BRANCHES:
        return trace.contains(eqn, lambda inner: inner.primitive.name in _PLUS)
    if name in primitives.CUSTOM_DERIVATIVES:
        return trace.contains(eqn, lambda inner: inner.primitive.name in primitives.LINEAR)
    return False


def _affine(name: str, boxes: Sequence[Box]) -> bool:
    """Whether an equation is value by value and affine in one operand, the others constant."""
    active = list(map(attrgetter("active"), boxes))
    if name == primitives.QUOTIENT and not active[0]:
        return False
    return sum(active) == 1 and name in _KEPT | _SCALED | _PLUS


def _chained(eqn: Any, boxes: Sequence[Box], axes: Axes) -> Box:
    """The result of an affine equation, with what has been added so far."""
    name = eqn.primitive.name
    values = list(map(attrgetter("value"), boxes))
    (value,) = quick.bind(eqn, values)
    index = list(map(attrgetter("active"), boxes)).index(True)
    offset = boxes[index].offset
    if name in _PLUS and offset is None:
        offset = jnp.zeros_like(values[index])
    if offset is None:
        return Box(value, axes, active=True)
    values[index] = offset
    (shifted,) = quick.bind(eqn, values)
    return Box(value, axes, active=True, offset=shifted, spilled=[])


def _constant(value: Any) -> Box:
    return Box(value, axes_of.unknown(jnp.shape(value)))


def _floating(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


# From gradients to a map -------------------------------------------------


def _shown(term: jax.Array, size: tuple[int, ...], rescale: str | None) -> jax.Array:
    """The sum of psi over channels: `[..., B, h, w, c]` -> `[..., B, H, W]`."""
    found = jnp.abs(term)
    every = space.last(len(size) + 1)
    axes = {"layer": every, "channel": every[:-1]}
    if rescale is not None:
        low = found.min(axes[rescale], keepdims=True)
        span = found.max(axes[rescale], keepdims=True) - low
        found = (found - low) / jnp.where(span == 0, 1, span)
    # Resizing is linear: of the sum, not of every channel.
    return resize(found.sum(-1), size)
