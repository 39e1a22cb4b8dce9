"""Named targets: functions of a model's output that people ask for, to be passed as `targets`.

Each returns a function of the output -> scores `[B]`, so it goes into every explainer and metric.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError, check_choice, check_flag
from jaxcam.targets._confidence import Activation, probabilities
from jaxcam.targets._scores import scores

Target = Callable[[Any], jax.Array]
_TINY = 1e-12  # against 0 / 0 where two boxes have no area


def logit(classes: Any) -> Target:
    """Y = z_c, the class's logit: what a class itself stands for.

    Args:
        classes: c, an int or `[B]` ints.

    Returns:
        A function of logits `[B, N]`.

    Raises:
        ValueError: when called, as `jaxcam.targets.check`.

    Example:
        >>> print(jaxcam.targets.logit(1)(jnp.array([[3.0, 4.0]])))
        [4.]
    """
    return lambda logits: scores(_logits(logits), classes)


def probability(classes: Any, *, activation: Activation = None) -> Target:
    """Y = p_c, the class's probability.

    Args:
        classes: c, an int or `[B]` ints.
        activation: as in `jaxcam.targets.probabilities`.

    Returns:
        A function of logits `[B, N]`.

    Raises:
        ValueError: when called, as `jaxcam.targets.confidence`.

    Example:
        >>> print(jaxcam.targets.probability(0)(jnp.zeros((1, 4))))
        [0.25]
    """
    return lambda logits: scores(probabilities(_logits(logits), activation), classes)


def log_probability(classes: Any) -> Target:
    """Y = ln p_c, p the softmax; for a single logit ln sigmoid(z).

    Args:
        classes: c, an int or `[B]` ints.

    Returns:
        A function of logits `[B, N]`.

    Raises:
        ValueError: when called, as `jaxcam.targets.check`.

    Example:
        >>> print(jaxcam.targets.log_probability(0)(jnp.zeros((1, 4))))
        [-1.39]
    """

    def score(logits: jax.Array) -> jax.Array:
        logits = at_least_float32(_logits(logits))
        if logits.shape[1] == 1:
            return scores(jax.nn.log_sigmoid(logits), classes)
        return scores(jax.nn.log_softmax(logits), classes)

    return score


def log_odds(classes: Any) -> Target:
    """Y = ln p_c / (1 - p_c): z_c - ln sum_{n != c} exp z_n; of a single logit z itself.

    Args:
        classes: c, an int or `[B]` ints.

    Returns:
        A function of logits `[B, N]`.

    Raises:
        ValueError: when called, as `jaxcam.targets.check`.

    Example:
        >>> print(jaxcam.targets.log_odds(0)(jnp.zeros((1, 3))))
        [-0.69]
    """

    def score(logits: jax.Array) -> jax.Array:
        logits = at_least_float32(_logits(logits))
        own = scores(logits, classes)
        if logits.shape[1] == 1:
            return own
        chosen = jnp.broadcast_to(jnp.asarray(classes), own.shape)
        others = jnp.where(jax.nn.one_hot(chosen, logits.shape[1]) > 0, -jnp.inf, logits)
        return own - jax.nn.logsumexp(others, axis=1)

    return score


def binary(positive: bool = True) -> Target:
    """Y = z of a single logit, or -z: the evidence for yes, or for no.

    Args:
        positive: whether the evidence for yes is asked.

    Returns:
        A function of logits `[B, 1]`.

    Raises:
        ValueError: when called, of another number of logits.

    Example:
        >>> logits = jnp.array([[1.5], [-2.0]])
        >>> print(jaxcam.targets.binary()(logits), jaxcam.targets.binary(False)(logits))
        [ 1.5 -2. ] [-1.5  2. ]
    """
    check_flag("positive", positive)

    def score(logits: jax.Array) -> jax.Array:
        logits = _logits(logits)
        if logits.shape[1] != 1:
            raise ArgumentError("targets", f"{logits.shape[1]} logits for binary", "one")
        return logits[:, 0] if positive else -logits[:, 0]

    return score


def difference(first: Any, second: Any) -> Target:
    """Y = z_a - z_b: why the one and not the other.

    Args:
        first: a, an int or `[B]` ints.
        second: b, likewise.

    Returns:
        A function of logits `[B, N]`.

    Raises:
        ValueError: when called, as `jaxcam.targets.check`.

    Example:
        >>> print(jaxcam.targets.difference(0, 1)(jnp.array([[3.0, 5.0]])))
        [-2.]
    """

    def score(logits: jax.Array) -> jax.Array:
        logits = _logits(logits)
        return scores(logits, first) - scores(logits, second)

    return score


def similarity(vector: jax.Array, *, kind: str = "cosine") -> Target:
    """Y = cos(z, v), or the product z . v: what makes an embedding resemble another.

    Args:
        vector: v `[D]`, or `[B, D]`, one for each image.
        kind: "cosine", or "dot".

    Returns:
        A function of embeddings `[B, D]`.

    Raises:
        ValueError: an unknown `kind`; when called, embeddings of another size.

    Example:
        >>> score = jaxcam.targets.similarity(jnp.array([1.0, 0.0]))
        >>> print(score(jnp.array([[2.0, 0.0], [1.0, 1.0]])))
        [1.   0.71]
    """
    check_choice("kind", kind, ("cosine", "dot"))

    def score(embeddings: jax.Array) -> jax.Array:
        other = jnp.asarray(vector)
        shape = jnp.shape(embeddings)
        if len(shape) != 2 or other.shape not in (shape, shape[1:]):
            got = f"a vector of shape {other.shape} for an output of shape {shape}"
            raise ArgumentError("vector", got, "[D] or [B, D] for embeddings [B, D]")
        own = at_least_float32(embeddings)
        other = jnp.broadcast_to(other, shape).astype(own.dtype)
        product = (own * other).sum(-1)
        if kind == "dot":
            return product
        return product / (jnp.linalg.norm(own, axis=-1) * jnp.linalg.norm(other, axis=-1))

    return score


def region(mask: jax.Array, classes: Any, *, axis: int = -1) -> Target:
    """Y = sum_ij M_ij z_ijc: a class of a segmentation, over a region.

    Args:
        mask: M `[H, W]` or `[B, H, W]`, 1 in the region; such as where the class was predicted.
        classes: c, an int or `[B]` ints.
        axis: of the output's classes: -1 for `[B, H, W, N]`, 1 for `[B, N, H, W]`.

    Returns:
        A function of outputs `[B, H, W, N]`.

    Raises:
        ValueError: when called, an output that the mask or the classes do not fit.

    References:
        Vinogradova et al., Towards interpretable semantic segmentation via gradient-weighted class
        activation mapping (Seg-Grad-CAM), AAAI 2020, eq. 3.

    Example:
        >>> segmented = jnp.stack([heat, 1 - heat], -1)  # a segmentation's output [B, H, W, N]
        >>> print(jaxcam.targets.region(heat > 0.9, 0)(segmented))
        [1. 1.]
    """

    def score(output: jax.Array) -> jax.Array:
        maps = jnp.moveaxis(at_least_float32(output), axis, -1)
        shown = at_least_float32(jnp.asarray(mask))
        if maps.ndim < 3 or shown.shape not in (maps.shape[:-1], maps.shape[1:-1]):
            got = f"shape {shown.shape} for an output of shape {jnp.shape(output)}"
            raise ArgumentError("mask", got, "that of the output without its classes")
        space = tuple(range(1, maps.ndim - 1))
        shown = jnp.broadcast_to(shown, maps.shape[:-1]).astype(maps.dtype)
        return scores((maps * shown[..., None]).sum(space), classes)

    return score


def box(target: jax.Array, classes: Any) -> Target:
    """Y = max_m IoU(b_m, b) s_mc: the detection that fits a box best, and its class's score.

    Args:
        target: b `[4]` or `[B, 4]`: xmin, ymin, xmax, ymax, in the unit of the detections.
        classes: c, an int or `[B]` ints.

    Returns:
        A function of `(boxes [B, M, 4], scores [B, M, N])`, as a detector returns them.

    Raises:
        ValueError: when called, of another output.

    References:
        Petsiuk et al., Black-box explanation of object detectors via saliency maps (D-RISE), CVPR
        2021, eq. 2 to 5: similarity as a product of overlap and class score.

    Example:
        >>> found = jnp.array([[[0.0, 0, 4, 4], [4, 4, 8, 8]]]), jnp.array([[[0.9], [0.6]]])
        >>> print(jaxcam.targets.box(jnp.array([4.0, 4, 8, 8]), 0)(found))  # the second fits
        [0.6]
    """

    def score(output: Any) -> jax.Array:
        if not isinstance(output, tuple | list) or len(output) != 2:
            got = f"a {type(output).__name__} for box"
            raise ArgumentError("targets", got, "(boxes [B, M, 4], scores [B, M, N])")
        boxes = at_least_float32(output[0])
        found = at_least_float32(output[1])
        wanted = jnp.broadcast_to(jnp.asarray(target, boxes.dtype), (len(boxes), 4))
        each = jax.vmap(lambda one: scores(one, classes), in_axes=1, out_axes=1)(found)
        return (overlap(boxes, wanted[:, None]) * each).max(1)

    return score


def overlap(first: jax.Array, second: jax.Array) -> jax.Array:
    """IoU of boxes `[..., 4]`, xmin, ymin, xmax, ymax."""
    low = jnp.maximum(first[..., :2], second[..., :2])
    high = jnp.minimum(first[..., 2:], second[..., 2:])
    shared = jnp.maximum(high - low, 0).prod(-1)
    area = lambda boxes: jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)
    return shared / (area(first) + area(second) - shared + _TINY)


def _logits(logits: Any) -> jax.Array:
    if len(jnp.shape(logits)) != 2:
        raise ArgumentError("forward", f"an output of shape {jnp.shape(logits)}", "logits [B, N]")
    return logits
