"""Confidence: what metrics, perturbation methods and the command line show of logits."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._ground.dtypes import at_least_float32
from jaxcam._ground.errors import ArgumentError, check_choice
from jaxcam.targets._scores import Targets, of_function, resolve, scores

# How outputs become probabilities: None (softmax of several, sigmoid of one), a name of
# ACTIVATIONS, or a function.
Activation = None | str | Callable[[jax.Array], jax.Array]
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda outputs: outputs,
}


def probabilities(outputs: jax.Array, activation: Activation = None) -> jax.Array:
    """The softmax of N > 1 outputs z, the sigmoid of a single one.

    A logit z and its twin [0, z] mean the same.

    Args:
        outputs: z `[..., N]`, what the model returns.
        activation: None (as above), "softmax", "sigmoid" (of networks that were trained so: each
            class by itself), "identity" (the model returns probabilities already), or a function
            `[..., N] -> [..., N]`.

    Returns:
        p `[..., N]` in float32 (float64 stays). NaN where an output that it depends on is.

    Raises:
        ValueError: an unknown `activation`; "softmax" of a single output, which is 1 whatever the
            network says; a function that returns another shape.

    Example:
        >>> print(jaxcam.targets.probabilities(jnp.zeros((1, 1))))
        [[0.5]]
    """
    outputs = at_least_float32(outputs)
    function = _function_of(activation, single=outputs.shape[-1] == 1)
    found = _with_nan(function(outputs), outputs, joint=function is jax.nn.softmax)
    if jnp.shape(found) != outputs.shape:
        got = f"shape {jnp.shape(found)} from the function"
        raise ArgumentError("activation", got, f"{outputs.shape}")
    return found


def _with_nan(found: jax.Array, outputs: jax.Array, joint: bool) -> jax.Array:
    """Probabilities of which those of NaN are NaN: compiled, XLA takes z - max z for 0 there.

    Args:
        found: `[..., N]`.
        outputs: z `[..., N]`.
        joint: whether each depends on all outputs.
    """
    if jnp.shape(found) != outputs.shape:
        return found
    lost = jnp.isnan(outputs)
    if joint:
        lost = lost.any(-1, keepdims=True)
    return jnp.where(lost, jnp.nan, found)


def _function_of(activation: Activation, single: bool) -> Callable[[jax.Array], jax.Array]:
    if callable(activation):
        return activation
    if activation is None:
        return ACTIVATIONS["sigmoid"] if single else ACTIVATIONS["softmax"]
    check_choice("activation", activation, ACTIVATIONS, or_else="a function")
    if single and activation == "softmax":
        got = "'softmax' for one output, of which it is always 1"
        raise ArgumentError("activation", got, "'sigmoid'")
    return ACTIVATIONS[activation]


def confidence(outputs: Any, targets: Targets = None, activation: Activation = None) -> jax.Array:
    """Confidence, Y_b = p_b[c_b], p the `probabilities` of the outputs: here and everywhere.

    Args:
        outputs: `[B, N]`, what the model returns; anything at all for a function.
        targets: any form that `check` takes; the value of a function of the outputs is taken as it
            is.
        activation: as in `probabilities`.

    Returns:
        Y `[B]`, or `[B, K]` for K targets per image, in float32 (float64 stays).

    Raises:
        ValueError: as `scores` and `probabilities`.

    Example:
        >>> print(jaxcam.targets.confidence(jnp.zeros((1, 4)), 2))
        [0.25]
    """
    if callable(targets):
        return of_function(jax.tree.map(at_least_float32, outputs), targets)
    chosen = resolve(outputs, targets)
    return scores(probabilities(outputs, activation), chosen)
