"""Maps of several layers made one: their mean, greatest or product, and RefineCAM."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._explainers.attention import names_of
from jaxcam._explainers.gradient import grad_cam_plus_plus
from jaxcam._ground.errors import ArgumentError, check_choice, check_sides, renaming
from jaxcam._ground.text import counted
from jaxcam._program import trace
from jaxcam._program.checks import check_images, of_other_axes
from jaxcam._program.layers import Forward
from jaxcam._program.layers import layers as layers_of
from jaxcam._program.signature import Explanation, one_answer
from jaxcam.maps import normalize as rescale
from jaxcam.maps import resize
from jaxcam.targets import Targets

# Of maps [layers, ..., H, W].
HOW: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mean": lambda maps: maps.mean(0),
    "max": lambda maps: maps.max(0),
    "product": lambda maps: maps.prod(0),
}
_STAGES = 3  # how many stages RefineCAM takes by itself
NORMALIZE = ("min_max", "positive", "max", "signed", None)


def fuse(
    maps: Mapping[str, jax.Array],
    size: Sequence[int],
    *,
    how: str = "mean",
    normalize: str | None = "positive",
) -> jax.Array:
    """One map of several layers': L = mean_l, max_l or prod_l of normalize(resize(L_l)).

    Args:
        maps: raw maps `[..., h_l, w_l]` by layer, as explainers return them of several layers.
        size: (H, W), of the result; or (L,), or (D, H, W).
        how: "mean" (pytorch-grad-cam's of several target layers), "max" (torchcam's `fuse_cams`),
            or "product" (RefineCAM; MAL-Grad-CAM of its two factors).
        normalize: what makes the layers comparable, as in `jaxcam.maps.normalize`: "positive",
            "min_max", "max", "signed"; None takes them as they are. Of maps that are 0 anywhere a
            product is 0 there.

    Returns:
        `[..., H, W]` float32.

    Raises:
        ValueError: no maps, maps that differ in more than their axes of positions, an unknown `how`
            or `normalize`, or a `size` that is not one to three positive integers.

    References:
        Kang et al. 2021, eq. 9 (product); Jiang et al., LayerCAM, IEEE TIP 2021 (maximum).

    Example:
        >>> maps = jaxcam.layer_cam(forward, images, layer=["colours", "features"])
        >>> peaks(jaxcam.fuse(maps, (8, 8), how="product"))
        [(1, 5), (5, 3)]
    """
    check_choice("how", how, HOW)
    check_choice("normalize", normalize, NORMALIZE)
    size = check_sides("size", size)
    spatial = len(size)
    if not isinstance(maps, Mapping) or not maps:
        raise ArgumentError("maps", f"a {type(maps).__name__}", "maps of layers by name")
    fronts = {tuple(jnp.shape(each)[:-spatial]) for each in maps.values()}
    if len(fronts) > 1:
        raise ArgumentError("maps", f"shapes {sorted(fronts)} before h and w", "one for all")
    found = []
    for each in maps.values():
        resized = resize(each, size)
        if normalize is not None:
            resized = rescale(resized, normalize, spatial=spatial)
        found.append(resized)
    return HOW[how](jnp.stack(found))


@one_answer(jax.Array)
def refine_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layers: str | Sequence[str] | None = None,
    method: Callable = grad_cam_plus_plus,
    has_aux: bool = False,
    **options: Any,
) -> Explanation:
    """RefineCAM: L = prod_l normalize(ReLU(L_l)), the maps of several layers multiplied.

    A deep layer's map says where the class is, a shallow one's where exactly. Costs as the method
    at the shallowest layer.

    Args:
        forward: as in `grad_cam`.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: as in `grad_cam`.
        layers: names; None takes the last three stages: of each spatial size the last layer that
            everything passes through.
        method: an explainer of several layers; the authors' is Grad-CAM++.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.
        **options: of the method.

    Returns:
        Maps `[B, H, W]` float32 in [0, 1], at the size of the images; `[B, K, H, W]` for K targets.

    Raises:
        ValueError: no such layers; bad input, as in the method.

    References:
        How to evaluate and refine your CAM, 2026 (arXiv 2605.14641);
        github.com/jacobgil/pytorch-grad-cam, `RefineCAM`.

    Example:
        >>> maps = jaxcam.refine_cam(forward, images, layers=["colours", "features"])
        >>> peaks(maps)
        [(1, 5), (5, 3)]
    """
    check_images(images)
    if not callable(method):
        raise ArgumentError("method", repr(method), "an explainer of several layers")
    forward = trace.Held(forward)
    if layers is None:
        names = stages(forward, images)
    else:
        names = names_of("layers", layers)
    with renaming(layer="layers"):
        found = method(forward, images, targets, layer=names, has_aux=has_aux, **options)
    maps = found
    if has_aux:
        maps = found[0]
    fused = fuse(maps, images.shape[1:-1], how="product", normalize="positive")
    if has_aux:
        return fused, found[1]
    return fused


def stages(forward: Forward, images: jax.Array) -> list[str]:
    """Of each spatial size the last layer that everything passes through; the last three."""
    with of_other_axes(images):
        known = layers_of(forward, images)
    ends: dict[tuple[int, ...], str] = {}
    for name, size in known.grids.items():
        if name in known.cuts and len(size) == images.ndim - 2 and math.prod(size) > 1:
            ends[size] = name
    if not ends:
        got = f"None for a model with no spatial extent among its {counted(len(known), 'layer')}"
        raise ArgumentError("layers", got, "names of layers")
    order = list(known)
    return sorted(ends.values(), key=order.index)[-_STAGES:]
