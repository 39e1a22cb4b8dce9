"""Smooth Grad-CAM++: Grad-CAM++ whose derivatives are means over noisy images."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.formulas import check_relu, combined, positions, total, units_of
from jaxcam._explainers.smoothing import noisy
from jaxcam._ground.dtypes import at_least_float32, floating
from jaxcam._ground.errors import check_at_least, check_choice, check_whole
from jaxcam._ground.randomness import check_key
from jaxcam._ground.units import unit
from jaxcam._program.checks import check_images
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer, run, zeros_like
from jaxcam._program.question import Question, ask, gradients
from jaxcam._program.signature import Explanation, explainer
from jaxcam.targets import Targets, resolve

VARIANTS = ("second", "paper", "torchcam")


@explainer
def smooth_grad_cam_plus_plus(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    samples: int = 5,
    sigma: float = 0.15,
    variant: str = "second",
    key: jax.Array | None = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Explanation:
    """Smooth Grad-CAM++: Grad-CAM++ with D_p = 1/n sum_i G(x + noise_i)^p for the powers of G.

    alpha = D_2 / (2 D_2 + (sum_ab A_ab) D_3), w_k = sum_ij alpha_ijk ReLU(D_1)_ijk and
    L = ReLU(sum_k w_k A_k), A of the images without noise. Costs n times Grad-CAM and a forward
    pass, and memory for three sums of the layer's size, however many images there are.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: as in `grad_cam`; None is the arg-max of the images without noise.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        samples: n, at least 1.
        sigma: standard deviation of the noise, as a share of each image's range; all images share
            the noise.
        variant: "second", as above; "paper", D_1 for alpha's numerator, as printed; or "torchcam",
            sum_ab A D_3 for the product of the sums, which can be near 0 and explode.
        key: of the noise; None is `jax.random.key(0)`.
        relu: as in `grad_cam`.
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `variant` or `relu`, less than 1 sample
            or a negative `sigma`.

    References:
        Omeiza et al., Smooth Grad-CAM++, 2019; github.com/frgfm/torch-cam for the numerator.
    """
    check_choice("variant", variant, VARIANTS)
    check_whole("samples", samples, 1)
    check_at_least("sigma", sigma, 0)
    check_relu(relu)
    key = check_key(key)
    check_images(images)
    images = floating(images)
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    outputs, acts = run(question.program, images, question.sites, {})
    output, aux = question.parted(outputs)
    if targets is None:
        question = dataclasses.replace(question, targets=resolve(output))
    noised = _moments(question, jax.random.split(key, samples), sigma)

    def formula(activations: jax.Array, moments: Moments) -> jax.Array:
        weights = smooth_weights(activations, moments, samples, variant)
        return combined(activations, weights, relu)

    maps = {}
    for name in question.names:
        maps[name] = _mapped(question, formula, name, acts, noised)
    return question.answer(maps, aux)


class Moments(NamedTuple):
    """Sums of powers of gradients over noisy images, in a unit that grows with the largest."""

    unit: jax.Array  # v `[B, 1, 1, c]`, powers of two; the least until something is not 0
    first: jax.Array  # sum_i G_i / v, `[B, *spatial, c]`
    second: jax.Array  # sum_i (G_i / v)^2
    third: jax.Array


def no_moments(shape: Sequence[int], dtype: Any) -> Moments:
    """The sums over no image yet, of gradients `[B, *spatial, c]`."""
    nothing = jnp.zeros(shape, dtype)
    least = jnp.full_like(nothing.sum(positions(nothing), keepdims=True), jnp.finfo(dtype).tiny)
    return Moments(least, nothing, nothing, nothing)


def with_image(moments: Moments, gradients: jax.Array) -> Moments:
    """The sums with one image more; what falls below float32 by the new unit is no loss."""
    axes = positions(gradients)
    something = (gradients != 0).any(axes, keepdims=True)
    own = jnp.where(something, unit(gradients, axes), moments.unit)
    larger = jnp.maximum(moments.unit, own)
    less = moments.unit / larger
    each = gradients / larger
    return Moments(
        larger,
        moments.first * less + each,
        moments.second * less**2 + each**2,
        moments.third * less**3 + each**3,
    )


def smooth_weights(
    activations: jax.Array, moments: Moments, samples: int, variant: str
) -> jax.Array:
    """w_k = sum_ij alpha_ijk ReLU(D_1)_ijk. A `[B, *spatial, c]`, and the sums over n images."""
    own = units_of(activations, moments.first, moments.unit)
    first = moments.first / samples
    second = moments.second / samples
    third = moments.third / samples
    numerator = second
    unit_of_weights = own.weight
    if variant == "paper":
        numerator = first
        unit_of_weights = own.twice
    product = total(own.activations) * third
    if variant == "torchcam":
        product = total(own.activations * third)
    denominator = own.twice * 2 * second + own.third * product
    nothing = denominator == 0
    alpha = jnp.where(nothing, 0, numerator / jnp.where(nothing, 1, denominator))
    return (alpha * jax.nn.relu(first) * unit_of_weights).sum(positions(first))


def _moments(question: Question, keys: jax.Array, sigma: float) -> dict[str, Moments]:
    """The sums over noisy images by layer; K targets in front."""

    def one(key: jax.Array) -> dict[str, jax.Array]:
        shown = noisy(question.images, key, sigma)
        _, _, grads, _ = gradients(dataclasses.replace(question, images=shown))
        found = {}
        for name in question.names:
            found[name] = question.spatial(name, at_least_float32(grads[name]))
        return found

    shapes = jax.eval_shape(one, keys[0])
    several = getattr(question.targets, "ndim", 1) == 2
    add = with_image
    if several:
        add = jax.vmap(with_image)

    def step(carry: dict[str, Moments], key: jax.Array) -> tuple[dict[str, Moments], None]:
        found = one(key)
        return {name: add(carry[name], found[name]) for name in carry}, None

    start = {}
    for name, shape in shapes.items():
        begin = partial(no_moments, shape.shape[several:], shape.dtype)
        if several:
            begin = jax.vmap(begin, axis_size=shape.shape[0])
        start[name] = begin()
    # the gradients, and so the sums, vary over a mesh where the images do
    start = jax.tree.map(lambda leaf: leaf + zeros_like(leaf, question.images), start)
    return loops.scan(step, start, keys)[0]


def _mapped(
    question: Question, formula: Callable, name: str, acts: Mapping, noised: Mapping
) -> jax.Array:
    """The formula of A and the sums over n noisy images, of one target or of K."""
    a = at_least_float32(question.spatial(name, acts[name]))
    moments = noised[name]
    if moments.first.ndim == a.ndim + 1:
        return jax.vmap(formula, in_axes=(None, 0), out_axes=1)(a, moments)
    return formula(a, moments)
