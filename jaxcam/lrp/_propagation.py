"""Relevance at the pixels or at layers: what enters at the logits, one pull, what arrives."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._program import trace
from jaxcam._program.layers import (
    Forward,
    Layer,
    Site,
    check_images,
    check_logits,
    find,
    select,
    zeros_like,
)
from jaxcam.lrp import _plan as planning
from jaxcam.lrp._transform import run
from jaxcam.lrp.composites import Composite, resolve
from jaxcam.targets import Targets, check, concrete
from jaxcam.targets import resolve as resolve_targets

INITS = ("one_hot", "contrastive", "official")
_PIXELS = "pixels"


class Relevance(NamedTuple):
    """What one pass gives: logits `[B, N]`, A and R by layer, and what else `forward` returned."""

    logits: jax.Array
    activations: dict[str, jax.Array]
    relevance: dict[str, jax.Array]
    aux: Any


class Conservation(NamedTuple):
    """Sums of relevance, `[B]` each: what entered, and what is at each layer and at the pixels.

    A layer that all relevance passes (the end of a stage) shows the same sum as entered; one on a
    branch its share. The former are `cuts`, `jaxcam.layers(forward, images).cuts`. Printed, it is a
    line per layer.
    """

    entered: jax.Array
    layers: dict[str, jax.Array]
    pixels: jax.Array
    cuts: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """A line per layer: name, sum for each image, and a star if it should be what entered."""
        rows = [("entered", self.entered), *self.layers.items(), (_PIXELS, self.pixels)]
        starred, width = self.cuts | {_PIXELS}, max(len(name) for name, _ in rows)
        lines = [
            f"{name:{width}} {'*' if name in starred else ' '} {_rounded(x)}" for name, x in rows
        ]
        return "\n".join([*lines, "* all relevance passes here: the sum should be what entered"])


# Names are no arrays: they stay outside of what jit and vmap trace.
jax.tree_util.register_pytree_node(
    Conservation, lambda c: (c[:3], c.cuts), lambda cuts, sums: Conservation(*sums, cuts)
)


def _rounded(sums: jax.Array) -> str:
    values, brief = concrete(sums), {"float_kind": lambda value: f"{value:.4g}"}
    return (
        str(sums) if values is None else np.array2string(values, 130, threshold=16, formatter=brief)
    )


def relevance(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
    layer: Layer = None,
) -> Any:
    """LRP relevance R at the pixels, or at one or several layers, from one pass.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, parameters closed over.
        images: `[B, H, W, C]`.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints; the class t of each image.
        composite: a name of `jaxcam.lrp.COMPOSITES`, a mapping from keys to rules, one rule, or a
            `Composite`.
        init: what enters at the logits z. "one_hot": R_t = z_t. "contrastive": R_t = |z_t|, R_n =
            -|z_t| / (N - 1). "official": R_t = 1, R_n = -1 / N, as in Relevance-CAM's code. Or an
            array `[B, N]` (`targets` is not used).
        layer: None for the pixels, a name, or several names.

    Returns:
        R float32: `[B, H, W, C]` at the pixels, `[B, h, w, c]` at a layer, `[B, K, ...]` for K
        targets per image; a dict by name for several layers. Element-wise functions, batch norm
        included, pass relevance whole.

    Raises:
        ValueError: bad input, as in `activations_and_gradients`; `targets` is a function; unknown
            `init` or `composite`, or one that names a layer which the network has not; an equation
            without a rule (softmax, attention, a loop), named with the layer it sits in.

    References:
        Bach et al., PLoS ONE 2015, eq. 56 to 60; Gu et al., Understanding individual decisions of
        CNNs via contrastive backpropagation, 2018 (contrastive).
    """
    result = propagate(
        forward, images, targets, composite=composite, init=init, layer=layer, pixels=layer is None
    )
    if layer is None:
        return result.relevance["pixels"]
    return result.relevance[layer] if isinstance(layer, str) else result.relevance


def propagate(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
    layer: Layer = None,
    pixels: bool = False,
    has_aux: bool = False,
) -> Relevance:
    """As `relevance`, with the logits, A and R by name; `layer=None` is the default layer.

    Args and Raises as `relevance`; `pixels` takes the pixels (named "pixels") in place of layers,
    `has_aux` lets `forward` return `(logits, aux)`.

    Returns:
        A `Relevance`.
    """
    program = _checked(forward, images, targets, init, has_aux)
    sources = [_pixel_site(images)] if pixels else select(program, layer)
    seeds = {s.path: _seed(s.aval.shape, s, images) for s in sources}
    pull, (logits, found, aux) = _pullback(
        program, resolve(composite), images, seeds, has_aux, required=seeds
    )
    rel = _pull(pull, initial(logits, targets, init))
    return Relevance(
        logits,
        {s.name: found[s.path] for s in sources},
        {s.name: rel[s.path] for s in sources},
        aux,
    )


def conservation(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
) -> Conservation:
    """How much relevance arrives: its sums at layers and at the pixels, against what entered.

    Args:
        forward: as in `relevance`.
        images: as in `relevance`.
        targets: as in `relevance`, one class per image.
        composite: as in `relevance`.
        init: as in `relevance`.

    Returns:
        A `Conservation` of `[B]` sums; all from one pass that keeps no relevance map.

    Raises:
        ValueError: as `relevance`; several targets per image.
    """
    program = _checked(forward, images, targets, init, False)
    sites = [s for s in find(program) if s.loop is None and s.aval.shape[:1] == images.shape[:1]]
    # One seed per image, broadcast over the layer: its cotangent is the layer's sum.
    flat = lambda s: _seed((images.shape[0],) + (1,) * (len(s.aval.shape) - 1), s, images)
    seeds = {s.path: flat(s) for s in [_pixel_site(images), *sites]}
    # A branch that ends nowhere, and what only sets gates, have a share of 0; the pixels must be
    # reached.
    required = {planning.PIXELS}
    pull, (logits, _, _) = _pullback(
        program, resolve(composite), images, seeds, False, required=required
    )
    start = initial(logits, targets, init)
    if start.ndim != 2:
        raise ValueError(f"targets: got shape {start.shape[:2]}, expected one class per image")
    sums = {path: value.reshape(-1) for path, value in pull(start)[0].items()}
    cuts = frozenset(s.name for s in sites if s.cut)
    return Conservation(
        start.sum(-1), {s.name: sums[s.path] for s in sites}, sums[planning.PIXELS], cuts
    )


def initial(
    logits: jax.Array, targets: Targets = None, init: str | jax.Array = "one_hot"
) -> jax.Array:
    """The relevance that enters at the logits.

    Args:
        logits: z `[B, N]`.
        targets: None, an int, `[B]` or `[B, K]` ints.
        init: "one_hot", "contrastive", "official", or an array `[B, N]`; see `relevance`.

    Returns:
        R `[B, N]`, or `[B, K, N]` for K targets per image.

    Raises:
        ValueError: an unknown name or another shape; `targets` is a function.
    """
    check_init(init, targets, logits.shape)
    if not isinstance(init, str):
        return jnp.asarray(init, logits.dtype)
    chosen, n = resolve_targets(logits, targets), logits.shape[1]
    hot = jax.nn.one_hot(chosen, n, dtype=logits.dtype)
    z = jnp.broadcast_to(logits if chosen.ndim == 1 else logits[:, None], hot.shape)
    z = (hot * z).sum(-1, keepdims=True)
    if init == "one_hot":
        return hot * z
    if init == "official":
        return hot - (1 - hot) / n
    return jnp.abs(z) * (hot - (1 - hot) / max(n - 1, 1))


def check_init(init: Any, targets: Targets, shape: Sequence[int]) -> None:
    """Raises a ValueError unless `init` is a known name or `[B, N]`, and `targets` are classes."""
    if callable(targets):
        raise ValueError(
            "targets: got a function; LRP starts from classes: pass ints, or init as an array [B, "
            "N]"
        )
    if isinstance(init, str):
        if init not in INITS:
            raise ValueError(
                f"init: got {init!r}, expected one of {', '.join(INITS)} or an array {list(shape)}"
            )
    elif jnp.shape(init) != tuple(shape):
        raise ValueError(
            f"init: got shape {jnp.shape(init)}, expected {tuple(shape)}, as the logits"
        )


def _checked(
    forward: Forward, images: jax.Array, targets: Targets, init: Any, has_aux: bool
) -> trace.Program:
    """The traced program, all arguments being found right."""
    check_images(images)
    program = trace.trace(forward, images)
    shape = check_logits(program, images, has_aux)
    check_init(init, targets, shape)
    check(targets, *shape)
    return program


def _pixel_site(images: jax.Array) -> Site:
    return Site(_PIXELS, planning.PIXELS, jax.ShapeDtypeStruct(images.shape, images.dtype), None)


def _seed(shape: tuple[int, ...], site: Site, images: jax.Array) -> jax.Array:
    """Zeros for a site, in the dtype that relevance is computed in."""
    return zeros_like(jax.ShapeDtypeStruct(shape, _wide(site.aval.dtype)), images)


def _wide(dtype: Any) -> Any:
    return (
        jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32
    )


def _pullback(
    program: trace.Program,
    composite: Composite,
    images: jax.Array,
    seeds: Mapping,
    has_aux: bool,
    *,
    required: Iterable[trace.Path],
) -> tuple[Callable, tuple]:
    """`(pull, (logits, activations by path, aux))`; `pull(R at the logits)` gives R by path."""
    plan = planning.make(program, composite, seeds, required=required)

    def transformed(seeds: Mapping) -> tuple:
        boxes, found = run(program, plan, images, seeds)
        values = jax.tree.unflatten(
            jax.tree.structure(program.shapes), [box.value for box in boxes]
        )
        logits, aux = values if has_aux else (values, None)
        # What is pulled is relevance itself, through the logits' unit, not R / z through the
        # logits.
        return boxes[0].root.unit, (logits, found, aux)

    _, pull, results = jax.vjp(transformed, dict(seeds), has_aux=True)
    return pull, results


def _pull(pull: Callable, start: jax.Array) -> dict:
    """R by path; for `[B, K, N]`, all K in one batched pull."""
    if start.ndim == 2:
        return pull(start)[0]
    rel = jax.vmap(lambda r: pull(r)[0], in_axes=1)(start)
    return {path: jnp.moveaxis(value, 0, 1) for path, value in rel.items()}
