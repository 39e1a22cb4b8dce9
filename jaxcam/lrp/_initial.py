"""What relevance enters at a model's output."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._ground.errors import ArgumentError, listing
from jaxcam.targets import Targets, resolve, scores

INITS = ("one_hot", "contrastive", "official")


def initial(
    logits: jax.Array, targets: Targets = None, init: str | jax.Array = "one_hot"
) -> jax.Array:
    """The relevance that enters at the logits.

    Args:
        logits: z `[B, N]`.
        targets: None, an int, `[B]` or `[B, K]` ints.
        init: "one_hot" (R_t = z_t), "contrastive" (R_t = |z_t|, R_n = -|z_t| / (N - 1)), "official"
            (R_t = 1, R_n = -1 / N), or an array `[B, N]`.

    Returns:
        R `[B, N]`, or `[B, K, N]` for K targets per image.

    Raises:
        ValueError: an unknown name or another shape; `targets` is a function.

    Example:
        >>> logits = jnp.array([[1.0, 4.0, 3.0]])
        >>> print(jaxcam.lrp.initial(logits), jaxcam.lrp.initial(logits, init="contrastive"))
        [[0. 4. 0.]] [[-2.  4. -2.]]
    """
    if callable(targets):
        raise ArgumentError("targets", "a function", "classes: see `of_function` for functions")
    check_init(init, targets, logits.shape)
    if not isinstance(init, str):
        return jnp.asarray(init, logits.dtype)
    chosen = resolve(logits, targets)
    n = logits.shape[1]
    hot = jax.nn.one_hot(chosen, n, dtype=logits.dtype)
    if init == "official":
        return hot - (1 - hot) / n
    each = logits
    if chosen.ndim == 2:
        each = logits[:, None]
    z = (hot * each).sum(-1, keepdims=True)
    if init == "one_hot":
        return hot * z
    return jnp.abs(z) * (hot - (1 - hot) / max(n - 1, 1))


def of_function(output: Any, function: Callable, batch: int) -> Any:
    """The relevance that enters where a function of the output is explained: R = z ds/dz.

    For a function that is homogeneous of degree 1, such as a difference of two logits, it sums to
    the score.

    Args:
        output: any arrays.
        function: of them -> scores `[B]`.
        batch: B.
    """
    _, back = jax.vjp(lambda z: scores(z, function, batch), output)
    (gradient,) = back(jnp.ones(batch, jnp.result_type(*jax.tree.leaves(output))))
    return jax.tree.map(jnp.multiply, output, gradient)


def check_init(init: Any, targets: Targets, shape: Sequence[int] | None) -> None:
    """ValueError unless `init` is a known name, or `[B, N]` as the logits' shape.

    The shape is None where a function of any output is explained, and `init` has no meaning.
    """
    if callable(targets):
        if not isinstance(init, str):
            got = f"{_form(init)} beside a function as targets"
            raise ArgumentError("init", got, "one of them: relevance from an array or a function")
        return
    if isinstance(init, str):
        if init not in INITS:
            expected = f"one of {listing(INITS)} or an array {list(shape or ())}"
            raise ArgumentError("init", repr(init), expected)
    elif not hasattr(init, "shape") or init.shape != tuple(shape or ()):
        raise ArgumentError("init", _form(init), f"{shape}, as the logits")


def _form(init: Any) -> str:
    if hasattr(init, "shape"):
        return f"shape {tuple(init.shape)}"
    return f"a {type(init).__name__}"
