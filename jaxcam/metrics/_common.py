"""What all metrics agree on: the model, the checks of saliency, unknown examples, and correlation.

A metric answers with a number only where there is one. An example whose saliency holds a NaN or an
infinity, and one that `mask` leaves out, is NaN; so a mean over them shows it, and `nanmean` leaves
them out on purpose.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import rankdata
from jax.typing import ArrayLike

from jaxcam._ground import space
from jaxcam._ground.dtypes import is_real, reals
from jaxcam._ground.errors import ArgumentError, check_flag, check_unmasked
from jaxcam._ground.units import unit, without_denormals
from jaxcam._program import quick
from jaxcam._program.checks import describe, of_other_axes
from jaxcam._program.layers import Forward
from jaxcam._program.trace import check_forward
from jaxcam.targets import Targets

# What maps of so many axes of positions are.
_FORMS = {1: "[B, L]", 2: "[B, H, W]", 3: "[B, D, H, W]"}
PICTURES = object()  # in place of `spatial`: what only pictures have is measured
_OTHERS = "(spatial=1 for [B, L], spatial=3 for [B, D, H, W])"


def outputs_of(forward: Forward, targets: Targets, has_aux: bool) -> Forward:
    """The model as metrics ask it: its output alone, logits unless targets are a function."""
    check_forward(forward)
    check_flag("has_aux", has_aux)

    def outputs(images: jax.Array) -> Any:
        with of_other_axes(images):
            found = quick.rewritten(forward)(images)
        pair = isinstance(found, tuple) and len(found) == 2
        alone = callable(targets) or not isinstance(found, tuple)
        if not (pair if has_aux else alone):
            got = f"a function that returned a {type(found).__name__}"
            expected = "(logits, aux), as has_aux=True says"
            if not has_aux:
                expected = "logits, or has_aux=True for (logits, aux)"
            raise ArgumentError("forward", got, expected)
        if has_aux:
            found = found[0]
        if not callable(targets):
            _check_logits(found, len(images))
        return found

    return outputs


def _check_logits(found: Any, batch: int) -> None:
    shape = getattr(found, "shape", ())
    if len(shape) != 2 or shape[0] != batch:
        expected = f"logits [{batch}, N], or a function of the output as targets"
        raise ArgumentError("forward", f"an output of {describe(found)}", expected)
    if not is_real(found.dtype):
        raise ArgumentError("forward", f"{found.dtype} values", f"real logits [{batch}, N]")


def checked(
    saliency: ArrayLike,
    images: jax.Array | None = None,
    name: str = "saliency",
    *,
    absolute: bool = False,
    spatial: Any = PICTURES,
) -> jax.Array:
    """Saliency as float32 (float64 stays), once it is `[B, *spatial]` and of the images' size.

    It is in the unit of each map's own largest value, so that no sum of it overflows, unless its
    size matters, which is `absolute`; denormal numbers are 0, and so is in effect what is smaller
    than 2^-126 of the largest value.

    Args:
        saliency: the maps.
        images: of the same size; None if there are none.
        name: the argument's.
        absolute: whether its size matters.
        spatial: how many axes of positions it has, as the caller may say; PICTURES: two, as
            he may not.
    """
    saliency = reals(name, saliency)
    if images is not None:
        fits = saliency.shape == images.shape[:-1]
        expected = f"{list(images.shape[:-1])}, as the images (jaxcam.maps.resize)"
    else:
        rank = 2 if spatial is PICTURES else space.check_spatial(spatial)
        fits = saliency.ndim == rank + 1 and 0 not in saliency.shape
        expected = _FORMS[rank]
        if spatial is not PICTURES:
            expected = f"{expected} {_OTHERS}"
        if 0 in saliency.shape:
            expected = f"{expected}, of at least one map"
    if not fits:
        raise ArgumentError(name, f"shape {saliency.shape}", expected)
    saliency = without_denormals(saliency)
    if absolute:
        return saliency
    return saliency / unit(saliency, space.of_maps(saliency))


def check_maps(raw: ArrayLike, images: jax.Array) -> None:
    """ArgumentError unless what an explainer returned are maps of the images."""
    shape = jnp.shape(raw)
    if len(shape) != images.ndim - 1 or shape[0] != images.shape[0]:
        cells = {1: "l", 2: "h, w", 3: "d, h, w"}[images.ndim - 2]
        expected = f"maps [{images.shape[0]}, {cells}]"
        raise ArgumentError("explain", f"a result of shape {shape}", expected)


def checked_pair(
    first: ArrayLike, second: ArrayLike, *, spatial: Any = PICTURES
) -> tuple[jax.Array, jax.Array]:
    """Two saliencies of one shape."""
    first = checked(first, name="first", spatial=spatial)
    second = checked(second, name="second", spatial=spatial)
    if first.shape != second.shape:
        raise ArgumentError("second", f"shape {second.shape}", f"{first.shape}, as first")
    return first, second


def finite(saliency: jax.Array) -> jax.Array:
    """Which examples have no NaN or infinity: `[B, ...]` -> `[B]`."""
    return jnp.isfinite(saliency).all(space.of_maps(saliency))


def only(values: jax.Array, *conditions: ArrayLike | None) -> jax.Array:
    """`values` `[B, ...]` where every condition `[B]` holds, NaN elsewhere; None always holds."""
    for condition in conditions:
        if condition is None:
            continue
        check_unmasked("mask", condition)
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


def rank_correlation(first: jax.Array, second: jax.Array) -> jax.Array:
    """Pearson's correlation of ranks over all but axis 0, `[B, ...]` twice -> `[B]`."""
    rank = lambda x: rankdata(x.reshape(x.shape[0], -1), axis=1)
    return pearson(rank(first), rank(second))


def _deviations(values: jax.Array) -> jax.Array:
    """Deviations from the mean, at most about 1 in size so that no square overflows or vanishes."""
    flat = values.reshape(values.shape[0], -1)
    # From the minimum, so that a constant is exactly 0 and never its own rounding error.
    above = flat - flat.min(1, keepdims=True)
    above = above / above.max(1, keepdims=True)  # 0 / 0 for a constant: it has no correlation
    return above - above.mean(1, keepdims=True)
