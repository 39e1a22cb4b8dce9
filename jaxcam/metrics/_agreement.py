"""Do two models name the same classes in the same order?"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground.dtypes import reals
from jaxcam._ground.errors import ArgumentError, check_whole
from jaxcam.metrics._common import finite, only


def sim(
    logits: ArrayLike, other: ArrayLike, *, n: int = 5, mask: ArrayLike | None = None
) -> jax.Array:
    """Sim 1 ... Sim n, before the average: 1 where two models' first N classes agree in order.

    Args:
        logits: `[B, classes]` of one model (the teacher); any scores in the order of preference do.
        other: `[B, classes]` of the other (the student).
        n: up to which N.
        mask: `[B]`, False for padding.

    Returns:
        `[B, n]`, 0 or 1; never rises along N, and its first column is the agreement of the top
        classes. Of equal logits the class with the lower index comes first. NaN where a logit is
        not finite, or `mask` is False.

    Raises:
        ValueError: logits are not `[B, classes]` twice; n out of range.

    References:
        Kang et al., 2021, the distillation paper, table 1.

    Example:
        >>> teacher = jnp.array([[3.0, 2.0, 1.0]])
        >>> student = jnp.array([[3.0, 1.0, 2.0]])
        >>> print(jaxcam.metrics.sim(teacher, student, n=3))
        [[1. 0. 0.]]
    """
    logits = reals("logits", logits)
    other = reals("other", other)
    if logits.ndim != 2 or other.shape != logits.shape:
        got = f"shape {other.shape} beside logits {logits.shape}"
        raise ArgumentError("other", got, "[B, classes] twice")
    check_whole("n", n, 1, logits.shape[1], what="the number of classes")
    same = jax.lax.top_k(logits, n)[1] == jax.lax.top_k(other, n)[1]
    return only(jnp.cumprod(same.astype(jnp.float32), axis=1), finite(logits), finite(other), mask)
