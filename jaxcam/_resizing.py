"""Maps at another size: stretched over the image, or each cell where the layer has it."""

from collections.abc import Callable, Sequence

import jax
from jax.typing import ArrayLike

from jaxcam._ground import space
from jaxcam._ground.dtypes import reals
from jaxcam._ground.errors import ArgumentError, check_choice, check_sides
from jaxcam._ground.interpolation import WEIGHTS, seen_from, separable
from jaxcam._ground.units import without_denormals
from jaxcam._program.centers import Centers

_RESIZE = {
    "bilinear": jax.image.ResizeMethod.LINEAR,
    "bicubic": jax.image.ResizeMethod.CUBIC_PYTORCH,
    "nearest": jax.image.ResizeMethod.NEAREST,
}
_FORMS = {1: "[..., l]", 2: "[..., h, w]", 3: "[..., d, h, w]"}


def resize(
    maps: ArrayLike,
    size: Sequence[int],
    method: str = "bilinear",
    *,
    centers: Centers | None = None,
) -> jax.Array:
    """Resize maps, sampling at pixel centres and without antialiasing.

    out[y, x] = the map, interpolated at ((y + 1/2) h / H - 1/2, (x + 1/2) w / W - 1/2)

    and likewise along one axis or three, of signals and volumes: along as many as `size` has.

    "bilinear" and "bicubic" equal PyTorch's `interpolate(align_corners=False)`, upwards and
    downwards, and OpenCV's; "nearest" equals "nearest-exact". Bicubic overshoots: clip after it.
    So a map is stretched over the image, as every published code does it. With `centers` each cell
    is put where the layer's strides and paddings have it, which may be half a cell elsewhere.

    Args:
        maps: `[..., h, w]`; `[..., l]` or `[..., d, h, w]` for a size of one or three numbers.
        size: (H, W) in pixels; or (L,), or (D, H, W).
        method: "bilinear", "bicubic" or "nearest".
        centers: of the layer that was explained, `jaxcam.layers(forward, images).centers[layer]`;
            None stretches the map. Outside the outermost cells their values go on.

    Returns:
        `[..., *size]` float32. A NaN spreads along every axis whose length changes (not with
        "nearest").

    Raises:
        ValueError: `maps` has fewer axes than `size` or no cells, `size` is not one to three
            positive integers, `method` is unknown, or `centers` are not of as many axes.

    Example:
        >>> maps = jaxcam.grad_cam(forward, images, layer="features")
        >>> known = jaxcam.layers(forward, images)
        >>> peaks(jaxcam.maps.resize(maps, (8, 8), centers=known.centers["features"]))
        [(0, 5), (5, 3)]
    """
    wanted = check_sides("size", size)
    spatial = len(wanted)
    maps = as_maps(maps, spatial)
    shape = (*maps.shape[:-spatial], *wanted)
    check_choice("method", method, _RESIZE)
    if centers is not None and not isinstance(centers, Centers):
        raise ArgumentError("centers", repr(centers), "a layer's, as jaxcam.layers gives them")
    if centers is not None:
        return _placed(maps, wanted, WEIGHTS[method], centers)
    return jax.image.resize(maps, shape, _RESIZE[method], antialias=False)


def _placed(
    maps: jax.Array, size: tuple[int, ...], weights: Callable, centers: Centers
) -> jax.Array:
    """Each cell where the layer's strides and paddings put it."""
    spatial = len(size)
    if len(centers.size) != spatial:
        expected = f"those of maps {_FORMS[spatial]}"
        raise ArgumentError("centers", f"{len(centers.size)} axes", expected)
    matrices = []
    for pixels, cells, start, step, whole in zip(
        size, maps.shape[-spatial:], *centers, strict=True
    ):
        matrices.append(weights(seen_from(pixels, start, step, whole), cells))
    return separable(maps, *matrices, axis=maps.ndim - spatial)


def as_maps(maps: ArrayLike, spatial: int = 2) -> jax.Array:
    """Maps in float32 (float64 stays), once they are `[..., h, w]`; denormal numbers are 0.

    Args:
        maps: any array.
        spatial: how many axes of positions they have, 2 of h and w.
    """
    maps = reals("maps", maps)
    space.check_spatial(spatial)
    if maps.ndim < spatial or 0 in maps.shape[-spatial:]:
        form = _FORMS[spatial]
        raise ArgumentError("maps", f"shape {maps.shape}", f"{form} with {form[6:-1]} > 0")
    return without_denormals(maps)
