"""The plan: what LRP does with a program's equations, by facts about values, without running it.

For every value that depends on the images the plan knows its `root`: the nearest value below of
which it is an element-wise function (with constants). An activation function, however it is written
(x * sigmoid(x) is three equations), and a batch norm are element-wise functions of one activation,
and these pass relevance whole to the root. `_choices` has the rules for all others.
"""

import bisect
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxcam._ground import primitives
from jaxcam._ground.errors import ArgumentError
from jaxcam._program import trace
from jaxcam._program.sites import Site, find
from jaxcam.lrp import _degrees as degrees
from jaxcam.lrp import _fixed as fixed
from jaxcam.lrp import _signs as signs
from jaxcam.lrp._choices import SOFTMAX, choose, is_softmax
from jaxcam.lrp._facts import PIXELS, Fact, Known, Step, is_float
from jaxcam.lrp._signs import Bounds
from jaxcam.lrp.composites import Composite, Place
from jaxcam.lrp.rules import Rule

_LOOP_ADVICE = (
    "unroll it (a Python loop; scans of up to 128 steps are unrolled by themselves), or explain a "
    "layer above it"
)


_NOTHING = Known()
_SAME_NUMBER = primitives.CONVERSIONS | primitives.IDENTITIES | primitives.REPEATS


class Plan(NamedTuple):
    """The steps by path (a missing one is "bind"), the outputs' facts, and the linear layers.

    `precision` is that of all products on the way.
    """

    steps: dict[trace.Path, Step]
    sources: frozenset[trace.Path]
    outputs: list[Fact]
    places: dict[trace.Path, Place]
    precision: str


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
    found = find(program, outputs)
    reachable = list(filter(lambda site: site.loop is None, found))
    known = Known(fixed.pools(program))
    planner = Planner(composite, frozenset(sources), reachable, known)
    facts = planner.walk(program)
    if composite.attention == "attnlrp" and planner.softmaxes:
        # Again, knowing by now which exponentials are a softmax's.
        known = known._replace(softmaxes=frozenset(planner.softmaxes))
        planner = Planner(composite, planner.sources, reachable, known)
        facts = planner.walk(program)
    entered = facts[:outputs]
    for fact in entered:
        if fact.refused:
            raise ValueError(fact.refused)
        if fact.exponential[0] == "softmax":
            raise ValueError(f"forward: LRP has no rule for its last step: {SOFTMAX}")
    if required is None:
        required = planner.sources
    _check_reached(planner, entered, frozenset(required))
    places = planner.places()
    composite.check_names(_names(places.values(), found))
    steps = dict(planner.steps)
    for path, step in steps.items():
        if step.kind == "linear":
            steps[path] = step._replace(rule=_rule(composite, places[path]))
    if any(step.rule is not None and step.rule.reaches_zeros for step in steps.values()):
        # R = x * c loses what arrives at a 0: there it takes the way of ones.
        steps.update(dict.fromkeys(planner.joins, Step("joined")))
    return Plan(steps, planner.sources, facts, places, composite.precision)


def _names(places: Iterable[Place], sites: Iterable[Site]) -> list[str]:
    """The layers that a composite may name."""
    names = []
    for place in places:
        if place.layer:
            names.append(place.layer)
    for site in sites:
        if site.loop is not None:  # what is in it is not seen
            names.append(site.name)
    return names


def _check_reached(
    planner: "Planner", entered: Sequence[Fact], required: frozenset[trace.Path]
) -> None:
    """Raises where a map would be zero whatever the network has learnt."""
    lost = sorted(required - _reaches(entered))
    if lost:
        names = {site.path: site.name for site in planner.sites} | {PIXELS: "pixels"}
        raise ArgumentError(
            "layer",
            f"{names.get(lost[0])!r}, which no relevance can reach",
            "one that the output depends on, and not only through gates (a sigmoid in a product), "
            "which take no relevance, or through what stop_gradient returned",
        )


def _reaches(facts: Sequence[Fact]) -> frozenset[trace.Path]:
    """The sources at which relevance of any of these values arrives."""
    return frozenset().union(*map(attrgetter("reaches"), facts))


def _rule(composite: Composite, place: Place) -> Rule:
    rule = composite.rule(place)
    if rule is None:
        keys = ", ".join(map(repr, composite.rules))
        got = f"no rule for {place.primitive} number {place.index} in layer {place.layer!r}"
        raise ArgumentError("composite", got, f"a key that matches it; its keys are {keys}")
    return rule


def _constant(value: Any) -> Fact:
    literal = fixed.is_literal(value)
    number = None
    if literal and jnp.issubdtype(jnp.result_type(value), jnp.number):
        number = float(value)
    return Fact(signs.of_constant(value), literal=literal, value=number)


class Planner:
    """Visits a program's equations with facts for values."""

    def __init__(
        self,
        composite: Composite,
        sources: frozenset,
        sites: Sequence[Site],
        known: Known = _NOTHING,
    ) -> None:
        """A planner that knows some of a program's equations."""
        self.composite = composite
        self.sources = sources
        self.sites = sites
        self.known = known
        self.softmaxes: set[trace.Path] = set()
        self.steps: dict[trace.Path, Step] = {}
        self.linear: list[tuple[trace.Path, str, int]] = []
        self.joins: list[trace.Path] = []

    def walk(self, program: trace.Program) -> list[Fact]:
        """The facts of a program's outputs."""
        entry = self.sources & {PIXELS}
        images = Fact(root=PIXELS, active=bool(entry), reaches=entry, degrees=degrees.own(PIXELS))
        return trace.evaluate(
            program.closed, [images], self.visit, opens=lambda path, eqn: True, lift=_constant
        )

    def places(self) -> dict[trace.Path, Place]:
        """The linear layers by path."""
        count = len(self.linear)
        found = {}
        for index, (path, name, depth) in enumerate(self.linear):
            found[path] = Place(name, index, count, depth == 0, self.layer(path))
        return found

    def layer(self, path: trace.Path) -> str | None:
        """The layer whose tag comes next: a module's output is tagged once computed."""
        index = bisect.bisect([site.path for site in self.sites], path)
        if index == len(self.sites):
            return None
        return self.sites[index].name

    def visit(self, path: trace.Path, eqn: Any, facts: list[Fact]) -> list[Fact]:
        """The facts of an equation's results."""
        bounds = []
        for index in range(len(eqn.outvars)):
            bounds.append(signs.of_result(eqn, list(map(attrgetter("bounds"), facts)), index))
        dependent = _dependent(facts)
        if not dependent:
            return _constants(eqn, facts, bounds)
        step, refused = self.step(path, eqn, facts)
        receiving = self.receiving(step, eqn, facts)
        active = any(map(attrgetter("active"), facts)) and step.kind != "stop"
        active = active or path in self.sources
        if active:
            self.keep(path, eqn, step)
        if step.kind == "linear":
            self.linear.append((path, eqn.primitive.name, facts[step.operand].depth))
        common = Fact(
            root=path,
            depth=max(map(attrgetter("depth"), dependent)) + (step.kind == "linear"),
            active=active,
            reaches=_reaches(receiving) | (self.sources & {path}),
            stopped=step.kind == "stop" or all(map(attrgetter("stopped"), dependent)),
            exponential=_exponential(path, eqn, facts),
        )
        if active:
            common = common._replace(refused=refused)
        if step.kind in ("pass", "same"):
            common = common._replace(root=facts[step.operand].root)
        if is_softmax(eqn.primitive.name, facts):
            self.softmaxes.add(facts[0].exponential[1])
            bounds = [Bounds(0.0, 1.0)]
        found = []
        for index, each in enumerate(bounds):
            fact = common._replace(bounds=each)
            if len(bounds) > 1 and step.kind == "bind":
                fact = fact._replace(root=(*path, -index - 1))
            found.append(fact._replace(degrees=_scales(eqn, facts, (*path, -index - 1))))
        return found

    def keep(self, path: trace.Path, eqn: Any, step: Step) -> None:
        """Notes a step that relevance may take."""
        if step.kind != "bind":
            self.steps[path] = step
        elif eqn.primitive.name in primitives.JOINS:
            self.joins.append(path)

    def step(self, path: trace.Path, eqn: Any, facts: list[Fact]) -> tuple[Step, str]:
        """The step, and why relevance cannot pass it ("" if it can)."""
        if path in self.sources:
            step = Step("source")
        else:
            step, reason = choose(eqn, facts, self.composite, self.known, path)
            if reason:
                return step, self.message(path, eqn, reason)
        for fact in self.receiving(step, eqn, facts):
            if fact.refused:
                return step, fact.refused
        return step, ""

    def receiving(self, step: Step, eqn: Any, facts: list[Fact]) -> list[Fact]:
        """The operands that relevance flows on to; from them even a source inherits refusals."""
        if step.kind == "stop":
            return []
        found = []
        for index, fact in enumerate(facts):
            # Predicates and indices choose what gets it and get none, unless they are all there is.
            heard = fact.active and (step.kind == "pass" or is_float(eqn.invars[index]))
            alone = step.kind in ("signal", "linear") and index != step.operand
            if heard and not alone:
                found.append(fact)
        return found

    def message(self, path: trace.Path, eqn: Any, reason: str) -> str:
        """Why relevance cannot pass an equation, and what to do."""
        layer = self.layer(path)
        where = "above the last layer"
        if layer:
            where = f"in layer {layer!r}"
        advice = reason.strip() or "it mixes activations non-linearly"
        if list(trace.jaxprs_in_params(eqn.params)):
            advice = _LOOP_ADVICE
        return f"forward: LRP has no rule for {trace.describe(eqn)!r} {where}: {advice}"


def _dependent(facts: Sequence[Fact]) -> list[Fact]:
    """Those of values that depend on the images."""
    return list(filter(lambda fact: fact.root is not None, facts))


def _constants(eqn: Any, facts: Sequence[Fact], bounds: Sequence[Bounds]) -> list[Fact]:
    """Of results that do not depend on the images."""
    common = Fact(literal=all(map(attrgetter("literal"), facts)))
    if facts and eqn.primitive.name in _SAME_NUMBER:
        common = common._replace(value=facts[0].value)
    return [common._replace(bounds=each) for each in bounds]


def _scales(eqn: Any, facts: Sequence[Fact], anchor: Any) -> dict:
    operands = []
    for fact in facts:
        operands.append(degrees.Operand(fact.degrees, fact.bounds.low >= 0, fact.value))
    return degrees.of_result(eqn, operands, anchor)


def _exponential(path: trace.Path, eqn: Any, facts: Sequence[Fact]) -> tuple[str, Any]:
    """What part of a softmax a result is."""
    name = eqn.primitive.name
    dependent = _dependent(facts)
    if name == "exp":
        return ("terms", path)
    if is_softmax(name, facts):
        return ("softmax", facts[0].exponential[1])
    for fact in dependent:
        kind, start = fact.exponential
        if name in ("reduce_sum", primitives.DENSE) and kind == "terms":
            return ("sum", start)
    scaled = primitives.ADDITIONS | {primitives.PRODUCT, primitives.QUOTIENT}
    moved = primitives.MOVES | primitives.PARTS | primitives.REPEATS | {primitives.PAD}
    kept = moved | primitives.IDENTITIES | primitives.CONVERSIONS
    if len(dependent) == 1 and (name in kept or name in scaled):
        return dependent[0].exponential
    return ("", None)
