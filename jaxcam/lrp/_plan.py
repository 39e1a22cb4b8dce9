"""The plan: what LRP does with a program's equations, by facts about values, without running it.

For every value that depends on the images the plan knows its `root`: the nearest value below of
which it is an element-wise function (with constants). An activation function, however it is written
(x * sigmoid(x) is three equations), and a batch norm are element-wise functions of one activation,
and these pass relevance whole to the root. What mixes activations is linear in them (a rule),
homogeneous of degree 1 (autodiff conserves R = x * c: sums, pools, concatenation, moves), a product
of two activations (a gate), or refused: there is no rule for it.
"""

import bisect
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._ground.errors import ArgumentError
from jaxcam._program import trace
from jaxcam._program.sites import Site, find
from jaxcam.lrp import _signs as signs
from jaxcam.lrp._signs import Bounds
from jaxcam.lrp.composites import CONV, DENSE, Composite, Place
from jaxcam.lrp.rules import Rule

_names = lambda text: frozenset(text.split())

_ADDITIONS = _names("add add_any sub")
# Element-wise functions of several operands that are homogeneous of degree 1 in all of them
# together.
_CHOICES = _names("max min select_n")
_FUNCTIONS = _names("""
    mul div rem pow integer_pow neg sign abs exp exp2 expm1 log log1p sqrt rsqrt cbrt square
    logistic tanh erf erfc erf_inv sin cos tan sinh cosh asinh acosh atanh asin acos atan atan2
    floor ceil round clamp nextafter convert_element_type is_finite not and or xor eq ne lt le gt ge
""")
_ELEMENTWISE = _ADDITIONS | _CHOICES | _FUNCTIONS
# The same values at other places: `unit`s can move along.
MOVES = _names("reshape transpose squeeze expand_dims rev slice pad")
# Linear with coefficients that are no parameters, or a choice of values: homogeneous of degree 1.
_HOMOGENEOUS = MOVES | _names("""
    broadcast_in_dim dynamic_slice dynamic_update_slice concatenate split gather sort top_k cumsum
    cummax cummin reduce_sum reduce_max reduce_min reduce_window_sum reduce_window_max
    reduce_window_min
""")
_IDENTITIES = _names("name copy reduce_precision optimization_barrier sharding_constraint")
PIXELS: trace.Path = ()  # where the images stand in for the path of an equation
_GATE_WIDTH = 2.1  # of the widest range that makes an activation a gate: tanh's, and rounding

_ADVICE = {
    "div": (
        "a softmax or a normalisation over activations? Return logits, not probabilities; LRP "
        "explains logits"
    ),
    "log": "a log-softmax? Return logits, not log-probabilities; LRP explains logits",
    "mul": (
        "neither factor is a gate of bounded range; a composite with product='half' shares "
        "relevance half and half"
    ),
    DENSE: "both operands depend on the images, as in attention; LRP has no rule for it",
    CONV: "both operands depend on the images; LRP has no rule for it",
}
_LOOP_ADVICE = (
    "unroll it (a Python loop, scan(unroll=True) does not help), or explain a layer above it"
)


class Step(NamedTuple):
    """What to do with one equation: `kind`, the operand it is about, and a linear layer's rule."""

    kind: str  # bind, pass, same, stop, linear, signal, half, source
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
    reaches: frozenset[trace.Path] = (
        frozenset()
    )  # the sources at which relevance that flows into it arrives
    literal: bool = (
        False  # made of the program's own numbers only, no parameters: interpolation weights, say
    )
    exponential: str = (
        ""  # "terms" for exp(activation), "sum" for a sum of these: a softmax's denominator
    )
    stopped: bool = False  # computed from nothing but stop_gradient's results
    refused: str = ""  # why relevance cannot reach what is below


class Plan(NamedTuple):
    """Steps by path (a missing one is "bind"), the outputs' facts, and the linear layers met."""

    steps: dict[trace.Path, Step]
    sources: frozenset[trace.Path]
    outputs: list[Fact]
    places: dict[trace.Path, Place]


def make(
    program: trace.Program,
    composite: Composite,
    sources: Iterable[trace.Path],
    *,
    required: Iterable[trace.Path] | None = None,
    outputs: int = 1,
) -> Plan:
    """Decides what each equation does, for relevance from the output that shall reach `sources`.

    Args:
        program: a traced model.
        composite: which linear layer takes which rule.
        sources: paths of tags, or `PIXELS`.
        required: the sources at which relevance must arrive; None is all of them.
        outputs: at how many of the program's outputs relevance enters, the first ones.

    Returns:
        The plan.

    Raises:
        ValueError: on the way to any source there is an equation without a rule; no way leads to a
            required one; a key of the composite names no layer.
    """
    found = find(program)
    planner = _Planner(composite, frozenset(sources), [s for s in found if s.loop is None])
    entry = planner.sources & {PIXELS}
    images = Fact(root=PIXELS, active=bool(entry), reaches=entry)
    facts = trace.evaluate(
        program.closed, [images], planner.visit, opens=lambda path, eqn: True, lift=_constant
    )
    entered = facts[:outputs]
    for fact in entered:
        if fact.refused:
            raise ValueError(fact.refused)
    needed = planner.sources if required is None else frozenset(required)
    _check_reached(planner, entered, needed)
    places = planner.places()
    # its linear layers cannot be seen
    hidden = [site.name for site in found if site.loop is not None]
    composite.check_names([*(place.layer for place in places.values() if place.layer), *hidden])
    steps = dict(planner.steps)
    for path, step in steps.items():
        if step.kind == "linear":
            steps[path] = step._replace(rule=_rule(composite, places[path]))
    return Plan(steps, planner.sources, facts, places)


def _check_reached(
    planner: "_Planner", entered: Sequence[Fact], required: frozenset[trace.Path]
) -> None:
    """Raises where a map would be zero whatever the network has learnt."""
    reached = frozenset().union(*(fact.reaches for fact in entered))
    lost = sorted(required - reached)
    if lost:
        names = {site.path: site.name for site in planner.sites} | {PIXELS: "pixels"}
        raise ArgumentError(
            "layer",
            f"{names.get(lost[0])!r}, which no relevance can reach",
            "one that the output depends on, and not only through gates (a sigmoid in a product), "
            "which take no relevance, or through what stop_gradient returned",
        )


def _rule(composite: Composite, place: Place) -> Rule:
    rule = composite.rule(place)
    if rule is None:
        keys = ", ".join(map(repr, composite.rules))
        raise ValueError(
            f"composite: no rule for {place.primitive} number {place.index} in layer "
            f"{place.layer!r}; its keys are {keys}"
        )
    return rule


def _constant(value: Any) -> Fact:
    literal = not isinstance(value, jax.Array) and jnp.ndim(value) == 0
    return Fact(signs.of_constant(value), literal=literal)


def _is_float(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


class _Planner:
    """Visits a program's equations with facts for values."""

    def __init__(self, composite: Composite, sources: frozenset, sites: Sequence[Site]) -> None:
        self.composite, self.sources, self.sites = composite, sources, sites
        self.steps: dict[trace.Path, Step] = {}
        self.linear: list[tuple[trace.Path, str, int]] = []

    def places(self) -> dict[trace.Path, Place]:
        count = len(self.linear)
        return {
            path: Place(name, index, count, depth == 0, self.layer(path))
            for index, (path, name, depth) in enumerate(self.linear)
        }

    def layer(self, path: trace.Path) -> str | None:
        """The layer whose tag comes next: a module's output is tagged once computed."""
        index = bisect.bisect([site.path for site in self.sites], path)
        return self.sites[index].name if index < len(self.sites) else None

    def visit(self, path: trace.Path, eqn: Any, facts: list[Fact]) -> list[Fact]:
        bounds = [
            signs.of_result(eqn, [f.bounds for f in facts], i) for i in range(len(eqn.outvars))
        ]
        dependent = [i for i, f in enumerate(facts) if f.root is not None]
        if not dependent:
            literal = all(f.literal for f in facts)
            return [Fact(b, literal=literal) for b in bounds]
        step, refused = self.step(path, eqn, facts, dependent)
        reaches = frozenset().union(
            *(facts[i].reaches for i in self.receiving(step, eqn, facts, dependent))
        )
        active = path in self.sources or (any(f.active for f in facts) and step.kind != "stop")
        if active and step.kind != "bind":
            self.steps[path] = step
        linear = step.kind == "linear"
        heirs = [step.operand] if step.kind in ("pass", "same") else dependent
        common = Fact(
            root=facts[heirs[0]].root if step.kind in ("pass", "same") else path,
            depth=max(facts[i].depth for i in dependent) + linear,
            active=active,
            reaches=reaches | (self.sources & {path}),
            stopped=step.kind == "stop" or all(facts[i].stopped for i in dependent),
            exponential=_exponential(eqn.primitive.name, [facts[i] for i in dependent]),
            refused=refused if active else "",
        )
        many = len(eqn.outvars) > 1 and step.kind == "bind"
        return [
            common._replace(bounds=b, root=(*path, -i - 1) if many else common.root)
            for i, b in enumerate(bounds)
        ]

    def step(
        self, path: trace.Path, eqn: Any, facts: list[Fact], dependent: list[int]
    ) -> tuple[Step, str]:
        """The step, and why relevance cannot pass it ("" if it can)."""
        step, reason = (
            (Step("source"), "")
            if path in self.sources
            else self.choose(path, eqn, facts, dependent)
        )
        if reason:
            return step, self.message(path, eqn, reason)
        inherited = [facts[i].refused for i in self.receiving(step, eqn, facts, dependent)]
        return step, next(filter(None, inherited), "")

    def receiving(self, step: Step, eqn: Any, facts: list[Fact], dependent: list[int]) -> list[int]:
        """The operands that relevance flows on to; from them even a source inherits refusals."""
        if step.kind == "stop":
            return []
        operands = [step.operand] if step.kind in ("signal", "linear") else dependent
        # Predicates and indices choose what gets it and get none, unless they are all there is.
        heard = lambda i: facts[i].active and (step.kind == "pass" or _is_float(eqn.invars[i]))
        return [i for i in operands if heard(i)]

    def choose(
        self, path: trace.Path, eqn: Any, facts: list[Fact], dependent: list[int]
    ) -> tuple[Step, str]:
        name, first = eqn.primitive.name, dependent[0]
        if name == "stop_gradient":
            return Step("stop"), ""
        if name in (CONV, DENSE):
            return self.choose_linear(path, eqn, facts, dependent)
        if name in _IDENTITIES and len(eqn.outvars) == 1:
            return Step("same", first), ""
        if name in _ELEMENTWISE:
            return self.choose_elementwise(eqn, facts, dependent)
        moved = name in _HOMOGENEOUS and (
            facts[0].root is not None or name in ("concatenate", "dynamic_update_slice")
        )
        return Step("bind"), "" if moved or name in _IDENTITIES else " "

    def choose_linear(
        self, path: trace.Path, eqn: Any, facts: list[Fact], dependent: list[int]
    ) -> tuple[Step, str]:
        if len(dependent) > 1:
            return Step("bind"), _ADVICE[eqn.primitive.name]
        (operand,) = dependent
        # interpolation or averaging, written as a product of matrices
        if facts[1 - operand].literal:
            return Step("bind"), ""
        self.linear.append((path, eqn.primitive.name, facts[operand].depth))
        return Step("linear", operand, nonnegative=facts[operand].bounds.low >= 0), ""

    def choose_elementwise(
        self, eqn: Any, facts: list[Fact], dependent: list[int]
    ) -> tuple[Step, str]:
        name, first = eqn.primitive.name, dependent[0]
        if name == "log" and any(facts[i].exponential == "sum" for i in dependent):
            return Step("bind"), _ADVICE["log"]
        shape = eqn.outvars[0].aval.shape
        one_root = len({facts[i].root for i in dependent}) == 1
        if one_root and all(eqn.invars[i].aval.shape == shape for i in dependent):
            parameter = any(f.root is None and not f.literal for f in facts)
            absorbed = self.composite.bias == "absorb" and name in _ADDITIONS and parameter
            return (Step("bind") if absorbed else Step("pass", first)), ""
        if name in _ADDITIONS | _CHOICES:
            return Step("bind"), ""
        if name == "div" and facts[1].stopped:
            return Step("signal", 0), ""
        return (
            self.choose_product(facts) if name == "mul" else (Step("bind"), _ADVICE.get(name, " "))
        )

    def choose_product(self, facts: list[Fact]) -> tuple[Step, str]:
        stopped = [f.stopped for f in facts]
        if any(stopped):
            return Step("signal", stopped.index(False)) if not all(stopped) else Step("bind"), ""
        gates = [f.bounds.high - f.bounds.low <= _GATE_WIDTH for f in facts]
        if self.composite.product == "half" or all(gates):
            return Step("half"), ""
        if any(gates):
            return Step("signal", gates.index(False)), ""
        return Step("bind"), _ADVICE["mul"]

    def message(self, path: trace.Path, eqn: Any, reason: str) -> str:
        name, layer = trace.describe(eqn), self.layer(path)
        where = f"in layer {layer!r}" if layer else "above the last layer"
        loop = any(True for _ in trace.jaxprs_in_params(eqn.params))
        advice = _LOOP_ADVICE if loop else reason.strip() or "it mixes activations non-linearly"
        return f"forward: LRP has no rule for {name!r} {where}: {advice}"


def _exponential(name: str, operands: Sequence[Fact]) -> str:
    if name == "exp":
        return "terms"
    if name in ("reduce_sum", "dot_general") and any(f.exponential == "terms" for f in operands):
        return "sum"
    scaled = name in _ADDITIONS | {"mul", "div"} and len(operands) == 1
    keeps = (
        scaled
        or name in MOVES | _IDENTITIES
        or name in ("broadcast_in_dim", "convert_element_type")
    )
    return operands[0].exponential if keeps else ""
