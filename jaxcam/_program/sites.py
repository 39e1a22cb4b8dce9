"""Where a program's named activations stand, which of them everything passes through, and how."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax

from jaxcam._ground import primitives
from jaxcam._program import axes as axes_of
from jaxcam._program import axis_rules, grids, mixing, trace
from jaxcam._program.axes import Axes
from jaxcam._program.centers import Centers
from jaxcam._program.grids import Grid

PIXELS = "pixels"  # names the images, where a layer is asked for
PIXELS_PATH: trace.Path = ()  # where the images stand in for the path of an equation


class Site(NamedTuple):
    """A layer's place in a program."""

    name: str
    path: trace.Path
    aval: jax.ShapeDtypeStruct
    loop: str | None  # the primitive that hides the site (scan, while, cond ...), if any
    cut: bool = False  # whether all that the logits take from the images passes through it
    used: bool = True  # whether the logits depend on it at all
    patches: bool = True  # whether they depend on its positions, not only on tokens beside them
    grid: Grid | None = None  # how it becomes [B, *spatial, c], if the program says so
    centers: Centers | None = None  # where in the image its cells lie, if the program says so


class Sites(list[Site]):
    """The sites of a program in execution order.

    `joins` names the layer at which the images of a batch are joined, as by a batch norm in
    training mode, or is None.
    """

    joins: str | None = None
    hidden: dict[str, str]

    def __init__(self, sites: Iterable[Site] = ()) -> None:
        """Sites, and by the names of those that a loop stands behind which loop it is."""
        super().__init__(sites)
        self.hidden = {}


class Layers(dict):
    """`{name: ShapeDtypeStruct}` in execution order; `default` is what `layer=None` picks or None.

    `cuts` are the names of the layers that no path from the images to the logits avoids: the stream
    of a residual network, but neither its branches nor the heads of attention. `grids` are the
    spatial sizes of those that have them, also of tokens `[B, T, c]`. `centers` says where in the
    image their cells lie, as strides and paddings have it: hand them to `jaxcam.maps.resize`.
    """

    def __init__(self, sites: Iterable[Site] = (), rank: int = 4):
        """The layers of these sites, of images with `rank` axes."""
        super().__init__()
        sites = list(sites)
        cuts = set()
        self.grids: dict[str, tuple[int, ...]] = {}
        self.centers: dict[str, Centers] = {}
        for site in sites:
            self[site.name] = site.aval
            if site.cut:
                cuts.add(site.name)
            if site.grid is not None:
                self.grids[site.name] = site.grid.spatial
            if site.centers is not None:
                self.centers[site.name] = site.centers
        self.cuts = frozenset(cuts)
        self.default = _default(sites, rank)

    def __str__(self) -> str:
        """A line per layer: name, shape, its grid if that is another, where its cells lie."""
        width = max(map(len, self), default=0)
        lines = []
        for name, aval in self.items():
            grid = self.grids.get(name, ())
            notes = ""
            if grid and grid != aval.shape[1:-1]:
                notes += f"  positions {' x '.join(map(str, grid))}"
            if name == self.default:
                notes += "  (default)"
            if name in self.centers and not self.centers[name].pixels:
                notes += f"  {self.centers[name]}"
            lines.append(f"{name:{width}}  {list(aval.shape)}{notes}")
        return "\n".join(lines)


class _Flow(NamedTuple):
    """What `find` knows of a variable; bit i is about the i-th site."""

    axes: Axes
    origin: str | None = None  # the name of the tag that produced it
    avoided: int = 0  # a path from the images leads to it that does not pass the site
    passed: int = 0  # a path from the site leads to it
    patches: int = 0  # the site's positions are still its own: no slice has left them out
    mixed: int = 0  # something has joined the site's positions with other entries


def find(program: trace.Program, outputs: int = 1) -> Sites:
    """Every tag of a program in execution order, also those that a loop hides.

    The walk carries, for each variable, the name of the tag that produced it, as a tag on an equal
    tag is skipped, which sites can be avoided and which are passed on the way to it, and what its
    axes stand for.

    Args:
        program: a traced model of images.
        outputs: how many of its outputs are what is explained; the others are beside it.
    """
    finder = _Finder(program)
    images = []
    for variable in program.closed.jaxpr.invars:
        aval: Any = variable.aval
        images.append(_Flow(axes_of.of_images(aval.shape), avoided=-1))
    results = trace.evaluate(
        program.closed,
        images,
        finder.visit,
        opens=lambda path, eqn: True,
        lift=lambda value: _Flow(axes_of.unknown(jax.numpy.shape(value))),
    )
    return finder.concluded(results[:outputs])


class _Finder:
    """Visits a program's equations with flows for values."""

    def __init__(self, program: trace.Program) -> None:
        self.batch = 0
        self.rank = 0
        self.size: tuple[int, ...] = ()
        if program.closed.jaxpr.invars:
            aval: Any = program.closed.jaxpr.invars[0].aval
            self.rank = len(aval.shape)
            self.batch = (*aval.shape, 0)[0]
            self.size = aval.shape[1:-1]
        self.sites: list[Site] = []
        self.count: Counter = Counter()
        self.joins: int | None = None  # before which site the batch was first joined
        self.behind: dict[str, int] = {}  # the sites that each kind of loop stands behind

    def add(
        self, name: str, path: trace.Path, aval: Any, axes: Axes = (), loop: str | None = None
    ) -> None:
        self.count[name] += 1
        number = self.count[name]
        if number > 1:
            name = f"{name}@{number}"
        grid = grids.find(axes, self.batch, self.rank)
        struct = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        centers = _centers(grid, self.size)
        self.sites.append(Site(name, path, struct, loop, grid=grid, centers=centers))

    def visit(self, path: trace.Path, eqn: Any, flows: list[_Flow]) -> list[_Flow]:
        for sub in trace.jaxprs_in_params(eqn.params):
            for tag in _tags(sub):
                self.add(tag.params["name"], path, tag.outvars[0].aval, loop=eqn.primitive.name)
        joined = _joined(eqn, flows)
        if eqn.primitive.name in primitives.LOOPS:
            kind = eqn.primitive.name
            self.behind[kind] = self.behind.get(kind, 0) | joined.passed
        operands = list(map(attrgetter("axes"), flows))
        for index, each in enumerate(operands):
            if self.joins is None and mixing.joins_batch(eqn, index, each):
                self.joins = len(self.sites)
        axes = axis_rules.of_results(eqn, operands)
        if is_tag(eqn):
            name = eqn.params["name"]
            if flows[0].origin != name:
                joined = self.enter(joined)
                self.add(name, path, eqn.outvars[0].aval, axes[0])
            return [joined._replace(axes=axes[0], origin=name)]
        return [joined._replace(axes=each) for each in axes]

    def enter(self, flow: _Flow) -> _Flow:
        """A flow behind the next site."""
        bit = 1 << len(self.sites)
        return flow._replace(
            avoided=flow.avoided & ~bit, passed=flow.passed | bit, patches=flow.patches | bit
        )

    def concluded(self, results: Sequence[_Flow]) -> Sites:
        """The sites, with what the outputs say of them."""
        avoided = passed = reaching = 0
        for flow in results:
            avoided |= flow.avoided
            passed |= flow.passed
            reaching |= flow.patches | flow.mixed
        found = Sites()
        if self.joins is not None:
            found.joins = "the output"
            if self.joins < len(self.sites):
                found.joins = self.sites[self.joins].name
        for index, site in enumerate(self.sites):
            facts = {
                "cut": not avoided >> index & 1,
                "used": bool(passed >> index & 1),
                "patches": bool(reaching >> index & 1),
            }
            found.append(site._replace(**facts))
            for kind, passed in self.behind.items():
                if passed >> index & 1:
                    found.hidden[site.name] = kind
        return found


def _centers(grid: Grid | None, size: tuple[int, ...]) -> Centers | None:
    if grid is None or None in grid.lines or len(grid.lines) != len(size):
        return None
    start = tuple(line.start for line in grid.lines if line)
    step = tuple(line.step for line in grid.lines if line)
    return Centers(start, step, size)


def _joined(eqn: Any, flows: Sequence[_Flow]) -> _Flow:
    """What an equation's results have of its operands; their axes are another matter."""
    avoided = passed = patches = mixed = 0
    for index, flow in enumerate(flows):
        avoided |= flow.avoided
        passed |= flow.passed
        mixed |= flow.mixed
        if mixing.leaves_out(eqn, flow.axes):
            continue
        patches |= flow.patches
        if mixing.mixes(eqn, index, flow.axes):
            mixed |= flow.patches
    return _Flow((), None, avoided, passed, patches, mixed)


def listed(sites: Sequence[Site], rank: int = 4) -> Layers:
    """The layers that can be reached: those that no loop hides."""
    return Layers((site for site in sites if site.loop is None), rank)


def scanned(sites: Iterable[Site]) -> bool:
    """Whether a scan hides layers."""
    return any(site.loop == "scan" for site in sites)


def is_tag(eqn: Any) -> bool:
    """Whether an equation names an activation."""
    return eqn.primitive.name == "name"


def _default(sites: Sequence[Site], rank: int) -> str | None:
    """The last cut with spatial extent whose positions matter; without one, the last such layer."""
    last = None
    for site in reversed(sites):
        if site.patches and _is_spatial(site, rank):
            if site.cut:
                return site.name
            last = last or site.name
    return last


def _is_spatial(site: Site, rank: int) -> bool:
    """Whether a map of a layer shows where: all spatial dimensions, and more than one position."""
    grid = site.grid
    return grid is not None and len(grid.spatial) == rank - 2 and math.prod(grid.spatial) > 1


def _tags(jaxpr: Any) -> list:
    found = []
    for eqn in jaxpr.eqns:
        if is_tag(eqn):
            found.append(eqn)
        for sub in trace.jaxprs_in_params(eqn.params):
            found += _tags(sub)
    return found
