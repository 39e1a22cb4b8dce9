"""Where a program's named activations stand, and which of them everything passes through."""

import functools
import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from jaxcam._program import trace


class Site(NamedTuple):
    """A layer's place in a program."""

    name: str
    path: trace.Path
    aval: jax.ShapeDtypeStruct
    loop: str | None  # the primitive that hides the site (scan, while, cond ...), if any
    cut: bool = False  # whether all that the logits take from the images passes through it
    used: bool = True  # whether the logits depend on it at all


class Layers(dict):
    """`{name: ShapeDtypeStruct}` in execution order; `default` is what `layer=None` picks or None.

    `cuts` are the names of the layers that no path from the images to the logits avoids: the stream
    of a residual network, but neither its branches nor the heads of attention.
    """

    def __init__(self, shapes: Iterable = (), cuts: Iterable[str] = ()):
        """The layers and which of them are cuts."""
        super().__init__(shapes)
        self.cuts = frozenset(cuts)

    @property
    def default(self) -> str | None:
        """The last activation with spatial extent that is a cut; if none is, the last of them."""
        spatial = [name for name, aval in self.items() if _spatial(aval)]
        return next(
            (name for name in reversed(spatial) if name in self.cuts),
            spatial[-1] if spatial else None,
        )

    def __str__(self) -> str:
        """A line per layer: its name, its shape, and whether it is the default."""
        width = max(map(len, self), default=0)
        mark = {self.default: "  (default)"}
        return "\n".join(
            f"{name:{width}}  {list(aval.shape)}{mark.get(name, '')}" for name, aval in self.items()
        )


class _Flow(NamedTuple):
    """What `find` knows of a variable."""

    origin: str | None = None  # the name of the tag that produced it
    avoided: int = 0  # bit i: a path from the images leads to it that does not pass the i-th site
    passed: int = 0  # bit i: a path from the i-th site leads to it


def find(program: trace.Program) -> list[Site]:
    """Every tag of a program in execution order, also those that a loop hides.

    The walk carries, for each variable, the name of the tag that produced it, as a tag on an equal
    tag is skipped, and which sites can be avoided and which are passed on the way to it. A call
    that holds no tag is taken to mix all that enters it.
    """
    sites: list[Site] = []
    count: Counter = Counter()

    def add(name: str, path: trace.Path, aval: Any, loop: str | None = None) -> None:
        count[name] += 1
        unique = name if count[name] == 1 else f"{name}@{count[name]}"
        sites.append(Site(unique, path, jax.ShapeDtypeStruct(aval.shape, aval.dtype), loop))

    def visit(path: trace.Path, eqn: Any, flows: list) -> list:
        avoided, passed = _any(flow.avoided for flow in flows), _any(flow.passed for flow in flows)
        if _is_tag(eqn):
            if flows[0].origin != eqn.params["name"]:
                avoided, passed = avoided & ~(1 << len(sites)), passed | 1 << len(sites)
                add(eqn.params["name"], path, eqn.outvars[0].aval)
            return [_Flow(eqn.params["name"], avoided, passed)]
        for sub in trace.jaxprs_in_params(eqn.params):
            for e in _tags(sub):
                add(e.params["name"], path, e.outvars[0].aval, eqn.primitive.name)
        return [_Flow(None, avoided, passed)] * len(eqn.outvars)

    opens = lambda path, eqn: trace.contains(eqn, _is_tag)
    images = [_Flow(None, -1)] * len(program.closed.jaxpr.invars)  # -1 has all bits
    results = trace.evaluate(program.closed, images, visit, opens=opens, lift=lambda value: _Flow())
    _, avoided, passed = results[0] if results else _Flow()
    return [
        s._replace(cut=not avoided >> i & 1, used=bool(passed >> i & 1))
        for i, s in enumerate(sites)
    ]


def listed(sites: Sequence[Site]) -> Layers:
    """The layers that can be reached: those that no loop hides."""
    reachable = [site for site in sites if site.loop is None]
    return Layers(((s.name, s.aval) for s in reachable), (s.name for s in reachable if s.cut))


def _any(bits: Iterable[int]) -> int:
    return functools.reduce(operator.or_, bits, 0)


def _spatial(aval: Any) -> bool:
    return len(aval.shape) == 4 and aval.shape[1] * aval.shape[2] > 1


def _is_tag(eqn: Any) -> bool:
    return eqn.primitive.name == "name"


def _tags(jaxpr: Any) -> list:
    own = [e for e in jaxpr.eqns if _is_tag(e)]
    return own + [
        t for e in jaxpr.eqns for sub in trace.jaxprs_in_params(e.params) for t in _tags(sub)
    ]
