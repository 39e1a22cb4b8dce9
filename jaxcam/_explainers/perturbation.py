"""Class-activation maps from perturbation: Score-CAM masks the image, Ablation-CAM a channel.

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
from jaxcam._explainers.formulas import check_relu, combined, positions
from jaxcam._ground import chunks, interpolation
from jaxcam._ground.dtypes import at_least_float32, cast_like
from jaxcam._ground.errors import check_at_least, check_choice
from jaxcam._program import trace
from jaxcam._program.cuts import Split, cut
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer, run, zeros_like
from jaxcam._program.narrow import Dtype, narrowed
from jaxcam._program.question import Question, ask
from jaxcam._program.signature import Explanation, explainer
from jaxcam._program.versions import over_versions
from jaxcam.targets import Activation, Targets, confidence, resolve, scores


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
_ABLATIONS = ("paper", "jacobgil")


@explainer
def score_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    variant: str = "official",
    relu: str | None = "sum",
    activation: Activation = None,
    chunk: int = 16,
    has_aux: bool = False,
    dtype: Dtype = None,
) -> Explanation:
    """Score-CAM: L = ReLU(sum_k s_k A_k), s_k the score of the image masked by channel k.

    The mask H_k is A_k upsampled to the image and min-max scaled to [0, 1]; it multiplies the image
    as the model gets it, so that a masked pixel goes to 0, the mean colour of normalised images.
    Costs one forward pass per channel.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`, normalised as the model expects.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints (K classes cost no more than one),
            or a function of what `forward` returns -> scores `[B]`, taken as they are.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        variant: "official" (s_k is the class probability), "paper" (softmax over channels of the
            logits, Algorithm 1; the baseline score cancels in it), "jacobgil" (as the paper, masks
            upsampled with aligned corners).
        relu: as in `grad_cam`; the paper's is "sum".
        activation: of the official variant: what makes logits probabilities, as in
            `jaxcam.targets.probabilities`.
        chunk: how many masks are evaluated at once, at most; sets the memory, `chunk * B` images.
        has_aux: as in `grad_cam`.
        dtype: as in `rise`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `variant` or `relu`; a `chunk` below 1.

    References:
        Wang et al., Score-CAM, CVPR Workshops 2020, Algorithm 1.

    Example:
        >>> peaks(jaxcam.score_cam(forward, images))
        [(0, 2), (2, 1)]
    """
    check_choice("variant", variant, SCORE_VARIANTS)
    check_relu(relu)
    check_at_least("chunk", chunk, 1)
    rules = SCORE_VARIANTS[variant]
    forward = trace.Held(forward)
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    outputs, acts = run(question.program, images, question.sites, {})
    output, aux = question.parted(outputs)
    asked = narrowed(forward, dtype)
    answer = answers(question, asked, output, activation, probabilities=rules.probabilities)
    maps = {}
    for name in question.names:
        spatial = at_least_float32(question.spatial(name, acts[name]))
        weights = _score_weights(answer, images, spatial, rules, chunk)
        maps[name] = summed(spatial, weights, relu)
    return question.answer(maps, aux)


@explainer
def ablation_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    variant: str = "paper",
    relu: str | None = "sum",
    chunk: int = 16,
    has_aux: bool = False,
    dtype: Dtype = None,
) -> Explanation:
    """Ablation-CAM: L = ReLU(sum_k w_k A_k), w_k = (Y - Y_k) / |Y|, Y_k without channel k.

    Costs one pass through what lies above the layer per channel: the trunk below runs once. Class
    tokens keep their channel: what is ablated are the positions.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`.
        targets: as in `score_cam`.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        variant: "paper" (an ablated channel is 0 everywhere) or "jacobgil" (where the layer's
            minimum is not 0, as in pytorch-grad-cam, it is that minimum - 1e7, and w_k is divided
            by Y with its sign).
        relu: as in `grad_cam`; the paper's is "sum".
        chunk: how many heads are evaluated at once, at most.
        has_aux: as in `grad_cam`.
        dtype: as in `rise`.

    Returns:
        As `grad_cam`. The paper divides by Y; the magnitude keeps a map from flipping when the
        explained logit is negative.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `variant` or `relu`; a `chunk` below 1.

    References:
        Desai and Ramaswamy, Ablation-CAM, WACV 2020, eq. 3 and 4.

    Example:
        >>> maps = jaxcam.ablation_cam(forward, images)
        >>> peaks(maps)
        [(0, 2), (2, 1)]
    """
    check_choice("variant", variant, _ABLATIONS)
    check_relu(relu)
    check_at_least("chunk", chunk, 1)
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    maps = {}
    aux = None
    for site in question.sites:
        parts = cut(question.program, images, site, has_aux)
        aux = parts.aux
        spatial = at_least_float32(question.spatial(site.name, parts.activations))
        chosen = question.targets
        if chosen is None:
            chosen = resolve(parts.logits)
        parts = _narrowed(parts, dtype)
        weights = _ablation_weights(question, site.name, parts, chosen, variant, chunk)
        maps[site.name] = summed(spatial, weights, relu)
    return question.answer(maps, aux)


def answers(
    question: Question,
    forward: Forward,
    output: Any,
    activation: Activation,
    *,
    probabilities: bool,
) -> Callable[[jax.Array], jax.Array]:
    """What asks for the scores `[n, B]` (`[n, B, K]`) of n versions of each image, `[n, B, ...]`.

    Args:
        question: what is asked.
        forward: the model.
        output: what it returns of the images as they are, whose arg-max is the class if none is
            asked for.
        activation: what makes logits probabilities.
        probabilities: whether a score is the class's probability, else its logit.
    """
    chosen = question.targets
    if chosen is None:
        chosen = resolve(output)

    def answer(versions: jax.Array) -> jax.Array:
        found = over_versions(lambda x: question.parted(forward(x))[0])(versions)
        found = jax.tree.map(at_least_float32, found)
        if probabilities:
            return jax.vmap(lambda each: confidence(each, chosen, activation))(found)
        return jax.vmap(lambda each: scores(each, chosen))(found)

    return answer


def _score_weights(
    answer: Callable, images: jax.Array, spatial: jax.Array, rules: ScoreVariant, chunk: int
) -> jax.Array:
    """The channels' weights `[B, c]`, or `[B, K, c]`."""

    def evaluate(index: jax.Array) -> jax.Array:
        shown = jnp.take(spatial, index, axis=-1)
        return answer(_masked(images, shown, rules))

    channels = spatial.shape[-1]
    values = chunks.over(evaluate, channels, chunk, loop=loops.map)
    values = jnp.moveaxis(values, 0, -1)
    if rules.channel_softmax:
        return jax.nn.softmax(values, axis=-1)
    # The official code skips channels that are constant: no mask can be made of them.
    constant = spatial.max(positions(spatial)) == spatial.min(positions(spatial))
    if values.ndim == 3:
        constant = constant[:, None]
    return jnp.where(constant, 0, values)


def _masked(images: jax.Array, channels: jax.Array, rules: ScoreVariant) -> jax.Array:
    """Images masked by each of n channels `[B, *spatial, n]`: `[n, B, H, W, C]`."""
    masks = upsample(channels, images.shape[1:-1], rules.align_corners)
    return multiplied(images, unit_range(masks, rules.eps))


def unit_range(masks: jax.Array, eps: float = 0.0) -> jax.Array:
    """Each of n masks `[B, *spatial, n]` scaled to [0, 1]; a constant one is 0."""
    low = masks.min(positions(masks), keepdims=True)
    high = masks.max(positions(masks), keepdims=True)
    span = high - low + eps
    return (masks - low) / jnp.where(span == 0, 1, span)


def multiplied(images: jax.Array, masks: jax.Array) -> jax.Array:
    """Images times each of n masks `[B, *spatial, n]`: `[n, B, H, W, C]`, as the images' dtype."""
    # In float first: a mask cast to the dtype of uint8 images would be 0 nearly everywhere.
    masked = at_least_float32(images)[None] * jnp.moveaxis(masks, -1, 0)[..., None]
    return cast_like(masked, images)


def _narrowed(parts: Split, dtype: Dtype) -> Split:
    """A cut whose head and logits are in another type: what is subtracted is rounded alike.

    The class explained stays that of the logits as they were.
    """
    if dtype is None:
        return parts
    head = narrowed(parts.head, dtype)
    return parts._replace(head=head, logits=head(parts.activations))


def _ablation_weights(
    question: Question, name: str, parts: Split, chosen: Any, variant: str, chunk: int
) -> jax.Array:
    activations = parts.activations
    score = lambda output: scores(jax.tree.map(at_least_float32, output), chosen)
    view = lambda values: question.spatial(name, values)
    shown, back = jax.vjp(view, activations)  # the view is linear: its transpose puts values back
    zeros = zeros_like(jax.ShapeDtypeStruct(shown.shape, shown.dtype), question.images)
    ablated = jnp.zeros((), shown.dtype)
    if variant == "jacobgil":
        low = shown.min()
        ablated = jnp.where(low == 0, ablated, low - 1e7).astype(shown.dtype)

    def without(channel: jax.Array) -> jax.Array:
        hot = jax.nn.one_hot(channel, shown.shape[-1], dtype=shown.dtype)
        (hidden,) = back(zeros + jnp.broadcast_to(hot, shown.shape))
        return score(parts.head(jnp.where(hidden > 0, ablated, activations)))

    channels = shown.shape[-1]
    values = chunks.over(over_versions(without), channels, chunk, loop=loops.map)
    values = jnp.moveaxis(values, 0, -1)
    full = score(parts.logits)
    scale = full if variant == "jacobgil" else jnp.abs(full)
    scale = jnp.where(scale == 0, 1, scale)[..., None]
    return (full[..., None] - values) / scale


def upsample(masks: jax.Array, size: tuple[int, ...], align_corners: bool) -> jax.Array:
    """Linear resize of `[B, *spatial, n]` to `size`: half-pixel centres, or corners on corners."""
    if not align_corners:
        shape = (masks.shape[0], *size, masks.shape[-1])
        return jax.image.resize(masks, shape, "linear", antialias=False)
    for axis, pixels in enumerate(size, start=1):
        cells = masks.shape[axis]
        matrix = interpolation.linear(interpolation.aligned(pixels, cells), cells)
        moved = jnp.moveaxis(masks, axis, -1)
        highest = jax.lax.Precision.HIGHEST
        moved = jnp.einsum("...h,Hh->...H", moved, matrix.astype(moved.dtype), precision=highest)
        masks = jnp.moveaxis(moved, -1, axis)
    return masks


def summed(activations: jax.Array, weights: jax.Array, relu: str | None) -> jax.Array:
    """Maps of weights `[B, c]`, or of each of K, `[B, K, c]`."""
    if weights.ndim == 2:
        return combined(activations, weights, relu)
    each = lambda some: combined(activations, some, relu)
    return jax.vmap(each, in_axes=1, out_axes=1)(weights)
