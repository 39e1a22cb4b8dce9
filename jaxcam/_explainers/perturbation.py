"""CAMs from perturbation: Score-CAM masks the image, Ablation-CAM removes one channel.

Both weigh the channels of one layer by what the model answers to a perturbation per channel. The
perturbations are made chunk by chunk inside one compiled loop: masks stay at the layer's resolution
until their chunk is due, and peak memory is that of `chunk * B` images (or heads), however many
channels there are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.gradient import at_least_float32, weighted_sum
from jaxcam._program import trace
from jaxcam._program.layers import (
    Forward,
    Layer,
    Split,
    cast_like,
    check_images,
    check_logits,
    check_spatial,
    run,
    select,
    split,
)
from jaxcam.targets import Activation, Targets, check, confidence, resolve, scores


class ScoreVariant(NamedTuple):
    """What the published Score-CAMs do differently."""

    probabilities: bool  # a mask's score is the class probability, else the logit
    channel_softmax: bool  # weights are a softmax over channels of the scores
    align_corners: bool  # how masks are upsampled
    eps: float  # added to max - min; 0: a constant channel gets weight 0


SCORE_VARIANTS = {
    "official": ScoreVariant(
        probabilities=True, channel_softmax=False, align_corners=False, eps=0.0
    ),
    "paper": ScoreVariant(probabilities=False, channel_softmax=True, align_corners=False, eps=0.0),
    "jacobgil": ScoreVariant(
        probabilities=False, channel_softmax=True, align_corners=True, eps=1e-8
    ),
}


def score_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    variant: str = "official",
    relu: bool = True,
    activation: Activation = None,
    chunk: int = 16,
    has_aux: bool = False,
) -> Any:
    """Score-CAM: L = ReLU(sum_k s_k A_k), s_k the score of the image masked by channel k.

    The mask H_k is A_k upsampled to the image and min-max scaled to [0, 1]; it multiplies the image
    as the model gets it, so that a masked pixel goes to 0, the mean colour of normalised images.
    Costs one forward pass per channel.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`, normalised as the model expects.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints (K classes cost no more than one),
            or a function logits -> scores `[B]`, taken as they are.
        layer: a name, several, or None for the last layer with spatial extent.
        variant: "official" (s_k is the class probability), "paper" (softmax over channels of the
            logits, Algorithm 1; the baseline score cancels in it), "jacobgil" (as the paper, masks
            upsampled with aligned corners).
        relu: whether to rectify the sum.
        activation: of the official variant: what makes logits probabilities, as in
            `jaxcam.targets.probabilities`.
        chunk: how many masks are evaluated at once; sets the memory, `chunk * B` images.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw maps `[B, h, w]` float32, `[B, K, h, w]` for K targets per image; a dict of them for
        several layers.

    Raises:
        ValueError: bad input, as in `activations_and_gradients`; an unknown `variant`; a `chunk`
            below 1.

    References:
        Wang et al., Score-CAM, CVPR Workshops 2020, Algorithm 1.
    """
    if variant not in SCORE_VARIANTS:
        raise ValueError(
            f"variant: got {variant!r}, expected one of {', '.join(map(repr, SCORE_VARIANTS))}"
        )
    program, names = _prepare(forward, images, targets, layer, chunk, has_aux)
    outputs, acts = run(program, images, select(program, names), {})
    logits, *aux = outputs if has_aux else (outputs,)
    chosen, rules = resolve(logits, targets), SCORE_VARIANTS[variant]
    model = (lambda x: forward(x)[0]) if has_aux else forward
    answer = (
        (lambda z: confidence(z, chosen, activation))
        if rules.probabilities
        else (lambda z: scores(z, chosen))
    )

    def explain(activations: jax.Array) -> jax.Array:
        evaluate = lambda channels: _masked_scores(model, images, channels, answer, rules)
        values = _over_channels(evaluate, activations, chunk)
        weights = jax.nn.softmax(values, axis=-1) if rules.channel_softmax else values
        return _combine(activations, _without_constant(weights, activations, rules), relu)

    maps = {name: explain(_spatial(acts[name], name)) for name in names}
    return _returned(maps, layer, aux)


def ablation_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    variant: str = "paper",
    relu: bool = True,
    chunk: int = 16,
    has_aux: bool = False,
) -> Any:
    """Ablation-CAM: L = ReLU(sum_k w_k A_k), w_k = (Y - Y_k) / |Y|, Y_k the score without k.

    Costs one pass through what lies above the layer per channel: the trunk below runs once.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`.
        images: `[B, H, W, C]`.
        targets: as in `score_cam`; a function gets logits.
        layer: a name, several, or None for the last layer with spatial extent.
        variant: "paper" (an ablated channel is 0 everywhere) or "jacobgil" (where the layer's
            minimum is not 0, as in pytorch-grad-cam, it is that minimum - 1e7, and w_k is divided
            by Y with its sign).
        relu: whether to rectify the sum.
        chunk: how many heads are evaluated at once.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw maps `[B, h, w]` float32, `[B, K, h, w]` for K targets per image; a dict of them for
        several layers. The paper divides by Y; the magnitude keeps a map from flipping when the
        explained logit is negative.

    Raises:
        ValueError: bad input, as in `activations_and_gradients`; an unknown `variant`; a `chunk`
            below 1.

    References:
        Desai and Ramaswamy, Ablation-CAM, WACV 2020, eq. 3 and 4.
    """
    if variant not in ("paper", "jacobgil"):
        raise ValueError(f"variant: got {variant!r}, expected one of 'paper', 'jacobgil'")
    _, names = _prepare(forward, images, targets, layer, chunk, has_aux)
    cuts = {name: split(forward, images, name, has_aux=has_aux) for name in names}
    maps = {
        name: _ablation_map(cut, name, targets, variant, relu, chunk) for name, cut in cuts.items()
    }
    return _returned(maps, layer, (cuts[names[0]].aux,) if has_aux else ())


def _ablation_map(
    cut: Split, name: str, targets: Targets, variant: str, relu: bool, chunk: int
) -> jax.Array:
    activations = check_spatial(cut.activations, f"layer {name!r}")
    chosen = resolve(cut.logits, targets)
    full = _scores(cut.logits, chosen)
    low = activations.min()
    ablated = jnp.where((low == 0) | (variant == "paper"), 0, low - 1e7).astype(activations.dtype)

    def evaluate(index: jax.Array) -> jax.Array:
        def without(k: jax.Array) -> jax.Array:
            return _scores(cut.head(activations.at[..., k].set(ablated)), chosen)

        return jnp.moveaxis(jax.vmap(without)(index), 0, -1)

    channels = activations.shape[-1]
    values = _in_chunks(lambda part: evaluate(jnp.minimum(part, channels - 1)), channels, chunk)
    scale = full if variant == "jacobgil" else jnp.abs(full)
    scale = jnp.where(scale == 0, 1, scale)[..., None]
    return _combine(at_least_float32(activations), (full[..., None] - values) / scale, relu)


def _masked_scores(
    forward: Forward, images: jax.Array, channels: jax.Array, answer: Callable, rules: ScoreVariant
) -> jax.Array:
    """Scores `[B, (K,) n]` of `images` masked by each of n channels `[B, h, w, n]`, in one pass."""
    batch, _, _, n = channels.shape
    masks = upsample(channels, images.shape[1:3], rules.align_corners)
    low, high = masks.min((1, 2), keepdims=True), masks.max((1, 2), keepdims=True)
    span = high - low + rules.eps
    masks = (masks - low) / jnp.where(span == 0, 1, span)
    # In float first: a mask cast to the dtype of uint8 images would be 0 nearly everywhere.
    masked = cast_like(images[:, None] * jnp.moveaxis(masks, -1, 1)[..., None], images)
    logits = at_least_float32(forward(masked.reshape(batch * n, *images.shape[1:])))
    return jax.vmap(answer, in_axes=1, out_axes=-1)(logits.reshape(batch, n, -1))


def upsample(masks: jax.Array, size: tuple[int, int], align_corners: bool) -> jax.Array:
    """Bilinear resize of `[B, h, w, n]` to `size`: half-pixel centres, or corners onto corners."""
    if not align_corners:
        return jax.image.resize(
            masks, (masks.shape[0], *size, masks.shape[3]), "bilinear", antialias=False
        )
    rows, cols = (_aligned(n, m) for n, m in zip(masks.shape[1:3], size, strict=True))
    return jnp.einsum("Hh,bhwn,Ww->bHWn", rows, masks, cols, precision=jax.lax.Precision.HIGHEST)


def _aligned(cells: int, pixels: int) -> jax.Array:
    """The `[pixels, cells]` matrix of linear interpolation with aligned corners."""
    position = jnp.linspace(0, cells - 1, pixels)[:, None]
    return jnp.maximum(0, 1 - jnp.abs(position - jnp.arange(cells)))


def _over_channels(evaluate: Callable, activations: jax.Array, chunk: int) -> jax.Array:
    """`evaluate` on `chunk` channels of `[B, h, w, c]` at a time.

    The last chunk is padded with its last channel.
    """
    channels = activations.shape[-1]
    take = lambda index: jnp.take(activations, jnp.minimum(index, channels - 1), axis=-1)
    return _in_chunks(lambda index: evaluate(take(index)), channels, chunk)


def _in_chunks(evaluate: Callable, count: int, chunk: int) -> jax.Array:
    """`evaluate(indices [n]) -> [..., n]` over all, in one loop of equal chunks: `[..., count]`."""
    chunk = min(chunk, count)
    steps = -(-count // chunk)
    parts = loops.map(evaluate, jnp.arange(steps * chunk).reshape(steps, chunk))
    parts = jnp.moveaxis(parts, 0, -2)
    return parts.reshape(*parts.shape[:-2], steps * chunk)[..., :count]


def _without_constant(weights: jax.Array, activations: jax.Array, rules: ScoreVariant) -> jax.Array:
    """The official code skips channels that are constant: no mask can be made of them."""
    if rules.eps or rules.channel_softmax:
        return weights
    constant = activations.max((1, 2)) == activations.min((1, 2))
    return jnp.where(constant if weights.ndim == 2 else constant[:, None], 0, weights)


def _combine(activations: jax.Array, weights: jax.Array, relu: bool) -> jax.Array:
    sum_channels = weighted_sum if weights.ndim == 2 else jax.vmap(weighted_sum, (None, 1), 1)
    maps = sum_channels(activations, weights)
    return jax.nn.relu(maps) if relu else maps


def _scores(logits: jax.Array, chosen: Any) -> jax.Array:
    return scores(at_least_float32(logits), chosen)


def _spatial(activations: jax.Array, name: str) -> jax.Array:
    return at_least_float32(check_spatial(activations, f"layer {name!r}"))


def _returned(maps: dict, layer: Layer, aux: tuple) -> Any:
    """A dict of maps for several layers, the map alone for one; with aux beside it if any."""
    result = next(iter(maps.values())) if layer is None or isinstance(layer, str) else maps
    return (result, *aux) if aux else result


def _prepare(
    forward: Forward, images: jax.Array, targets: Targets, layer: Layer, chunk: int, has_aux: bool
) -> tuple[trace.Program, list[str]]:
    """Traces the model and checks every argument; returns the program and the layers' names."""
    check_images(images)
    if chunk < 1:
        raise ValueError(f"chunk: got {chunk}, expected at least 1")
    program = trace.trace(forward, images)
    check(targets, *check_logits(program, images, has_aux))
    return program, [site.name for site in select(program, layer)]
