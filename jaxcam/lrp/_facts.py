"""What LRP knows of a program's values, and what it does with an equation."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxcam._program import trace
from jaxcam._program.sites import PIXELS_PATH
from jaxcam.lrp import _signs as signs
from jaxcam.lrp._degrees import Degrees
from jaxcam.lrp._signs import Bounds
from jaxcam.lrp.rules import Rule

PIXELS = PIXELS_PATH  # where the images stand in for the path of an equation
_GATE_WIDTH = 2.1  # of the widest range that makes an activation a gate: tanh's, and rounding


class Step(NamedTuple):
    """What to do with one equation: `kind`, the operand it is about, and a linear layer's rule."""

    kind: str  # bind, pass, same, stop, linear, signal, half, halved, joined, source
    operand: int = 0
    rule: Rule | None = None
    nonnegative: bool = False


class Fact(NamedTuple):
    """What is known of a value."""

    bounds: Bounds = signs.ANY
    # identifies the value it is an element-wise function of; None: does not depend on the images
    root: Any = None
    depth: int = 0  # linear layers on the longest way from the pixels
    active: bool = False  # whether relevance may flow into it
    reaches: frozenset[trace.Path] = frozenset()  # the sources at which its relevance arrives
    # made of the program's own numbers only, no parameters: interpolation weights, say
    literal: bool = False
    value: float | None = None  # of a number in the code
    # of a softmax: ("terms", path) of exp(activation), ("sum", path) of these, ("softmax", path)
    exponential: tuple[str, Any] = ("", None)
    stopped: bool = False  # computed from nothing but stop_gradient's results
    refused: str = ""  # why relevance cannot reach what is below
    degrees: Degrees | None = None  # how it scales with earlier values; None as root

    @property
    def is_gate(self) -> bool:
        """Whether its range is bounded, as a sigmoid's or a softmax's."""
        return self.bounds.high - self.bounds.low <= _GATE_WIDTH


class Known(NamedTuple):
    """What is known of a program's equations before a walk, by their paths."""

    pools: frozenset[trace.Path] = frozenset()  # products with fixed matrices that are no layers
    softmaxes: frozenset[trace.Path] = frozenset()  # exponentials that belong to a softmax


def is_float(variable: Any) -> bool:
    """Whether an equation's operand or result is of a floating-point type."""
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)
