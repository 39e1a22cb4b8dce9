"""Compiles for TPUs that are not there: the process that `eval.costs.tpu` starts.

    python -m eval.costs.topology '{"topology": "v5e:2x2", ...}'

Of each row it writes a line of JSON. It is a process of its own since libtpu, once it is imported,
takes JAX's devices for its own. What it is handed on its input are rows of an earlier run: one of
the same program, by its text before it is compiled, is not compiled again.
"""

import dataclasses
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from eval.costs import rows
from eval.costs.compiled import facts
from jaxcam import layers, linen, loops

AXIS = "device"
SHARED = ", shard_map"
PENDING = "not compiled yet: the command was stopped, and goes on where it was"
_STAGE = re.compile(r"layer\d+")  # what ends a stage of a ResNet
# One device a chip, where a chip's two cores work as one.
_MEGACORE = {"v4": "megacore"}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to compile, as `eval.costs.tpu.Settings` says it."""

    topology: str
    model: str
    image_size: int
    batch: int
    dtype: str
    methods: tuple[str, ...]
    chips: tuple[str, ...]


class Traced(NamedTuple):
    """A function before it is compiled, and how many devices share what was traced."""

    lowered: Any
    jaxpr: Any
    devices: int = 1

    def digest(self) -> str:
        """Of the program's text."""
        return hashlib.sha256(self.lowered.as_text().encode()).hexdigest()[:16]


def devices(name: str) -> list:
    """The chips of a topology such as v5e:2x2."""
    options = {}
    if chip := _MEGACORE.get(name.partition(":")[0]):
        options["chip_config_name"] = chip
    found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    return list(found.devices)


class Compiler:
    """Compiles rows for some of a topology's chips, each of which has a batch of its own."""

    def __init__(self, wanted: Wanted, chips: list) -> None:
        """For these chips."""
        self.wanted = wanted
        self.chips = chips
        self.mesh = Mesh(np.array(chips), (AXIS,))
        dtype = jnp.dtype(wanted.dtype)
        self.batch = rows.arrays(wanted.batch * len(chips), wanted.image_size, dtype)

    def network(self, attention: bool = False) -> Any:
        """The network of a row."""
        return rows.network(self.wanted.model, attention=attention, dtype=self.wanted.dtype)

    def variables(self, network: Any) -> Any:
        """A network's variables, abstractly."""
        image = jax.ShapeDtypeStruct((1, *self.batch["image"].shape[1:]), jnp.float32)
        return jax.eval_shape(network.init, jax.random.key(0), image)

    def stages(self) -> dict[str, Any]:
        """The layers at the ends of the network's stages."""
        network = self.network()
        found: dict[str, Any] = {}

        def look(variables: Any, images: jax.Array) -> None:
            found.update(layers(linen(network, variables), images))

        jax.eval_shape(look, self.variables(network), self.batch["image"])
        return {name: aval for name, aval in found.items() if _STAGE.fullmatch(name)}

    def call(self, row: rows.Row) -> Traced:
        """An explainer or a metric as one program of arrays that lie in shares on the chips."""
        network = self.network(row.attention)
        return self._traced(rows.called(row, network), network)

    def shared(self, row: rows.Row) -> Traced:
        """The same as a program that each chip runs on its share."""
        network = self.network(row.attention)
        specs: dict[str, Any] = {"in_specs": (PartitionSpec(), PartitionSpec(AXIS))}
        specs["out_specs"] = PartitionSpec(AXIS)
        run = jax.shard_map(rows.called(row, network), mesh=self.mesh, **specs)
        return self._traced(run, network, shared=True)

    def _traced(self, run: Callable, network: Any, shared: bool = False) -> Traced:
        variables = self.placed(self.variables(network), PartitionSpec())
        batch = self.placed(self.batch, PartitionSpec(AXIS))
        traced = jax.jit(run).trace(variables, batch)
        count = len(self.chips)
        if shared:  # a body of shard_map is traced for one chip
            count = 1
        return Traced(traced.lower(), traced.jaxpr, count)

    def sharded(self, step: rows.Step) -> Traced:
        """A training step as one program of arrays that lie on all chips."""
        network = self.network()
        state = jax.eval_shape(rows.state, self.variables(network))
        state = self.placed(state, PartitionSpec())
        batch = self.placed(self.batch, PartitionSpec(AXIS))
        run = rows.stepped(step, network, None)
        traced = jax.jit(run, donate_argnums=0, out_shardings=_of(state)).trace(state, batch)
        return Traced(traced.lower(), traced.jaxpr, len(self.chips))

    def mapped(self, step: rows.Step) -> Traced:
        """A training step by pmap: each chip has its share and the same state."""
        network = self.network().clone(axis_name=AXIS)
        run = rows.stepped(step, network, AXIS)
        options: dict[str, Any] = {"in_axes": (None, 0), "out_axes": None}
        program = jax.pmap(run, AXIS, devices=self.chips, donate_argnums=0, **options)
        count = len(self.chips)

        def share(each: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            shape = (count, each.shape[0] // count, *each.shape[1:])
            return jax.ShapeDtypeStruct(shape, each.dtype)

        batch = jax.tree.map(share, self.batch)
        state = jax.eval_shape(rows.state, self.variables(self.network()))
        return Traced(program.lower(state, batch), jax.make_jaxpr(program)(state, batch))

    def placed(self, tree: Any, spec: PartitionSpec) -> Any:
        """Abstract arrays as they lie on the chips."""
        sharding = NamedSharding(self.mesh, spec)
        place = partial(jax.ShapeDtypeStruct, sharding=sharding)
        return jax.tree.map(lambda each: place(each.shape, each.dtype), tree)


def _of(tree: Any) -> Any:
    return jax.tree.map(lambda each: each.sharding, tree)


def programs(compiler: Compiler) -> Iterator[tuple[str, Callable[[], Traced]]]:
    """(name, what traces it) of every row."""
    stages = compiler.stages()
    names = list(stages)
    several = len(compiler.chips) > 1
    channels = stages[names[-1]].shape[-1]
    found = rows.explainers(names, channels) | rows.measures()
    for name, row in found.items():
        yield f"{name}, jit" if several else name, partial(compiler.call, row)
    for name, step in rows.training(names).items():
        yield f"{name}, jit", partial(compiler.sharded, step)
        if several:
            yield f"{name}, pmap", partial(compiler.mapped, step)
    if several:
        for name, row in found.items():
            yield f"{name}{SHARED}", partial(compiler.shared, row)


def compile_all(wanted: Wanted, kept: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A record of each row that is wanted, PENDING at first and then of what came of it.

    Args:
        wanted: what to compile. Rows that end in SHARED, the same as programs of one chip, are
            compiled if they are named.
        kept: records of an earlier run.
    """
    known = {(row["name"], row["chips"]): row for row in kept}
    found = list(_wanted(wanted))
    for about, _ in found:
        yield {**about, "error": PENDING}
    for about, make in found:
        yield {**about, **_outcome(make, known.get((about["name"], about["chips"])))}


def _wanted(wanted: Wanted) -> Iterator[tuple[dict[str, Any], Callable[[], Traced]]]:
    """(what a record begins with, what traces the program) of each row."""
    chips = devices(wanted.topology)
    for which in wanted.chips:
        used = chips
        if which == "one":
            used = chips[:1]
        compiler = Compiler(wanted, used)
        for name, make in programs(compiler):
            if _is_asked(name, wanted):
                yield {"name": name, "chips": len(used), "device": used[0].device_kind}, make


def _is_asked(name: str, wanted: Wanted) -> bool:
    if wanted.methods:
        return name in wanted.methods
    return not name.endswith(SHARED)


def _outcome(make: Callable[[], Traced], before: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The facts, or why there are none: other rows are compiled all the same.

    Args:
        make: traces the program.
        before: the record of an earlier run, which is taken if it is of this program.
    """
    start = time.process_time()
    program = ""
    try:
        traced = make()
        program = traced.digest()
        if before is not None and before["program"] == program:
            return before
        found = facts(*traced)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        return {"program": program, "error": said}
    took = round(time.process_time() - start, 2)
    return {"program": program, "compile_seconds": took, **found._asdict()}


def _serve(words: str) -> None:
    wanted = Wanted(**json.loads(words))
    with loops.compiling_for("tpu"):
        for record in compile_all(wanted, json.load(sys.stdin)):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
