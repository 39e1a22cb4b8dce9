"""CAM fostering: how sharp, small and decisive an activation map is, and the loss that makes it so.

The measures take raw maps `[B, h, w]`, rectify them as Grad-CAM does, M = ReLU(L), and give one
number per map. They are functions to differentiate through: value and gradient are finite
everywhere, also at a map without a positive value, where both are 0. Whoever averages them leaves
such maps out (`jaxcam.metrics` gives NaN for them); a map with a NaN gives NaN.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcam._explainers.gradient import check_option, grad_cam
from jaxcam._program.layers import Forward
from jaxcam._program.trace import check_forward

_NORMS = ("sum", "softmax")


class Fostered(NamedTuple):
    """What `fostering_loss` saw on the way.

    Args:
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


def cam_entropy(maps: jax.Array, norm: str = "sum") -> jax.Array:
    """Entropy of a map as a distribution over its cells: ce = -sum_ij P_ij ln P_ij, P = M / sum M.

    Args:
        maps: `[B, h, w]`, in any unit.
        norm: "sum", or "softmax": P = softmax of the map as it is, which depends on its scale.

    Returns:
        `[B]` in nats: 0 for a single cell, ln(h w) for a constant map. 0 for a map without a
        positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`, or `norm` is unknown.

    References:
        Schoettl, Improving the interpretability of CNNs by CAM fostering, 2020 (arXiv 2009.12546),
        eq. of ce. The normalisation by the sum is the secondary literature's reading.
    """
    check_option("norm", norm, _NORMS)
    maps = _checked(maps)
    p = _distribution(maps) if norm == "sum" else jax.nn.softmax(maps, axis=(1, 2))
    empty = p == 0  # not p > 0: a NaN must stay one
    return -jnp.where(empty, 0, p * jnp.log(jnp.where(empty, 1, p))).sum((1, 2))


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
    """
    p = _distribution(_checked(maps))
    rows, columns = _centred(p.sum(2)), _centred(p.sum(1))
    spread_y, spread_x = (p.sum(2) * rows**2).sum(1), (p.sum(1) * columns**2).sum(1)
    covariance = (p * rows[:, :, None] * columns[:, None, :]).sum((1, 2))
    determinant = spread_y * spread_x - covariance**2
    flat = determinant <= 0
    return jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, determinant)))


def cam_dispersion(maps: jax.Array) -> jax.Array:
    """Relative variance of a map's cells: cd = var(M) / mean(M)^2, the population's variance.

    It has no unit and, computed on M / mean(M), needs no epsilon: the paper's only matters where
    the mean is 0.

    Args:
        maps: `[B, h, w]`, in any unit.

    Returns:
        `[B]`: 0 for a constant map, n - 1 for a single one of n cells. 0 for a map without a
        positive value.

    Raises:
        ValueError: `maps` is not `[B, h, w]`.

    References:
        Schoettl 2020, eq. of cd.
    """
    p = _distribution(_checked(maps))
    cells = p.shape[1] * p.shape[2]
    return jnp.square(cells * p - p.sum((1, 2), keepdims=True)).mean((1, 2))


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
    """
    check_option("term", term, TERMS)
    check_option("explain", explain, ("label", "predicted"))
    check_forward(forward)
    labels = _check_labels(labels, len(images), explain)
    _check_beta(beta)

    def seen(x: jax.Array) -> tuple[jax.Array, Any]:
        logits, aux = forward(x) if has_aux else (forward(x), None)
        return logits, (logits, aux)

    several = labels.dtype == bool
    classes = (
        jnp.broadcast_to(jnp.arange(labels.shape[-1]), labels.shape)
        if several
        else _classes(labels)
    )
    maps, (logits, aux) = grad_cam(
        seen, images, None if explain == "predicted" else classes, layer=layer, has_aux=True
    )
    classification = _classification(logits, labels)
    flat = maps.reshape(-1, *maps.shape[-2:])
    counts = (jax.lax.stop_gradient(flat).max((1, 2)) > 0) & (
        labels.reshape(-1) if several else True
    )
    penalty = _mean(TERMS[term](flat), counts, axis_name)
    return classification + beta * penalty, Fostered(logits, maps, classification, penalty, aux)


def _classification(logits: jax.Array, labels: jax.Array) -> jax.Array:
    if labels.ndim == 2 and labels.shape != logits.shape:
        raise ValueError(
            f"labels: got {labels.shape[1]} classes, expected {logits.shape[1]}, one for each logit"
        )
    if (
        logits.shape[1] == 1 and labels.dtype != bool
    ):  # a softmax of one logit is 1, and its loss 0, whatever it says
        raise ValueError(
            f"labels: got {labels.dtype} for a single logit, expected booleans [{len(labels)}, 1], "
            "whether the class is there: the loss then is the sigmoid cross-entropy"
        )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if labels.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    if labels.dtype == bool:
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()
    return optax.softmax_cross_entropy(logits, labels).mean()


def _classes(labels: jax.Array) -> jax.Array:
    return labels if labels.ndim == 1 else labels.argmax(-1)


def _mean(values: jax.Array, counts: jax.Array, axis_name: str | None) -> jax.Array:
    """Mean of the values that count, 0 if there are none; NaN values stay NaN."""
    number = counts.sum().astype(values.dtype)
    number = number if axis_name is None else jax.lax.pmean(number, axis_name)
    return jnp.where(counts | jnp.isnan(values), values, 0).sum() / jnp.where(
        number == 0, 1, number
    )


def _check_labels(labels: jax.Array, batch: int, explain: str) -> jax.Array:
    expected = f"[{batch}] integers, or [{batch}, N] probabilities or booleans"
    try:
        labels = jnp.asarray(labels)
    except (TypeError, ValueError) as error:
        raise ValueError(f"labels: got {labels!r}, expected {expected}") from error
    kind = {1: jnp.integer, 2: jnp.floating}.get(labels.ndim)
    fits = kind is not None and len(labels) == batch
    if not fits or not (
        jnp.issubdtype(labels.dtype, kind) or (labels.ndim == 2 and labels.dtype == bool)
    ):
        raise ValueError(f"labels: got shape {labels.shape} of {labels.dtype}, expected {expected}")
    if labels.dtype == bool and explain == "predicted":
        raise ValueError("explain: got 'predicted' with several classes an image, expected 'label'")
    return labels


def _check_beta(beta: Any) -> None:
    array = hasattr(beta, "dtype") and hasattr(beta, "shape")
    if not (
        isinstance(beta, int | float)
        or (array and beta.shape == () and jnp.issubdtype(beta.dtype, jnp.number))
    ):
        raise ValueError(f"beta: got {beta!r}, expected a number, 0 or more")


def _checked(maps: jax.Array) -> jax.Array:
    maps = jnp.asarray(maps)
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps: got shape {maps.shape}, expected [B, h, w]")
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))


def _distribution(maps: jax.Array) -> jax.Array:
    """ReLU(L) / sum ReLU(L); all 0, and with zero gradient, where nothing is positive."""
    positive = jax.nn.relu(maps)
    total = positive.sum((1, 2), keepdims=True)
    empty = total == 0
    return jnp.where(empty, 0, positive / jnp.where(empty, 1, total))


def _centred(marginal: jax.Array) -> jax.Array:
    """Coordinates 0, 1, ... relative to their mean under `marginal` `[B, n]`."""
    position = jnp.arange(marginal.shape[1], dtype=marginal.dtype)
    # From the middle, not from 0, so that float32 keeps its digits on large maps.
    position = (position - (marginal.shape[1] - 1) / 2)[None]
    return position - (marginal * position).sum(1, keepdims=True)
