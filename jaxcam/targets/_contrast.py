"""Targets that set a class against others, or its logit beside its probability."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._ground.dtypes import at_least_float32, check_real
from jaxcam._ground.errors import ArgumentError, check_choice, check_whole
from jaxcam.targets._scores import resolve, scores

WEIGHTINGS = ("probability", "mean")


def residual_softmax(classes: Any = None) -> Callable[[Any], jax.Array]:
    """ReST: Y = z_c + ln p_c, p the softmax: the logit, and how it stands to the others.

    Args:
        classes: c, an int or `[B]` ints; None is the likeliest class of each image.

    Returns:
        A function of logits `[B, N]` -> `[B]`.

    Raises:
        ValueError: when called, as `jaxcam.targets.check`.

    References:
        Cai, CAMs as Shapley value-based explainers, The Visual Computer 2025: residual
        softmax target (arXiv 2501.06261).

    Example:
        >>> print(jaxcam.targets.residual_softmax(0)(jnp.zeros((1, 4))))
        [-1.39]
    """

    def score(logits: jax.Array) -> jax.Array:
        logits = at_least_float32(_logits(logits))
        chosen = resolve(logits, classes)
        log_probability = jax.nn.log_softmax(logits)
        if logits.shape[1] == 1:
            log_probability = jax.nn.log_sigmoid(logits)
        return scores(logits, chosen) + scores(log_probability, chosen)

    return score


def finer(
    classes: Any = None, *, count: int = 3, strength: float = 1.0, weighting: str = "probability"
) -> Callable[[Any], jax.Array]:
    """Y = sum_d w_d (z_c - strength z_d) over the `count` classes d most like c.

    Most like c are the classes whose logits are nearest to its own.

    Args:
        classes: c, an int, `[B]` or `[B, K]` ints; None is the likeliest class of each image.
        count: how many classes c is set against, from 1 to N - 1.
        strength: alpha: 0 is the logit alone, 1 the full difference.
        weighting: "probability" (w_d = p_d / sum p_d, which is differentiated too, as the authors'
            code does), or "mean" (1 / count).

    Returns:
        A function of logits `[B, N]` -> scores, of the shape of the classes.

    Raises:
        ValueError: an unknown `weighting`; when called, a `count` that is not 1 to N - 1, classes
            as `jaxcam.targets.check`.

    References:
        Zhang et al., Finer-CAM: spotting the difference reveals finer details for visual
        explanation, CVPR 2025; github.com/Imageomics/Finer-CAM for weights and defaults.

    Example:
        >>> print(jaxcam.targets.finer(0, count=1)(jnp.array([[3.0, 1.0, 2.0]])))
        [1.]
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    check_real("strength", strength)

    def score(logits: jax.Array) -> jax.Array:
        logits = at_least_float32(_logits(logits))
        most = logits.shape[1] - 1
        check_whole("count", count, 1, most, what="the other classes of the model")
        chosen = resolve(logits, classes)
        own = scores(logits, chosen)
        spread = logits.reshape(len(logits), *[1] * (chosen.ndim - 1), -1)
        distance = jnp.abs(spread - own[..., None])
        distance = jnp.where(jax.nn.one_hot(chosen, most + 1) > 0, jnp.inf, distance)
        _, others = jax.lax.top_k(-jax.lax.stop_gradient(distance), count)
        every = jnp.broadcast_to(spread, distance.shape)
        others_own = jnp.take_along_axis(every, others, axis=-1)
        weights = jnp.full(others.shape, 1 / count, logits.dtype)
        if weighting == "probability":
            weights = jax.nn.softmax(others_own)  # p_d / sum p_d
        return own - strength * (weights * others_own).sum(-1)

    return score


def _logits(logits: Any) -> jax.Array:
    if len(jnp.shape(logits)) != 2:
        raise ArgumentError("forward", f"an output of shape {jnp.shape(logits)}", "logits [B, N]")
    return logits
