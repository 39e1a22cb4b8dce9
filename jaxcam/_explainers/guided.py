"""Guided backpropagation and the deconvnet: a network whose ReLUs pass gradients otherwise.

The program of the model is run with every ReLU replaced by one of the same value and another
derivative. Which ReLUs it has, `jaxcam/_explainers/relus.py` finds.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jaxcam._explainers import relus
from jaxcam._explainers.gradient import grad_cam
from jaxcam._explainers.pixels import REDUCTIONS, pixels
from jaxcam._ground.errors import ArgumentError, check_choice
from jaxcam._program import trace
from jaxcam._program.checks import check_images
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward
from jaxcam._program.question import by_formula, traced
from jaxcam._program.signature import Explanation, one_answer
from jaxcam.maps import resize
from jaxcam.targets import Targets


@one_answer(jax.Array)
def guided_backprop(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    reduction: str = "abs_max",
    has_aux: bool = False,
) -> Explanation:
    """Guided backpropagation: the gradient at the pixels, R = `[x > 0] [R' > 0] R'` at every ReLU.

    At a clipped one, min(max(x, 0), c) as ReLU6 is, R = `[0 < x < c] [R' > 0] R'`: its derivative
    and the rectified gradient, as the paper has both at max(x, 0). (captum and zennit know
    `torch.nn.ReLU` only; a ReLU6 keeps its plain gradient there.) It shows edges more than classes
    (Adebayo et al. 2018); it is here to be compared with. Costs a forward and a backward pass.

    Args:
        forward: as in `grad_cam`, with at least one ReLU in it, clipped or not; other activation
            functions keep their derivative, hard sigmoid and hard swish, which hold a ReLU6, too.
        images: as in `gradient`.
        targets: as in `grad_cam`.
        reduction: of the colours, as in `gradient`.
        has_aux: as in `gradient`.

    Returns:
        As `gradient`.

    Raises:
        ValueError: bad input, as in `explain`; an unknown `reduction`; no ReLU in the model, or
            one inside a loop.

    References:
        Springenberg et al., Striving for simplicity: the all convolutional net, ICLR Workshop 2015,
        section 3.4.

    Example:
        >>> maps = jaxcam.guided_backprop(forward, images)
        >>> maps.shape
        (2, 8, 8)
    """
    check_choice("reduction", reduction, REDUCTIONS)
    formula = lambda x, g: REDUCTIONS[reduction](g)
    model = with_relu(forward, GUIDED, images)
    return by_formula(pixels(model, images, targets, has_aux), formula)


@one_answer(jax.Array)
def deconvnet(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    reduction: str = "abs_max",
    has_aux: bool = False,
) -> Explanation:
    """The deconvnet: the gradient at the pixels, R = [R' > 0] R' at every ReLU.

    At a clipped ReLU too: what comes back is rectified, whatever went forward. Costs a forward and
    a backward pass. Max-pools pass what they get to the place of the maximum, the paper's switches.

    Args, Returns and Raises as `guided_backprop`.

    References:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014, section
        2.1.

    Example:
        >>> maps = jaxcam.deconvnet(forward, images)
        >>> maps.shape
        (2, 8, 8)
    """
    check_choice("reduction", reduction, REDUCTIONS)
    formula = lambda x, g: REDUCTIONS[reduction](g)
    model = with_relu(forward, DECONVNET, images)
    return by_formula(pixels(model, images, targets, has_aux), formula)


@one_answer(jax.Array)
def guided_grad_cam(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: str | None = None,
    layout: Layout = None,
    reduction: str = "sum",
    has_aux: bool = False,
) -> Explanation:
    """Guided Grad-CAM: guided backpropagation times Grad-CAM, pixel by pixel; signed.

    Costs a forward and a backward pass, and Grad-CAM.

    Args:
        forward: as in `guided_backprop`.
        images: `[B, H, W, C]`, or with one or three spatial axes.
        targets: as in `grad_cam`; None is the arg-max.
        layer: of Grad-CAM, which is resized to the images; a name, or None for the default layer.
        layout: as in `grad_cam`.
        reduction: of the colours, before the product, as in `gradient`.
        has_aux: as in `gradient`.

    Returns:
        As `gradient`.

    Raises:
        ValueError: as `guided_backprop` and `grad_cam`; several layers.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, section 3.2.

    Example:
        >>> maps = jaxcam.guided_grad_cam(forward, images)
        >>> maps.shape
        (2, 8, 8)
    """
    check_images(images)
    if layer is not None and not isinstance(layer, str):
        raise ArgumentError("layer", repr(layer), "one name or None")
    forward = trace.Held(forward)
    coarse = grad_cam(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    fine = guided_backprop(forward, images, targets, reduction=reduction, has_aux=has_aux)
    if not has_aux:
        return fine * resize(coarse, images.shape[1:-1])
    return fine[0] * resize(coarse[0], images.shape[1:-1]), fine[1]


# Programs with another ReLU ----------------------------------------------


class _OfOne(Protocol):
    def __call__(self, x: jax.Array, /) -> jax.Array: ...


class _OfTwo(Protocol):
    def __call__(self, x: jax.Array, top: jax.Array, /) -> jax.Array: ...


class Rule(NamedTuple):
    """The two halves of a ReLU, by values that are theirs and derivatives that are not.

    Args:
        floor: max(x, 0).
        ceiling: min(x, top), of clipped ones.
    """

    floor: _OfOne
    ceiling: _OfTwo


@jax.custom_vjp
def _guided(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0)


@jax.custom_vjp
def _rectified_back(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0)


def _remember(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.maximum(x, 0), x > 0


def _both(positive: jax.Array, back: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(positive & (back > 0), back, 0),)


def _second(positive: jax.Array, back: jax.Array) -> tuple[jax.Array]:
    del positive
    return (jnp.maximum(back, 0),)


_guided.defvjp(_remember, _both)
_rectified_back.defvjp(_remember, _second)


@jax.custom_vjp
def _below(x: jax.Array, top: jax.Array) -> jax.Array:
    return jnp.minimum(x, top)


@jax.custom_vjp
def _through(x: jax.Array, top: jax.Array) -> jax.Array:
    return jnp.minimum(x, top)


_Kept = tuple[jax.Array, jax.Array]


def _remember_both(x: jax.Array, top: jax.Array) -> tuple[jax.Array, _Kept]:
    return jnp.minimum(x, top), (x < top, jnp.zeros_like(top))


def _if_below(kept: _Kept, back: jax.Array) -> _Kept:
    below, nothing = kept
    return jnp.where(below, back, 0), nothing


def _always(kept: _Kept, back: jax.Array) -> _Kept:
    return back, kept[1]


_below.defvjp(_remember_both, _if_below)
_through.defvjp(_remember_both, _always)

GUIDED = Rule(_guided, _below)
DECONVNET = Rule(_rectified_back, _through)


def with_relu(forward: Forward, rule: Rule, images: Any) -> Forward:
    """The model with another ReLU.

    Args:
        forward: images -> output.
        rule: that it takes.
        images: with which it is traced, to see at once whether it has any.

    Raises:
        ValueError: there is no ReLU, or one inside a loop.
    """
    first = traced(forward, images)
    relus.find(first)

    def replaced(x: jax.Array) -> Any:
        program = first
        if jax.typeof(x) != jax.typeof(images):
            program = traced(forward, x)
        places = relus.find(program)

        def visit(path: trace.Path, eqn: JaxprEqn, values: list) -> list:
            if path not in places:
                return trace.bind(eqn, values)
            place = places[path]
            found = values[place.operand]
            if place.floor:
                found = rule.floor(found)
            if place.top is not None:
                found = rule.ceiling(found, jnp.asarray(values[place.top]))
            return [found]

        outputs = trace.evaluate(program.closed, [x], visit, opens=relus.opens(places))
        return jax.tree.unflatten(jax.tree.structure(program.shapes), outputs)

    return replaced
