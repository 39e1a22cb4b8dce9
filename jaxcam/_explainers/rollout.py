"""Maps of a vision transformer's attention: rollout, and LeGrad of its gradients."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._explainers import attended
from jaxcam._explainers.attended import Attention
from jaxcam._explainers.attention import names_of
from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError, check_choice, check_within, renaming
from jaxcam._program.checks import check_images
from jaxcam._program.cuts import cut
from jaxcam._program.grids import Grid, Layout
from jaxcam._program.layers import Forward, select
from jaxcam._program.question import Question, ask
from jaxcam._program.signature import Explanation, one_answer
from jaxcam._program.sites import Site, find
from jaxcam.maps import resize
from jaxcam.targets import Targets, resolve, scores

# Of heads [B, heads, T, T].
HEADS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mean": lambda weights: weights.mean(1),
    "max": lambda weights: weights.max(1),
    "min": lambda weights: weights.min(1),
}


class Tokens(NamedTuple):
    """A transformer's tokens: where its attention is, and which of the tokens are patches."""

    places: list[Attention]
    first: int  # of the patches
    last: int  # after them
    size: tuple[int, ...]  # h, w

    def picture(self, values: jax.Array, size: Sequence[int]) -> jax.Array:
        """Values of all tokens `[..., T]` as a map at the size of the images."""
        patches = values[..., self.first : self.last]
        return resize(patches.reshape(*patches.shape[:-1], *self.size), size)


@one_answer(jax.Array)
def attention_rollout(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: str | None = None,
    layout: Layout = None,
    heads: str = "mean",
    residual: float = 0.5,
    has_aux: bool = False,
) -> Explanation:
    """Attention rollout: R = B_L ... B_1, B_l = (1 - r) A_l + r I, A_l the heads' mean; no class.

    The map is the row of the class token; without one, the mean of the patches' rows. Costs a
    forward pass and L products of T x T matrices.

    Args:
        forward: as in `grad_cam`, a transformer in which attention can be seen: a softmax times
            values (fused kernels hide it).
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: checked as in `grad_cam`; the map does not depend on them.
        layer: of tokens, which says what the tokens are: a name, or None for the default layer.
        layout: as in `grad_cam`, of that layer.
        heads: how an attention's heads become one: "mean", "max" or "min".
        residual: r, in [0, 1]: the share of the skip connection.
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(maps, aux)`.

    Returns:
        Maps `[B, H, W]` float32 at the size of the images, at least 0; `[B, K, H, W]` for K
        targets.

    Raises:
        ValueError: bad input, as in `explain`; no attention among the layer's tokens; an unknown
            `heads`, a `residual` out of range.

    References:
        Abnar and Zuidema, Quantifying attention flow in transformers, ACL 2020, section 3.

    Example:
        >>> fields = {"patch": 2, "width": 8, "depth": 1, "heads": 2, "size": 8}
        >>> model = jaxcam.models.create("vit_compact", num_classes=3, **fields)
        >>> network = jaxcam.linen(model, jax.jit(model.init)(jax.random.key(0), images))
        >>> jaxcam.attention_rollout(network, images).shape
        (2, 8, 8)
    """
    check_choice("heads", heads, HEADS)
    check_within("residual", residual, 0, 1)
    check_images(images)
    question = _asked(forward, images, targets, layer, layout, has_aux)
    tokens = _tokens(question)
    run = attended.run(question.program, images, tokens.places)
    outputs, weights = run(attended.zeros(tokens.places, images))
    _, aux = question.parted(_restored(question, outputs))
    found = []
    for place, each in zip(tokens.places, weights, strict=True):
        found.append(HEADS[heads](place.view(at_least_float32(each))))
    rows = rolled(found, residual)
    maps = tokens.picture(_row(rows, tokens.first), images.shape[1:-1])
    if getattr(question.targets, "ndim", 1) == 2:
        shape = (*question.targets.shape, *maps.shape[1:])
        maps = jnp.broadcast_to(maps[:, None], shape)
    return question.answer({question.names[0]: maps}, aux)


@one_answer(jax.Array)
def legrad(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layers: Sequence[str] | None = None,
    layout: Layout = None,
    has_aux: bool = False,
) -> Explanation:
    """LeGrad: E = 1/L sum_l mean_hq ReLU(d s_l / d A_l)_hqk, the score s_l of each block's tokens.

    s_l is what the model's head makes of the tokens after block l in place of those after the last
    one. Costs a forward pass and the backward pass of each block; not compiled, L backward passes.

    Args:
        forward: as in `attention_rollout`.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: as in `grad_cam`; None is the arg-max of the whole model.
        layers: the blocks' outputs, tokens of one shape that everything passes through, in order,
            the last one being that of the last block; None finds them: the last such layer after
            each attention and before the next.
        layout: as in `grad_cam`, of these layers.
        has_aux: as in `attention_rollout`.

    Returns:
        Maps `[B, H, W]` float32 at the size of the images, at least 0; `[B, K, H, W]` for K
        targets.

    Raises:
        ValueError: bad input, as in `explain`; no attention among the layers' tokens, or not one
            before each layer.

    References:
        Bousselham et al., LeGrad: an explainability method for vision transformers via feature
        formation sensitivity, ICCV 2025; github.com/WalBouss/LeGrad.

    Example:
        >>> fields = {"patch": 2, "width": 8, "depth": 1, "heads": 2, "size": 8}
        >>> model = jaxcam.models.create("vit_compact", num_classes=3, **fields)
        >>> network = jaxcam.linen(model, jax.jit(model.init)(jax.random.key(0), images))
        >>> jaxcam.legrad(network, images).shape
        (2, 8, 8)
    """
    check_images(images)
    last = None
    if layers is not None:
        layers = names_of("layers", layers)
        last = layers[-1]
    with renaming(layer="layers"):
        question = _asked(forward, images, targets, last, layout, has_aux)
        tokens = _tokens(question)
        blocks = _blocks(question, tokens, layers)
    head = cut(question.program, images, blocks[-1], has_aux).head
    after = lambda deltas: _streams(question, tokens, blocks, deltas)
    streams, pull, (output, aux) = jax.vjp(
        after, attended.zeros(tokens.places, images), has_aux=True
    )
    chosen = resolve(output, question.within)
    score = lambda values: scores(head(values), chosen, len(images))
    found = []
    for index, place in enumerate(tokens.places):
        slopes = at_least_float32(_slopes(score, streams, pull, index))
        found.append(jax.nn.relu(place.view(slopes)).mean((-3, -2)))
    mean = jnp.stack(found).mean(0)
    maps = jnp.moveaxis(tokens.picture(mean, images.shape[1:-1]), 0, 1)
    if getattr(chosen, "ndim", 1) == 1:
        maps = maps[:, 0]
    return question.answer({question.names[0]: maps}, aux)


def _streams(
    question: Question, tokens: Tokens, blocks: Sequence[Site], deltas: list
) -> tuple[list, Any]:
    """The tokens after each block, the deltas added to the attention weights; and the output."""
    paths = {block.path: index for index, block in enumerate(blocks)}
    streams: list[Any] = [None] * len(blocks)

    def keep(path: Any, results: list) -> None:
        if path in paths:
            streams[paths[path]] = results[0]

    run = attended.run(question.program, question.images, tokens.places, paths)
    outputs, _ = run(deltas, keep)
    return streams, question.parted(_restored(question, outputs))


def _slopes(score: Callable, streams: list, pull: Callable, index: int) -> jax.Array:
    """The slope d s_l / d A_l of one block, `[K, *]` of K targets, or of one."""
    values, back = jax.vjp(score, streams[index])

    def slope(each: jax.Array) -> jax.Array:
        seeds = list(map(jnp.zeros_like, streams))
        (seeds[index],) = back(each)
        return pull(seeds)[0][index]

    if values.ndim == 1:
        return slope(jnp.ones_like(values))[None]
    basis = jnp.eye(values.shape[1], dtype=values.dtype)[:, None]
    return jax.vmap(slope)(jnp.broadcast_to(basis, (values.shape[1], *values.shape)))


def rolled(weights: Sequence[jax.Array], residual: float) -> jax.Array:
    """R = B_L ... B_1 of attention weights `[B, T, T]`, first block first; rows sum to 1."""
    product = jnp.eye(weights[0].shape[-1], dtype=weights[0].dtype)[None]
    for each in weights:
        mixed = (1 - residual) * each / each.sum(-1, keepdims=True)
        mixed = mixed + residual * jnp.eye(each.shape[-1], dtype=each.dtype)[None]
        product = jnp.matmul(mixed, product, precision=jax.lax.Precision.HIGHEST)
    return product


def _asked(
    forward: Forward, images: Any, targets: Any, layer: Any, layout: Layout, has_aux: bool
) -> Question:
    if layer is not None and not isinstance(layer, str):
        raise ArgumentError("layer", repr(layer), "one name or None")
    options = {"layer": layer, "layout": layout, "has_aux": has_aux, "used": False}
    return ask(forward, images, targets, **options)


def _restored(question: Question, outputs: list) -> Any:
    return jax.tree.unflatten(jax.tree.structure(question.program.shapes), outputs)


def _tokens(question: Question) -> Tokens:
    """The attention among the tokens of the question's layer."""
    (name,) = question.names
    grid: Grid = question.grids[name]
    got = f"{name!r} of shape {grid.shape}"
    if len(grid.space) != 1 or len(grid.spatial) != question.images.ndim - 2:
        raise ArgumentError("layer", got, "tokens [B, T, c] of a grid of patches")
    (axis,) = grid.space
    count = grid.shape[axis]
    known = attended.find(question.program, len(question.images))
    places = list(filter(lambda place: _square(place, count), known))
    if not places or len(places) < len(known):
        raise ArgumentError(
            "forward",
            f"a model with {len(places) or 'no'} attention among the {count} tokens of layer "
            f"{name!r}, and {len(known) - len(places)} among others, windows say",
            "a transformer all of whose tokens attend to all, softmax(q k^T) v without a fused "
            "kernel",
        )
    first, last = grid.kept[axis]
    return Tokens(places, first, last, grid.spatial)


def _square(place: Attention, count: int) -> bool:
    """Whether all of so many tokens attend to all."""
    return place.tokens == count and place.shape[place.order[-2]] == count


def _row(rows: jax.Array, first: int) -> jax.Array:
    """The class token's row, or the mean of the patches' rows."""
    if first > 0:
        return rows[:, 0]
    return rows.mean(1)


def _blocks(question: Question, tokens: Tokens, asked: Sequence[str] | None) -> list[Site]:
    """The blocks' outputs, one after each attention."""
    explained, _ = question.parted(question.program.shapes)
    sites = find(question.program, len(jax.tree.leaves(explained)))
    if asked is not None:
        chosen = select(sites, list(asked), question.images)
    else:
        chosen = _after_each(question, tokens, sites)
    ordered = [(place.path, site.path) for place, site in zip(tokens.places, chosen, strict=False)]
    follows = all(place < site for place, site in ordered)
    if len(chosen) != len(tokens.places) or not follows:
        got = f"{[site.name for site in chosen]} for {len(tokens.places)} attentions"
        raise ArgumentError("layers", got, "the output of each block, one after each attention")
    return chosen


def _after_each(question: Question, tokens: Tokens, sites: Sequence[Site]) -> list[Site]:
    """Of each attention the last layer of its tokens before the next.

    After the last attention as many layers on as after the one before, so that a final norm, which
    is the head's, is not the last block's.
    """
    shape = question.grids[question.names[0]].shape
    starts = [place.path for place in tokens.places]
    groups: list[list[Site]] = [[] for _ in starts]
    for site in sites:
        passed = sum(start < site.path for start in starts)
        if passed and site.cut and site.aval.shape == shape:
            groups[passed - 1].append(site)
    if len(groups) > 1:
        groups[-1] = groups[-1][: len(groups[-2])]
    return [group[-1] for group in groups if group]
