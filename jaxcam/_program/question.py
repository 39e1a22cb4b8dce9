"""The contract of every explainer, in one place: what it is asked, checked, and how it answers.

`ask` traces the model and checks images, targets, layers and what the model returns. The `Question`
that it gives knows the layers' grids, one or many, and puts the answer into the form that was asked
for: an array or a dict of them, with aux beside it. `explain` is all of it for a formula of
activations and gradients.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError
from jaxcam._program import grids, trace
from jaxcam._program.checks import check_images, check_output, of_other_axes
from jaxcam._program.grids import Grid, Layout
from jaxcam._program.layers import Forward, Layer, opened, run, select, zeros_like
from jaxcam._program.signature import explaining, tapping
from jaxcam._program.sites import PIXELS_PATH, Site
from jaxcam._program.versions import over_versions
from jaxcam.targets import Targets, check, concrete, scores

# Maps of one layer, or a dict of them by name; with has_aux a pair of that and aux.
Answer = Any
# (A, G) -> maps: `[B, *spatial, c]` twice -> `[B, *spatial]`
Formula = Callable[[jax.Array, jax.Array], jax.Array]


_JOINED = (
    "forward: the images of a batch are joined at {!r}, as by a batch norm in training mode, so "
    "that a map depends on what else is in the batch. Explain the model as it is used: "
    "model.eval() for NNX, train=False (use_running_average=True) for Linen, training=False for "
    "Keras, inference_mode(model) for Equinox."
)


@dataclasses.dataclass(frozen=True)
class Question:
    """What an explainer is asked, every argument being found right.

    Args:
        program: the traced model.
        images: `[B, *spatial, C]`.
        targets: None, classes `[B]` or `[B, K]`, or a function of the output.
        classes: N, how many classes there are; None for a function of the output.
        sites: the layers, in the order asked.
        grids: how each becomes `[B, *spatial, c]`, by name.
        alone: whether one layer was asked for, not a sequence.
        has_aux: whether the model returns `(output, aux)`.
    """

    program: trace.Program
    images: jax.Array
    targets: Any
    classes: int | None
    sites: tuple[Site, ...]
    grids: Mapping[str, Grid]
    alone: bool
    has_aux: bool

    @property
    def names(self) -> list[str]:
        """The layers' names, in the order asked."""
        return list(map(attrgetter("name"), self.sites))

    def parted(self, outputs: Any) -> tuple[Any, Any]:
        """What the model returned as `(output, aux)`; aux is None if it returns none."""
        if self.has_aux:
            output, aux = outputs
            return output, aux
        return outputs, None

    def spatial(self, name: str, values: jax.Array) -> jax.Array:
        """Activations of a layer, or what has their shape, as `[..., B, *spatial, c]`."""
        return self.grids[name](values)

    def answer(self, by_name: Mapping[str, Any], aux: Any = None) -> Answer:
        """Maps in the form that was asked for: of one layer or a dict, and with aux if there is.

        Where a class is out of range, which no error can say inside a transformation, they are NaN.
        """
        found: Any = {name: self.marked(by_name[name]) for name in self.names}
        if self.alone:
            (found,) = found.values()
        if self.has_aux:
            return found, aux
        return found

    @property
    def within(self) -> Any:
        """The targets, a class out of range the nearest one.

        So no NaN reaches an image's other classes; `marked` says at the end which they were.
        """
        if self.classes is None or self.targets is None or concrete(self.targets) is not None:
            return self.targets
        return jnp.clip(self.targets, 0, self.classes - 1)

    def marked(self, maps: jax.Array) -> jax.Array:
        """Maps, NaN where the class is out of range and nobody could say so."""
        if self.classes is None or self.targets is None or concrete(self.targets) is not None:
            return maps
        known = (self.targets >= 0) & (self.targets < self.classes)
        known = known.reshape(*known.shape, *[1] * (maps.ndim - known.ndim))
        return jnp.where(known, maps, jnp.nan)


def ask(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    has_aux: bool = False,
    spatial: bool = True,
    used: bool = True,
    joined: bool = False,
    relevance: bool = False,
    program: trace.Program | None = None,
) -> Question:
    """Checks what an explainer is asked.

    Args:
        forward: images -> output.
        images: `[B, *spatial, C]`.
        targets: see `jaxcam.targets.check`.
        layer: a name, several, or None for the default layer.
        layout: what the layers' axes are, where the program does not say: see `grids`.
        has_aux: whether `forward` returns `(output, aux)`.
        spatial: whether the layers must have positions.
        used: whether the output must depend on the layers.
        joined: whether the images of a batch may depend on each other, as in training; else a
            model of which they do is warned of.
        relevance: whether relevance has to pass what stands above the layers: scans are written
            out.
        program: of `forward` and these images, if it has been traced before.

    Raises:
        ValueError: something does not fit; the message says what was got and what expected.
    """
    if program is None:
        program = traced(forward, images)
    batch = images.shape[0]
    shapes = check_output(program, batch, has_aux, classes=not callable(targets))
    classes = None
    if not callable(targets):
        classes = shapes.shape[1]
        targets = check(targets, batch, classes)
    outputs = len(jax.tree.leaves(shapes))
    program, found = opened(program, layer, images, outputs, every=relevance)
    if found.joins and not joined:
        warnings.warn(_JOINED.format(found.joins), stacklevel=4)
    sites = select(found, layer, images)
    known = {}
    for site in sites:
        if used:
            check_used(site)
        if used and not relevance:  # which integer images have, in the floats they become
            check_slope(site, images)
        if spatial:
            known[site.name] = grid(site, layout, images)
    return Question(
        program=program,
        images=images,
        targets=targets,
        classes=classes,
        sites=tuple(sites),
        grids=known,
        alone=layer is None or isinstance(layer, str),
        has_aux=has_aux,
    )


def traced(forward: Forward, images: Any) -> trace.Program:
    """The traced model of checked images; where `[H, W, C]` does not do, the error says so."""
    check_images(images)
    with of_other_axes(images):
        return trace.trace(forward, images)


def grid(site: Site, layout: Layout, images: Any) -> Grid:
    """How a layer becomes `[B, *spatial, c]`: as the caller says, else as the program does.

    Raises:
        ValueError: a layout that does not fit; a layer without positions, or one of whose axes the
            program does not say what they are.
    """
    shape = tuple(site.aval.shape)
    batch = images.shape[0]
    if layout is not None and site.path != PIXELS_PATH:
        return grids.declared(layout, shape, batch, site.name)
    if site.grid is not None and site.grid.spatial and site.grid.positions:
        return site.grid
    got = f"{site.name!r} of shape {shape}"
    if len(shape) < 3 or site.grid is not None:
        raise ArgumentError("layer", got, "spatial extent, [B, h, w, c] or tokens [B, T, c]")
    if shape[0] != batch:
        raise ArgumentError(
            "layer",
            got,
            f"the first axis to be the batch of {batch}: windows of attention, say, are no layer; "
            "take what they are joined to",
        )
    raise ArgumentError(
        "layer",
        f"{got}, of which the program does not say what its axes are",
        "a layer of which it does, or layout=(h, w) for tokens, 'channels_first', 'channels_last'",
    )


def gradients(
    question: Question, *, score: Callable | None = None, deltas: Mapping | None = None
) -> tuple[Any, dict, dict, Any]:
    """`(output, A, G, aux)`: A and G = dY/dA by layer, as the model has them; K targets in front.

    One forward pass, and the backward pass of what lies above the layers; of all K targets in one
    batched pass.

    Args:
        question: what is asked.
        score: output -> Y `[B]` or `[B, K]`; None is that of the question's targets.
        deltas: what is added at each layer; None is zeros.
    """
    images = question.images
    if score is None:
        score = lambda z: scores(z, question.within, len(images))
    if deltas is None:
        deltas = zeros(question)

    def tapped(deltas: dict) -> tuple:
        outputs, acts = run(question.program, images, question.sites, deltas)
        output, aux = question.parted(outputs)
        return output, (acts, aux)

    output, pull, (acts, aux) = jax.vjp(tapped, deltas, has_aux=True)
    values, pull_scores = jax.vjp(score, output)
    if values.ndim == 1:
        grads = pull(pull_scores(jnp.ones_like(values))[0])[0]
    else:
        batch, count = values.shape
        basis = jnp.eye(count, dtype=values.dtype)[:, None, :]
        basis = jnp.broadcast_to(basis, (count, batch, count))
        grads = over_versions(lambda each: pull(pull_scores(each)[0])[0])(basis)
    return output, acts, grads, aux


def zeros(question: Question) -> dict[str, jax.Array]:
    """Of the shape of each layer, by name."""
    found = {}
    for site in question.sites:
        found[site.name] = zeros_like(site.aval, question.images)
    return found


@explaining
def explain(
    formula: Formula,
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    has_aux: bool = False,
) -> Answer:
    """The maps of a formula of activations and gradients: all that a class-activation map needs.

    Args:
        formula: `(A, G) -> L`, activations and gradients dY/dA of one layer, `[B, *spatial, c]`
            float32 both, to maps `[B, *spatial]`.
        forward: images `[B, H, W, C]` -> logits `[B, N]`, parameters closed over; any output if
            `targets` is a function of it.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: None (arg-max), an int, `[B]` or `[B, K]` ints, or a function of what `forward`
            returns -> scores `[B]`, each of its own image.
        layer: a name, several, or None for the default layer (`jaxcam.layers`).
        layout: what the layers' axes are, where the program does not say: "channels_last",
            "channels_first", `(h, w)` of tokens `[B, T, c]` or `jaxcam.Tokens`.
        has_aux: whether `forward` returns `(output, aux)`; the result then is `(maps, aux)`.

    Returns:
        Raw maps `[B, h, w]` float32 (float64 stays), `[B, K, h, w]` for K targets per image; a dict
        of them by name for several layers.

    Raises:
        ValueError: an argument or what `forward` returns does not fit: the message says what it got
            and what was expected.

    Example:
        >>> my_cam = lambda a, g: jax.nn.relu(a * g).sum(-1)
        >>> peaks(jaxcam.explain(my_cam, forward, images, layer="features"))
        [(0, 2), (2, 1)]
    """
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    return by_formula(question, formula)


def by_formula(question: Question, formula: Formula) -> Answer:
    """The answer that a formula of activations and gradients gives."""
    _, acts, grads, aux = gradients(question)
    maps = {}
    for name in question.names:
        maps[name] = mapped(question, formula, name, acts, grads)
    return question.answer(maps, aux)


def mapped(
    question: Question, formula: Formula, name: str, acts: Mapping, seconds: Mapping
) -> jax.Array:
    """A formula of one layer's activations and what has their shape, K of these for K targets."""
    a = at_least_float32(question.spatial(name, acts[name]))
    g = at_least_float32(question.spatial(name, seconds[name]))
    if g.ndim == a.ndim:
        return formula(a, g)
    return jax.vmap(formula, in_axes=(None, 0), out_axes=1)(a, g)


@tapping
def activations_and_gradients(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    layout: Layout = None,
    has_aux: bool = False,
) -> tuple:
    """A and G = dY/dA at a layer, from one forward pass and the backward pass of what lies above.

    Args:
        forward: as in `explain`.
        images: as in `explain`.
        targets: as in `explain`.
        layer: as in `explain`; `"pixels"` are the images.
        layout: as in `explain`.
        has_aux: as in `explain`.

    Returns:
        `(output, A, G)`, with `aux` appended if `has_aux`. A is `[B, h, w, c]` in the model's
        dtype, G the same or `[B, K, h, w, c]` for K targets per image; for several layers both are
        dicts by name.

    Raises:
        ValueError: as `explain`.

    Example:
        >>> logits, a, g = jaxcam.activations_and_gradients(forward, images, layer="features")
        >>> a.shape, g.shape
        ((2, 4, 4, 3), (2, 4, 4, 3))
        >>> print((a * g).sum((1, 2, 3)), logits.max(1))  # the network is linear above the layer
        [1.58 1.75] [1.58 1.75]
    """
    question = ask(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    output, acts, grads, aux = gradients(question)
    found_a = {}
    found_g = {}
    for name in question.names:
        found_a[name] = question.spatial(name, acts[name])
        found_g[name] = question.spatial(name, grads[name])
        if found_g[name].ndim > found_a[name].ndim:
            found_g[name] = jnp.moveaxis(found_g[name], 0, 1)
        found_g[name] = question.marked(found_g[name])
    found = (output, found_a, found_g)
    if question.alone:
        (name,) = question.names
        found = (output, found_a[name], found_g[name])
    if has_aux:
        return (*found, aux)
    return found


def check_used(site: Site) -> None:
    """Raises where a gradient would be zero whatever the network has learnt."""
    if not site.used:
        raise ArgumentError(
            "layer",
            f"{site.name!r}, which the output does not depend on: its gradient is zero",
            "a layer on the way to it",
        )


def check_slope(site: Site, images: jax.Array) -> None:
    """Raises where values are whole numbers, of which JAX takes no gradient."""
    dtype = site.aval.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return
    if dtype == images.dtype:
        got = f"{dtype} values, which layer {site.name!r} has too and which have no gradient"
        raise ArgumentError("images", got, "floats: images.astype(np.float32), say")
    got = f"{site.name!r} of {dtype} values, which have no gradient"
    raise ArgumentError("layer", got, "one of floats")
