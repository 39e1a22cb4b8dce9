"""The formulas of class-activation maps: functions of activations A and gradients G = dY/dA.

Both are `[B, *spatial, c]`; a map is `[B, *spatial]`. Each formula can be used alone, and passed to
`jaxcam.explain` it is an explainer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._ground import platforms
from jaxcam._ground.errors import ArgumentError, check_choice, check_flag
from jaxcam._ground.units import unit

# How the terms w_k A_k become a map: ReLU of their sum over channels, the sum of their ReLUs, or
# their sum as it is.
RELU = ("sum", "channel", None)
EIGEN = "eigen"  # or their first principal component: `eigen_smooth`


class PlusPlus(NamedTuple):
    """What the published Grad-CAM++ do differently: alpha = F / (2 F + third + eps), or F."""

    factor: Callable[[jax.Array], jax.Array]  # F of G: G^2, or 1 where it can be reduced by that
    third: Callable[[jax.Array, jax.Array], jax.Array]  # of A and G, of degree 1 in A, in G F's + 1
    eps: float  # added to the denominator
    normalized: bool  # whether alpha is normalised over the positions of positive gradient
    mean: bool  # whether w_k is a mean over positions, not a sum
    divided: bool = True  # whether alpha is a quotient at all


PLUS_PLUS = {
    "paper": PlusPlus(
        jnp.ones_like, lambda a, g: total(a) * g, eps=0.0, normalized=False, mean=False
    ),
    "official": PlusPlus(
        jnp.ones_like, lambda a, g: total(a) * g, eps=0.0, normalized=True, mean=False
    ),
    "rcam": PlusPlus(
        jnp.square, lambda a, g: total(a * g**3), eps=0.0, normalized=False, mean=False
    ),
    "jacobgil": PlusPlus(
        jnp.square, lambda a, g: total(a) * g**3, eps=1e-6, normalized=False, mean=False
    ),
    "xplique": PlusPlus(
        jnp.ones_like, lambda a, g: average(a) * g, eps=0.0, normalized=False, mean=True
    ),
    # It divides a copy in place, `alpha[mask].div_(...)`, and goes on with what was not divided.
    "torchcam": PlusPlus(
        jnp.square, lambda a, g: 0 * g, eps=0.0, normalized=False, mean=False, divided=False
    ),
}


class Units(NamedTuple):
    """A and G of Grad-CAM++ in units of their own, u and v, powers of two for each channel.

    alpha G = G F / (2 F + T), T of degree 1 in A and one more in G than F, is that of A / u and G /
    v if 2 F, T and G are taken as often as this says: none of it overflows or vanishes.
    """

    activations: jax.Array  # A / u
    gradients: jax.Array  # G / v
    gradient_unit: jax.Array  # v, `[B, 1, 1, c]` as all below
    twice: jax.Array  # of 2 F: min(1, 1 / (u v))
    third: jax.Array  # of T: min(1, u v)
    weight: jax.Array  # of G: min(v, 1 / u)


def check_relu(relu: str | None, *, terms: bool = True) -> None:
    """Raises a ValueError unless `relu` is one of `RELU`, or `EIGEN` where a map has terms."""
    allowed = RELU
    if relu == EIGEN and not terms:
        got = "a method whose map is a principal component already, no sum of terms"
        raise ArgumentError("eigen_smooth", got, "one whose map is, such as grad_cam")
    if terms:
        allowed = (*RELU, EIGEN)
    check_choice("relu", relu, allowed)


def positions(x: jax.Array) -> tuple[int, ...]:
    """The spatial axes of `[B, *spatial, c]`."""
    return tuple(range(1, x.ndim - 1))


def total(x: jax.Array) -> jax.Array:
    """Sum over positions, which stay as axes of one. `[B, *spatial, c]` -> `[B, 1, 1, c]`."""
    return x.sum(positions(x), keepdims=True)


def average(x: jax.Array) -> jax.Array:
    """Mean over positions, which stay as axes of one. `[B, *spatial, c]` -> `[B, 1, 1, c]`."""
    return x.mean(positions(x), keepdims=True)


def weighted_sum(activations: jax.Array, weights: jax.Array) -> jax.Array:
    """L_ij = sum_k alpha_k A_ijk. `[B, *spatial, c]`, `[B, c]` -> `[B, *spatial]`."""
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("b...c,bc->b...", activations, weights, precision=highest)


def combined(activations: jax.Array, weights: jax.Array, relu: str | None = "sum") -> jax.Array:
    """L = ReLU(sum_k w_k A_k), or as `relu` says; weights `[B, c]`, or one for each cell."""
    if weights.ndim == 2 and relu not in ("channel", EIGEN):
        return rectified(weighted_sum(activations, weights), relu)
    if weights.ndim == 2:
        weights = weights.reshape(len(weights), *[1] * (activations.ndim - 2), -1)
    terms = activations * weights
    if relu == "channel":
        return over_channels(jax.nn.relu(terms))
    if relu == EIGEN:
        return eigen_cam_map(terms, center=True)
    return rectified(over_channels(terms), relu)


def over_channels(terms: jax.Array) -> jax.Array:
    """sum_k t_k. `[B, *spatial, c]` -> `[B, *spatial]`.

    On CPUs as a product with ones: XLA's compiler fuses a sum with all convolutions below it into
    one kernel, which takes up to twice their time (`_program/quick.py`).
    """
    if not platforms.on_cpu() or terms.dtype not in (jnp.float32, jnp.float64):
        return terms.sum(-1)
    ones = jnp.ones(terms.shape[-1], terms.dtype)
    return jnp.matmul(terms, ones, precision=jax.lax.Precision.HIGHEST)


def rectified(maps: jax.Array, relu: str | None) -> jax.Array:
    """ReLU of the maps, unless `relu` is None."""
    if relu is None:
        return maps
    return jax.nn.relu(maps)


def cam_map(activations: jax.Array, gradients: jax.Array, relu: str | None = None) -> jax.Array:
    """L = sum_k W_kc A_k, W_kc = h w dY/dA_k of a pooled linear head (Zhou et al. 2016, eq. 2)."""
    return combined(activations, gradients.sum(positions(gradients)), relu)


def grad_cam_weights(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """alpha_k = 1/(h w) sum_ij dY/dA_ijk (Selvaraju et al. 2017, eq. 1). -> `[B, c]`."""
    del activations
    return gradients.mean(positions(gradients))


def grad_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = "sum"
) -> jax.Array:
    """L = ReLU(sum_k alpha_k A_k) (Selvaraju et al. 2017, eq. 2). -> `[B, h, w]`."""
    return combined(activations, grad_cam_weights(activations, gradients), relu)


def grad_cam_plus_plus_weights(
    activations: jax.Array, gradients: jax.Array, variant: str = "paper"
) -> jax.Array:
    """w_k = sum_ij alpha_ijk ReLU(G_ijk), alpha = G^2 / (2 G^2 + (sum_ab A_abk) G^3).

    alpha is 0 where G is 0 (Chattopadhay et al. 2018, eq. 5 and 19). The factor exp(S), one
    positive number per image, is left out: it cancels in every normalised map and overflows in
    float32. `[B, h, w, c]` twice -> `[B, c]`.
    """
    rules = PLUS_PLUS[variant]
    own = units(activations, gradients)
    positive = jax.nn.relu(own.gradients)
    factor = rules.factor(own.gradients)
    if not rules.divided:
        v = own.gradient_unit
        weights = total(factor * positive) * v * rules.factor(v)
        return weights.reshape(len(weights), -1)
    denominator = 2 * factor
    if rules.eps:
        denominator = denominator + rules.eps / jnp.square(own.gradient_unit)
    third = rules.third(own.activations, own.gradients)
    denominator = own.twice * denominator + own.third * third
    nothing = (denominator == 0) | (own.gradients == 0)
    alpha = jnp.where(nothing, 0, factor / jnp.where(nothing, 1, denominator))
    unit_of_weights = own.weight
    if rules.normalized:
        whole = total(jnp.where(positive > 0, alpha, 0))
        alpha = alpha / jnp.where(whole == 0, 1, whole)
        unit_of_weights = own.gradient_unit
    weights = alpha * positive * unit_of_weights
    if rules.mean:
        return weights.mean(positions(weights))
    return weights.sum(positions(weights))


def units(activations: jax.Array, gradients: jax.Array) -> Units:
    """Activations and gradients `[B, *spatial, c]` in units of their own."""
    return units_of(activations, gradients, unit(gradients, positions(gradients)))


def units_of(activations: jax.Array, gradients: jax.Array, of_g: jax.Array) -> Units:
    """The same, with the gradients' unit `[B, 1, 1, c]` given."""
    of_a = unit(activations, positions(activations))
    return Units(
        activations=activations / of_a,
        gradients=gradients / of_g,
        gradient_unit=of_g,
        twice=jnp.minimum(1, 1 / of_a / of_g),
        third=jnp.minimum(1, of_a * of_g),
        weight=jnp.minimum(of_g, 1 / of_a),
    )


def grad_cam_plus_plus_map(
    activations: jax.Array,
    gradients: jax.Array,
    variant: str = "paper",
    relu: str | None = "sum",
) -> jax.Array:
    """L = ReLU(sum_k w_k A_k) (Chattopadhay et al. 2018, eq. 20). -> `[B, h, w]`."""
    return combined(activations, grad_cam_plus_plus_weights(activations, gradients, variant), relu)


def hires_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = None
) -> jax.Array:
    """L = sum_k G_k * A_k, elementwise (Draelos and Carin 2020, eq. 5). -> `[B, h, w]`."""
    return combined(activations, gradients, relu)


def xgrad_cam_weights(activations: jax.Array, gradients: jax.Array) -> jax.Array:
    """alpha_k = sum_ij A_ijk G_ijk / sum_ij A_ijk, 0 for a dead channel (Fu et al. 2020, eq. 9)."""
    whole = activations.sum(positions(activations))
    product = (activations * gradients).sum(positions(activations))
    return jnp.where(whole == 0, 0, product / jnp.where(whole == 0, 1, whole))


def xgrad_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = "sum"
) -> jax.Array:
    """L = ReLU(sum_k alpha_k A_k) with XGrad-CAM's weights (Fu et al. 2020). -> `[B, h, w]`."""
    return combined(activations, xgrad_cam_weights(activations, gradients), relu)


def layer_cam_map(
    activations: jax.Array, gradients: jax.Array, relu: str | None = "sum"
) -> jax.Array:
    """L = ReLU(sum_k ReLU(G_k) * A_k) (Jiang et al. 2021, eq. 7 and 8). -> `[B, h, w]`."""
    return combined(activations, jax.nn.relu(gradients), relu)


def eigen_cam_map(
    activations: jax.Array, center: bool = False, relu: str | None = None
) -> jax.Array:
    """L = A v, v the first right singular vector of A as a `[h w, c]` matrix.

    (Muhammad and Yeasin 2020, eq. 4 and 5.) A singular vector has no sign. Ours is the one for
    which sum_ij L_ij mean_k A_ijk >= 0: the map goes up where the activations do. `center`
    subtracts each channel's mean over positions first, as pytorch-grad-cam does.
    `[B, h, w, c]` -> `[B, h, w]`.
    """
    check_flag("center", center)
    shown = activations
    if center:
        shown = activations - average(activations)
    scale = unit(activations, tuple(range(1, activations.ndim)))
    matrix = (shown / scale).reshape(len(shown), -1, shown.shape[-1])
    vector = jnp.linalg.svd(matrix, full_matrices=False)[2][:, 0]
    maps = weighted_sum(shown / scale, vector)
    agreement = (maps * (activations / scale).mean(-1)).reshape(len(maps), -1).sum(1)
    sign = jnp.where(agreement < 0, -1, 1).astype(maps.dtype)
    return combined(shown, vector * sign[:, None], relu)


def eigen_grad_cam_map(
    activations: jax.Array, gradients: jax.Array, center: bool = False, relu: str | None = None
) -> jax.Array:
    """Eigen-CAM of G * A, elementwise."""
    return eigen_cam_map(activations * gradients, center, relu)
