"""Deep feature factorisation: what a layer's activations are sums of, and where."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam import loops
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError, check_whole
from jaxcam._ground.randomness import check_key
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward, run
from jaxcam._program.question import ask
from jaxcam._program.signature import Explanation, one_answer
from jaxcam.targets import Targets

_TINY = 1e-12  # of divisors


class Factors(NamedTuple):
    """A factorisation A - offset = sum_n masks_n (concepts_n - offset), both at least 0."""

    masks: jax.Array  # [B, n, h, w]: where each concept is, in [0, 1], 1 where it is strongest
    concepts: jax.Array  # [n, c]: the activations that a place of that concept alone has
    error: jax.Array  # |A - offset - masks concepts| / |A - offset|
    scores: Any = None  # of the concepts, if a head was given


@one_answer(Factors)
def deep_feature_factorization(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    components: int = 5,
    layer: str | None = None,
    layout: Layout = None,
    head: Callable[[jax.Array], Any] | None = None,
    steps: int = 200,
    key: jax.Array | None = None,
    has_aux: bool = False,
) -> Explanation:
    """Deep feature factorisation: A ~ masks concepts, a non-negative factorisation of activations.

    All positions of all images are the rows of one matrix `[B h w, c]`, each channel less its least
    value where that is below 0, so that a concept is the same in every image. Multiplicative
    updates from random factors, `steps` of them; costs a forward pass and these.

    Args:
        forward: as in `grad_cam`.
        images: as in `grad_cam`; the batch is factorised together.
        targets: checked as in `grad_cam`; the factors do not depend on them.
        components: n, how many concepts, from 1 to the number of channels.
        layer: a name, or None for the default layer.
        layout: as in `grad_cam`.
        head: of concepts `[n, c]`, such as the classifier above a global pool: what they are called
            by the network.
        steps: of the updates, at least 1.
        key: of the random factors; None is `jax.random.key(0)`.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is a pair with aux.

    Returns:
        `Factors`: masks, concepts that explain most first, the relative error, and scores.

    Raises:
        ValueError: bad input, as in `explain`; several layers; `components` or `steps` out of
            range.

    References:
        Collins et al., Deep feature factorization for concept discovery, ECCV 2018; Lee and
        Seung, Algorithms for non-negative matrix factorization, 2000, eq. 4;
        github.com/jacobgil/pytorch-grad-cam for the offset and the head.

    Example:
        >>> found = jaxcam.deep_feature_factorization(forward, images, components=2)
        >>> found.masks.shape, found.concepts.shape
        ((2, 2, 4, 4), (2, 3))
    """
    if layer is not None and not isinstance(layer, str):
        raise ArgumentError("layer", repr(layer), "one name or None")
    check_whole("steps", steps, 1)
    key = check_key(key)
    if head is not None and not callable(head):
        raise ArgumentError("head", repr(head), "a function of concepts, or None")
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    (name,) = question.names
    outputs, acts = run(question.program, images, question.sites, {})
    spatial = at_least_float32(question.spatial(name, acts[name]))
    size = spatial.shape[-1]
    check_whole("components", components, 1, size, what=f"the channels of layer {name!r}")
    rows = spatial.reshape(-1, size)
    offset = jnp.minimum(rows.min(0, keepdims=True), 0)
    shares, concepts = factorized(rows - offset, components, steps, key)
    masks = jnp.moveaxis(shares.reshape(*spatial.shape[:-1], components), -1, 1)
    left = jnp.linalg.norm(rows - offset - _product(shares, concepts))
    error = left / jnp.maximum(jnp.linalg.norm(rows - offset), _TINY)
    concepts = concepts + offset
    found = Factors(masks, concepts, error)
    if head is not None:
        found = found._replace(scores=head(concepts))
    if has_aux:
        return found, question.parted(outputs)[1]
    return found


def factorized(
    matrix: jax.Array, components: int, steps: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """V ~ W H, all at least 0: W `[m, n]`, H `[n, c]` by updates that never raise |V - W H|.

    H <- H W^T V / (W^T W H), W <- W V H^T / (W H H^T). The greatest of each column of W is 1, and
    the largest parts of V come first.
    """
    start, other = begun(matrix, components, key)

    def update(factors: tuple, index: Any) -> tuple:
        del index
        shares, concepts = factors
        grown = _product(shares.T, matrix)
        concepts = concepts * grown / (_product(_product(shares.T, shares), concepts) + _TINY)
        grown = _product(matrix, concepts.T)
        shares = shares * grown / (_product(shares, _product(concepts, concepts.T)) + _TINY)
        return shares, concepts

    shares, concepts = loops.fold(update, (start, other), steps)
    peaks = jnp.maximum(shares.max(0), _TINY)
    shares = shares / peaks[None]
    concepts = concepts * peaks[:, None]
    order = jnp.argsort(-shares.sum(0) * jnp.linalg.norm(concepts, axis=1))
    return shares[:, order], concepts[order]


def begun(matrix: jax.Array, components: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Random W `[m, n]` and H `[n, c]` before the first update, their product as large as V."""
    scale = jnp.sqrt(matrix.mean() / components)
    first, second = jax.random.split(key)
    shapes = ((matrix.shape[0], components), (components, matrix.shape[1]))
    start = jax.random.uniform(first, shapes[0], matrix.dtype, 0.1, 1.0) * scale
    other = jax.random.uniform(second, shapes[1], matrix.dtype, 0.1, 1.0) * scale
    return start, other


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
