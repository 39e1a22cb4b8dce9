"""What all metrics agree on: the checks of saliency, unknown examples, and correlation.

A metric answers with a number only where there is one. An example whose saliency holds a NaN or an
infinity, and one that `mask` leaves out, is NaN; so a mean over them shows it, and `nanmean` leaves
them out on purpose.
"""

import jax
import jax.numpy as jnp


def checked(
    saliency: jax.Array, images: jax.Array | None = None, name: str = "saliency"
) -> jax.Array:
    """Saliency as float32 (float64 stays), once it is `[B, H, W]` and of the images' size."""
    saliency = jnp.asarray(saliency)
    expected = (
        "[B, H, W]"
        if images is None
        else f"{list(images.shape[:3])}, as the images (jaxcam.maps.resize)"
    )
    if (
        saliency.ndim != 3
        or 0 in saliency.shape
        or (images is not None and saliency.shape != images.shape[:3])
    ):
        raise ValueError(f"{name}: got shape {saliency.shape}, expected {expected}")
    return saliency.astype(jnp.promote_types(saliency.dtype, jnp.float32))


def checked_pair(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two saliencies of one shape."""
    first, second = checked(first, name="first"), checked(second, name="second")
    if first.shape != second.shape:
        raise ValueError(f"second: got shape {second.shape}, expected {first.shape}, as first")
    return first, second


def finite(saliency: jax.Array) -> jax.Array:
    """Which examples have no NaN or infinity: `[B, ...]` -> `[B]`."""
    return jnp.isfinite(saliency).all(tuple(range(1, saliency.ndim)))


def only(values: jax.Array, *conditions: jax.Array | None) -> jax.Array:
    """`values` `[B, ...]` where every condition `[B]` holds, NaN elsewhere; None always holds."""
    for condition in conditions:
        if condition is None:
            continue
        keep = jnp.asarray(condition, bool)
        if keep.shape != values.shape[:1]:
            raise ValueError(
                f"mask: got shape {keep.shape}, expected [{values.shape[0]}], one per example"
            )
        values = jnp.where(keep.reshape(-1, *[1] * (values.ndim - 1)), values, jnp.nan)
    return values


def pearson(first: jax.Array, second: jax.Array) -> jax.Array:
    """Correlation over all but axis 0, `[B, ...]` twice -> `[B]`; NaN if either is constant."""
    x, y = _deviations(first), _deviations(second)
    return jnp.clip((x * y).sum(1) / jnp.sqrt((x * x).sum(1) * (y * y).sum(1)), -1, 1)


def _deviations(values: jax.Array) -> jax.Array:
    """Deviations from the mean, at most about 1 in size so that no square overflows or vanishes."""
    flat = values.reshape(values.shape[0], -1)
    # From the minimum, so that a constant is exactly 0 and never its own rounding error.
    above = flat - flat.min(1, keepdims=True)
    above = above / above.max(1, keepdims=True)  # 0 / 0 for a constant: it has no correlation
    return above - above.mean(1, keepdims=True)
