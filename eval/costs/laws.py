"""Scaling laws: how cost grows with batch, image size, channels, masks, classes, layers, devices.

Each law is a call at several sizes. Its operations are XLA's count of the compiled program, its
seconds the processor's, the least of rounds in which all sizes take turns; an exponent is the slope
of a line through the logarithms. Of loops XLA counts a round, so masks are asked about at once.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxcam
from eval.costs import written
from jaxcam import linen, models
from jaxcam._ground.errors import ArgumentError

_WIDTH = 16
_SIZE = 32
_BATCH = 4
_DEVICES = (1, 2, 4)
_FORCED = "--xla_force_host_platform_device_count"


class Call(NamedTuple):
    """A function of arrays, and the arrays."""

    function: Callable
    arguments: tuple


class Law(NamedTuple):
    """What a cost is held against.

    Args:
        axis: what grows.
        call: what is called.
        sizes: of the axis.
        make: of a size.
        expected: the exponent.
        less: a call whose cost is none of the law's, of the least size.
        timed: whether seconds mean something: not on devices that share cores.
    """

    axis: str
    call: str
    sizes: tuple[int, ...]
    make: Callable[[int], Call]
    expected: float
    less: Callable[[int], Call] | None = None
    timed: bool = True


@dataclasses.dataclass(frozen=True)
class Found:
    """What was measured of a law.

    Args:
        flops: by size; of one device.
        seconds: by size; None where they mean nothing.
        flops_exponent: fitted.
        seconds_exponent: fitted, or None.
    """

    axis: str
    call: str
    expected: float
    sizes: tuple[int, ...]
    flops: tuple[float, ...]
    seconds: tuple[float, ...] | None
    flops_exponent: float
    seconds_exponent: float | None


# The calls ------------------------------------------------------------


def _network(width: int = _WIDTH) -> Any:
    shape: dict[str, Any] = {"stage_sizes": (1, 1), "strides": (1, 2), "stem": "small"}
    return models.create("resnet18", widths=(width, 2 * width), num_classes=16, **shape)


def _asked(explain: Callable, batch: int = _BATCH, size: int = _SIZE, width: int = _WIDTH) -> Call:
    """`explain(forward, images)` of the small network; its parameters are arguments."""
    network = _network(width)
    images = jax.random.normal(jax.random.key(0), (batch, size, size, 3))
    run = lambda variables, images: explain(linen(network, variables, train=False), images)
    return Call(run, (_variables(width), images))


@functools.cache
def _variables(width: int) -> Any:
    images = jax.ShapeDtypeStruct((1, _SIZE, _SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(_network(width).init, jax.random.key(1), images)
    return jax.tree.map(lambda each: jnp.full(each.shape, 0.1, each.dtype), shapes)


def _cam(layer: Any = "layer1", targets: Any = 0) -> Callable:
    return lambda forward, images: jaxcam.grad_cam(forward, images, targets, layer=layer)


def _lrp(forward: Callable, images: jax.Array) -> jax.Array:
    return jaxcam.lrp_map(forward, images, 0)


def _rise(masks: int, targets: Any = 0) -> Callable:
    options: dict[str, Any] = {"num_masks": masks, "chunk": masks, "grid": 4}
    return lambda forward, images: jaxcam.rise(forward, images, targets, **options)


def _classes(count: int) -> np.ndarray:
    """The first classes, of every image."""
    return np.tile(np.arange(count), (_BATCH, 1))


def _layers(count: int) -> list[str]:
    """That many layers, from the first block's inside on: the deeper ones come on top."""
    every = ["layer1", "layer2.0.bn1", "layer2.0", "layer2"]
    return every[:count]


def _shared(devices: int) -> Call:
    """Grad-CAM of a batch in equal shares."""
    call = _asked(_cam(), batch=8)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
    variables, images = call.arguments
    split = jax.device_put(images, NamedSharding(mesh, PartitionSpec("batch")))
    whole = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    return Call(call.function, (whole, split))


_forward = lambda forward, images: forward(images)
LAWS: tuple[Law, ...] = (
    Law("batch", "grad_cam", (1, 4, 16), lambda n: _asked(_cam(), batch=n), 1),
    Law("batch", "lrp", (1, 4, 16), lambda n: _asked(_lrp, batch=n), 1),
    Law("image side", "grad_cam", (32, 64, 128), lambda n: _asked(_cam(), size=n), 2),
    Law("image side", "lrp", (32, 64, 128), lambda n: _asked(_lrp, size=n), 2),
    Law("channels", "grad_cam", (16, 32, 64), lambda n: _asked(_cam(), width=n), 2),
    Law("channels", "lrp", (16, 32, 64), lambda n: _asked(_lrp, width=n), 2),
    Law("masks", "rise", (8, 16, 32), lambda n: _asked(_rise(n)), 1),
    Law("classes", "rise", (1, 2, 4), lambda n: _asked(_rise(8, _classes(n))), 0),
    Law(
        "classes",
        "grad_cam, without its forward pass",
        (1, 2, 4),
        lambda n: _asked(_cam(targets=_classes(n))),
        1,
        less=lambda n: _asked(_forward),
    ),
    Law("layers", "grad_cam", (1, 2, 3, 4), lambda n: _asked(_cam(_layers(n))), 0),
    Law("devices", "grad_cam, on each", _DEVICES, _shared, -1, timed=False),
)


# Measuring ------------------------------------------------------------


def prepare() -> None:
    """Makes devices of this machine's cores, if no one has asked for any: before JAX has looked."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _FORCED not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_FORCED}={max(_DEVICES)}".strip()


def measure(axes: Sequence[str] = (), rounds: int = 5) -> Iterator[Found]:
    """What is found of the laws, one after the other.

    Args:
        axes: that grow; none means all.
        rounds: timed calls of each size.

    Raises:
        ValueError: an axis without a law.
    """
    known = dict.fromkeys(law.axis for law in LAWS)
    for axis in axes:
        if axis not in known:
            raise ArgumentError("methods", repr(axis), f"any of {', '.join(known)}")
    for law in LAWS:
        if law.axis in (axes or known):
            yield measured(law, rounds)


def measured(law: Law, rounds: int) -> Found:
    """One law's costs and exponents."""
    calls = [law.make(size) for size in law.sizes]
    if law.less is not None:
        calls.append(law.less(law.sizes[0]))
    programs: list[Any] = [
        jax.jit(call.function).lower(*call.arguments).compile() for call in calls
    ]
    flops = [program.cost_analysis()["flops"] for program in programs]
    seconds = None
    if law.timed:
        seconds = _least(programs, calls, rounds)
    if law.less is not None:
        flops = [each - flops[-1] for each in flops[:-1]]
    if law.less is not None and seconds is not None:
        seconds = [each - seconds[-1] for each in seconds[:-1]]
    timed = None
    slope = None
    if seconds is not None:
        timed = tuple(seconds)
        slope = exponent(law.sizes, timed)
    return Found(
        axis=law.axis,
        call=law.call,
        expected=law.expected,
        sizes=law.sizes,
        flops=tuple(flops),
        seconds=timed,
        flops_exponent=exponent(law.sizes, flops),
        seconds_exponent=slope,
    )


def _least(programs: Sequence[Any], calls: Sequence[Call], rounds: int) -> list[float]:
    """The processor's seconds of each; other work only ever adds to them."""
    least = [float("inf")] * len(programs)
    for number in range(rounds + 1):  # the first one warms up
        for index, (program, call) in enumerate(zip(programs, calls, strict=True)):
            start = time.process_time()
            jax.block_until_ready(program(*call.arguments))
            if number:
                least[index] = min(least[index], time.process_time() - start)
    return least


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log cost against log size, by least squares; NaN if a cost is not positive."""
    values = np.asarray(costs, np.float64)
    if (values <= 0).any():
        return float("nan")
    return float(np.polyfit(np.log(np.asarray(sizes, np.float64)), np.log(values), 1)[0])


# The report -----------------------------------------------------------


def table(found: Sequence[Found]) -> str:
    """The laws as a Markdown table."""
    lines = [
        "| against | of | sizes | expected | FLOPs | processor time | MFLOP | ms |",
        "|---" * 8 + "|",
    ]
    for law in found:
        timed = ""
        took = ""
        if law.seconds is not None:
            timed = f"{law.seconds_exponent:.2f}"
            took = _listed(np.array(law.seconds) * 1e3)
        cells = [law.axis, law.call, ", ".join(map(str, law.sizes)), f"{law.expected:g}"]
        cells += [f"{law.flops_exponent:.2f}", timed, _listed(np.array(law.flops) / 1e6), took]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def report(axes: Sequence[str], rounds: int, output: Path | None) -> None:
    """Measures, writes `NAME.json` and `NAME.md` anew with each law, and prints the table."""
    prepare()
    found = []
    for law in measure(axes, rounds):
        found.append(law)
        if output is not None:
            records = [dataclasses.asdict(law) for law in found]
            written.write(output, table(found), laws=records)
    print(table(found))
