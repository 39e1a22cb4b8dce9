"""Smooth Grad-CAM++: Grad-CAM++ whose derivatives are means over noisy images."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.formulas import check_relu, combined, positions, total
from jaxcam._explainers.smoothing import noisy
from jaxcam._ground.dtypes import at_least_float32, floating
from jaxcam._ground.errors import check_at_least, check_choice, check_whole
from jaxcam._program.checks import check_images
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer, run
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
    pass.

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
    if key is None:
        key = jax.random.key(0)
    check_images(images)
    images = floating(images)
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    outputs, acts = run(question.program, images, question.sites, {})
    output, aux = question.parted(outputs)
    if targets is None:
        question = dataclasses.replace(question, targets=resolve(output))
    powers = _powers(question, jax.random.split(key, samples), sigma)

    def formula(activations: jax.Array, stacked: jax.Array) -> jax.Array:
        weights = smooth_weights(activations, stacked, variant)
        return combined(activations, weights, relu)

    maps = {}
    for name in question.names:
        maps[name] = _mapped(question, formula, name, acts, powers)
    return question.answer(maps, aux)


def smooth_weights(activations: jax.Array, powers: jax.Array, variant: str) -> jax.Array:
    """w_k = sum_ij alpha_ijk ReLU(D_1)_ijk. A `[B, h, w, c]`, D_1 to D_3 `[3, B, h, w, c]`."""
    first, second, third = powers
    numerator = second
    if variant == "paper":
        numerator = first
    denominator = 2 * second + total(activations) * third
    if variant == "torchcam":
        denominator = 2 * second + total(activations * third)
    nothing = denominator == 0
    alpha = jnp.where(nothing, 0, numerator / jnp.where(nothing, 1, denominator))
    return (alpha * jax.nn.relu(first)).sum(positions(first))


def _powers(question: Question, keys: jax.Array, sigma: float) -> dict[str, tuple]:
    """Means over noisy images of G, G^2 and G^3, by layer; K targets in front."""

    def one(key: jax.Array) -> dict:
        shown = noisy(question.images, key, sigma)
        _, _, grads, _ = gradients(dataclasses.replace(question, images=shown))
        found = {}
        for name, gradient in grads.items():
            wide = at_least_float32(gradient)
            found[name] = (wide, wide**2, wide**3)
        return found

    every = loops.map(one, keys)
    return jax.tree.map(lambda values: values.mean(0), every)


def _mapped(
    question: Question, formula: Callable, name: str, acts: Mapping, powers: Mapping
) -> jax.Array:
    """The formula of A and the three powers, of one target or of K."""
    a = at_least_float32(question.spatial(name, acts[name]))
    stacked = jnp.stack([question.spatial(name, power) for power in powers[name]])
    if stacked.ndim == a.ndim + 1:
        return formula(a, stacked)
    return jax.vmap(formula, in_axes=(None, 1), out_axes=1)(a, stacked)
