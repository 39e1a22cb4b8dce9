"""ShapleyCAM: Grad-CAM with the curvature of the score, a Hessian-vector product per layer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._explainers.formulas import check_relu, combined, positions
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer
from jaxcam._program.question import Question, ask, gradients, mapped, zeros
from jaxcam._program.signature import Explanation, explainer
from jaxcam.targets import Targets


@explainer
def shapley_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Explanation:
    """ShapleyCAM: L = ReLU(sum_k alpha_k A_k), alpha_k = 1/(h w) sum_ij (G - 1/2 H A)_ijk.

    H = d^2 Y / dA^2 is never formed: H A is one Hessian-vector product. Where the score is linear
    in A by pieces, as any logit of a network of ReLUs, H = 0 and the map is Grad-CAM's; the paper's
    score, `jaxcam.targets.residual_softmax`, is not. Costs a forward pass and three times the
    backward pass of what lies above the layer, at most.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: as in `grad_cam`: classes stand for their logits.
        layer: as in `grad_cam`; one more product for each.
        layout: as in `grad_cam`.
        relu: as in `grad_cam`; the paper's is "sum".
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `relu`.

    References:
        Cai, CAMs as Shapley value-based explainers, The Visual Computer 2025 (arXiv 2501.06261):
        ShapleyCAM, the Shapley value of a game of channels by its second-order expansion.

    Example:
        >>> peaks(jaxcam.shapley_cam(forward, images, jaxcam.targets.residual_softmax([0, 1])))
        [(0, 2), (2, 1)]
    """
    check_relu(relu)

    def formula(activations: jax.Array, value: jax.Array) -> jax.Array:
        return combined(activations, value.mean(positions(value)), relu)

    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    acts, values, aux = shapley_values(question)
    maps = {}
    for name in question.names:
        maps[name] = mapped(question, formula, name, acts, values)
    return question.answer(maps, aux)


def shapley_values(question: Question) -> tuple[Mapping, Mapping, Any]:
    """`(A, G - 1/2 H A, aux)`, both by layer as the model has them; K targets in front.

    A times the second, summed, is the score's change from A = 0 to the second order.
    """

    def gradient(deltas: dict) -> tuple:
        _, acts, grads, aux = gradients(question, deltas=deltas)
        return grads, (acts, aux)

    start = zeros(question)
    grads, curve, (acts, aux) = jax.linearize(gradient, start, has_aux=True)
    values = {}
    for name in question.names:
        along = curve({**start, name: acts[name]})[name]
        half = jnp.asarray(0.5, along.dtype)
        values[name] = grads[name] - half * along
    return acts, values, aux
