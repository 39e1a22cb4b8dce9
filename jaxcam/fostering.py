"""CAM fostering: how sharp, small and decisive an activation map is, and the loss that makes it so.

The measures take raw maps `[B, h, w]`, rectify them as Grad-CAM does, M = ReLU(L), and give one
number per map. They are functions to differentiate through: value and gradient are finite
everywhere, also at a map without a positive value, where both are 0. Whoever averages them leaves
such maps out (`jaxcam.metrics` gives NaN for them); a map with a NaN gives NaN.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._explainers.formulas import grad_cam_map
from jaxcam._ground import space
from jaxcam._ground.dtypes import at_least_float32, reals
from jaxcam._ground.errors import ArgumentError, check_choice
from jaxcam._ground.text import counted
from jaxcam._ground.units import unit, without_denormals
from jaxcam._program.layers import Forward
from jaxcam._program.question import ask, gradients, mapped

__all__ = [
    "TERMS",
    "Fostered",
    "cam_area",
    "cam_dispersion",
    "cam_entropy",
    "fostering_loss",
]

_NORMS = ("sum", "softmax")


class Fostered(NamedTuple):
    """What `fostering_loss` saw on the way.

    Attributes:
        logits: `[B, N]`.
        maps: Grad-CAM `[B, h, w]` of the class; `[B, N, h, w]`, of every class, for several classes
            an image.
        classification: the classification loss, a scalar.
        penalty: mean of the term over the maps that count, a scalar; the loss is classification +
            beta * penalty.
        aux: what `forward` returned beside the logits, or None.
    """

    logits: jax.Array
    maps: jax.Array
    classification: jax.Array
    penalty: jax.Array
    aux: Any


def cam_entropy(maps: jax.Array, *, norm: str = "sum", spatial: int = 2) -> jax.Array:
    """Entropy of a map as a distribution over its cells: ce = -sum_ij P_ij ln P_ij, P = M / sum M.

    Args:
        maps: `[B, h, w]`, in any unit.
        norm: "sum", or "softmax": P = softmax of the map as it is, which depends on its scale.
        spatial: how many axes of positions maps have: 1 for `[B, l]`, 3 for `[B, d, h, w]`.

    Returns:
        `[B]` in nats: 0 for a single cell, ln(h w) for a constant map. 0 for a map without a
        positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`, or as `spatial` says; `norm` is unknown.

    References:
        Schoettl, Improving the interpretability of CNNs by CAM fostering, 2020 (arXiv 2009.12546),
        eq. of ce. The normalisation by the sum is the secondary literature's reading.

    Example:
        >>> even = jnp.ones((8, 8))
        >>> print(jaxcam.fostering.cam_entropy(jnp.stack([even, heat[0]])))  # ln 64 at most
        [4.16 2.08]
    """
    check_choice("norm", norm, _NORMS)
    maps = _checked(maps, spatial)
    axes = space.of_maps(maps)
    if norm == "sum":
        p = _distribution(maps)
    else:
        p = jax.nn.softmax(maps, axis=axes)
    empty = p == 0  # not p > 0: a NaN must stay one
    return -jnp.where(empty, 0, p * jnp.log(jnp.where(empty, 1, p))).sum(axes)


def cam_area(maps: jax.Array) -> jax.Array:
    """Area of the ellipse of a map's spread: ca = sqrt(lambda_1 lambda_2) = sqrt(det Sigma).

    Sigma = sum_ij P_ij (p_ij - m)(p_ij - m)^T is the covariance of the coordinates p = (row,
    column) under P = M / sum M, m their mean; lambda are its eigenvalues.

    Args:
        maps: `[B, h, w]`, in any unit.

    Returns:
        `[B]` in cells squared (times stride^2: pixels squared): 0 for one cell or a line of them,
        about s^2 for a Gaussian of standard deviation s. 0 for a map without a positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`.

    References:
        Schoettl 2020, eq. of ca.

    Example:
        >>> print(jaxcam.fostering.cam_area(heat))  # half a cell, a spot's variance along each axis
        [0.5 0.5]
    """
    p = _distribution(_checked(maps, 2))
    rows = _centred(p.sum(2))
    columns = _centred(p.sum(1))
    spread_y = (p.sum(2) * rows**2).sum(1)
    spread_x = (p.sum(1) * columns**2).sum(1)
    covariance = (p * rows[:, :, None] * columns[:, None, :]).sum((1, 2))
    determinant = spread_y * spread_x - covariance**2
    flat = determinant <= 0
    return jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, determinant)))


def cam_dispersion(maps: jax.Array, *, spatial: int = 2) -> jax.Array:
    """Relative variance of a map's cells: cd = var(M) / mean(M)^2, the population's variance.

    It has no unit and, computed on M / mean(M), needs no epsilon: the paper's only matters where
    the mean is 0.

    Args:
        maps: `[B, h, w]`, in any unit.
        spatial: as in `cam_entropy`.

    Returns:
        `[B]`: 0 for a constant map, n - 1 for a single one of n cells. 0 for a map without a
        positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`, or as `spatial` says.

    References:
        Schoettl 2020, eq. of cd.

    Example:
        >>> even = jnp.ones((8, 8))
        >>> print(jaxcam.fostering.cam_dispersion(jnp.stack([even, heat[0]])))
        [0. 8.]
    """
    p = _distribution(_checked(maps, spatial))
    axes = space.of_maps(p)
    cells = math.prod(p.shape[1:])
    return jnp.square(cells * p - p.sum(axes, keepdims=True)).mean(axes)


# What each term adds to the loss; a high dispersion is what is wanted, hence its sign.
TERMS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "entropy": cam_entropy,
    "entropy_softmax": partial(cam_entropy, norm="softmax"),
    "area": cam_area,
    "dispersion": lambda maps: -cam_dispersion(maps),
}


def fostering_loss(
    forward: Forward,
    images: jax.Array,
    labels: jax.Array,
    *,
    layer: str | None = None,
    beta: float | jax.Array = 100.0,
    term: str = "entropy",
    explain: str = "label",
    has_aux: bool = False,
    axis_name: str | None = None,
) -> tuple[jax.Array, Fostered]:
    """CAM-fostering loss: l = cross-entropy + beta mean_b ce(Grad-CAM_b).

    To be differentiated by the parameters. The Grad-CAM is `jaxcam.grad_cam` of the same forward
    pass that gives the logits, and nothing of it is stopped: the gradient reaches the parameters
    through the activations and through dY/dA, which is differentiated once more. A map without a
    positive value has no entropy and does not count in the mean.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, or `(logits, aux)` with `has_aux`; closes
            over the parameters. It may run in training mode: batch statistics are computed once. A
            batch norm above the layer that uses them joins the images, and dY/dA is then the
            gradient of the batch's total score.
        images: `[B, H, W, C]`.
        labels: `[B]` classes; `[B, N]` probabilities of the classes (smoothed, mixed), of which the
            largest is explained; or, as booleans `[B, N]`, the classes that are present: then the
            loss is the sigmoid cross-entropy, mean over classes, and the term's mean is over all
            present classes.
        layer: of the map: a name, or None for the last layer with spatial extent.
        beta: weight of the term, 0 or more; may be traced.
        term: "entropy" (the paper's), "entropy_softmax", "area" (cells squared), or "dispersion"
            (subtracted).
        explain: "label", or "predicted": the class of the largest logit.
        has_aux: whether `forward` returns `(logits, aux)`.
        axis_name: mapped axis over which the maps that count are counted, so that the mean of the
            devices' losses is the whole batch's. Average the loss and its gradient over it as
            always, after differentiation.

    Returns:
        The loss, a float32 scalar, and what was seen on the way.

    Raises:
        ValueError: `labels` of another shape or type, `beta` no number, an unknown `term` or
            `explain`, or as `jaxcam.grad_cam`.

    References:
        Schoettl 2020 (arXiv 2009.12546): l = l_train + beta ce. Area and dispersion are measures
        there, not terms.

    Example:
        >>> labels = jnp.array([0, 1])
        >>> loss, seen = jaxcam.fostering.fostering_loss(forward, images, labels, beta=0.1)
        >>> bool(jnp.isclose(loss, seen.classification + 0.1 * seen.penalty))
        True
    """
    check_choice("term", term, TERMS)
    check_choice("explain", explain, ("label", "predicted"))
    labels = _check_labels(labels, len(images), explain)
    _check_beta(beta)
    classes = None
    if explain == "label":
        classes = _classes(labels)
    question = ask(forward, images, classes, layer=layer, has_aux=has_aux, joined=True)
    logits, acts, grads, aux = gradients(question)
    (name,) = question.names
    maps = question.marked(mapped(question, grad_cam_map, name, acts, grads))
    classification = _classification(logits, labels)
    flat = maps.reshape(-1, *maps.shape[-2:])
    counts = jax.lax.stop_gradient(flat).max((1, 2)) > 0
    if labels.dtype == bool:
        counts = counts & labels.reshape(-1)
    penalty = _mean(TERMS[term](flat), counts, axis_name)
    return classification + beta * penalty, Fostered(logits, maps, classification, penalty, aux)


def _classification(logits: jax.Array, labels: jax.Array) -> jax.Array:
    if labels.ndim == 2 and labels.shape != logits.shape:
        classes = counted(labels.shape[1], "class")
        raise ArgumentError("labels", classes, f"{logits.shape[1]}, one for each logit")
    # A softmax of one logit is 1, and its loss 0, whatever it says.
    if logits.shape[1] == 1 and labels.dtype != bool:
        raise ArgumentError(
            "labels",
            f"{labels.dtype} for a single logit",
            f"booleans [{len(labels)}, 1], whether the class is there: the loss then is the "
            "sigmoid cross-entropy",
        )
    import optax  # takes long to import, and explaining does without

    logits = at_least_float32(logits)
    if labels.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    if labels.dtype == bool:
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()
    return optax.softmax_cross_entropy(logits, labels).mean()


def _classes(labels: jax.Array) -> jax.Array:
    """The classes whose maps count: all where labels are booleans, else the likeliest."""
    if labels.dtype == bool:
        return jnp.broadcast_to(jnp.arange(labels.shape[-1]), labels.shape)
    if labels.ndim == 2:
        return labels.argmax(-1)
    return labels


def _mean(values: jax.Array, counts: jax.Array, axis_name: str | None) -> jax.Array:
    """Mean of the values that count, 0 if there are none; NaN values stay NaN."""
    number = counts.sum().astype(values.dtype)
    if axis_name is not None:
        number = jax.lax.pmean(number, axis_name)
    total = jnp.where(counts | jnp.isnan(values), values, 0).sum()
    return total / jnp.where(number == 0, 1, number)


def _check_labels(labels: jax.Array, batch: int, explain: str) -> jax.Array:
    expected = f"[{batch}] integers, or [{batch}, N] probabilities or booleans"
    try:
        labels = jnp.asarray(labels)
    except (TypeError, ValueError) as error:
        raise ArgumentError("labels", repr(labels), expected) from error
    fits = labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.integer)
    if labels.ndim == 2:
        fits = labels.dtype == bool or jnp.issubdtype(labels.dtype, jnp.floating)
    if not fits or len(labels) != batch:
        got = f"shape {labels.shape} of {labels.dtype}"
        raise ArgumentError("labels", got, expected)
    if labels.dtype == bool and explain == "predicted":
        got = "'predicted' with several classes an image"
        raise ArgumentError("explain", got, "'label'")
    return labels


def _check_beta(beta: Any) -> None:
    if isinstance(beta, int | float):
        return
    array = hasattr(beta, "dtype") and hasattr(beta, "shape")
    if not array or beta.shape != () or not jnp.issubdtype(beta.dtype, jnp.number):
        raise ArgumentError("beta", repr(beta), "a number, 0 or more")


def _checked(maps: jax.Array, spatial: int) -> jax.Array:
    maps = reals("maps", maps)
    cells = {1: "[B, l]", 2: "[B, h, w]", 3: "[B, d, h, w]"}[space.check_spatial(spatial)]
    if maps.ndim != spatial + 1 or 0 in maps.shape[1:]:
        raise ArgumentError("maps", f"shape {maps.shape}", cells)
    return without_denormals(maps)


def _distribution(maps: jax.Array) -> jax.Array:
    """ReLU(L) / sum ReLU(L); all 0, and with zero gradient, where nothing is positive."""
    positive = jax.nn.relu(maps)
    axes = space.of_maps(maps)
    positive = positive / unit(positive, axes)
    total = positive.sum(axes, keepdims=True)
    empty = total == 0
    return jnp.where(empty, 0, positive / jnp.where(empty, 1, total))


def _centred(marginal: jax.Array) -> jax.Array:
    """Coordinates 0, 1, ... relative to their mean under `marginal` `[B, n]`."""
    position = jnp.arange(marginal.shape[1], dtype=marginal.dtype)
    # From the middle, not from 0, so that float32 keeps its digits on large maps.
    position = (position - (marginal.shape[1] - 1) / 2)[None]
    return position - (marginal * position).sum(1, keepdims=True)
