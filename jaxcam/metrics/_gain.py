"""What the masked image wins, and what taking away what the map shows costs."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground.dtypes import at_least_float32, cast_like
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam.metrics._common import checked, finite, only, outputs_of
from jaxcam.metrics._faithfulness import confidences, mask_images, one_target
from jaxcam.targets import Activation, Targets, confidence


def gain(full: jax.Array, masked: jax.Array) -> jax.Array:
    """100 max(0, O - Y) / (1 - Y) of two confidences.

    Args:
        full: Y `[B]`, on the image, in [0, 1].
        masked: O `[B]`, on the masked image, in [0, 1].

    Returns:
        `[B]` in percent; 0 where Y is 1, for then there is nothing to win; NaN where either is.

    Raises:
        TypeError: the shapes do not fit each other.

    Example:
        >>> print(jaxcam.metrics.gain(jnp.array([0.5, 0.8]), jnp.array([0.75, 0.4])))
        [50.  0.]
    """
    won = jnp.maximum(masked - full, 0)
    room = 1 - full
    return 100 * won / jnp.where(room == 0, 1, room)


def average_gain(
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
    """Average Gain, before the average: 100 max(0, O - Y) / (1 - Y). Higher is better.

    It is to `average_drop` what `average_increase` counts: by how much, of what was to be won.

    Args:
        forward: as in `confidences`, and so are all others.
        images: `[B, H, W, C]`.
        saliency: `[B, H, W]`.
        targets: None (arg-max), an int, `[B]` ints or a function whose values lie in [0, 1].
        top: as in `average_drop`; the paper's mask is the soft one.
        strict: as in `mask_images`.
        activation: as in `confidence`.
        has_aux: as in `confidence`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in percent; 0 where Y is 1. NaN where saliency is not finite, or `mask` is False.

    Raises:
        ValueError: as `confidences`.

    References:
        Zhang et al., Opti-CAM, CVIU 2024, AG.

    Example:
        >>> shown = 1.0 * (heat > 0)  # grey elsewhere speaks against the class
        >>> print(jaxcam.metrics.average_gain(forward, images, shown))
        [31.77 32.59]
    """
    found = confidences(
        forward,
        images,
        saliency,
        targets,
        top=top,
        strict=strict,
        activation=activation,
        has_aux=has_aux,
        mask=mask,
    )
    return gain(*found)


def drop_in_deletion(
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
    """Average drop in deletion, before the average: 100 (Y - D) / Y. Higher is better.

    D is the confidence on the image times 1 - M, where average drop has the image times the mask M:
    what the map shows is taken away. It is negative where that raises the confidence.

    Args:
        forward: as in `confidences`, and so are all others.
        images: `[B, H, W, C]`.
        saliency: `[B, H, W]`.
        targets: None (arg-max of the unmasked images), an int, `[B]` ints or a function.
        top: as in `mask_images`; the paper's mask is the soft one.
        strict: as in `mask_images`.
        activation: as in `confidence`.
        has_aux: as in `confidence`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in percent, at most 100; 0 where Y is 0, and for constant saliency, which takes
        nothing away. NaN where saliency is not finite, or `mask` is False.

    Raises:
        ValueError: as `confidences`.

    References:
        Jung and Oh, Towards better explanations of class activation mapping, ICCV 2021, ADD.

    Example:
        >>> print(jaxcam.metrics.drop_in_deletion(forward, images, heat))
        [39.46 37.18]
    """
    check_images(images)
    model = outputs_of(forward, targets, has_aux)
    saliency = checked(saliency, images)
    logits = model(images)
    chosen = one_target(logits, targets)
    pixels = at_least_float32(images)
    left = pixels - mask_images(pixels, saliency, top=top, strict=strict)
    full = confidence(logits, chosen, activation)
    deleted = confidence(model(cast_like(left, images)), chosen, activation)
    lost = 100 * jnp.where(full == 0, 0, (full - deleted) / jnp.where(full == 0, 1, full))
    return only(lost, finite(saliency), mask)
