"""What a compiled program says of itself: operations, bytes, memory, and what stands in its text.

XLA counts a loop's body once, and a convolution at the highest precision as one, though a TPU makes
six passes of it. `passes` counts both as what they are, from the traced program.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.extend.core import jaxprs_in_params
from jax.lax import Precision

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
MOVES = ("transpose", "copy", "gather", "scatter", "sort", "reverse")
# bfloat16 passes that a TPU makes of a float32 product
_PASSES = {Precision.DEFAULT: 1, Precision.HIGH: 3, Precision.HIGHEST: 6}
_LINE = re.compile(r"^\s*(?:ROOT )?%?[\w.-]+ = (.+?) ([a-z][a-z0-9-]*)\(")
_SHAPE = re.compile(r"([a-z]+\d+|pred)\[([\d,]*)\](?:\{([\d,]*):T\((\d+),(\d+)\))?")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TARGET = re.compile(r'custom_call_target="([^"]+)"')


class Facts(NamedTuple):
    """Of a program, on one of its devices.

    Args:
        flops: XLA's count.
        passes: operations of its matrix products and convolutions times the passes that their
            precision takes, loops with all their rounds.
        traffic: bytes from and to memory, XLA's count.
        arguments: bytes of its arguments.
        results: bytes of its results that do not take the place of arguments.
        temporaries: bytes beside these.
        cycles: what the compiler itself expects of its kernels; 0 where it says nothing. A loop's
            body is not in it.
        padding: bytes of the values between kernels as they lie in memory, over their own bytes.
        operations: how often each of `MOVES`, loops and convolutions stands in the program.
        collectives: bytes by kind of collective.
        calls: names of what the program calls outside itself.
        types: of its numbers.
    """

    flops: float
    passes: float
    traffic: float
    arguments: int
    results: int
    temporaries: int
    cycles: int
    padding: float
    operations: dict[str, int]
    collectives: dict[str, int]
    calls: list[str]
    types: list[str]

    @property
    def memory(self) -> int:
        """Bytes that a device must have."""
        return self.arguments + self.results + self.temporaries

    @property
    def callbacks(self) -> list[str]:
        """Calls of the host: a program with one waits for Python."""
        return [name for name in self.calls if "callback" in name or "python" in name]


def facts(lowered: Any, jaxpr: Any, devices: int = 1) -> Facts:
    """Compiles a function and reads what came out.

    Args:
        lowered: the function, as `jax.jit(f).lower(...)` gives it.
        jaxpr: the same, as `jax.make_jaxpr` gives it.
        devices: how many share what was traced; 1 where it is what one of them does.
    """
    program = lowered.compile()
    text = program.as_text()
    costs = program.cost_analysis()
    memory = program.memory_analysis()
    types = {shape[0] for shape in _SHAPE.findall(text)}
    return Facts(
        flops=max(costs.get("flops", 0.0), 0.0),
        passes=passes(jaxpr.jaxpr) / devices,
        traffic=costs.get("bytes accessed", 0.0),
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        cycles=sum(map(int, _CYCLES.findall("\n".join(_entry(text))))),
        padding=padding(text),
        operations=_operations(text),
        collectives=_collectives(text),
        calls=sorted(set(_TARGET.findall(text))),
        types=sorted(types),
    )


# The traced program --------------------------------------------------


def passes(jaxpr: Any) -> float:
    """Operations of the matrix products and convolutions of a jaxpr, by the passes they take.

    A loop that ends when a condition says so counts once.
    """
    total = 0.0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            total += _cost(eqn, _summed_dot(eqn))
        elif name == "conv_general_dilated":
            total += _cost(eqn, _summed_conv(eqn))
        rounds = 1
        if name == "scan":
            rounds = eqn.params["length"]
        for sub in jaxprs_in_params(eqn.params):
            total += rounds * passes(sub)
    return total


def _cost(eqn: Any, summed: int) -> float:
    """2 x results x how many products are summed for each x passes."""
    precision = eqn.params["precision"]
    if isinstance(precision, tuple):
        precision = max(precision, key=lambda one: _PASSES.get(one, 1))
    times = 1
    if eqn.outvars[0].aval.dtype.itemsize >= 4:
        times = _PASSES.get(precision, 1)
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * summed * times


def _summed_dot(eqn: Any) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    return math.prod(shape[axis] for axis in contracted)


def _summed_conv(eqn: Any) -> int:
    """Inputs a result is summed of; a zero put between two inputs (lhs_dilation) is none."""
    spec = eqn.params["dimension_numbers"].rhs_spec
    shape = eqn.invars[1].aval.shape
    inputs = math.prod(shape[axis] for axis in spec[1:])
    return max(inputs // math.prod(eqn.params["lhs_dilation"]), 1)


# The compiled program's text -----------------------------------------


def padding(text: str) -> float:
    """Bytes in memory of the entry's values, over their own: tiles of the last two axes are whole.

    A TPU lays its arrays out in tiles of 8 x 128 numbers, so that three channels on the last axis
    would take the room of 128.
    """
    own = 0
    padded = 0
    for kind, _ in _lines(_entry(text)):
        for _, sizes, order, rows, columns in _SHAPE.findall(kind):
            if not order:
                continue
            shape = list(map(int, sizes.split(",")))
            own += math.prod(shape)
            minor, second, *_ = map(int, order.split(","))
            shape[minor] = -(-shape[minor] // int(columns)) * int(columns)
            shape[second] = -(-shape[second] // int(rows)) * int(rows)
            padded += math.prod(shape)
    return padded / max(own, 1)


def _operations(text: str) -> dict[str, int]:
    wanted = (*MOVES, "while", "convolution")
    counted = Counter(name for _, name in _lines(text.splitlines()))
    return {name: counted[name] for name in wanted if counted[name]}


def _collectives(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind, name in _lines(text.splitlines()):
        base = name.removesuffix("-start")
        if base in COLLECTIVES:
            found[base] = found.get(base, 0) + _bytes(kind)
    return found


def _bytes(kind: str) -> int:
    total = 0
    for dtype, sizes, *_ in _SHAPE.findall(kind):
        bits = 8
        if dtype != "pred":
            bits = int(re.sub(r"\D", "", dtype))
        total += math.prod(map(int, filter(None, sizes.split(",")))) * bits // 8
    return total


def _lines(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(type, operation) of each line that has one."""
    for line in lines:
        if found := _LINE.match(line):
            yield found[1], found[2]


def _entry(text: str) -> list[str]:
    """The lines of the program's entry, without what it calls."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("ENTRY"):
            return lines[number + 1 :]
    return lines
