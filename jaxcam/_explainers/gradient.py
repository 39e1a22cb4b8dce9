"""Class-activation maps from activations A and gradients G = dY/dA of one layer.

Every formula is a function of `(A, G)`, both `[B, h, w, c]`, that can be used alone. Every
explainer is the same line: A and G from `jaxcam.activations_and_gradients`, then the formula; so
each takes one or several layers, one or several targets per image, and `has_aux`. Formulas are
computed in float32, whatever the model's dtype (float64 stays float64).
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._explainers.heads import check_pooled_linear
from jaxcam._program.layers import Forward, Layer, activations_and_gradients, check_spatial
from jaxcam.targets import Targets

_OPTIONS = {
    "relu": ("sum", "channel", None),
    "variant": ("paper", "official", "rcam", "jacobgil", "xplique"),
}

# Grad-CAM++ as published. Each entry: third(A, G), the term beside 2 G^2 in alpha's denominator;
# eps, which is added to the denominator; whether alpha is normalised over the positions of positive
# gradient; whether w_k is a mean or a sum.
_PLUS_PLUS = {
    "paper": (lambda a, g: _total(a) * g**3, 0.0, False, jnp.sum),
    "official": (lambda a, g: _total(a) * g**3, 0.0, True, jnp.sum),
    "rcam": (lambda a, g: _total(a * g**3), 0.0, False, jnp.sum),
    "jacobgil": (lambda a, g: _total(a) * g**3, 1e-6, False, jnp.sum),
    "xplique": (lambda a, g: a.mean((1, 2), keepdims=True) * g**3, 0.0, False, jnp.mean),
}


# Formulas ------------------------------------------------------------


def weighted_sum(activations: jax.Array, weights: jax.Array) -> jax.Array:
    """L_ij = sum_k alpha_k A_ijk. `[B, h, w, c]`, `[B, c]` -> `[B, h, w]`."""
    return jnp.einsum("bhwc,bc->bhw", activations, weights, precision=jax.lax.Precision.HIGHEST)


def grad_cam_weights(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """alpha_k = 1/(h w) sum_ij dY/dA_ijk (Selvaraju, eq. 1). `[B, h, w, c]` twice -> `[B, c]`."""
    del activations
    return gradients.mean(axis=(1, 2))


def grad_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = "sum"
) -> jax.Array:
    """L = ReLU(sum_k alpha_k A_k) (Selvaraju 2017, eq. 2). `[B, h, w, c]` twice -> `[B, h, w]`."""
    weights = grad_cam_weights(activations, gradients)
    if relu == "channel":
        return jax.nn.relu(activations * weights[:, None, None, :]).sum(-1)
    return _rectify(weighted_sum(activations, weights), relu)


def grad_cam_plus_plus_weights(
    activations: jax.Array, gradients: jax.Array, variant: str = "paper"
) -> jax.Array:
    """w_k = sum_ij alpha_ijk ReLU(G_ijk), alpha = G^2 / (2 G^2 + (sum_ab A_abk) G^3), 0 for G = 0.

    (Chattopadhay et al. 2018, eq. 5 and 19.) The factor exp(S), one positive number per image, is
    left out: it cancels in every normalised map and overflows in float32. `[B, h, w, c]` twice ->
    `[B, c]`.
    """
    third, eps, normalise, reduce = _PLUS_PLUS[variant]
    square, positive = gradients**2, jax.nn.relu(gradients)
    denominator = 2 * square + third(activations, gradients) + eps
    alpha = jnp.where(
        (gradients == 0) | (denominator == 0),
        0,
        square / jnp.where(denominator == 0, 1, denominator),
    )
    if normalise:
        total = _total(jnp.where(positive > 0, alpha, 0))
        alpha = alpha / jnp.where(total == 0, 1, total)
    return reduce(alpha * positive, axis=(1, 2))


def grad_cam_plus_plus_map(
    activations: jax.Array, gradients: jax.Array, variant: str = "paper", relu: str | None = "sum"
) -> jax.Array:
    """L = ReLU(sum_k w_k A_k) (Chattopadhay 2018, eq. 20). `[B, h, w, c]` twice -> `[B, h, w]`."""
    weights = grad_cam_plus_plus_weights(activations, gradients, variant)
    return _rectify(weighted_sum(activations, weights), relu)


def hires_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = None
) -> jax.Array:
    """L = sum_k G_k * A_k (Draelos and Carin, eq. 5). `[B, h, w, c]` twice -> `[B, h, w]`."""
    return _rectify((activations * gradients).sum(-1), relu)


def xgrad_cam_weights(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """alpha_k = sum_ij A_ijk G_ijk / sum_ij A_ijk, 0 for dead channels (Fu, eq. 9). -> `[B, c]`."""
    total = activations.sum((1, 2))
    return jnp.where(
        total == 0, 0, (activations * gradients).sum((1, 2)) / jnp.where(total == 0, 1, total)
    )


def xgrad_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = "sum"
) -> jax.Array:
    """L = ReLU(sum_k alpha_k A_k) (Fu et al. 2020). `[B, h, w, c]` twice -> `[B, h, w]`."""
    return _rectify(weighted_sum(activations, xgrad_cam_weights(activations, gradients)), relu)


def layer_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = "sum"
) -> jax.Array:
    """L = ReLU(sum_k ReLU(G_k) * A_k) (Jiang, eq. 7 and 8). `[B, h, w, c]` twice -> `[B, h, w]`."""
    return _rectify((activations * jax.nn.relu(gradients)).sum(-1), relu)


def eigen_cam_map(activations: jax.Array, center: bool = False) -> jax.Array:
    """L = A v, v the first right singular vector of A as a `[h w, c]` matrix.

    Muhammad and Yeasin 2020, eq. 4 and 5. A singular vector has no sign. Ours is the one for which
    sum_ij L_ij mean_k A_ijk >= 0: the map goes up where the activations do. `center` subtracts each
    channel's mean over positions first, as pytorch-grad-cam does. `[B, h, w, c]` -> `[B, h, w]`.
    """
    batch, height, width, channels = activations.shape
    matrix = activations.reshape(batch, height * width, channels)
    if center:
        matrix = matrix - matrix.mean(1, keepdims=True)
    vector = jnp.linalg.svd(matrix, full_matrices=False)[2][:, 0]
    maps = weighted_sum(matrix.reshape(activations.shape), vector)
    sign = jnp.where((maps * activations.mean(-1)).sum((1, 2), keepdims=True) < 0, -1, 1)
    return maps * sign.astype(maps.dtype)


# Explainers ------------------------------------------------------------


def cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    has_aux: bool = False,
) -> Any:
    """Class activation mapping: L_ij = sum_k W_kc A_ijk, signed.

    W is the weight matrix of the linear head above a global average pool; its bias does not enter.
    W is found from the program: above such a layer dY/dA_ijk is W_kc / (h w) at every position.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, in which nothing but a global average
            pool and linear maps lies above the layer.
        images: `[B, H, W, C]`.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints, or a linear function of the logits.
        layer: a name, several, or None for the last layer with spatial extent.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw maps `[B, h, w]` float32, `[B, K, h, w]` for K targets per image; a dict of them for
        several layers.

    Raises:
        ValueError: something else than a pooled linear head lies above the layer (the message names
            the first such operation); or bad input, as in `activations_and_gradients`.

    References:
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, eq. 2.
    """
    check_pooled_linear(forward, images, layer)

    def formula(activations: jax.Array, gradients: jax.Array) -> jax.Array:
        positions = activations.shape[1] * activations.shape[2]
        return weighted_sum(activations, gradients.mean((1, 2)) * positions)

    return _explain(formula, forward, images, targets, layer, has_aux)


def grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Any:
    """Grad-CAM: L = ReLU(sum_k alpha_k A_k), alpha_k = 1/(h w) sum_ij dY/dA_ijk.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, parameters closed over.
        images: `[B, H, W, C]`.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints, or a function logits -> scores
            `[B]`.
        layer: a name, several, or None for the last layer with spatial extent.
        relu: "sum" (the paper), "channel" (ReLU before the sum over channels, as Relevance-CAM's
            code did for its Grad-CAM baseline), or None (signed).
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw maps `[B, h, w]` float32, `[B, K, h, w]` for K targets per image; a dict of them for
        several layers.

    Raises:
        ValueError: bad input, as in `activations_and_gradients`; an unknown `relu`.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2.
    """
    check_option("relu", relu)
    return _explain(partial(grad_cam_map, relu=relu), forward, images, targets, layer, has_aux)


def grad_cam_plus_plus(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    variant: str = "paper",
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Any:
    """Grad-CAM++: L = ReLU(sum_k w_k A_k), w_k = sum_ij G^2 / (2 G^2 + (sum A) G^3) ReLU(G).

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: as in `grad_cam`.
        layer: as in `grad_cam`.
        variant: "paper" (eq. 19); "official" (the authors' code: alpha normalised over positive
            positions); "rcam" (the Relevance-CAM code: sum_ab A G^3 in the denominator, which is
            not eq. 19 and can explode); "jacobgil" (pytorch-grad-cam: 1e-6 in the denominator);
            "xplique" (mean of A, mean over positions).
        relu: "sum" (the paper) or None (signed).
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`. The paper's factor exp(S) is left out (see `grad_cam_plus_plus_weights`).

    Raises:
        ValueError: bad input, as in `activations_and_gradients`; an unknown `variant` or `relu`.

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, eq. 5, 19 and 20.
    """
    check_option("variant", variant)
    check_option("relu", relu, ("sum", None))
    return _explain(
        partial(grad_cam_plus_plus_map, variant=variant, relu=relu),
        forward,
        images,
        targets,
        layer,
        has_aux,
    )


def hires_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    relu: str | None = None,
    has_aux: bool = False,
) -> Any:
    """HiResCAM: L = sum_k G_k * A_k, elementwise and signed; `relu="sum"` rectifies it.

    Args, Returns and Raises as `grad_cam`.

    References:
        Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, 2020, eq. 5.
    """
    check_option("relu", relu, ("sum", None))
    return _explain(partial(hires_cam_map, relu=relu), forward, images, targets, layer, has_aux)


def xgrad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Any:
    """XGrad-CAM: L = ReLU(sum_k alpha_k A_k), alpha_k = sum_ij A G / sum_ij A.

    Args, Returns and Raises as `grad_cam`.

    References:
        Fu et al., Axiom-based Grad-CAM, BMVC 2020, eq. 9.
    """
    check_option("relu", relu, ("sum", None))
    return _explain(partial(xgrad_cam_map, relu=relu), forward, images, targets, layer, has_aux)


def layer_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    relu: str | None = "sum",
    has_aux: bool = False,
) -> Any:
    """LayerCAM: L = ReLU(sum_k ReLU(G_k) * A_k), elementwise.

    Args, Returns and Raises as `grad_cam`.

    References:
        Jiang et al., LayerCAM, IEEE TIP 2021, eq. 7 and 8.
    """
    check_option("relu", relu, ("sum", None))
    return _explain(partial(layer_cam_map, relu=relu), forward, images, targets, layer, has_aux)


def eigen_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    center: bool = False,
    has_aux: bool = False,
) -> Any:
    """Eigen-CAM: L = A v, v the first right singular vector of the activations; it knows no class.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: checked as in `grad_cam`; the map does not depend on them.
        layer: as in `grad_cam`.
        center: subtract each channel's mean over positions first (pytorch-grad-cam).
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`, signed; the sign is fixed by sum_ij L_ij mean_k A_ijk >= 0.

    Raises:
        ValueError: bad input, as in `activations_and_gradients`.

    References:
        Muhammad and Yeasin, Eigen-CAM, IJCNN 2020, eq. 4 and 5.
    """
    formula = lambda activations, gradients: eigen_cam_map(activations, center)
    return _explain(formula, forward, images, targets, layer, has_aux)


def eigen_grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    center: bool = False,
    has_aux: bool = False,
) -> Any:
    """Eigen-CAM of G * A, elementwise, which makes it class-specific (as in pytorch-grad-cam).

    Args, Returns and Raises as `eigen_cam`.
    """
    formula = lambda activations, gradients: eigen_cam_map(activations * gradients, center)
    return _explain(formula, forward, images, targets, layer, has_aux)


def _explain(
    formula: Callable,
    forward: Forward,
    images: jax.Array,
    targets: Targets,
    layer: Layer,
    has_aux: bool,
) -> Any:
    """The path of all gradient CAMs: A and G of each layer, then the formula for each target."""
    _, acts, grads, *aux = activations_and_gradients(
        forward, images, targets, layer=layer, has_aux=has_aux
    )

    if isinstance(acts, dict):
        maps = {
            name: each_target(formula, acts[name], grads[name], f"layer {name!r}") for name in acts
        }
    else:
        maps = each_target(formula, acts, grads, "layer" if layer is None else f"layer {layer!r}")
    return (maps, *aux) if has_aux else maps


def each_target(
    formula: Callable, activations: jax.Array, gradients: jax.Array, name: str
) -> jax.Array:
    """`formula(A, G)` in float32 or wider; G of one target, or `[B, K, h, w, c]` of K."""
    a, g = at_least_float32(check_spatial(activations, name)), at_least_float32(gradients)
    return formula(a, g) if g.ndim == 4 else jax.vmap(formula, in_axes=(None, 1), out_axes=1)(a, g)


def at_least_float32(x: jax.Array) -> jax.Array:
    """In float32, or in float64 if it is in that."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _total(x: jax.Array) -> jax.Array:
    return x.sum((1, 2), keepdims=True)


def _rectify(maps: jax.Array, relu: str | None) -> jax.Array:
    return maps if relu is None else jax.nn.relu(maps)


def check_option(name: str, value: Any, allowed: Iterable = ()) -> None:
    """ValueError that names the argument unless `value` is allowed; by default this module's."""
    allowed = tuple(allowed) or _OPTIONS[name]
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(repr, allowed))}")
