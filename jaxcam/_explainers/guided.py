"""Guided backpropagation and the deconvnet: a network whose ReLUs pass gradients otherwise.

The program of the model is run with every ReLU replaced by one of the same value and another
derivative. A ReLU is `jax.nn.relu`, or the maximum of a value and a literal 0; relu6 holds one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxcam._explainers.gradient import grad_cam
from jaxcam._explainers.pixels import REDUCTIONS, pixels
from jaxcam._ground import primitives
from jaxcam._ground.errors import ArgumentError, check_choice
from jaxcam._program import trace
from jaxcam._program.checks import check_images
from jaxcam._program.grids import Layout
from jaxcam._program.layers import Forward
from jaxcam._program.question import by_formula, traced
from jaxcam._program.signature import Explanation, one_answer
from jaxcam.maps import resize
from jaxcam.targets import Targets

_VARYING = frozenset({"pvary", "pcast"})  # of `jax.shard_map`
# What a literal 0 may go through.
_CASTS = _VARYING | primitives.IDENTITIES | primitives.CONVERSIONS | primitives.REPEATS


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

    It shows edges more than classes (Adebayo et al. 2018); it is here to be compared with. Costs a
    forward and a backward pass.

    Args:
        forward: as in `grad_cam`, with at least one ReLU in it; other activation functions keep
            their derivative.
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
    model = with_relu(forward, _guided, images)
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

    Costs a forward and a backward pass. Max-pools pass what they get to the place of the maximum,
    the paper's switches.

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
    model = with_relu(forward, _rectified_back, images)
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
    coarse = grad_cam(forward, images, targets, layer=layer, layout=layout, has_aux=has_aux)
    fine = guided_backprop(forward, images, targets, reduction=reduction, has_aux=has_aux)
    if not has_aux:
        return fine * resize(coarse, images.shape[1:-1])
    return fine[0] * resize(coarse[0], images.shape[1:-1]), fine[1]


# Programs with another ReLU ----------------------------------------------


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


def with_relu(forward: Forward, relu: Callable, images: Any) -> Forward:
    """The model with another ReLU.

    Args:
        forward: images -> output.
        relu: of the same values, of an array.
        images: with which it is traced, to see at once whether it has any.

    Raises:
        ValueError: there is no ReLU, or one inside a loop.
    """
    _relus(traced(forward, images))

    def replaced(x: jax.Array) -> Any:
        program = traced(forward, x)
        places = _relus(program)

        def visit(path: trace.Path, eqn: JaxprEqn, values: list) -> list:
            if path in places:
                return [relu(values[places[path]])]
            return trace.bind(eqn, values)

        outputs = trace.evaluate(program.closed, [x], visit, opens=_opens)
        return jax.tree.unflatten(jax.tree.structure(program.shapes), outputs)

    return replaced


def _relus(program: trace.Program) -> dict[trace.Path, int]:
    """Where a program takes max(x, 0), and which operand is x.

    The walk carries whether a value is a literal 0, which `jax.shard_map` casts before it is used.
    """
    found: dict[trace.Path, int] = {}

    def visit(path: trace.Path, eqn: JaxprEqn, zeros: list[bool]) -> list[bool]:
        if trace.contains(eqn, _hides_relu):
            got = "a model with a ReLU inside a loop, where one equation stands for many"
            raise ArgumentError("forward", got, "one whose loops are unrolled")
        if _is_max(eqn) and any(zeros):
            found[path] = zeros.index(False)
        kept = eqn.primitive.name in _CASTS and all(zeros)
        return [kept] * len(eqn.outvars)

    images = [False] * len(program.closed.jaxpr.invars)
    trace.evaluate(program.closed, images, visit, opens=_opens, lift=_is_zero)
    if not found:
        raise ArgumentError("forward", "a model without a ReLU", "one of jax.nn.relu or max(x, 0)")
    return found


def _opens(path: trace.Path, eqn: JaxprEqn) -> bool:
    """Whether a call is walked into.

    Derivatives made by hand are kept, but for jax.nn.relu's: a softplus, say, has a max in it too.
    """
    del path
    if eqn.primitive.name in primitives.CALLS:
        return True
    inner = trace.body(eqn)
    return inner is not None and _leaves(inner.jaxpr) - _CASTS == {"max"}


def _leaves(jaxpr: Any) -> set[str]:
    """The names of the primitives of a program, those in calls for the calls."""
    names = set()
    for eqn in jaxpr.eqns:
        inner = trace.body(eqn)
        if inner is None:
            names.add(eqn.primitive.name)
        else:
            names |= _leaves(inner.jaxpr)
    return names


def _is_max(eqn: JaxprEqn) -> bool:
    aval: Any = eqn.outvars[0].aval
    return eqn.primitive.name == "max" and jnp.issubdtype(aval.dtype, jnp.inexact)


def _is_zero(value: Any) -> bool:
    return not isinstance(value, jax.Array) and np.ndim(value) == 0 and bool(value == 0)


def _hides_relu(eqn: JaxprEqn) -> bool:
    """Whether a loop or branch takes a max of floats with a literal 0, or one that is cast."""
    loops = primitives.LOOPS | primitives.BRANCHES
    return eqn.primitive.name in loops and trace.contains(eqn, _may_be_relu)


def _may_be_relu(eqn: JaxprEqn) -> bool:
    literal = any(isinstance(atom, Literal) and _is_zero(atom.val) for atom in eqn.invars)
    return literal and (_is_max(eqn) or eqn.primitive.name in _VARYING)
