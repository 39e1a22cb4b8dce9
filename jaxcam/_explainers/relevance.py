"""Relevance-CAM and LRP heatmaps: weights and maps from the relevance at a layer or the pixels.

Relevance-CAM is Grad-CAM with relevance in place of the gradient: alpha_k = sum_ij R_ijk and L =
sum_k alpha_k A_k, not rectified. It stays meaningful at shallow layers, where gradients shatter
(Lee et al., CVPR 2021).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam import lrp as lrp_api
from jaxcam import maps
from jaxcam._explainers.gradient import weighted_sum
from jaxcam._program.layers import Forward, Layer, check_spatial
from jaxcam.targets import Targets


class TopChannels(NamedTuple):
    """The k channels of largest weight: indices, weights `[B, k]`, maps `[B, k, h, w]`."""

    channels: jax.Array
    weights: jax.Array
    maps: jax.Array


def relevance_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
    has_aux: bool = False,
) -> Any:
    """Relevance-CAM: L = sum_k alpha_k A_k, alpha_k = sum_ij R_ijk; signed.

    R is the relevance of class t at the layer.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, parameters closed over.
        images: `[B, H, W, C]`.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints.
        layer: a name, several (one pass gives all), or None for the last layer with spatial extent.
        composite: LRP's rules, as in `jaxcam.lrp.relevance`; the paper's is "z_plus".
        init: "contrastive" (the paper), "official" (its code), "one_hot" or `[B, N]`, as in
            `jaxcam.lrp.relevance`.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw signed maps `[B, h, w]` float32, `[B, K, h, w]` for K targets per image; a dict of them
        for several layers.

    Raises:
        ValueError: bad input, as in `jaxcam.lrp.relevance`; a layer without spatial extent.

    References:
        Lee et al., Relevance-CAM: your model already knows where to look, CVPR 2021, eq. 5 to 9.
    """
    options = {"layer": layer, "composite": composite, "init": init, "has_aux": has_aux}
    result = _at_layers(forward, images, targets, **options)
    out = {
        name: relevance_cam_map(acts, result.relevance[name])
        for name, acts in result.activations.items()
    }
    out = _as_asked(out, layer)
    return (out, result.aux) if has_aux else out


def relevance_cam_map(activations: jax.Array, relevance: jax.Array) -> jax.Array:
    """L = sum_k alpha_k A_k, alpha_k = sum_ij R_ijk.

    A `[B, h, w, c]`, R that or `[B, K, h, w, c]`.
    """
    weights = relevance.sum((-3, -2))
    if weights.ndim == 2:
        return weighted_sum(activations, weights)
    return jax.vmap(weighted_sum, in_axes=(None, 1), out_axes=1)(activations, weights)


def channel_weights(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
) -> Any:
    """alpha_k = sum_ij R_ijk, the weights of Relevance-CAM (Figure 4 plots them by channel, layer).

    Args and Raises as `relevance_cam`.

    Returns:
        `[B, c]`, `[B, K, c]` for K targets per image; a dict of them for several layers.
    """
    result = _at_layers(forward, images, targets, layer=layer, composite=composite, init=init)
    return _as_asked({name: rel.sum((-3, -2)) for name, rel in result.relevance.items()}, layer)


def top_channels(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    k: int = 3,
    layer: str | None = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
) -> TopChannels:
    """A layer's k channels that speak most for a class, and what they show (Lee et al., Figure 4).

    Args:
        forward: as in `relevance_cam`.
        images: as in `relevance_cam`.
        targets: as in `relevance_cam`, one class per image.
        k: how many channels.
        layer: a name, or None for the last layer with spatial extent.
        composite: as in `relevance_cam`.
        init: as in `relevance_cam`.

    Returns:
        Channels by falling weight, their weights, and their activation maps A_k.

    Raises:
        ValueError: as `relevance_cam`; several targets or layers; `k` is not between 1 and the
            number of channels.
    """
    if not (layer is None or isinstance(layer, str)):
        raise ValueError(f"layer: got {layer!r}, expected one name or None")
    result = _at_layers(forward, images, targets, layer=layer, composite=composite, init=init)
    ((name, acts),) = result.activations.items()
    if result.relevance[name].ndim != acts.ndim:
        raise ValueError(f"targets: got shape {jnp.shape(targets)}, expected one class per image")
    if not 1 <= k <= acts.shape[-1]:
        raise ValueError(
            f"k: got {k}, expected 1 to {acts.shape[-1]}, the channels of layer {name!r}"
        )
    weights, channels = jax.lax.top_k(result.relevance[name].sum((1, 2)), k)
    shown = jnp.take_along_axis(acts, channels[:, None, None], axis=-1)
    return TopChannels(channels, weights, jnp.moveaxis(shown, -1, 1))


def segmentation_mask(raw: jax.Array, size: tuple[int, int], k: float = 1.0) -> jax.Array:
    """The paper's segmentation: the map at image size above its mean by k standard deviations.

    Args:
        raw: raw maps `[..., h, w]`.
        size: `(H, W)` of the images, pixels.
        k: standard deviations.

    Returns:
        A bool mask `[..., H, W]`.

    Raises:
        ValueError: as `maps.resize` and `maps.threshold`.

    References:
        Lee et al. 2021, section 4.3.
    """
    return maps.segmentation_mask(raw, size, k=k)


def lrp(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
    has_aux: bool = False,
) -> Any:
    """The LRP heatmap: L_ij = sum_k R_ijk, the pixels' or a layer's relevance summed over channels.

    Args:
        forward: as in `relevance_cam`.
        images: as in `relevance_cam`.
        targets: as in `relevance_cam`.
        layer: None for the pixels, a name, or several.
        composite: as in `relevance_cam`.
        init: as in `relevance_cam`.
        has_aux: as in `relevance_cam`.

    Returns:
        `[B, H, W]` float32, signed (`[B, h, w]` at a layer), `[B, K, ...]` for K targets; a dict
        for several layers.

    Raises:
        ValueError: as `relevance_cam`.

    References:
        Bach et al., PLoS ONE 2015.
    """
    options = {"layer": layer, "composite": composite, "init": init, "has_aux": has_aux}
    result = _at_layers(forward, images, targets, pixels=layer is None, **options)
    out = _as_asked({name: rel.sum(-1) for name, rel in result.relevance.items()}, layer)
    return (out, result.aux) if has_aux else out


def clrp(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
    has_aux: bool = False,
) -> Any:
    """Contrastive LRP: `lrp` with R_t = |z_t| at the class and -|z_t| / (N - 1) at every other one.

    Args, Returns and Raises as `lrp`.

    References:
        Gu et al., Understanding individual decisions of CNNs via contrastive backpropagation, ACCV
        2018; in the form of Lee et al. 2021, eq. 4, without their max(0, .).
    """
    return lrp(
        forward, images, targets, layer=layer, composite=composite, init=init, has_aux=has_aux
    )


def _at_layers(
    forward: Forward, images: jax.Array, targets: Targets, **options: Any
) -> lrp_api.Relevance:
    result = lrp_api.propagate(forward, images, targets, **options)
    for name, acts in result.activations.items():
        check_spatial(acts, name if name == "pixels" else f"layer {name!r}")
    return result


def _as_asked(by_name: dict, layer: Layer) -> Any:
    return next(iter(by_name.values())) if layer is None or isinstance(layer, str) else by_name
