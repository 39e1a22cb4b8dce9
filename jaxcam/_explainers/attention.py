"""Maps of a CBAM network's attention, alone and times stages' Grad-CAMs (Kang et al. 2021).

A block takes F_i to F_o = Ms(F') * F' with F' = Mc(F_i) * F_i; its layer-wise attention is ATT =
F_o - F_i. The paper leaves open how ATT `[B, h, w, c]` becomes a map. Both gates lie in (0, 1): ATT
has the sign of -F_i and is near 0 where attention is high, so its product with Grad-CAM as printed
is largest where Grad-CAM is 0. The mean over channels and the sum over blocks make high attention a
high value where F_i is positive; the rest are keywords.

All maps have the size of the images, `[B, H, W]`, as they are sums over layers of different
resolution.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._explainers.formulas import grad_cam_map
from jaxcam._ground import space
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError, check_choice, check_flag, renaming
from jaxcam._ground.text import counted
from jaxcam._program.checks import check_images
from jaxcam._program.layers import Forward, known, run
from jaxcam._program.question import Question, ask, check_used, gradients, mapped, traced
from jaxcam._program.signature import Explanation, one_answer
from jaxcam._program.trace import Program
from jaxcam.maps import normalize as rescale
from jaxcam.maps import resize
from jaxcam.targets import Targets

_STAGES = 3  # how many stages the paper sums, the last ones
_SOURCES = {"att": "f_o - f_i", "spatial_gate": "gate"}
_NORMALIZE = ("sum", "each", None)
_REDUCTIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "mean": lambda a: a.mean(-1),
    "sum": lambda a: a.sum(-1),
    "abs_mean": lambda a: jnp.abs(a).mean(-1),
    "abs_sum": lambda a: jnp.abs(a).sum(-1),
}


@one_answer(jax.Array)
def cbam_attention(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    blocks: str | Sequence[str] | None = None,
    source: str = "att",
    reduction: str = "mean",
    normalize: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """MATT: the attention of CBAM blocks, sum_b resize(mean_k ATT_b), ATT_b = F_o - F_i; signed.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, in which each block's ATT is a layer
            `"<block>.att"`: that of `jaxcam.models.create("cbam_resnet50")` and the like, or one of
            your own with `jaxcam.tag(f_o - f_i, "block3.att")` in it.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: checked as in `grad_cam`; the map does not depend on them.
        blocks: names of blocks, `"layer3.1"`; None takes all, that is every layer named `"att"` or
            `"....att"`.
        source: "att", or "spatial_gate" for Ms itself, in the layers `"<block>.spatial_gate"`.
        reduction: over channels: "mean", "sum", "abs_mean" or "abs_sum" (of |ATT|: low where
            attention is high).
        normalize: where min-max takes a map to [0, 1]: "sum" (after the sum over blocks), "each"
            (every block's map, which lets all blocks count alike, and the sum), or None (nowhere:
            the paper's formula, sign and all: a raw map, as of all explainers).
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Maps `[B, H, W]` float32 at the size of the images, `[B, K, H, W]` for K targets per image.

    Raises:
        ValueError: `forward` has no CBAM block, or not those named; an unknown option; bad input,
            as in `grad_cam`.

    References:
        Kang et al., 2021, eq. 7 (ATT) and its sum over blocks; Woo et al., CBAM, ECCV 2018, eq. 1
        to 3.

    Example:
        >>> fields = {"stage_sizes": (1,), "widths": (4,), "strides": (1,)}
        >>> model = jaxcam.models.create("cbam_compact", num_classes=3, **fields)
        >>> network = jaxcam.linen(model, jax.jit(model.init)(jax.random.key(0), images))
        >>> maps = jaxcam.cbam_attention(network, images, normalize="sum")
        >>> maps.shape
        (2, 8, 8)
    """
    _check_options(source, reduction, normalize)
    check_images(images)
    program = traced(forward, images)
    names = _attention_layers(program, images, blocks, source)
    options = {"has_aux": has_aux, "used": False, "program": program}
    with renaming(layer="blocks"):
        question = ask(forward, images, targets, layer=names, **options)
    outputs, found = run(question.program, images, question.sites, {})
    maps = _attention_sum(question, names, found, reduction, normalize)
    if getattr(question.targets, "ndim", 1) == 2:
        shape = (*question.targets.shape, *images.shape[1:-1])
        maps = jnp.broadcast_to(maps[:, None], shape)
    return _with_aux(question.marked(maps), question, question.parted(outputs)[1])


@one_answer(jax.Array)
def layerwise_grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layers: str | Sequence[str] | None = None,
    normalize: str | None = None,
    has_aux: bool = False,
) -> Explanation:
    """ML: the Grad-CAMs of several stages, sum_l resize(ReLU(sum_k alpha_lk A_lk)).

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`; any network.
        images: `[B, H, W, C]`, or with one or three spatial axes.
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

    Example:
        >>> maps = jaxcam.layerwise_grad_cam(forward, images, layers=["colours", "features"])
        >>> maps.shape, peaks(maps)
        ((2, 8, 8), [(0, 5), (5, 3)])
    """
    check_choice("normalize", normalize, _NORMALIZE)
    check_images(images)
    program = traced(forward, images)
    names = stage_layers(program, images, layers)
    with renaming(layer="layers"):
        question = ask(forward, images, targets, layer=names, has_aux=has_aux, program=program)
    _, acts, grads, aux = gradients(question)
    maps = _evidence(question, names, acts, grads, normalize)
    return _with_aux(question.marked(maps), question, aux)


@one_answer(jax.Array)
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
) -> Explanation:
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

    Example:
        >>> fields = {"stage_sizes": (1,), "widths": (4,), "strides": (1,)}
        >>> model = jaxcam.models.create("cbam_compact", num_classes=3, **fields)
        >>> network = jaxcam.linen(model, jax.jit(model.init)(jax.random.key(0), images))
        >>> maps = jaxcam.attention_grad_cam(network, images, layers="layer1")
        >>> maps.shape
        (2, 8, 8)
    """
    _check_options(source, reduction, normalize)
    check_images(images)
    check_flag("softmax", softmax)
    program = traced(forward, images)
    gates = _attention_layers(program, images, blocks, source)
    stages = stage_layers(program, images, layers)
    # One forward pass for both factors. No logit depends on what the gates show.
    names = [*stages, *gates]
    options = {"has_aux": has_aux, "used": False, "program": program}
    with renaming(layer="layers, blocks"):
        question = ask(forward, images, targets, layer=names, **options)
    for site in question.sites[: len(stages)]:
        check_used(site)
    _, acts, grads, aux = gradients(question)
    attention = _attention_sum(question, gates, acts, reduction, normalize)
    evidence = _evidence(question, stages, acts, grads, normalize)
    if evidence.ndim > attention.ndim:
        attention = attention[:, None]
    maps = attention * evidence
    if softmax:
        maps = jax.nn.softmax(maps, axis=space.last(images.ndim - 2))
    return _with_aux(question.marked(maps), question, aux)


def _with_aux(maps: jax.Array, question: Question, aux: Any) -> Any:
    if question.has_aux:
        return maps, aux
    return maps


def _evidence(
    question: Question, names: Sequence[str], acts: Mapping, grads: Mapping, normalize: str | None
) -> jax.Array:
    maps = [mapped(question, grad_cam_map, name, acts, grads) for name in names]
    return _sum(maps, question, normalize)


def _attention_sum(
    question: Question,
    names: Sequence[str],
    found: Mapping,
    reduction: str,
    normalize: str | None,
) -> jax.Array:
    maps = []
    for name in names:
        spatial = at_least_float32(question.spatial(name, found[name]))
        maps.append(_REDUCTIONS[reduction](spatial))
    return _sum(maps, question, normalize)


def _sum(maps: Sequence[jax.Array], question: Question, normalize: str | None) -> jax.Array:
    """The sum of maps `[..., h, w]` of any resolution, at the size of the images."""
    size = question.images.shape[1:-1]
    large = []
    for each in maps:
        resized = resize(each, size)
        if normalize == "each":
            resized = rescale(resized, spatial=len(size))
        large.append(resized)
    total = sum(large[1:], large[0])
    if normalize is None:
        return total
    return rescale(total, spatial=len(size))


def _attention_layers(
    program: Program, images: Any, blocks: str | Sequence[str] | None, source: str
) -> list[str]:
    if blocks is not None:
        return [f"{block}.{source}" for block in names_of("blocks", blocks)]
    listed = list(known(program, images))
    found = []
    for name in listed:
        last = name.partition("@")[0].rpartition(".")[2]
        if last == source:
            found.append(name)
    if not found:
        raise ArgumentError(
            "forward",
            f"a network without CBAM blocks among its {counted(len(listed), 'layer')}",
            f"some named '<block>.{source}'; take jaxcam.models.create('cbam_resnet50') or its "
            "like, or name what a block of your own computes with "
            f"jaxcam.tag({_SOURCES[source]}, 'block1.{source}')",
        )
    return found


def stage_layers(program: Program, images: Any, asked: str | Sequence[str] | None) -> list[str]:
    """The layers asked for, or the last three of `layer1`, `layer2`, ..."""
    if asked is not None:
        return names_of("layers", asked)
    listed = list(known(program, images))
    found = [name for name in listed if re.fullmatch(r"layer\d+", name)]
    if not found:
        raise ArgumentError(
            "layers",
            "None where no layer is named layer1, layer2, ...",
            f"names, such as {listed[-4:]}",
        )
    return found[-_STAGES:]


def names_of(argument: str, names: Any) -> list[str]:
    """The names that were given as one or as several, at least one."""
    if isinstance(names, str):
        return [names]
    expected = "a name, several names or None"
    if not isinstance(names, Iterable):
        raise ArgumentError(argument, repr(names), expected)
    several = list(names)
    if any(not isinstance(name, str) for name in several):
        raise ArgumentError(argument, repr(names), expected)
    if not several:
        raise ArgumentError(argument, "no names", "at least one")
    return several


def _check_options(source: str, reduction: str, normalize: str | None) -> None:
    check_choice("source", source, _SOURCES)
    check_choice("reduction", reduction, _REDUCTIONS)
    check_choice("normalize", normalize, _NORMALIZE)
