"""Does the map lie on the object, where the object is known pixel by pixel?

Masks of objects are `[B, H, W]`, True on the object. What is asked of an image without any object
has no answer, and is NaN.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground import space
from jaxcam._ground.errors import ArgumentError, check_unmasked
from jaxcam.metrics._common import checked, finite, only
from jaxcam.metrics._faithfulness import ranks


def mass_accuracy(
    saliency: ArrayLike, objects: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """Relevance mass accuracy: sum of R inside the object / sum of R, R = ReLU(saliency).

    `energy_in_box` of an object that is no box. High is good.

    Args:
        saliency: `[B, H, W]`, any real numbers; negative ones count as 0. (The paper's pooled
            relevance is never negative.)
        objects: `[B, H, W]`, True on the object.
        spatial: how many axes of positions maps have: 1 for `[B, L]`, 3 for `[B, D, H, W]`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]; 0 for a map without a positive value. NaN where saliency is not finite,
        there is no object, or `mask` is False.

    Raises:
        ValueError: saliency, objects or mask have the wrong shape.

    References:
        Arras et al., CLEVR-XAI, Information Fusion 2022, section 3.2.

    Example:
        >>> objects = jaxcam.metrics.box_mask(boxes, (8, 8))
        >>> print(jaxcam.metrics.mass_accuracy(heat + 0.1, objects))
        [0.47 0.47]
    """
    saliency, objects = _checked(saliency, objects, spatial)
    axes = space.of_maps(saliency)
    relevance = jax.nn.relu(saliency)
    # In units of the maximum, so that a constant map gives the exact share.
    highest = relevance.max(axes, keepdims=True)
    relevance = relevance / jnp.where(highest == 0, 1, highest)
    total = relevance.sum(axes)
    inside = jnp.where(objects, relevance, 0).sum(axes)
    return only(inside / jnp.where(total == 0, 1, total), finite(saliency), objects.any(axes), mask)


def rank_accuracy(
    saliency: ArrayLike, objects: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """Relevance rank accuracy: the share of the K most salient pixels on the object, K its size.

    High is good. Pixels are ordered as in `deletion`.

    Args:
        saliency: `[B, H, W]`, any real numbers; only their order matters.
        objects: `[B, H, W]`, True on the object.
        spatial: as in `mass_accuracy`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]; random order scores the object's share of the image. NaN where saliency is
        not finite, there is no object, or `mask` is False.

    Raises:
        ValueError: saliency, objects or mask have the wrong shape.

    References:
        Arras et al. 2022, section 3.2.

    Example:
        >>> objects = jaxcam.metrics.box_mask(boxes, (8, 8))
        >>> print(jaxcam.metrics.rank_accuracy(heat, objects))
        [1. 1.]
    """
    saliency, objects = _checked(saliency, objects, spatial)
    axes = space.of_maps(saliency)
    size = objects.sum(axes)
    top = ranks(saliency) < space.along(size, saliency)
    return only(_share(top & objects, objects, saliency), finite(saliency), size > 0, mask)


def pointing_at(
    saliency: ArrayLike, objects: ArrayLike, *, spatial: int = 2, mask: ArrayLike | None = None
) -> jax.Array:
    """The pointing game on masks: 1 if the most salient pixel lies on the object, else 0.

    Several pixels that share the maximum count as in `pointing_game`.

    Args:
        saliency: `[B, H, W]`, any real numbers.
        objects: `[B, H, W]`, True on the object.
        spatial: as in `mass_accuracy`.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]. NaN where saliency is not finite, there is no object, or `mask` is False.

    Raises:
        ValueError: saliency, objects or mask have the wrong shape.

    References:
        Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018.

    Example:
        >>> objects = jaxcam.metrics.box_mask(boxes, (8, 8))
        >>> print(jaxcam.metrics.pointing_at(heat, objects))
        [1. 1.]
    """
    saliency, objects = _checked(saliency, objects, spatial)
    axes = space.of_maps(saliency)
    top = saliency == saliency.max(axes, keepdims=True)
    share = _share(top & objects, top, saliency)
    return only(share, finite(saliency), objects.any(axes), mask)


def _share(part: jax.Array, whole: jax.Array, saliency: jax.Array) -> jax.Array:
    """How many of the pixels are in the part, `[B, H, W]` bool twice -> `[B]`; 0 of none."""
    axes = space.of_maps(saliency)
    count = jnp.maximum(whole.sum(axes), 1)
    return part.sum(axes).astype(saliency.dtype) / count.astype(saliency.dtype)


def _checked(saliency: ArrayLike, objects: ArrayLike, spatial: int) -> tuple[jax.Array, jax.Array]:
    saliency = checked(saliency, spatial=spatial)
    check_unmasked("objects", objects)
    objects = jnp.asarray(objects)
    if objects.shape != saliency.shape:
        raise ArgumentError("objects", f"shape {objects.shape}", f"{saliency.shape}, as saliency")
    if objects.dtype != bool:
        raise ArgumentError("objects", f"dtype {objects.dtype}", "bool, True on the object")
    return saliency, objects
