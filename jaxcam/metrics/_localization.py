"""Does the map lie on the object?

Masks against boxes, the pointing game, energy in the box, boxes made of maps. Boxes are
`[B, K, 4]`: up to K boxes per image as (xmin, ymin, xmax, ymax) in pixels, the last row and column
included, as in PASCAL VOC and ImageNet annotations. Where an image has fewer, `boxes_mask` `[B, K]`
is False; a box with xmax < xmin is empty too. Several boxes of an image count as their union. What
is asked of an image without any box has no answer, and is NaN; a map that marks nothing has failed,
and scores 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam import maps
from jaxcam._ground.dtypes import reals
from jaxcam._ground.errors import (
    ArgumentError,
    check_at_least,
    check_size,
    check_unmasked,
    check_within,
)
from jaxcam.metrics import _components as components
from jaxcam.metrics._common import checked, finite, only


def box_mask(
    boxes: ArrayLike, size: Sequence[int], *, boxes_mask: ArrayLike | None = None
) -> jax.Array:
    """The union of filled boxes: pixel (y, x) is in if xmin <= x <= xmax and ymin <= y <= ymax.

    Args:
        boxes: `[B, K, 4]` or `[B, 4]`: xmin, ymin, xmax, ymax in pixels, inclusive.
        size: (H, W) of the images.
        boxes_mask: `[B, K]`, False for what is no box; None: all are.

    Returns:
        `[B, H, W]` bool.

    Raises:
        ValueError: boxes or boxes_mask have another shape.

    Example:
        >>> print(jaxcam.metrics.box_mask(boxes, (8, 8)).sum((1, 2)))  # pixels
        [9 9]
    """
    size = check_size("size", size)
    boxes, valid = _checked_boxes(boxes, boxes_mask)
    filled = _distances(boxes, size) <= 0
    return (filled & valid[:, :, None, None]).any(1)


def resize_boxes(boxes: ArrayLike, old: Sequence, new: Sequence[int]) -> jax.Array:
    """Boxes of an image after it is stretched from size `old` to size `new`, (H, W) each.

    A box's edges xmin and xmax + 1 are scaled and rounded: it then covers the pixels whose centres
    lie in it, and never fewer than one row and column.

    Args:
        boxes: `[..., 4]`.
        old: (H, W) that the boxes belong to; or two arrays `[...]`.
        new: (H, W) wanted.

    Returns:
        `[..., 4]` float32, whole pixels.

    Raises:
        ValueError: the last axis of `boxes` is not 4.

    Example:
        >>> print(jaxcam.metrics.resize_boxes(boxes, (8, 8), (16, 32)))
        [[16.  0. 27.  5.]
         [ 8.  8. 19. 13.]]
    """
    boxes = reals("boxes", boxes).astype(jnp.float32)
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ArgumentError("boxes", f"shape {boxes.shape}", "[..., 4] (xmin, ymin, xmax, ymax)")
    across = jnp.asarray(new[1], jnp.float32) / jnp.asarray(old[1], jnp.float32)
    down = jnp.asarray(new[0], jnp.float32) / jnp.asarray(old[0], jnp.float32)
    scale = jnp.stack([across, down], -1)
    scale = jnp.broadcast_to(scale, (*boxes.shape[:-1], 2))
    # a centre on an edge goes to the box before it, at either end
    low = jnp.floor(boxes[..., :2] * scale + 0.5)
    high = jnp.floor((boxes[..., 2:] + 1) * scale + 0.5) - 1
    return jnp.concatenate([low, jnp.maximum(high, low)], -1)


def mask_iou(
    saliency: ArrayLike,
    boxes: ArrayLike,
    *,
    k: float = 1.0,
    boxes_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """Relevance-CAM's localisation score: IoU of L > mean L + k std L and the filled boxes.

    Args:
        saliency: `[B, H, W]`, any real numbers.
        boxes: `[B, K, 4]` or `[B, 4]`, see the module.
        k: how many standard deviations above the mean.
        boxes_mask: `[B, K]`, False for what is no box.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]: 0 for constant saliency, whose mask is empty. NaN where saliency is not
        finite, there is no box, or `mask` is False.

    Raises:
        ValueError: saliency, boxes or masks have the wrong shape.

    References:
        Lee et al., Relevance-CAM, CVPR 2021, section 4.3.

    Example:
        >>> print(jaxcam.metrics.mask_iou(heat, boxes))
        [1. 1.]
    """
    saliency = checked(saliency)
    return _overlap(maps.threshold(saliency, k=k), saliency, boxes, boxes_mask, mask)


def loc(
    saliency: ArrayLike,
    boxes: ArrayLike,
    *,
    delta: float = 0.25,
    boxes_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """Grad-CAM++'s Loc: internal pixels / (box area + external pixels), of pixels with L > delta.

    L is min-max scaled to [0, 1] per image. The denominator is the union, so Loc is an IoU.

    Args:
        saliency: `[B, H, W]`, any real numbers.
        boxes: `[B, K, 4]` or `[B, 4]`, see the module.
        delta: threshold in [0, 1); the paper reports 0, 0.25 and 0.5.
        boxes_mask: `[B, K]`, False for what is no box.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]: 0 for constant saliency. NaN as in `mask_iou`.

    Raises:
        ValueError: as `mask_iou`, or `delta` outside [0, 1).

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, eq. 26.

    Example:
        >>> print(jaxcam.metrics.loc(heat, boxes))
        [0.56 0.56]
    """
    check_within("delta", delta, 0, 1, ends="[)")
    saliency = checked(saliency)
    return _overlap(maps.normalize(saliency) > delta, saliency, boxes, boxes_mask, mask)


def pointing_game(
    saliency: ArrayLike,
    boxes: ArrayLike,
    *,
    tolerance: float = 0.0,
    boxes_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """The pointing game: 1 if the most salient pixel lies in a box, else 0.

    Where several pixels share the maximum, the value is the share of them that hits: what choosing
    one at random is expected to give. So a constant map scores the boxes' share of the image, which
    is chance.

    Args:
        saliency: `[B, H, W]`, any real numbers.
        boxes: `[B, K, 4]` or `[B, 4]`, see the module.
        tolerance: a pixel at most this far (in pixels) from a box hits too; 15 at about 224 px in
            the original game.
        boxes_mask: `[B, K]`, False for what is no box.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]. NaN where saliency is not finite, there is no box, or `mask` is False.

    Raises:
        ValueError: saliency, boxes or masks have the wrong shape; a negative tolerance.

    References:
        Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018.

    Example:
        >>> print(jaxcam.metrics.pointing_game(heat, boxes))
        [1. 1.]
        >>> print(jaxcam.metrics.pointing_game(-heat, boxes))
        [0. 0.]
    """
    check_at_least("tolerance", tolerance, 0)
    saliency = checked(saliency)
    boxes, valid = _checked_boxes(boxes, boxes_mask, len(saliency))
    near = (_distances(boxes, saliency.shape[1:]) <= tolerance**2) & valid[:, :, None, None]
    top = saliency == saliency.max((1, 2), keepdims=True)
    hits = _share(top & near.any(1), top, saliency.dtype)
    return only(hits, finite(saliency), valid.any(1), mask)


def energy_in_box(
    saliency: ArrayLike,
    boxes: ArrayLike,
    *,
    boxes_mask: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """The energy-based pointing game: sum of ReLU(L) inside the boxes / sum of ReLU(L).

    Negative saliency carries no energy. A min-max scaled map gives another value than a raw one:
    Score-CAM's own protocol takes maps that are rectified and then scaled to [0, 1].

    Args:
        saliency: `[B, H, W]`, any real numbers.
        boxes: `[B, K, 4]` or `[B, 4]`, see the module.
        boxes_mask: `[B, K]`, False for what is no box.
        mask: `[B]`, False for padding.

    Returns:
        `[B]` in [0, 1]: the boxes' share of the image for a constant positive map, 0 for one
        without a positive value. NaN where saliency is not finite, there is no box, or `mask` is
        False.

    Raises:
        ValueError: saliency, boxes or masks have the wrong shape.

    References:
        Wang et al., Score-CAM, CVPR Workshops 2020.

    Example:
        >>> print(jaxcam.metrics.energy_in_box(heat + 0.1, boxes))
        [0.47 0.47]
    """
    saliency = checked(saliency)
    energy = jax.nn.relu(saliency)
    boxes, valid = _checked_boxes(boxes, boxes_mask, len(energy))
    inside = box_mask(boxes, energy.shape[1:], boxes_mask=valid)
    # In units of the maximum, so that a constant map gives the exact share.
    highest = energy.max((1, 2), keepdims=True)
    energy = energy / jnp.where(highest == 0, 1, highest)
    total = energy.sum((1, 2))
    share = jnp.where(inside, energy, 0).sum((1, 2)) / jnp.where(total == 0, 1, total)
    return only(share, finite(saliency), inside.any((1, 2)), mask)


def box_from_map(
    saliency: ArrayLike, *, fraction: float = 0.2, mask: ArrayLike | None = None
) -> jax.Array:
    """CAM's box: around the largest connected component of the pixels with L > fraction * max L.

    Components are 8-connected; of equally large ones the one that comes last in raster order is
    taken.

    Args:
        saliency: `[B, H, W]`, any real numbers.
        fraction: of the maximum, in [0, 1).
        mask: `[B]`, False for padding.

    Returns:
        `[B, 4]` float32: xmin, ymin, xmax, ymax in pixels, inclusive. NaN where saliency is not
        finite or has no positive value, or `mask` is False.

    Raises:
        ValueError: saliency or mask have the wrong shape; `fraction` outside [0, 1).

    References:
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.

    Example:
        >>> print(jaxcam.metrics.box_from_map(heat))
        [[4. 0. 6. 2.]
         [2. 4. 4. 6.]]
    """
    saliency = checked(saliency)
    marked = maps.threshold_of_max(saliency, fraction=fraction)
    largest = components.largest(components.components(marked))
    left, right = components.ends(largest.any(1))
    top, bottom = components.ends(largest.any(2))
    box = jnp.stack([left, top, right, bottom], 1).astype(jnp.float32)
    return only(box, finite(saliency), marked.any((1, 2)), mask)


def box_iou(box: ArrayLike, boxes: ArrayLike, *, boxes_mask: ArrayLike | None = None) -> jax.Array:
    """IoU of one predicted box with the nearest of an image's boxes; CAM counts a hit from 0.5 on.

    Args:
        box: `[B, 4]`, as `box_from_map` returns it.
        boxes: `[B, K, 4]` or `[B, 4]`, see the module.
        boxes_mask: `[B, K]`, False for what is no box.

    Returns:
        `[B]` in [0, 1]; 0 where `box` is NaN since the map marked nothing; NaN where there is no
        box.

    Raises:
        ValueError: the shapes are wrong.

    References:
        Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.

    Example:
        >>> found = jaxcam.metrics.box_from_map(heat, fraction=0.5)
        >>> print(found, jaxcam.metrics.box_iou(found, boxes))
        [[5. 1. 5. 1.]
         [3. 5. 3. 5.]] [0.11 0.11]
    """
    boxes, valid = _checked_boxes(boxes, boxes_mask)
    box = reals("box", box).astype(jnp.float32)
    if box.shape != (boxes.shape[0], 4):
        raise ArgumentError("box", f"shape {box.shape}", f"[{boxes.shape[0]}, 4]")
    low = jnp.maximum(box[:, None, :2], boxes[..., :2])
    high = jnp.minimum(box[:, None, 2:], boxes[..., 2:])
    common = jnp.maximum(high - low + 1, 0).prod(-1)
    union = _areas(box)[:, None] + _areas(boxes) - common
    iou = jnp.nan_to_num(jnp.where(valid, common / union, 0))
    return only(iou.max(1), valid.any(1))


def _overlap(
    marked: jax.Array,
    saliency: jax.Array,
    boxes: ArrayLike,
    boxes_mask: ArrayLike | None,
    mask: ArrayLike | None,
) -> jax.Array:
    """IoU of a pixel mask and the filled boxes."""
    boxes, valid = _checked_boxes(boxes, boxes_mask, len(marked))
    inside = box_mask(boxes, marked.shape[1:], boxes_mask=valid)
    iou = _share(marked & inside, marked | inside, jnp.float32)
    return only(iou, finite(saliency), inside.any((1, 2)), mask)


def _share(part: jax.Array, whole: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """How many of the pixels are in the part, `[B, H, W]` bool twice -> `[B]`; 0 of none."""
    count = jnp.maximum(whole.sum((1, 2)), 1)
    return part.sum((1, 2)).astype(dtype) / count.astype(dtype)


def _checked_boxes(
    boxes: ArrayLike, boxes_mask: ArrayLike | None, batch: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """`[B, K, 4]` float32, and `[B, K]` bool: which are boxes: not masked, not empty, no NaN."""
    boxes = reals("boxes", boxes).astype(jnp.float32)
    if boxes.ndim == 2:
        boxes = boxes[:, None]
    fits = boxes.ndim == 3 and boxes.shape[-1] == 4
    if not fits or (batch is not None and boxes.shape[0] != batch):
        expected = f"[{batch or 'B'}, K, 4] (xmin, ymin, xmax, ymax)"
        raise ArgumentError("boxes", f"shape {boxes.shape}", expected)
    valid = (boxes[..., 2:] >= boxes[..., :2]).all(-1)
    if boxes_mask is None:
        return boxes, valid
    check_unmasked("boxes_mask", boxes_mask)
    boxes_mask = jnp.asarray(boxes_mask, bool)
    if boxes_mask.shape != boxes.shape[:2]:
        raise ArgumentError("boxes_mask", f"shape {boxes_mask.shape}", str(boxes.shape[:2]))
    return boxes, valid & boxes_mask


def _distances(boxes: jax.Array, size: Sequence[int]) -> jax.Array:
    """Squared distance of every pixel to every box, 0 inside: `[B, K, H, W]`."""
    y = jnp.arange(size[0], dtype=boxes.dtype).reshape(1, 1, -1, 1)
    x = jnp.arange(size[1], dtype=boxes.dtype).reshape(1, 1, 1, -1)
    left, top, right, bottom = jnp.moveaxis(boxes[..., None, None], 2, 0)
    across = jnp.maximum(jnp.maximum(left - x, x - right), 0)
    along = jnp.maximum(jnp.maximum(top - y, y - bottom), 0)
    return across**2 + along**2


def _areas(boxes: jax.Array) -> jax.Array:
    return jnp.maximum(boxes[..., 2:] - boxes[..., :2] + 1, 0).prod(-1)
