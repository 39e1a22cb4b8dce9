"""Smooth Grad-CAM++: Grad-CAM++ whose derivatives are means over noisy images."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.formulas import check_relu, combined, positions, total, units
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
    noised = _gradients(question, jax.random.split(key, samples), sigma)

    def formula(activations: jax.Array, stacked: jax.Array) -> jax.Array:
        weights = smooth_weights(activations, stacked, variant)
        return combined(activations, weights, relu)

    maps = {}
    for name in question.names:
        maps[name] = _mapped(question, formula, name, acts, noised)
    return question.answer(maps, aux)


def smooth_weights(activations: jax.Array, noised: jax.Array, variant: str) -> jax.Array:
    """w_k = sum_ij alpha_ijk ReLU(D_1)_ijk. A `[B, h, w, c]`, G of n images `[n, B, h, w, c]`."""
    batch, rows, *rest = activations.shape
    own = units(activations, jnp.moveaxis(noised, 0, 1).reshape(batch, -1, *rest))
    each = own.gradients.reshape(batch, -1, rows, *rest)
    first = each.mean(1)
    second = (each**2).mean(1)
    third = (each**3).mean(1)
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


def _gradients(question: Question, keys: jax.Array, sigma: float) -> dict[str, jax.Array]:
    """G of each noisy image, `[n, ...]` by layer; K targets behind n."""

    def one(key: jax.Array) -> dict:
        shown = noisy(question.images, key, sigma)
        _, _, grads, _ = gradients(dataclasses.replace(question, images=shown))
        return jax.tree.map(at_least_float32, grads)

    return loops.map(one, keys)


def _mapped(
    question: Question, formula: Callable, name: str, acts: Mapping, noised: Mapping
) -> jax.Array:
    """The formula of A and the gradients of n noisy images, of one target or of K."""
    a = at_least_float32(question.spatial(name, acts[name]))
    stacked = question.spatial(name, noised[name])
    if stacked.ndim == a.ndim + 1:
        return formula(a, stacked)
    return jax.vmap(formula, in_axes=(None, 1), out_axes=1)(a, stacked)
