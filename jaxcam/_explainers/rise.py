"""RISE, and what it shares with LIME: a black box is asked about perturbed images, chunk by chunk.

Nothing is known of the model but its answers, so it may be any function, also one outside JAX: then
the loop over chunks runs in Python and calls it between compiled pieces (`host=True`). Else there
is one compiled loop. Either way nothing larger than one chunk of perturbed images is held.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import loops
from jaxcam._program.layers import cast_like, check_images
from jaxcam._program.trace import check_forward
from jaxcam.targets import Activation, Targets, check, concrete, confidence, resolve

# (done, total) -> anything; called on the host after each chunk
Progress = Callable[[int, int], Any]


class BlackBox(NamedTuple):
    """A model that can only be asked."""

    ask: Callable[[jax.Array], Any]  # images [M, H, W, C] -> outputs [M, N]
    targets: jax.Array | Callable  # resolved: [B], [B, K] or a function of the outputs
    activation: Activation  # of the outputs, see `jaxcam.targets.probabilities`

    def scores(self, images: jax.Array) -> jax.Array:
        """Scores `[n, B]` (`[n, B, K]`) of n versions of each image, `[n, B, H, W, C]`; float32."""
        n, batch = images.shape[:2]
        outputs = self.ask(images.reshape(n * batch, *images.shape[2:]))
        check_outputs(outputs, n * batch)
        outputs = jnp.asarray(outputs, jnp.float32).reshape(n, batch, -1)
        return jax.vmap(lambda each: confidence(each, self.targets, self.activation))(outputs)

    @property
    def kinds(self) -> tuple[int, ...]:
        """(K,) for K targets per image, () for one."""
        return () if callable(self.targets) else self.targets.shape[1:]


class Sums(NamedTuple):
    """What RISE accumulates, even and odd chunks apart, so that one half can check the other."""

    maps: jax.Array  # sum of y_i M_i, [2, B, (K,) H, W]
    count: jax.Array  # of masks, [2]


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
    progress: Progress | None = None,
) -> jax.Array:
    """RISE: S = 1 / (N p) sum_i y_i M_i, y_i the class probability under the random mask M_i.

    A mask is a grid of zeros and ones, upsampled and shifted (`masks`); its mean is p. It
    multiplies the image as the model gets it: a masked pixel goes to 0, the mean colour of
    normalised images. All images share the masks, which do not depend on `chunk`. Costs N forward
    passes, and one if `targets` is None. The noise of S falls as 1 / sqrt(N).

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, normalised as the model expects.
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
        progress: a function of (masks done, N), called after each chunk from a Python loop, which
            then takes the place of the compiled one.

    Returns:
        S `[B, H, W]` float32, `[B, K, H, W]` for K targets per image. High where the class is seen.

    Raises:
        ValueError: bad images or targets, `forward` returns no `[B, N]`, a number out of range, or
            `host` or `progress` inside a transformation.
        TypeError: `forward` is a function of NumPy arrays, and `host` is False.

    References:
        Petsiuk et al., RISE, BMVC 2018, eq. 6; github.com/eclique/RISE for the masks.
    """
    _check_options(num_masks, grid, keep, tolerance)
    images, box = black_box(forward, images, targets, activation, host, progress)
    batch, height, width, _ = images.shape
    steps, chunk = chunks(num_masks, chunk)
    key = jax.random.key(0) if key is None else key
    grids, shifts = draw(key, steps * chunk, grid, keep, (height, width))

    def step(sums: Sums, i: Any) -> Sums:
        drawn, masked = _masked(grids, shifts, i * chunk, images, chunk)
        valid = i * chunk + np.arange(chunk) < num_masks
        return _add(sums, i % 2, drawn, box.scores(masked), valid)

    start = Sums(
        jnp.zeros((2, batch, *box.kinds, height, width), jnp.float32), jnp.zeros(2, jnp.float32)
    )
    done = None if tolerance is None else partial(_settled, tolerance=tolerance)
    told = progress and (lambda i, _: progress(min(i * chunk, num_masks), num_masks))
    sums = run(step, start, steps, done=done, host=host, progress=told)
    return sums.maps.sum(0) / (sums.count.sum() * keep)


# Masks ---------------------------------------------------------------


@partial(jax.jit, static_argnames=("count", "grid", "keep", "size"))
def draw(
    key: jax.Array, count: int, grid: int, keep: float, size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """`count` random masks: grids `[n, s, s]` bool and shifts `[n, 2]`, each from its own key."""

    def one(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        for_cells, for_shift = jax.random.split(jax.random.fold_in(key, index))
        limits = jnp.array([_cell(side, grid) for side in size])
        return jax.random.bernoulli(for_cells, keep, (grid, grid)), jax.random.randint(
            for_shift, (2,), 0, limits
        )

    return jax.vmap(one)(jnp.arange(count))


def masks(grids: jax.Array, shifts: jax.Array, size: tuple[int, int]) -> jax.Array:
    """M = (R g R^T)[x : x + H, y : y + W], R the linear interpolation with mirrored borders.

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
    rows, cols = (jnp.asarray(interpolation(side, cells), jnp.float32) for side in size)

    def one(cell: jax.Array, shift: jax.Array) -> jax.Array:
        top = jax.lax.dynamic_slice_in_dim(rows, shift[0], size[0])
        left = jax.lax.dynamic_slice_in_dim(cols, shift[1], size[1])
        return jnp.einsum("Hh,hw,Ww->HW", top, cell, left, precision=jax.lax.Precision.HIGHEST)

    return jax.vmap(one)(grids.astype(jnp.float32), shifts)


def interpolation(side: int, cells: int) -> np.ndarray:
    """R `[(s + 1) ceil(side / s), s]` float64: s cells magnified to `side` pixels and a spare."""
    pixels = (cells + 1) * _cell(side, cells)
    position = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    left = np.floor(position).astype(int)
    matrix = np.zeros((pixels, cells))
    for index, weight in ((left, left + 1 - position), (left + 1, position - left)):
        mirrored = (cells - 1) - np.abs((cells - 1) - np.abs(index))  # -1 is 1 and s is s - 2
        np.add.at(matrix, (np.arange(pixels), mirrored), weight)
    return matrix


def _cell(side: int, cells: int) -> int:
    return -(-side // cells)


@partial(jax.jit, static_argnames="count")
def _masked(
    grids: jax.Array, shifts: jax.Array, start: jax.Array, images: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """The next masks `[n, H, W]` and the images times each, `[n, B, H, W, C]`."""
    part = lambda x: jax.lax.dynamic_slice_in_dim(x, start, count)
    drawn = masks(part(grids), part(shifts), images.shape[1:3])
    return drawn, cast_like(images * drawn[:, None, :, :, None], images)


@jax.jit
def _add(
    sums: Sums, half: jax.Array, drawn: jax.Array, answers: jax.Array, valid: jax.Array
) -> Sums:
    answers = jnp.where(valid.reshape(-1, *[1] * (answers.ndim - 1)), answers, 0)
    new = jnp.einsum("n...,nhw->...hw", answers, drawn, precision=jax.lax.Precision.HIGHEST)
    return Sums(sums.maps.at[half].add(new), sums.count.at[half].add(valid.sum()))


def _settled(sums: Sums, tolerance: float) -> jax.Array:
    """Whether the noise of each map is within `tolerance` of its spread.

    The even and the odd half, of a and b masks, differ by independent noise, of which their joint
    mean has the share sqrt(a b) / (a + b). A constant added to a map changes no ranking, so means
    are left out.
    """
    norm = lambda maps: jnp.linalg.norm(maps - maps.mean((-2, -1), keepdims=True), axis=(-2, -1))
    count = jnp.maximum(sums.count, 1)
    even, odd = sums.maps[0] / count[0], sums.maps[1] / count[1]
    noise = norm(even - odd) * jnp.sqrt(count[0] * count[1]) / count.sum()
    spread = norm(sums.maps.sum(0) / count.sum())
    return (
        (sums.count > 0).all()
        & (sums.count[0] == sums.count[1])
        & (noise <= tolerance * spread).all()
    )


# Black boxes ---------------------------------------------------------


def black_box(
    forward: Callable,
    images: Any,
    targets: Targets,
    activation: Activation,
    host: bool,
    progress: Progress | None,
) -> tuple[jax.Array, BlackBox]:
    """Images as a JAX array, and `forward` with what is asked of it; all arguments are checked."""
    check_forward(forward)
    images = jnp.asarray(images)
    check_images(images)
    if not jnp.issubdtype(images.dtype, jnp.inexact):
        images = images.astype(jnp.float32)  # there is no half of an integer
    for name, given in (("host", host), ("progress", progress)):
        if given and concrete(images) is None:
            raise ValueError(
                f"{name}: got {given!r} inside a transformation such as jax.jit, expected concrete "
                "images"
            )
    outside = lambda x: np.asarray(forward(np.asarray(x)))
    ask = outside if host else _inside(jax.jit(forward) if progress else forward)
    return images, BlackBox(ask, _resolve(ask, images, targets, host), activation)


def _inside(forward: Callable) -> Callable:
    """`forward`, saying what to do where it turns out to be a function of NumPy arrays."""

    def ask(images: jax.Array) -> Any:
        try:
            return forward(images)
        except jax.errors.TracerArrayConversionError as error:
            raise TypeError(
                "forward: got a function of NumPy arrays, expected one of JAX arrays; jaxcam.rise "
                "and jaxcam.lime take a model outside JAX with host=True, and "
                "jaxcam.blackbox.callback makes it a function of JAX arrays"
            ) from error

    return ask


def _resolve(ask: Callable, images: jax.Array, targets: Targets, host: bool) -> Any:
    """Class indices or the function; asks the model only if it must, to know the arg-max."""
    batch = images.shape[0]
    if targets is None or not host:
        outputs = ask(images) if targets is None else jax.eval_shape(ask, images)
        check_outputs(outputs, batch)
        return resolve(jnp.asarray(outputs)) if targets is None else check(targets, *outputs.shape)
    # How many classes there are is known with the first answers: `scores` checks the range then.
    return check(targets, batch, np.iinfo(np.int32).max)


def check_outputs(outputs: Any, batch: int) -> None:
    """Raises a ValueError unless a model returned `[batch, N]`."""
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != batch:
        found = (
            f"a {type(outputs).__name__}" if shape is None else f"an output of shape {tuple(shape)}"
        )
        raise ValueError(f"forward: got {found} for {batch} images, expected [{batch}, N]")


def chunks(count: int, chunk: int) -> tuple[int, int]:
    """(steps, size): the fewest chunks of at most `chunk`, of a size that best fills the last.

    Raises:
        ValueError: `chunk` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk: got {chunk}, expected at least 1")
    steps = -(-count // chunk)
    return steps, -(-count // steps)


def run(
    step: Callable,
    state: Any,
    steps: int,
    *,
    done: Callable | None = None,
    host: bool = False,
    progress: Progress | None = None,
) -> Any:
    """`state = step(state, i)` to `steps` or `done(state)`: one compiled loop, or one in Python."""
    if host or progress:
        for i in range(steps):
            state = step(state, i)
            if progress:
                progress(i + 1, steps)
            if done and done(state):
                break
        return state
    if done is None:
        return loops.scan(lambda s, i: (step(s, i), None), state, jnp.arange(steps))[0]
    going = lambda carry: (carry[1] < steps) & ~done(carry[0])
    return loops.while_loop(
        going, lambda carry: (step(*carry), carry[1] + 1), (state, jnp.int32(0))
    )[0]


def _check_options(num_masks: int, grid: int, keep: float, tolerance: float | None) -> None:
    if num_masks < 1:
        raise ValueError(f"num_masks: got {num_masks}, expected at least 1")
    if grid < 2:
        raise ValueError(f"grid: got {grid}, expected at least 2")
    if not 0 < keep <= 1:
        raise ValueError(f"keep: got {keep}, expected a probability above 0")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance: got {tolerance}, expected a number above 0, or None")
