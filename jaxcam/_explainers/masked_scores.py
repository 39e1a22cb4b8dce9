"""Kin of Score-CAM that ask for several versions of each mask.

SS-CAM adds noise to it, IS-CAM goes along a path to it. Both weigh a channel by the softmax over
channels of a mean score, in which the score of a baseline cancels. They cost n forward passes for
each channel.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._explainers.formulas import check_relu
from jaxcam._explainers.perturbation import answers, multiplied, summed, unit_range, upsample
from jaxcam._ground import chunks
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import check_at_least, check_choice, check_whole
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
        relu: as in `grad_cam`; the paper's is "sum".
        chunk: as in `score_cam`.
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `relu`; less than 1 sample, a negative
            `sigma` or a `chunk` below 1.

    References:
        Wang et al., SS-CAM: smoothed Score-CAM for sharper visual feature localization, 2020.
    """
    check_whole("samples", samples, 1)
    check_at_least("sigma", sigma, 0)
    if key is None:
        key = jax.random.key(0)

    def masks(spatial: jax.Array, channel: jax.Array, sample: jax.Array) -> jax.Array:
        own = jax.random.fold_in(jax.random.fold_in(key, channel), sample)
        shape = spatial.shape[1:-1]
        noise = jax.random.normal(own, shape, spatial.dtype)[None]
        return jnp.take(spatial, channel, axis=-1) + sigma * noise

    question = {"layer": layer, "layout": layout, "has_aux": has_aux}
    factors = [1.0] * samples
    return _explained(forward, images, targets, question, masks, factors, relu, chunk)


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
        relu: as in `grad_cam`; the paper's is "sum".
        chunk: as in `score_cam`.
        has_aux: as in `grad_cam`.

    Returns:
        As `grad_cam`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `path` or `relu`; less than 1 sample or a
            `chunk` below 1.

    References:
        Naidu et al., IS-CAM: integrated Score-CAM for axiomatic-based explanations, 2020;
        github.com/frgfm/torch-cam for the running sum.
    """
    check_whole("samples", samples, 1)
    check_choice("path", path, PATHS)

    def masks(spatial: jax.Array, channel: jax.Array, sample: jax.Array) -> jax.Array:
        del sample
        return jnp.take(spatial, channel, axis=-1)

    question = {"layer": layer, "layout": layout, "has_aux": has_aux}
    factors = PATHS[path](samples)
    return _explained(forward, images, targets, question, masks, factors, relu, chunk)


def _explained(
    forward: Forward,
    images: jax.Array,
    targets: Targets,
    options: dict[str, Any],
    masks: Callable,
    factors: list[float],
    relu: str | None,
    chunk: int,
) -> Explanation:
    """The maps of weights that are a softmax over channels of mean scores.

    Args:
        forward: the model.
        images: `[B, *spatial, C]`.
        targets: what is explained.
        options: of the question.
        masks: (A, channel, sample) -> a mask `[B, *spatial]` at the layer's resolution.
        factors: r_i, of each sample.
        relu: how terms become a map.
        chunk: how many versions are evaluated at once, at most.
    """
    check_relu(relu)
    check_at_least("chunk", chunk, 1)
    question = ask(forward, images, targets, **options)
    outputs, acts = run(question.program, images, question.sites, {})
    output, aux = question.parted(outputs)
    answer = answers(question, forward, output, None, probabilities=False)
    count = len(factors)

    def weights(spatial: jax.Array) -> jax.Array:
        def evaluate(index: jax.Array) -> jax.Array:
            sample = index % count
            one = lambda channel, i: masks(spatial, channel, i)
            raw = jax.vmap(one, out_axes=-1)(index // count, sample)
            shown = unit_range(upsample(raw, images.shape[1:-1], align_corners=False))
            ratio = jnp.asarray(factors, shown.dtype)[sample]
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
