"""RISE: the mean of random masks, each weighed by the model's answer to the masked image.

The masks are made chunk by chunk, so nothing larger than one chunk of perturbed images is held.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import loops
from jaxcam._explainers.black_box import Progress, black_box
from jaxcam._ground import chunks, interpolation, space
from jaxcam._ground.dtypes import at_least_float32, cast_like
from jaxcam._ground.errors import check_above, check_whole, check_within
from jaxcam._ground.randomness import check_key
from jaxcam._program.layers import zeros_like
from jaxcam._program.narrow import Dtype
from jaxcam._program.signature import Explanation, one_answer
from jaxcam.targets import Activation, Targets


class Sums(NamedTuple):
    """What RISE accumulates, even and odd chunks apart, so that one half can check the other."""

    maps: jax.Array  # sum of y_i M_i, [2, B, (K,) H, W]
    count: jax.Array  # of masks, [2]


@one_answer(jax.Array)
def rise(
    forward: Callable,
    images: jax.Array,
    targets: Targets = None,
    *,
    num_masks: int = 8000,
    grid: int = 7,
    keep: float = 0.5,
    chunk: int = 32,
    key: jax.Array | None = None,
    activation: Activation = None,
    tolerance: float | None = None,
    host: bool = False,
    has_aux: bool = False,
    progress: Progress | None = None,
    dtype: Dtype = None,
) -> Explanation:
    """RISE: S = 1 / (N p) sum_i y_i M_i, y_i the class probability under the random mask M_i.

    A mask is a grid of zeros and ones, upsampled and shifted (`masks`); its mean is p. It
    multiplies the image as the model gets it: a masked pixel goes to 0, the mean colour of
    normalised images. All images share the masks, which do not depend on `chunk`. Costs N forward
    passes, and one if `targets` is None. The noise of S falls as 1 / sqrt(N).

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints (K classes cost no more than one),
            or a function of what `forward` returns -> y `[B]`, taken as it is.
        num_masks: N. The authors take 4000 for VGG-16, 8000 for ResNet-50.
        grid: cells of the grid per side, at least 2.
        keep: p, the probability that a cell is kept.
        chunk: how many masks are evaluated at once, at most; sets the memory, `chunk * B` images.
        key: of the random masks; None is `jax.random.key(0)`.
        activation: what makes outputs probabilities: None (softmax, or sigmoid of a single output),
            "sigmoid", "identity" (they are already), or a function, as in
            `jaxcam.targets.probabilities`.
        tolerance: None for all N masks. A number stops, after an even number of chunks at the
            earliest, once the noise of every map is at most this share of the map's spread: the
            noise is measured by comparing the map from the even chunks with that from the odd ones,
            both less their means. N then is the number of masks taken. With it the result cannot be
            differentiated in reverse.
        host: whether `forward` lives outside JAX, NumPy -> NumPy. Its calls are all of one size,
            but for a first one, of the images alone, if `targets` is None.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`, aux of
            the images as they are.
        progress: a function of (masks done, N), called after each chunk from a Python loop, which
            then takes the place of the compiled one.
        dtype: of the perturbed forward passes: None as the model has it, or "bfloat16", in which
            products take their operands and features are kept; sums stay in float32.

    Returns:
        S `[B, H, W]` float32, `[B, K, H, W]` for K targets per image. High where the class is seen.

    Raises:
        ValueError: bad images or targets, `forward` returns no `[B, N]`, a number out of range, or
            `host` or `progress` inside a transformation.
        TypeError: `forward` is a function of NumPy arrays, and `host` is False.

    References:
        Petsiuk et al., RISE, BMVC 2018, eq. 6; github.com/eclique/RISE for the masks.

    Example:
        >>> maps = jaxcam.rise(forward, images, num_masks=64, grid=4)
        >>> maps.shape
        (2, 8, 8)
    """
    _check_options(num_masks, grid, keep, tolerance)
    key = check_key(key)
    options = {"host": host, "has_aux": has_aux, "progress": progress, "dtype": dtype}
    images, box, aux = black_box(forward, images, targets, activation, **options)
    batch, *size, _ = images.shape
    plan = chunks.equal(num_masks, chunk)
    grids, shifts = draw(key, plan.padded, grid, keep, tuple(size))

    def step(sums: Sums, i: Any) -> Sums:
        first = i * plan.size
        drawn, masked = _masked(grids, shifts, first, images, plan.size)
        valid = first + np.arange(plan.size) < num_masks
        return _add(sums, i % 2, drawn, box.scores(masked), valid)

    shape = (2, batch, *box.kinds, *size)
    maps = zeros_like(jax.ShapeDtypeStruct(shape, jnp.float32), images)
    start = Sums(maps, jnp.zeros(2, jnp.float32))
    done = None
    if tolerance is not None:
        done = partial(_settled, tolerance=tolerance, spatial=len(size))
    told = chunks.telling(progress, plan)
    sums = loops.fold(step, start, plan.steps, done=done, on_host=host, progress=told)
    found = sums.maps.sum(0) / (sums.count.sum() * keep)
    if has_aux:
        return found, aux
    return found


# Masks ---------------------------------------------------------------


@partial(jax.jit, static_argnames=("count", "grid", "keep", "size"))
def draw(
    key: jax.Array, count: int, grid: int, keep: float, size: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """`count` random masks: grids `[n, s, s]` bool and shifts `[n, 2]`, each from its own key."""

    def one(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        for_cells, for_shift = jax.random.split(jax.random.fold_in(key, index))
        limits = jnp.array([_cell(side, grid) for side in size])
        cells = jax.random.bernoulli(for_cells, keep, (grid,) * len(size))
        return cells, jax.random.randint(for_shift, limits.shape, 0, limits)

    return jax.vmap(one)(jnp.arange(count))


def masks(grids: jax.Array, shifts: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """M = (R g R^T)[x : x + H, y : y + W], R the linear interpolation with mirrored borders.

    Likewise along one axis or three.

    Args:
        grids: g `[n, s, s]`, zeros and ones.
        shifts: (x, y) `[n, 2]`, from 0 to a cell's size - 1 in pixels; a cell is ceil(H / s) pixels
            high.
        size: (H, W).

    Returns:
        `[n, H, W]` float32 in [0, 1].

    References:
        generate_masks in github.com/eclique/RISE, explanations.py;
        skimage.transform.resize(order=1, mode="reflect").
    """
    cells = grids.shape[-1]
    matrices = [jnp.asarray(magnifier(side, cells), jnp.float32) for side in size]
    formula = {1: "Hh,h->H", 2: "Hh,hw,Ww->HW", 3: "Hh,hwd,Ww,Dd->HWD"}[len(size)]

    def one(cell: jax.Array, shift: jax.Array) -> jax.Array:
        parts = []
        for axis, side in enumerate(size):
            parts.append(jax.lax.dynamic_slice_in_dim(matrices[axis], shift[axis], side))
        first, *others = parts
        return jnp.einsum(formula, first, cell, *others, precision=jax.lax.Precision.HIGHEST)

    return jax.vmap(one)(grids.astype(jnp.float32), shifts)


def magnifier(side: int, cells: int) -> np.ndarray:
    """R `[(s + 1) ceil(side / s), s]`: a line of s cells to `side` pixels and a spare cell."""
    pixels = (cells + 1) * _cell(side, cells)
    return interpolation.linear(interpolation.centres(pixels, cells), cells, border="mirror")


def _cell(side: int, cells: int) -> int:
    return -(-side // cells)


@partial(jax.jit, static_argnames="count")
def _masked(
    grids: jax.Array, shifts: jax.Array, start: jax.Array, images: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """The next masks `[n, H, W]` and the images times each, `[n, B, H, W, C]`."""
    part = lambda x: jax.lax.dynamic_slice_in_dim(x, start, count)
    drawn = masks(part(grids), part(shifts), images.shape[1:-1])
    masked = at_least_float32(images)[None] * drawn[:, None, ..., None]
    return drawn, cast_like(masked, images)


@jax.jit
def _add(
    sums: Sums, half: jax.Array, drawn: jax.Array, answers: jax.Array, valid: jax.Array
) -> Sums:
    answers = jnp.where(valid.reshape(-1, *[1] * (answers.ndim - 1)), answers, 0)
    new = jnp.tensordot(answers, drawn, (0, 0), precision=jax.lax.Precision.HIGHEST)
    count = valid.sum().astype(sums.count.dtype)
    return Sums(sums.maps.at[half].add(new), sums.count.at[half].add(count))


def _settled(sums: Sums, tolerance: float, spatial: int) -> jax.Array:
    """Whether the noise of each map is within `tolerance` of its spread.

    The even and the odd half, of a and b masks, differ by independent noise, of which their joint
    mean has the share sqrt(a b) / (a + b). A constant added to a map changes no ranking, so means
    are left out.
    """
    axes = space.last(spatial)

    def norm(maps: jax.Array) -> jax.Array:
        centred = maps - maps.mean(axes, keepdims=True)
        return jnp.sqrt((centred**2).sum(axes))

    count = jnp.maximum(sums.count, 1)
    even = sums.maps[0] / count[0]
    odd = sums.maps[1] / count[1]
    noise = norm(even - odd) * jnp.sqrt(count[0] * count[1]) / count.sum()
    spread = norm(sums.maps.sum(0) / count.sum())
    return (
        (sums.count > 0).all()
        & (sums.count[0] == sums.count[1])
        & (noise <= tolerance * spread).all()
    )


def _check_options(num_masks: int, grid: int, keep: float, tolerance: float | None) -> None:
    check_whole("num_masks", num_masks, 1)
    check_whole("grid", grid, 2)
    check_within("keep", keep, 0, 1, ends="(]")
    if tolerance is not None:
        check_above("tolerance", tolerance, 0)
