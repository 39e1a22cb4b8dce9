"""Relevance-CAM and LRP heatmaps: weights and maps from relevance at a layer or the pixels.

Relevance-CAM is Grad-CAM with relevance in place of the gradient: alpha_k = sum_ij R_ijk and
L = sum_k alpha_k A_k, not rectified. It stays meaningful at shallow layers, where gradients shatter
(Lee et al., CVPR 2021).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._explainers.formulas import check_relu, combined, positions
from jaxcam._ground.errors import ArgumentError, check_whole
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer
from jaxcam._program.question import Question, ask, mapped
from jaxcam._program.signature import Explanation, explainer, one_answer
from jaxcam.lrp._propagation import Relevance, propagated
from jaxcam.targets import Targets


class TopChannels(NamedTuple):
    """The k heaviest channels: indices and weights `[B, k]`, activation maps `[B, k, h, w]`."""

    channels: jax.Array
    weights: jax.Array
    maps: jax.Array


@explainer
def relevance_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
    relu: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """Relevance-CAM: L = sum_k alpha_k A_k, alpha_k = sum_ij R_ijk; signed.

    R is the relevance of class t at the layer.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: as in `jaxcam.lrp.relevance`.
        layer: a name, several (one pass gives all), or None for the default layer.
        layout: as in `grad_cam`.
        composite: LRP's rules, as in `jaxcam.lrp.relevance`; the paper's is "z_plus".
        init: "contrastive" (the paper), "official" (its code), "one_hot" or `[B, N]`, as in
            `jaxcam.lrp.relevance`.
        relu: None (the paper, signed), "sum" or "channel", as in `grad_cam`.
        has_aux: as in `grad_cam`.

    Returns:
        Raw signed maps, as `grad_cam`.

    Raises:
        ValueError: bad input, as in `jaxcam.lrp.relevance`; a layer without spatial extent.

    References:
        Lee et al., Relevance-CAM: your model already knows where to look, CVPR 2021, eq. 5 to 9.

    Example:
        >>> maps = jaxcam.relevance_cam(forward, images, layer=["colours", "features"])
        >>> {name: peaks(each) for name, each in maps.items()}
        {'colours': [(1, 5), (5, 3)], 'features': [(0, 2), (2, 1)]}
    """
    check_relu(relu)

    def formula(activations: jax.Array, relevance: jax.Array) -> jax.Array:
        return combined(activations, relevance.sum(positions(relevance)), relu)

    question = ask(
        forward, images, targets, layer=layer, layout=layout, has_aux=has_aux, relevance=True
    )
    return _answered(question, formula, propagated(question, composite, init))


def relevance_cam_map(activations: jax.Array, relevance: jax.Array) -> jax.Array:
    """L = sum_k alpha_k A_k, alpha_k = sum_ij R_ijk. A and R `[B, h, w, c]`."""
    return combined(activations, relevance.sum(positions(relevance)), relu=None)


@explainer
def channel_weights(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
    has_aux: bool = False,
) -> Explanation:
    """alpha_k = sum_ij R_ijk, the weights of Relevance-CAM (Figure 4 plots them by channel).

    Args and Raises as `relevance_cam`.

    Returns:
        `[B, c]`, `[B, K, c]` for K targets per image; a dict of them for several layers.

    Example:
        >>> weights = jaxcam.channel_weights(forward, images)
        >>> print(weights.argmax(1))  # red, green
        [0 1]
    """

    def formula(activations: jax.Array, relevance: jax.Array) -> jax.Array:
        del activations
        return relevance.sum(positions(relevance))

    question = ask(
        forward, images, targets, layer=layer, layout=layout, has_aux=has_aux, relevance=True
    )
    return _answered(question, formula, propagated(question, composite, init))


@one_answer(TopChannels)
def top_channels(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    k: int = 3,
    layer: str | None = None,
    layout: Layout = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
    has_aux: bool = False,
) -> Explanation:
    """The k channels of a layer that speak most for the class, and what they show.

    Args:
        forward: as in `relevance_cam`.
        images: as in `relevance_cam`.
        targets: as in `relevance_cam`, one class per image.
        k: how many channels.
        layer: a name, or None for the default layer.
        layout: as in `grad_cam`.
        composite: as in `relevance_cam`.
        init: as in `relevance_cam`.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is a pair with aux.

    Returns:
        `TopChannels`: channels by falling weight, their weights, and their activation maps A_k.

    Raises:
        ValueError: as `relevance_cam`; several targets or layers; `k` is not between 1 and the
            number of channels.

    References:
        Lee et al. 2021, Figure 4.

    Example:
        >>> found = jaxcam.top_channels(forward, images, k=2)
        >>> found.channels.shape
        (2, 2)
        >>> print(found.channels[:, 0])  # red, green
        [0 1]
    """
    if not (layer is None or isinstance(layer, str)):
        raise ArgumentError("layer", repr(layer), "one name or None")
    question = ask(
        forward, images, targets, layer=layer, layout=layout, has_aux=has_aux, relevance=True
    )
    if getattr(question.targets, "ndim", 1) != 1:
        shape = tuple(question.targets.shape)
        raise ArgumentError("targets", f"shape {shape}", "one class per image")
    (name,) = question.names
    found = propagated(question, composite, init)
    spatial = question.spatial(name, found.activations[name])
    count = spatial.shape[-1]
    check_whole("k", k, 1, count, what=f"the channels of layer {name!r}")
    relevance = question.spatial(name, found.relevance[name])
    weights, channels = jax.lax.top_k(relevance.sum(positions(relevance)), k)
    places = channels.reshape(len(channels), *[1] * (spatial.ndim - 2), k)
    shown = jnp.take_along_axis(spatial, places, axis=-1)
    top = TopChannels(channels, weights, jnp.moveaxis(shown, -1, 1))
    if has_aux:
        return top, found.aux
    return top


@explainer
def lrp_map(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = "pixels",
    layout: Layout = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
    has_aux: bool = False,
) -> Explanation:
    """The LRP heatmap: L_ij = sum_k R_ijk, relevance summed over channels.

    Args:
        forward: as in `relevance_cam`.
        images: as in `relevance_cam`.
        targets: as in `relevance_cam`.
        layer: "pixels" (the images), a name, several, or None for the default layer.
        layout: as in `grad_cam`.
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

    Example:
        >>> maps = jaxcam.lrp_map(forward, images)
        >>> peaks(maps)
        [(1, 5), (5, 3)]
        >>> print(maps.sum((1, 2)), forward(images).max(1))  # nothing is lost
        [1.58 1.75] [1.58 1.75]
    """

    def formula(activations: jax.Array, relevance: jax.Array) -> jax.Array:
        del activations
        return relevance.sum(-1)

    question = ask(
        forward, images, targets, layer=layer, layout=layout, has_aux=has_aux, relevance=True
    )
    return _answered(question, formula, propagated(question, composite, init))


@explainer
def clrp_map(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = "pixels",
    layout: Layout = None,
    composite: Any = "z_plus",
    init: str | jax.Array = "contrastive",
    has_aux: bool = False,
) -> Explanation:
    """Contrastive LRP: `lrp_map` with R_t = |z_t| at the class, -|z_t| / (N - 1) at every other.

    Args, Returns and Raises as `lrp_map`.

    References:
        Gu et al., Understanding individual decisions of CNNs via contrastive backpropagation, ACCV
        2018; in the form of Lee et al. 2021, eq. 4, without their max(0, .). Gu's own are two
        passes, max(0, R / sum R - R' / sum R'), R from |z_t|, R' from the others' |z| or through
        the last layer's -w_t: `lrp_map` with arrays as `init`, as tests do.

    Example:
        >>> maps = jaxcam.clrp_map(forward, images)
        >>> peaks(maps)
        [(1, 5), (5, 3)]
    """
    options = {"layer": layer, "layout": layout, "composite": composite, "init": init}
    return lrp_map(forward, images, targets, has_aux=has_aux, **options)


def _answered(question: Question, formula: Callable, found: Relevance) -> Any:
    """A formula of A and R, of one target or of K, `[B, K, ...]`."""
    seconds = dict(found.relevance)
    if question.classes is not None and getattr(question.targets, "ndim", 1) == 2:
        for name, relevance in seconds.items():
            seconds[name] = jnp.moveaxis(relevance, 1, 0)
    maps = {}
    for name in question.names:
        maps[name] = mapped(question, formula, name, found.activations, seconds)
    return question.answer(maps, found.aux)
