"""Which step an equation takes, from facts about its operands: the rules of the plan.

What mixes activations is linear in them (a rule), homogeneous of degree 1 (autodiff conserves
R = x * c: sums, pools, concatenation, moves), a product of two activations (a gate, a normaliser or
shared), or refused: there is no rule for it.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from jaxcam._ground import primitives
from jaxcam.lrp import _degrees as degrees
from jaxcam.lrp._facts import Fact, Known, Step
from jaxcam.lrp.composites import CONV, DENSE, Composite

SOFTMAX = (
    "a softmax or a normalisation over activations? Return logits, not probabilities; LRP explains "
    "logits"
)
_ADVICE = {
    "div": "the divisor is another activation's, no normalisation of the dividend",
    "log": "a log-softmax? Return logits, not log-probabilities; LRP explains logits",
    "mul": (
        "neither factor is a gate of bounded range or a normalisation of the other; a composite "
        "with product='half' shares relevance half and half"
    ),
    DENSE: (
        "both operands depend on the images and neither is a weight of bounded range, as a softmax "
        "is; a composite with attention='attnlrp' shares relevance half and half"
    ),
    CONV: "both operands depend on the images; LRP has no rule for it",
}
REFUSED = " "  # without advice of its own
Choice = tuple[Step, str]  # a step, and why relevance cannot pass it ("" if it can)


def choose(
    eqn: Any, facts: Sequence[Fact], composite: Composite, known: Known, path: Any
) -> Choice:
    """The step of an equation of which an operand depends on the images.

    Args:
        eqn: the equation.
        facts: of its operands.
        composite: the choices that are not about linear layers.
        known: what a walk over the whole program has found.
        path: of the equation.
    """
    name = eqn.primitive.name
    dependent = []
    for index, fact in enumerate(facts):
        if fact.root is not None:
            dependent.append(index)
    if name == primitives.STOP:
        return Step("stop"), ""
    if name in (CONV, DENSE):
        return _linear(name, facts, dependent, composite, path in known.pools)
    if name in primitives.IDENTITIES:
        if len(eqn.outvars) > 1:
            return Step("bind"), ""
        return Step("same", dependent[0]), ""
    if path in known.softmaxes:
        return Step("bind"), ""  # by its own derivative, as all of a softmax
    if name in primitives.ELEMENTWISE:
        return _elementwise(eqn, facts, dependent, composite)
    several = name in primitives.JOINS | {"dynamic_update_slice"}
    if name in primitives.HOMOGENEOUS and (several or facts[0].root is not None):
        return Step("bind"), ""
    return Step("bind"), REFUSED


def _linear(
    name: str, facts: Sequence[Fact], dependent: Sequence[int], composite: Composite, pools: bool
) -> Choice:
    if len(dependent) == 1:
        (operand,) = dependent
        if pools:
            # Interpolation or averaging, written as a product of matrices.
            return Step("bind"), ""
        return Step("linear", operand, nonnegative=facts[operand].bounds.low >= 0), ""
    if name == CONV:
        return Step("bind"), _ADVICE[CONV]
    if composite.attention == "attnlrp":
        return Step("halved"), ""
    gates = list(map(attrgetter("is_gate"), facts))
    if sum(gates) == 1:
        return Step("signal", gates.index(False)), ""
    return Step("bind"), _ADVICE[DENSE]


def _elementwise(
    eqn: Any, facts: Sequence[Fact], dependent: Sequence[int], composite: Composite
) -> Choice:
    name = eqn.primitive.name
    if name == "log" and any(facts[i].exponential[0] == "sum" for i in dependent):
        return Step("bind"), _ADVICE["log"]
    if is_softmax(name, facts):
        if composite.attention == "attnlrp":
            return Step("bind"), ""
        return Step("bind"), SOFTMAX
    if _of_one_root(eqn, facts, dependent):
        parameter = any(fact.root is None and not fact.literal for fact in facts)
        if composite.bias == "absorb" and name in primitives.ADDITIONS and parameter:
            return Step("bind"), ""
        return Step("pass", dependent[0]), ""
    if name in primitives.ADDITIONS | primitives.CHOICES:
        return Step("bind"), ""
    if name == primitives.QUOTIENT:
        return _quotient(facts)
    if name == primitives.PRODUCT:
        return _product(facts, composite)
    return Step("bind"), _ADVICE.get(name, REFUSED)


def _of_one_root(eqn: Any, facts: Sequence[Fact], dependent: Sequence[int]) -> bool:
    """Whether a result is an element-wise function of one value."""
    shape = eqn.outvars[0].aval.shape
    root = facts[dependent[0]].root
    for index in dependent:
        if facts[index].root != root or eqn.invars[index].aval.shape != shape:
            return False
    return True


def is_softmax(name: str, facts: Sequence[Fact]) -> bool:
    """Whether an equation divides exponentials by their sum."""
    if name != primitives.QUOTIENT:
        return False
    above = facts[0].exponential
    below = facts[1].exponential
    return above[0] == "terms" and below == ("sum", above[1])


def _quotient(facts: Sequence[Fact]) -> Choice:
    above, below = facts
    if below.stopped or degrees.divides(below.degrees, above.degrees):
        return Step("signal", 0), ""
    return Step("bind"), _ADVICE["div"]


def _product(facts: Sequence[Fact], composite: Composite) -> Choice:
    for signal, fact in enumerate(facts):
        other = facts[1 - signal]
        normalized = degrees.normalizes(other.degrees, fact.degrees)
        if (other.stopped and not fact.stopped) or normalized:
            return Step("signal", signal), ""
    if all(map(attrgetter("stopped"), facts)):
        return Step("bind"), ""
    gates = list(map(attrgetter("is_gate"), facts))
    if composite.product == "half" or all(gates):
        return Step("half"), ""
    if any(gates):
        return Step("signal", gates.index(False)), ""
    return Step("bind"), _ADVICE["mul"]
