"""Maps of a CBAM network's attention, alone and times stages' Grad-CAMs (Kang et al. 2021).

A block takes F_i to F_o = Ms(F') * F' with F' = Mc(F_i) * F_i; its layer-wise attention is ATT =
F_o - F_i. The paper leaves open how ATT `[B, h, w, c]` becomes a map. Both gates lie in (0, 1): ATT
has the sign of -F_i and is near 0 where attention is high, so its product with Grad-CAM as printed
is largest where Grad-CAM is 0. The defaults here (mean over channels, sum over blocks, then
min-max) make high attention a high value where F_i is positive; the rest are keywords.

All maps have the size of the images, `[B, H, W]`, as they are sums over layers of different
resolution.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._explainers.gradient import (
    at_least_float32,
    check_option,
    each_target,
    grad_cam,
    grad_cam_map,
)
from jaxcam._program import trace
from jaxcam._program.layers import (
    Forward,
    activations_and_gradients,
    check_images,
    check_logits,
    check_spatial,
    find,
    run,
    select,
    tap,
)
from jaxcam.maps import normalize as rescale
from jaxcam.maps import resize
from jaxcam.targets import Targets, check

_STAGES = 3  # how many stages the paper sums, the last ones
_SOURCES = {"att": "f_o - f_i", "spatial_gate": "gate"}
_NORMALIZE = ("sum", "each", None)
_REDUCTIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "mean": lambda a: a.mean(-1),
    "sum": lambda a: a.sum(-1),
    "abs_mean": lambda a: jnp.abs(a).mean(-1),
    "abs_sum": lambda a: jnp.abs(a).sum(-1),
}


def cbam_attention(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    blocks: str | Sequence[str] | None = None,
    source: str = "att",
    reduction: str = "mean",
    normalize: str | None = "sum",
    has_aux: bool = False,
) -> Any:
    """MATT: the attention of CBAM blocks, min-max(sum_b resize(mean_k ATT_b)), ATT_b = F_o - F_i.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, in which each block's ATT is a layer
            `"<block>.att"`: that of `jaxcam.models.create("cbam_resnet50")` and the like, or one of
            your own with `jaxcam.tag(f_o - f_i, "block3.att")` in it.
        images: `[B, H, W, C]`.
        targets: checked as in `grad_cam`; the map does not depend on them.
        blocks: names of blocks, `"layer3.1"`; None takes all, that is every layer named `"att"` or
            `"....att"`.
        source: "att", or "spatial_gate" for Ms itself, in the layers `"<block>.spatial_gate"`.
        reduction: over channels: "mean", "sum", "abs_mean" or "abs_sum" (of |ATT|: low where
            attention is high).
        normalize: where min-max takes a map to [0, 1]: "sum" (after the sum over blocks), "each"
            (every block's map, which lets all blocks count alike, and the sum), or None (nowhere:
            the paper's formula, sign and all).
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Maps `[B, H, W]` float32 at the size of the images, `[B, K, H, W]` for K targets per image.

    Raises:
        ValueError: `forward` has no CBAM block, or not those named; an unknown option; bad input,
            as in `grad_cam`.

    References:
        Kang et al., 2021, eq. 7 (ATT) and its sum over blocks; Woo et al., CBAM, ECCV 2018, eq. 1
        to 3.
    """
    _check_options(source, reduction, normalize)
    check_images(images)
    program = trace.trace(forward, images)
    checked = check(targets, *check_logits(program, images, has_aux))
    sites = select(program, _attention_layers(program, blocks, source))
    outputs, found = run(program, images, sites, {})
    maps = _attention_sum(found, images.shape[1:3], reduction, normalize)
    if getattr(checked, "ndim", 1) == 2:
        maps = jnp.broadcast_to(maps[:, None], (*checked.shape, *images.shape[1:3]))
    return (maps, outputs[1]) if has_aux else maps


def layerwise_grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layers: str | Sequence[str] | None = None,
    normalize: str | None = "sum",
    has_aux: bool = False,
) -> Any:
    """ML: the Grad-CAMs of several stages, min-max(sum_l resize(ReLU(sum_k alpha_lk A_lk))).

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`; any network.
        images: `[B, H, W, C]`.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints, or a function logits -> scores
            `[B]`.
        layers: names of layers; None takes the last three of `layer1`, `layer2`, ..., which hold
            the output of each stage's last block. The paper's are `layer2`, `layer3`, `layer4`.
        normalize: as in `cbam_attention`, over layers instead of blocks.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Maps `[B, H, W]` float32 at the size of the images, `[B, K, H, W]` for K targets per image.

    Raises:
        ValueError: no such layers; an unknown `normalize`; bad input, as in `grad_cam`.

    References:
        Kang et al., 2021, eq. 6; Selvaraju et al., Grad-CAM, ICCV 2017, eq. 1 and 2.
    """
    check_option("normalize", normalize, _NORMALIZE)
    check_images(images)
    names = _stage_layers(trace.trace(forward, images), layers)
    found = grad_cam(forward, images, targets, layer=names, has_aux=has_aux)
    found, *aux = found if has_aux else (found,)
    maps = _sum(list(found.values()), images.shape[1:3], normalize)
    return (maps, *aux) if has_aux else maps


def attention_grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    blocks: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    source: str = "att",
    reduction: str = "mean",
    normalize: str | None = "sum",
    softmax: bool = False,
    has_aux: bool = False,
) -> Any:
    """MAL: attention times Grad-CAM, L = MATT * ML, or softmax_ij(L); one pass each way.

    The paper's map is the softmax over all pixels. It keeps their order, and so every score that
    ranks them, unless it underflows: unnormalised products span hundreds, and exp of them is 0 for
    most pixels in float32. Hence the product itself is the default, and min-max before it.

    Args:
        forward: as in `cbam_attention`.
        images: as in `cbam_attention`.
        targets: as in `layerwise_grad_cam`.
        blocks: as in `cbam_attention`.
        layers: as in `layerwise_grad_cam`.
        source: as in `cbam_attention`.
        reduction: as in `cbam_attention`.
        normalize: as in `cbam_attention`, of MATT and of ML alike.
        softmax: whether to return the paper's softmax; each map then sums to 1.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Maps `[B, H, W]` float32 at the size of the images, `[B, K, H, W]` for K targets per image.
        Zero where the class has no positive evidence at all; in [0, 1] unless `normalize` is None.

    Raises:
        ValueError: as `cbam_attention` and `layerwise_grad_cam`.

    References:
        Kang et al., 2021, eq. 6 to 9.
    """
    _check_options(source, reduction, normalize)
    check_images(images)
    program = trace.trace(forward, images)
    gates, stages = _attention_layers(program, blocks, source), _stage_layers(program, layers)
    check(targets, *check_logits(program, images, has_aux))

    def attending(x: jax.Array) -> tuple:
        """The logits, and beside them what the gates do: one forward pass for both factors."""
        outputs, found = tap(forward, gates)(x)
        return (outputs[0], (outputs[1:], found)) if has_aux else (outputs, ((), found))

    _, acts, grads, (aux, found) = activations_and_gradients(
        attending, images, targets, layer=stages, has_aux=True
    )
    attention = _attention_sum(found, images.shape[1:3], reduction, normalize)
    cams = [
        each_target(grad_cam_map, acts[name], grads[name], f"layer {name!r}") for name in stages
    ]
    evidence = _sum(cams, images.shape[1:3], normalize)
    maps = (attention if evidence.ndim == 3 else attention[:, None]) * evidence
    if softmax:
        maps = jax.nn.softmax(maps, axis=(-2, -1))
    return (maps, *aux) if has_aux else maps


def _attention_sum(
    found: Mapping, size: tuple[int, int], reduction: str, normalize: str | None
) -> jax.Array:
    spatial = [
        at_least_float32(check_spatial(acts, f"layer {name!r}")) for name, acts in found.items()
    ]
    return _sum([_REDUCTIONS[reduction](acts) for acts in spatial], size, normalize)


def _sum(maps: Sequence[jax.Array], size: tuple[int, int], normalize: str | None) -> jax.Array:
    """The sum of maps `[..., h, w]` of any resolution, at one size."""
    resized = [resize(each, size) for each in maps]
    total = sum(map(rescale, resized) if normalize == "each" else resized)
    return total if normalize is None else rescale(total)


def _attention_layers(
    program: trace.Program, blocks: str | Sequence[str] | None, source: str
) -> list[str]:
    if blocks is not None:
        return [f"{block}.{source}" for block in _names("blocks", blocks)]
    known = [site.name for site in find(program)]
    found = [name for name in known if name.partition("@")[0].rpartition(".")[2] == source]
    if not found:
        raise ValueError(
            f"forward: got a network without CBAM blocks among its {len(known)} layers, expected "
            f"some named '<block>.{source}'; take jaxcam.models.create('cbam_resnet50') or its "
            f"like, or name what a block of your own computes with jaxcam.tag({_SOURCES[source]}, "
            f"'block1.{source}')"
        )
    return found


def _stage_layers(program: trace.Program, layers: str | Sequence[str] | None) -> list[str]:
    if layers is not None:
        return _names("layers", layers)
    known = [site.name for site in find(program)]
    found = [name for name in known if re.fullmatch(r"layer\d+", name)]
    if not found:
        raise ValueError(
            "layers: got None where no layer is named layer1, layer2, ..., expected names, such as "
            f"{known[-4:]}"
        )
    return found[-_STAGES:]


def _names(argument: str, names: str | Sequence[str]) -> list[str]:
    if not isinstance(names, str | Iterable):
        raise ValueError(f"{argument}: got {names!r}, expected a name, several names or None")
    listed = [names] if isinstance(names, str) else list(names)
    if not listed:
        raise ValueError(f"{argument}: got no names, expected at least one")
    return listed


def _check_options(source: str, reduction: str, normalize: str | None) -> None:
    check_option("source", source, _SOURCES)
    check_option("reduction", reduction, _REDUCTIONS)
    check_option("normalize", normalize, _NORMALIZE)
