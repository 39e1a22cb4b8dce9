"""What all metrics agree on: the model, the checks of saliency, unknown examples, and correlation.

A metric answers with a number only where there is one. An example whose saliency holds a NaN or an
infinity, and one that `mask` leaves out, is NaN; so a mean over them shows it, and `nanmean` leaves
them out on purpose.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.units import unit, without_denormals
from jaxcam._program.layers import Forward
from jaxcam._program.trace import check_forward


def logits_of(forward: Forward, has_aux: bool) -> Forward:
    """The model as metrics ask it: without what it returns beside the logits."""
    check_forward(forward)

    def logits(images: jax.Array) -> jax.Array:
        found = forward(images)
        if isinstance(found, tuple) != has_aux:
            got = f"a function that returned a {type(found).__name__}"
            expected = "(logits, aux), as has_aux=True says"
            if not has_aux:
                expected = "logits, or has_aux=True for (logits, aux)"
            raise ArgumentError("forward", got, expected)
        return found[0] if has_aux else found

    return logits


def checked(
    saliency: ArrayLike,
    images: jax.Array | None = None,
    name: str = "saliency",
    *,
    absolute: bool = False,
) -> jax.Array:
    """Saliency as float32 (float64 stays), once it is `[B, H, W]` and of the images' size.

    It is in the unit of each map's own largest value, so that no sum of it overflows, unless its
    size matters, which is `absolute`; denormal numbers are 0.
    """
    saliency = jnp.asarray(saliency)
    expected = "[B, H, W]"
    fits = saliency.ndim == 3 and 0 not in saliency.shape
    if images is not None:
        expected = f"{list(images.shape[:3])}, as the images (jaxcam.maps.resize)"
        fits = fits and saliency.shape == images.shape[:3]
    if not fits:
        raise ArgumentError(name, f"shape {saliency.shape}", expected)
    saliency = without_denormals(saliency)
    if absolute:
        return saliency
    return saliency / unit(saliency, (1, 2))


def checked_pair(first: ArrayLike, second: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Two saliencies of one shape."""
    first = checked(first, name="first")
    second = checked(second, name="second")
    if first.shape != second.shape:
        raise ArgumentError("second", f"shape {second.shape}", f"{first.shape}, as first")
    return first, second


def finite(saliency: jax.Array) -> jax.Array:
    """Which examples have no NaN or infinity: `[B, ...]` -> `[B]`."""
    return jnp.isfinite(saliency).all(tuple(range(1, saliency.ndim)))


def only(values: jax.Array, *conditions: ArrayLike | None) -> jax.Array:
    """`values` `[B, ...]` where every condition `[B]` holds, NaN elsewhere; None always holds."""
    for condition in conditions:
        if condition is None:
            continue
        keep = jnp.asarray(condition, bool)
        if keep.shape != values.shape[:1]:
            expected = f"[{values.shape[0]}], one per example"
            raise ArgumentError("mask", f"shape {keep.shape}", expected)
        values = jnp.where(jnp.expand_dims(keep, range(1, values.ndim)), values, jnp.nan)
    return values


def pearson(first: jax.Array, second: jax.Array) -> jax.Array:
    """Correlation over all but axis 0, `[B, ...]` twice -> `[B]`; NaN if either is constant."""
    x = _deviations(first)
    y = _deviations(second)
    return jnp.clip((x * y).sum(1) / jnp.sqrt((x * x).sum(1) * (y * y).sum(1)), -1, 1)


def _deviations(values: jax.Array) -> jax.Array:
    """Deviations from the mean, at most about 1 in size so that no square overflows or vanishes."""
    flat = values.reshape(values.shape[0], -1)
    # From the minimum, so that a constant is exactly 0 and never its own rounding error.
    above = flat - flat.min(1, keepdims=True)
    above = above / above.max(1, keepdims=True)  # 0 / 0 for a constant: it has no correlation
    return above - above.mean(1, keepdims=True)
