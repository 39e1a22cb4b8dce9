"""What MASK's masks do: variants and prices, growth to pixels, and what they mix images with.

Masks m `[B, h, w]` are cells of several pixels; 1 keeps the image, 0 puts the baseline there.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._ground import filters, interpolation, order, space
from jaxcam._ground.dtypes import at_least_float32, cast_like, reals
from jaxcam._ground.errors import ArgumentError, check_choice


class MaskVariant(NamedTuple):
    """What the published codes differ in. Lengths are in pixels; change some with `_replace`."""

    steps: int
    learning_rate: float
    l1: float  # lambda_1, the price of hiding
    tv: float  # lambda_2, the price of an uneven mask
    beta: float
    # "sum": sums over the cells, of the gradient's length; "mean": means, of its components
    penalty: str
    cell: int  # pixels per cell of the mask and side
    upsampling: str  # "nearest", or "aligned": linear, corner cells onto corner pixels
    # sigma by which the upsampled mask is smoothed; the gradient passes as if it were not
    blur: float
    init: str  # "ones", or "circle": the smallest circle that takes the score
    baseline: str  # what a hidden pixel becomes, one of BASELINES
    jitter: int  # the images are magnified by so many pixels and shifted by fewer than that
    noise: float  # standard deviation of what is added to the perturbed images


MASK_VARIANTS = {
    "official": MaskVariant(
        steps=300, learning_rate=0.1, l1=1e-4, tv=1e-2, beta=3.0, penalty="sum", cell=8,
        upsampling="nearest", blur=5.0, init="circle", baseline="blur", jitter=4, noise=0.0,
    ),
    "jacobgil": MaskVariant(
        steps=500, learning_rate=0.1, l1=0.01, tv=0.2, beta=3.0, penalty="mean", cell=8,
        upsampling="aligned", blur=0.0, init="ones", baseline="median", jitter=0, noise=0.2,
    ),
}  # fmt: skip

PENALTIES = ("sum", "mean")
UPSAMPLING = ("nearest", "aligned")
_BLUR = 10.0  # sigma of the baseline's Gaussian, in pixels
_MEDIAN = 11  # side of the baseline's window


# Prices --------------------------------------------------------------


def penalties(cells: jax.Array, rules: MaskVariant) -> jax.Array:
    """`[B, h, w]` -> `[B]`: lambda_1 |1 - m|_1 + lambda_2 sum |grad m|^beta, by differences."""
    # Not jnp.abs, whose gradient at 0 is 1: at m = 1 nothing is hidden, and the published codes
    # have 0.
    hidden = (1 - cells) * jax.lax.stop_gradient(jnp.sign(1 - cells))
    axes = space.of_maps(cells)
    steps = [jnp.diff(cells, axis=axis) for axis in axes]
    if rules.penalty == "mean":
        uneven = jnp.zeros((), cells.dtype)
        for step in steps:
            uneven = uneven + _mean(_power(jnp.abs(step), rules.beta))
        return rules.l1 * _mean(hidden) + rules.tv * uneven
    squared = jnp.zeros_like(cells)
    for axis, step in zip(axes, steps, strict=True):
        widths = [(0, 0)] * cells.ndim
        widths[axis] = (0, 1)
        squared = squared + jnp.pad(step**2, widths)
    return rules.l1 * hidden.sum(axes) + rules.tv * _power(squared, rules.beta / 2).sum(axes)


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """Of x >= 0, with gradient 0 at 0 whatever the exponent."""
    return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** exponent, 0)


def _mean(x: jax.Array) -> jax.Array:
    """Over the cells; 0 of none."""
    return x.sum(space.of_maps(x)) / max(math.prod(x.shape[1:]), 1)


# From cells to pixels ------------------------------------------------


def centres(side: int, cell: int) -> np.ndarray:
    """The middle pixel of each cell; the last cell may be cut."""
    return np.minimum(np.arange(0, side, cell) + cell // 2, side - 1)


def enlarge(cells: jax.Array, size: tuple[int, ...], rules: MaskVariant) -> jax.Array:
    """Masks `[B, h, w]` at the images' size `[B, H, W]`; the gradient passes by the smoothing."""
    shares = [_shares(side, rules) for side in size]
    weights = interpolation.separable(cells, *shares)
    if not rules.blur:
        return weights
    blurred = smooth(weights[..., None], rules.blur, "edge")[..., 0]
    return weights + jax.lax.stop_gradient(blurred - weights)


def _shares(side: int, rules: MaskVariant) -> np.ndarray:
    """What the pixels of a line take of each cell, `[pixels, cells]`."""
    cells = len(centres(side, rules.cell))
    if rules.upsampling == "aligned":
        return interpolation.linear(interpolation.aligned(side, cells), cells)
    return interpolation.linear(np.arange(side) // rules.cell, cells)


def smooth(images: jax.Array, sigma: float, border: filters.Border) -> jax.Array:
    """A Gaussian blur of `[B, H, W, C]`, in float32."""
    matrices = [filters.smoothing(side, sigma, border) for side in images.shape[1:-1]]
    blurred = interpolation.separable(images.astype(jnp.float32), *matrices)
    return blurred.astype(images.dtype)


# The perturbed images ------------------------------------------------


def perturb(
    images: jax.Array,
    null: jax.Array | None,
    weights: jax.Array,
    key: jax.Array,
    rules: MaskVariant,
) -> jax.Array:
    """Phi = m x + (1 - m) x_0, of shifted x and x_0, with noise.

    Weights m `[B, H, W]`, images larger by the jitter.
    """
    for_shift, for_null, for_noise = jax.random.split(key, 3)
    if null is None:
        null = jnp.broadcast_to(jax.random.normal(for_null, images.shape[1:]), images.shape)
    if rules.jitter:
        shift = jax.random.randint(for_shift, (images.ndim - 2,), 0, rules.jitter)
        crop = lambda x: jax.lax.dynamic_slice(x, (0, *shift, 0), (*weights.shape, x.shape[-1]))
        images = crop(images)
        null = crop(null)
    kept = weights[..., None]
    mixed = kept * at_least_float32(images) + (1 - kept) * at_least_float32(null)
    if rules.noise:
        mixed = mixed + rules.noise * jax.random.normal(for_noise, mixed.shape[1:])[None]
    return cast_like(mixed, images)


def magnify(images: jax.Array, pixels: int) -> jax.Array:
    """Linear, to so many rows and columns more."""
    if not pixels:
        return images
    batch, *size, channels = images.shape
    shape = (batch, *(side + pixels for side in size), channels)
    return jax.image.resize(images, shape, "linear", antialias=False)


# Baselines -----------------------------------------------------------


def _median(images: jax.Array) -> jax.Array:
    if images.ndim != 4:
        got = f"'median' for images of shape {images.shape}: its window is of 11 x 11 pixels"
        raise ArgumentError("baseline", got, "'blur', 'constant', 'noise' or values")
    return order.window_median(images, _MEDIAN)


BASELINES = {
    "blur": partial(smooth, sigma=_BLUR, border="edge"),
    "median": _median,
    "constant": jnp.zeros_like,
    "noise": lambda images: None,
}


def make_baseline(images: jax.Array, baseline: Any) -> jax.Array | None:
    """x_0 `[B, H, W, C]`, what hidden pixels become; None for noise, which is drawn in the loop."""
    if isinstance(baseline, str):
        check_choice("baseline", baseline, BASELINES, or_else="values")
        return BASELINES[baseline](images)
    baseline = reals("baseline", baseline).astype(images.dtype)
    try:
        return jnp.broadcast_to(baseline, images.shape)
    except ValueError:
        expected = f"a number, [{images.shape[-1]}] or {list(images.shape)}"
        raise ArgumentError("baseline", f"shape {baseline.shape}", expected) from None
