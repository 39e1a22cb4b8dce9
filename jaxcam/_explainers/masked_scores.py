"""Kin of Score-CAM that ask for several versions of each mask.

SS-CAM adds noise to it, IS-CAM goes along a path to it. Both weigh a channel by the softmax over
channels of a mean score, in which the score of a baseline cancels. They cost n forward passes for
each channel.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.formulas import check_relu
from jaxcam._explainers.perturbation import answers, multiplied, summed, unit_range, upsample
from jaxcam._ground import chunks
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import check_at_least, check_choice, check_whole
from jaxcam._ground.randomness import check_key
from jaxcam._program import trace
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, Layer, run
from jaxcam._program.question import ask
from jaxcam._program.signature import Explanation, explainer
from jaxcam.targets import Targets

# The factors of n steps: i / n, or the sums of these that IS-CAM's text and torchcam have.
PATHS: dict[str, Callable[[int], list[float]]] = {
    "linear": lambda n: [(i + 1) / n for i in range(n)],
    "running_sum": lambda n: [(i + 1) * (i + 2) / (2 * n) for i in range(n)],
}

SCALES = ("after", "before")


class Masking(NamedTuple):
    """What the versions of a channel's mask are."""

    # (A, channel, sample) -> a mask [B, *spatial] at the layer's resolution
    masks: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    factors: list[float]  # r_i, of each sample
    scale: str  # of SCALES: when it is scaled to [0, 1], after or before it is upsampled


@explainer
def ss_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    samples: int = 35,
    sigma: float = 2.0,
    key: jax.Array | None = None,
    scale: str = "after",
    relu: str | None = "sum",
    chunk: int = 16,
    has_aux: bool = False,
) -> Explanation:
    """SS-CAM: Score-CAM's weights smoothed, alpha = softmax_k(1/n sum_i f_c(x H(A_k + noise_i))).

    H upsamples to the image and scales to [0, 1]; the noise is N(0, sigma^2), drawn at the layer's
    resolution for each channel and shared by all images. Costs n forward passes per channel.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`, normalised as the model expects.
        targets: as in `score_cam`.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        samples: n, at least 1.
        sigma: standard deviation of the noise, in the unit of the activations.
        key: of the noise; None is `jax.random.key(0)`.
        scale: when a mask is scaled to [0, 1]: "after" it is upsampled (Score-CAM), or "before", at
            the layer's resolution, the noise being added to what is scaled already (torchcam).
        relu: as in `grad_cam`; the paper's is "sum".
        chunk: as in `score_cam`.
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `scale` or `relu`; less than 1 sample, a
            negative `sigma` or a `chunk` below 1.

    References:
        Wang et al., SS-CAM: smoothed Score-CAM for sharper visual feature localization, 2020.

    Example:
        >>> peaks(jaxcam.ss_cam(forward, images, samples=2))
        [(0, 2), (2, 1)]
    """
    check_whole("samples", samples, 1)
    check_at_least("sigma", sigma, 0)
    key = check_key(key)

    def masks(spatial: jax.Array, channel: jax.Array, sample: jax.Array) -> jax.Array:
        own = jax.random.fold_in(jax.random.fold_in(key, channel), sample)
        shape = spatial.shape[1:-1]
        noise = jax.random.normal(own, shape, spatial.dtype)[None]
        return jnp.take(spatial, channel, axis=-1) + sigma * noise

    question = {"layer": layer, "layout": layout, "has_aux": has_aux}
    how = Masking(masks, [1.0] * samples, scale)
    return _explained(forward, images, targets, question, how, relu, chunk)


@explainer
def is_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    samples: int = 10,
    path: str = "linear",
    scale: str = "after",
    relu: str | None = "sum",
    chunk: int = 16,
    has_aux: bool = False,
) -> Explanation:
    """IS-CAM: Score-CAM's weights along a path, alpha = softmax_k(1/n sum_i f_c(r_i x H(A_k))).

    H upsamples to the image and scales to [0, 1]. Costs n forward passes per channel.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`, normalised as the model expects.
        targets: as in `score_cam`.
        layer: as in `grad_cam`.
        layout: as in `grad_cam`.
        samples: n, at least 1.
        path: "linear", r_i = i / n: from 0, the mean colour, to the masked image; "running_sum",
            r_i = sum_j<=i j / n, which goes on to (n + 1) / 2 times the masked image (torchcam).
        scale: as in `ss_cam`; torchcam's is "before".
        relu: as in `grad_cam`; the paper's is "sum".
        chunk: as in `score_cam`.
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `path`, `scale` or `relu`; less than 1
            sample or a `chunk` below 1.

    References:
        Naidu et al., IS-CAM: integrated Score-CAM for axiomatic-based explanations, 2020;
        github.com/frgfm/torch-cam for the running sum.

    Example:
        >>> peaks(jaxcam.is_cam(forward, images, samples=2))
        [(0, 2), (2, 1)]
    """
    check_whole("samples", samples, 1)
    check_choice("path", path, PATHS)

    def masks(spatial: jax.Array, channel: jax.Array, sample: jax.Array) -> jax.Array:
        del sample
        return jnp.take(spatial, channel, axis=-1)

    question = {"layer": layer, "layout": layout, "has_aux": has_aux}
    how = Masking(masks, PATHS[path](samples), scale)
    return _explained(forward, images, targets, question, how, relu, chunk)


def _explained(
    forward: Forward,
    images: jax.Array,
    targets: Targets,
    options: dict[str, Any],
    how: Masking,
    relu: str | None,
    chunk: int,
) -> Explanation:
    """The maps of weights that are a softmax over channels of mean scores.

    Args:
        forward: the model.
        images: `[B, *spatial, C]`.
        targets: what is explained.
        options: of the question.
        how: what the versions of a mask are.
        relu: how terms become a map.
        chunk: how many versions are evaluated at once, at most.
    """
    check_choice("scale", how.scale, SCALES)
    check_relu(relu)
    check_at_least("chunk", chunk, 1)
    forward = trace.Held(forward)
    question = ask(forward, images, targets, **options)
    outputs, acts = run(question.program, images, question.sites, {})
    output, aux = question.parted(outputs)
    answer = answers(question, forward, output, None, probabilities=False)
    count = len(how.factors)

    def weights(spatial: jax.Array) -> jax.Array:
        shared = spatial
        if how.scale == "before":
            shared = unit_range(spatial)

        def evaluate(index: jax.Array) -> jax.Array:
            sample = index % count
            one = lambda channel, i: how.masks(shared, channel, i)
            raw = jax.vmap(one, out_axes=-1)(index // count, sample)
            shown = upsample(raw, images.shape[1:-1], align_corners=False)
            if how.scale == "after":
                shown = unit_range(shown)
            ratio = jnp.asarray(how.factors, shown.dtype)[sample]
            ratio = ratio.reshape(*[1] * (shown.ndim - 1), -1)
            return answer(multiplied(images, shown * ratio))

        channels = spatial.shape[-1]
        values = chunks.over(evaluate, channels * count, chunk, loop=loops.map)
        means = values.reshape(channels, count, *values.shape[1:]).mean(1)
        return jax.nn.softmax(jnp.moveaxis(means, 0, -1), axis=-1)

    maps = {}
    for name in question.names:
        spatial = at_least_float32(question.spatial(name, acts[name]))
        maps[name] = summed(spatial, weights(spatial), relu)
    return question.answer(maps, aux)
