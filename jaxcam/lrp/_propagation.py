"""Relevance at the pixels or at layers: what enters at the output, one pull, what arrives."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._ground.dtypes import wide
from jaxcam._program.layers import Forward, Layer, zeros_like
from jaxcam._program.question import Question, ask
from jaxcam._program.signature import Explanation, explainer
from jaxcam._program.sites import Site
from jaxcam._program.versions import over_versions
from jaxcam.lrp import _kept
from jaxcam.lrp import _plan as planning
from jaxcam.lrp._initial import check_init, initial, of_function
from jaxcam.lrp._transform import run, values_of
from jaxcam.lrp.composites import Composite, resolve
from jaxcam.targets import Targets


class Relevance(NamedTuple):
    """What one pass gives: the output, A and R by layer, and what else `forward` returned.

    A and R are as the model has them; R is `[B, K, ...]` for K targets per image.
    """

    logits: Any
    activations: dict[str, jax.Array]
    relevance: dict[str, jax.Array]
    aux: Any


@explainer
def relevance(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = "pixels",
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
    has_aux: bool = False,
) -> Explanation:
    """LRP relevance R at the pixels, or at one or several layers, from one pass.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, parameters closed over; any output if
            `targets` is a function of it.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints, the class t of each image; or a
            function of what `forward` returns -> scores s `[B]`: R = z ds/dz enters at its output.
        layer: "pixels" (the images), a name, several, or None for the default layer.
        composite: a name of `jaxcam.lrp.COMPOSITES`, a mapping from keys to rules, one rule, or a
            `Composite`.
        init: what enters at the logits z. "one_hot": R_t = z_t. "contrastive": R_t = |z_t|,
            R_n = -|z_t| / (N - 1). "official": R_t = 1, R_n = -1 / N, as in Relevance-CAM's code.
            Or an array `[B, N]` (`targets` is not used).
        has_aux: whether `forward` returns `(logits, aux)`; the result then is `(R, aux)`.

    Returns:
        R float32: `[B, H, W, C]` at the pixels, at a layer the shape that the model gives it,
        `[B, K, ...]` for K targets per image; a dict by name for several layers. Element-wise
        functions, batch norm included, pass relevance whole.

    Raises:
        ValueError: bad input, as in `jaxcam.explain`; unknown `init` or `composite`, or one that
            names a layer which the network has not; an equation without a rule (softmax, attention,
            a loop), named with the layer it sits in; a layer that no relevance can reach.

    References:
        Bach et al., PLoS ONE 2015, eq. 56 to 60; Gu et al., Understanding individual decisions of
        CNNs via contrastive backpropagation, 2018 (contrastive).

    Example:
        >>> relevance = jaxcam.lrp.relevance(forward, images)
        >>> relevance.shape
        (2, 8, 8, 3)
        >>> print(relevance.sum((1, 2, 3)), forward(images).max(1))
        [1.58 1.75] [1.58 1.75]
    """
    options = {"layer": layer, "has_aux": has_aux, "spatial": False, "relevance": True}
    question = ask(forward, images, targets, **options)
    found = propagated(question, composite, init)
    return question.answer(found.relevance, found.aux)


def propagate(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = "pixels",
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
    has_aux: bool = False,
) -> Relevance:
    """As `relevance`, with the output, the activations A, and R by name.

    Args, Raises and References as `relevance`.

    Returns:
        A `Relevance`.

    Example:
        >>> found = jaxcam.lrp.propagate(forward, images, layer=["colours", "features"])
        >>> {name: each.shape for name, each in found.relevance.items()}
        {'colours': (2, 8, 8, 3), 'features': (2, 4, 4, 3)}
    """
    options = {"layer": layer, "has_aux": has_aux, "spatial": False, "relevance": True}
    return propagated(ask(forward, images, targets, **options), composite, init)


def propagated(question: Question, composite: Any, init: str | jax.Array) -> Relevance:
    """One pull for a question's layers."""
    check_question(question, init)
    seeds = {}
    for site in question.sites:
        seeds[site.path] = seed(site.aval.shape, site, question.images)
    composite = resolve(composite)
    pulled = pullback(question, composite, seeds, required=seeds)
    start = entering(question, pulled.output, init)
    by_path = pulled.pull(start)
    _kept.warn(composite, question.sites, start, by_path)
    return Relevance(
        logits=pulled.output,
        activations={site.name: pulled.activations[site.path] for site in question.sites},
        relevance={site.name: by_path[site.path] for site in question.sites},
        aux=pulled.aux,
    )


def check_question(question: Question, init: Any) -> None:
    """ValueError unless relevance can enter at what the model returns."""
    shape = None
    if question.classes is not None:
        shape = (len(question.images), question.classes)
    check_init(init, question.targets, shape)


def entering(question: Question, output: Any, init: str | jax.Array) -> Any:
    """What enters at the output: `[B, N]`, `[B, K, N]`, or as the output for a function of it."""
    if callable(question.targets):
        return of_function(output, question.targets, len(question.images))
    return initial(output, question.targets, init)


def seed(shape: tuple[int, ...], site: Site, images: jax.Array) -> jax.Array:
    """Zeros for a site, in the dtype that relevance is computed in."""
    return zeros_like(jax.ShapeDtypeStruct(shape, wide(site.aval.dtype)), images)


class Pulled(NamedTuple):
    """A program that has run forward: `pull(R at the output)` gives R by path."""

    pull: Callable[[Any], dict]
    output: Any
    activations: dict
    aux: Any


def pullback(
    question: Question, composite: Composite, seeds: Mapping, *, required: Iterable
) -> Pulled:
    """Runs the planned program, ready to pull relevance back to the seeds."""
    program = question.program
    several = question.classes is not None and getattr(question.targets, "ndim", 1) == 2
    explained = question.parted(program.shapes)[0]
    count = len(jax.tree.leaves(explained))
    plan = planning.make(program, composite, seeds, required=required, outputs=count)

    def transformed(seeds: Mapping) -> tuple:
        boxes, found = run(program, plan, question.images, seeds)
        tree = jax.tree.structure(program.shapes)
        values = jax.tree.unflatten(tree, values_of(boxes))
        output, aux = question.parted(values)
        # What is pulled is relevance itself, through the output's unit, not R / z through z.
        units = list(map(_unit, boxes[:count]))
        return jax.tree.unflatten(jax.tree.structure(explained), units), (output, found, aux)

    _, back, (output, found, aux) = jax.vjp(transformed, dict(seeds), has_aux=True)

    def pull(start: Any) -> dict:
        if not several:
            return back(start)[0]
        classes = lambda leaf: jnp.moveaxis(leaf, 1, 0)
        pulled = over_versions(lambda each: back(each)[0])(jax.tree.map(classes, start))
        return jax.tree.map(classes, pulled)

    return Pulled(pull, output, found, aux)


def _unit(box: Any) -> jax.Array:
    """Where relevance enters; it gets lost at an output that no source leads to."""
    if box.root is not None:
        return box.root.unit
    return jnp.ones(jnp.shape(box.value), wide(jnp.result_type(box.value)))
