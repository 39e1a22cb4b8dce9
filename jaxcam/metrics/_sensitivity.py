"""Does a map change when the image hardly does? Max-sensitivity."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam import loops
from jaxcam._ground import space
from jaxcam._ground.dtypes import at_least_float32, cast_like, reals
from jaxcam._ground.errors import (
    ArgumentError,
    ArgumentTypeError,
    check_above,
    check_flag,
    check_whole,
)
from jaxcam._ground.randomness import check_key
from jaxcam._ground.units import unit, without_denormals
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward
from jaxcam.metrics._common import check_maps, checked, finite, only, outputs_of
from jaxcam.metrics._faithfulness import one_target
from jaxcam.targets import Targets


def max_sensitivity(
    forward: Forward,
    images: jax.Array,
    explain: Callable,
    targets: Targets = None,
    *,
    radius: float = 0.02,
    num_samples: int = 10,
    relative: bool = True,
    key: jax.Array | None = None,
    has_aux: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """SENS_MAX = max over |delta| <= r of ||Phi(x + delta) - Phi(x)||, by sampling. Low is good.

    delta is uniform in [-r, r] at every value; all images share it. Costs num_samples + 1
    explanations.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, or with one or three spatial axes, normalised as the model expects.
        explain: Phi: `(forward, images, targets) -> maps [B, h, w]`, such as `jaxcam.grad_cam`.
        targets: None (arg-max of the unchanged images, for all maps), an int, `[B]` ints, or a
            function.
        radius: r, in the images' units.
        num_samples: of delta, at least 1; the maximum grows with them.
        relative: True: divided by ||Phi(x)||, as maps have no unit (captum, Quantus); False: the
            formula as it stands.
        key: of the samples; None is `jax.random.key(0)`.
        has_aux: as in `infidelity`; `explain` gets `forward` without its aux.
        mask: `[B]`, False for padding.

    Returns:
        `[B]`, at least 0. NaN where a map is not finite, or `mask` is False, or the image's map is
        0 throughout and `relative` asks for a share of it.

    Raises:
        ValueError: bad images or targets; `explain` returns no `[B, h, w]`; radius or num_samples
            out of range.
        TypeError: `explain` is no function; maps alone do not do.

    References:
        Yeh et al., On the (in)fidelity and sensitivity of explanations, NeurIPS 2019, definition
        3.1.

    Example:
        >>> change = jaxcam.metrics.max_sensitivity(forward, images, jaxcam.grad_cam, num_samples=2)
        >>> change.shape
        (2,)
    """
    check_images(images)
    check_above("radius", radius, 0)
    check_flag("relative", relative)
    check_whole("num_samples", num_samples, 1)
    keys = jax.random.split(check_key(key), num_samples)
    model = outputs_of(forward, targets, has_aux)
    if not callable(explain):
        expected = "a function (forward, images, targets) -> maps, such as jaxcam.grad_cam"
        raise ArgumentTypeError("explain", f"a {type(explain).__name__}", expected)
    chosen = one_target(model(images), targets)
    pixels = at_least_float32(images)
    first = explain(model, images, chosen)
    check_maps(first, images)

    def change(key: jax.Array) -> jax.Array:
        delta = jax.random.uniform(key, (1, *images.shape[1:]), pixels.dtype, -radius, radius)
        again = explain(model, cast_like(pixels + delta, images), chosen)
        check_maps(again, images)
        return _change(first, again, relative)

    return _largest(loops.map(change, keys), first, mask)


def max_sensitivity_of_maps(
    first: ArrayLike,
    again: ArrayLike,
    *,
    relative: bool = True,
    spatial: int = 2,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """max_s ||again_s - first|| / ||first||: `max_sensitivity` of maps that are there.

    Args:
        first: `[B, h, w]`, the maps of the images.
        again: `[S, B, h, w]`, those of S images near each of them.
        relative: as in `max_sensitivity`.
        spatial: as in `entropy`.
        mask: `[B]`, False for padding.

    Returns:
        As `max_sensitivity`.

    Raises:
        ValueError: shapes that do not fit; no second map.

    Example:
        >>> print(jaxcam.metrics.max_sensitivity_of_maps(heat, heat[None] * jnp.array(1.5)))
        [0.5 0.5]
    """
    check_flag("relative", relative)
    first = checked(first, name="first", absolute=True, spatial=spatial)
    again = reals("again", again)
    if again.shape[1:] != first.shape or not len(again):
        shape = ", ".join(map(str, first.shape))
        raise ArgumentError("again", f"shape {again.shape}", f"[S, {shape}] with S of at least 1")
    changes = jax.vmap(lambda each: _change(first, each, relative))(again)
    return _largest(changes, first, mask)


def _largest(changes: jax.Array, first: jax.Array, mask: ArrayLike | None) -> jax.Array:
    """Of `[S, B]`, where they and the first maps are finite."""
    most = changes.max(0)
    return only(most, jnp.isfinite(most) & finite(first), mask)


def _change(first: jax.Array, again: jax.Array, relative: bool) -> jax.Array:
    """||again - first|| of `[B, h, w]`, as a share of ||first|| if `relative`; NaN if that is 0."""
    first, again = without_denormals(first), without_denormals(again)
    scale = unit(first, space.of_maps(first))
    moved = _norm(again / scale - first / scale)
    if not relative:
        return moved * scale.ravel()
    size = _norm(first / scale)
    return jnp.where(size > 0, moved / jnp.where(size > 0, size, 1), jnp.nan)


def _norm(values: jax.Array) -> jax.Array:
    """Euclidean norm of `[B, h, w]`, of which no square overflows or vanishes."""
    axes = space.of_maps(values)
    scale = unit(values, axes)
    return scale.ravel() * jnp.sqrt(((values / scale) ** 2).sum(axes))
