"""Does the model keep its confidence on what the map shows? Average drop, increase, win rate."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground import order, space
from jaxcam._ground.dtypes import at_least_float32, cast_like
from jaxcam._ground.errors import ArgumentError, check_flag, check_within
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam._program.versions import over_versions
from jaxcam.maps import normalize
from jaxcam.metrics._common import checked, finite, only, outputs_of
from jaxcam.targets import Activation, Targets, resolve
from jaxcam.targets import confidence as confidence_of


class Confidences(NamedTuple):
    """Y on the images and O on the masked images, `[B]` each."""

    full: jax.Array
    masked: jax.Array


def confidence(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    activation: Activation = None,
    has_aux: bool = False,
) -> jax.Array:
    """Y_b = p_b[c_b], p = softmax(forward(images)), or sigmoid of a single logit.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`.
        targets: None (arg-max), an int, `[B]` ints, or a function logits -> confidence `[B]`, taken
            as it is.
        activation: what makes logits probabilities, as in `jaxcam.targets.probabilities`.
        has_aux: whether `forward` returns `(logits, aux)`; aux is not looked at.

    Returns:
        `[B]` float32.

    Raises:
        ValueError: bad images or targets, as in `jaxcam.targets.check`, several targets per image,
            or a `forward` that returns something else than `has_aux` says.

    Example:
        >>> print(jaxcam.metrics.confidence(forward, images))
        [0.83 0.87]
    """
    check_images(images)
    logits = outputs_of(forward, targets, has_aux)(images)
    return confidence_of(logits, one_target(logits, targets), activation)


def confidences(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    top: float | None = None,
    strict: bool = True,
    activation: Activation = None,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> Confidences:
    """Y on the images, O on the images masked by their saliency; two forward passes.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        saliency: `[B, H, W]`, any real numbers.
        targets: as in `confidence`; None takes the arg-max of the unmasked images.
        top: as in `mask_images`.
        strict: as in `mask_images`.
        activation: as in `confidence`.
        has_aux: as in `confidence`.
        mask: `[B]`, False for examples to leave out (padding).

    Returns:
        `Confidences(full, masked)`, `[B]` each, in [0, 1]. NaN where saliency is not finite, or
        `mask` is False.

    Raises:
        ValueError: bad images or targets; saliency or mask of another size; `top` outside (0, 1].

    Example:
        >>> full, masked = jaxcam.metrics.confidences(forward, images, heat)
        >>> print(full, masked)
        [0.83 0.87] [0.71 0.73]
    """
    check_images(images)
    model = outputs_of(forward, targets, has_aux)
    saliency = checked(saliency, images)
    logits = model(images)
    chosen = one_target(logits, targets)
    masked = model(mask_images(images, saliency, top=top, strict=strict))
    known = finite(saliency)
    full = confidence_of(logits, chosen, activation)
    left = confidence_of(masked, chosen, activation)
    return Confidences(only(full, known, mask), only(left, known, mask))


def mask_images(
    images: jax.Array, saliency: ArrayLike, *, top: float | None = None, strict: bool = True
) -> jax.Array:
    """Images times a mask made of their saliency.

    What is masked goes to 0, the mean colour of normalised images.

    Args:
        images: `[B, H, W, C]`.
        saliency: `[B, H, W]`, any real numbers.
        top: None: the soft mask, saliency min-max scaled to [0, 1] (0 for constant saliency). A
            fraction in (0, 1]: the binary mask of that share of pixels, the most salient ones.
        strict: of the binary mask: True keeps what lies above the value at the fraction's end, as
            the re-evaluation of Relevance-CAM did, so that ties there are all muted and a map with
            many zeros keeps fewer pixels. False keeps exactly the fraction; among ties the last in
            raster order come first, as in `deletion`.

    Returns:
        `[B, H, W, C]` in the images' dtype; NaN where saliency is not finite.

    Raises:
        ValueError: saliency is not of the images' size; `top` outside (0, 1].

    Example:
        >>> soft = jaxcam.metrics.mask_images(images, heat)
        >>> hard = jaxcam.metrics.mask_images(images, heat, top=0.1)  # whole pixels, the best tenth
        >>> print(images.sum((1, 2, 3)), soft.sum((1, 2, 3)), hard.sum((1, 2, 3)))
        [23.2 23.2] [3. 3.] [3.9 3.9]
    """
    saliency = checked(saliency, images)
    pixels = at_least_float32(images)
    check_flag("strict", strict)
    if top is None:
        weights = normalize(saliency, spatial=saliency.ndim - 1)
    else:
        weights = _top_mask(saliency, top, strict)
    weights = only(weights, finite(saliency))[..., None].astype(pixels.dtype)
    return cast_like(pixels * weights, images)


def drop(full: jax.Array, masked: jax.Array) -> jax.Array:
    """100 max(0, Y - O) / Y of two confidences.

    Args:
        full: Y `[B]`, on the image.
        masked: O `[B]`, on the masked image.

    Returns:
        `[B]` in percent; 0 where Y is 0, for then there is nothing to lose; NaN where either is.

    Raises:
        TypeError: the shapes do not fit each other.

    Example:
        >>> print(jaxcam.metrics.drop(jnp.array([0.8, 0.5]), jnp.array([0.4, 0.6])))
        [50.  0.]
    """
    lost = jnp.maximum(full - masked, 0)
    return 100 * jnp.where(full == 0, lost, lost / jnp.where(full == 0, 1, full))


def increase(full: jax.Array, masked: jax.Array, *, ties: bool = False) -> jax.Array:
    """100 [Y < O] of two confidences.

    Args:
        full: Y `[B]`, on the image.
        masked: O `[B]`, on the masked image.
        ties: whether Y = O counts as an increase.

    Returns:
        `[B]`, 0 or 100; NaN where either is.

    Raises:
        TypeError: the shapes do not fit each other.

    Example:
        >>> print(jaxcam.metrics.increase(jnp.array([0.8, 0.5]), jnp.array([0.4, 0.6])))
        [  0. 100.]
    """
    check_flag("ties", ties)
    won = full <= masked if ties else full < masked
    return jnp.where(jnp.isnan(full + masked), jnp.nan, jnp.where(won, 100.0, 0.0))


def average_drop(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    top: float | None = None,
    strict: bool = True,
    activation: Activation = None,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """Average Drop, before the average: 100 max(0, Y - O) / Y. Lower is better.

    Args:
        forward: as in `confidences`, and so are all others.
        images: `[B, H, W, C]`.
        saliency: `[B, H, W]`.
        targets: None (arg-max), an int, `[B]` ints or a function.
        top: None for the soft mask (Grad-CAM++, ADCC); 0.5 for the binary one (Score-CAM,
            Relevance-CAM).
        strict: as in `mask_images`.
        activation: as in `confidence`.
        has_aux: as in `confidence`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in percent; 0 where Y is 0. NaN where saliency is not finite, or `mask` is False.

    Raises:
        ValueError: as `confidences`.

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1; Wang et al., Score-CAM, 2020,
        section 4.2.

    Example:
        >>> print(jaxcam.metrics.average_drop(forward, images, heat))
        [14.72 15.68]
        >>> print(jaxcam.metrics.average_drop(forward, images, 1 - heat))  # hides the spots
        [39.46 37.18]
    """
    options: dict[str, Any] = {"top": top, "strict": strict, "mask": mask}
    options |= {"activation": activation, "has_aux": has_aux}
    return drop(*confidences(forward, images, saliency, targets, **options))


def average_increase(
    forward: Forward,
    images: jax.Array,
    saliency: ArrayLike,
    targets: Targets = None,
    *,
    top: float | None = None,
    strict: bool = True,
    ties: bool = False,
    activation: Activation = None,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """Average Increase, before the average: 100 [Y < O]. Higher is better.

    Args:
        forward: as in `confidences`, and so are all others.
        images: `[B, H, W, C]`.
        saliency: `[B, H, W]`.
        targets: None (arg-max), an int, `[B]` ints or a function.
        top: as in `average_drop`.
        strict: as in `mask_images`.
        ties: whether Y = O counts as an increase, as in the re-evaluation of Relevance-CAM.
        activation: as in `confidence`.
        has_aux: as in `confidence`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`, 0 or 100. NaN where saliency is not finite, or `mask` is False.

    Raises:
        ValueError: as `confidences`.

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1.

    Example:
        >>> shown = 1.0 * (heat > 0)  # grey elsewhere speaks against the class
        >>> print(jaxcam.metrics.average_increase(forward, images, shown))
        [100. 100.]
    """
    options: dict[str, Any] = {"top": top, "strict": strict, "mask": mask}
    options |= {"activation": activation, "has_aux": has_aux}
    return increase(*confidences(forward, images, saliency, targets, **options), ties=ties)


def win_rate(drops: ArrayLike, rival_drops: ArrayLike) -> jax.Array:
    """Win %, before the average: 100 where the drop is below the rival's, 50 where equal.

    So that the win rates of two methods add up to 100.

    Args:
        drops: `[B]`, a method's `average_drop`.
        rival_drops: `[B]`, another's on the same images.

    Returns:
        `[B]` in percent; NaN where either is NaN.

    Raises:
        ValueError: the two differ in shape.

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1.

    Example:
        >>> drops = jnp.array([10.0, 20.0, 30.0])
        >>> print(jaxcam.metrics.win_rate(drops, jnp.array([20.0, 20.0, 20.0])))
        [100.  50.   0.]
    """
    drops = jnp.asarray(drops)
    rival_drops = jnp.asarray(rival_drops)
    if drops.shape != rival_drops.shape:
        expected = f"{drops.shape}, as drops"
        raise ArgumentError("rival_drops", f"shape {rival_drops.shape}", expected)
    won = jnp.where(drops < rival_drops, 100.0, 0.0)
    won = jnp.where(drops == rival_drops, 50.0, won)
    return jnp.where(jnp.isnan(drops + rival_drops), jnp.nan, won)


def ranks(saliency: jax.Array) -> jax.Array:
    """Pixels' places, 0 first, by descending saliency; of equals the last in raster order first."""
    flat = saliency.reshape(saliency.shape[0], -1)
    places = jnp.arange(flat.shape[1])[::-1]

    def one(row: jax.Array) -> jax.Array:
        ascending = jnp.argsort(row, stable=True)
        # a second sort costs as much
        return jnp.zeros_like(ascending).at[ascending].set(places, unique_indices=True)

    return jax.vmap(one)(flat).reshape(saliency.shape)


def _top_mask(saliency: jax.Array, top: float, strict: bool) -> jax.Array:
    check_within("top", top, 0, 1, ends="(]")
    count = max(round(top * math.prod(saliency.shape[1:])), 1)
    if not strict:
        return (ranks(saliency) < count).astype(saliency.dtype)
    threshold = order.kth_largest(saliency.reshape(saliency.shape[0], -1), count)
    return (saliency > space.along(threshold, saliency)).astype(saliency.dtype)


def asking(model: Forward, chosen: Any, activation: Activation) -> Callable:
    """What tells the confidences `[n, B]` of n versions of each image, `[n, B, *spatial, C]`.

    The model is mapped over the versions, so that one that closes over something of the batch's
    size, or returns something else than logits, is asked as ever.
    """
    return over_versions(lambda images: confidence_of(model(images), chosen, activation))


def one_target(logits: jax.Array, targets: Targets) -> jax.Array | Callable:
    """Classes `[B]`, or the target function; a ValueError for several classes per image."""
    chosen = resolve(logits, targets)
    if not callable(chosen) and chosen.ndim != 1:
        expected = f"one class per image, [{chosen.shape[0]}]"
        raise ArgumentError("targets", f"shape {chosen.shape}", expected)
    return chosen
