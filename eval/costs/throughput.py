"""What metrics and perturbation methods cost, in multiples of the passes they need; their memory.

    python -m eval throughput --model tiny20 --batch 16

A metric of n forward passes is compared with a program of n passes, a metric of none with one pass;
a method of n gradients with respect to the images with n of these. Both are timed in turn, round
after round, in one process, and the median over rounds of their ratios is shown. On CPUs the time
is that of the processor, which other work on the machine hardly changes; else it is the clock's.
Photos and maps are random: no metric's cost depends on them.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from eval.subjects import networks
from jaxcam import loops, maps, metrics
from jaxcam._explainers.mask import MASK_VARIANTS
from jaxcam._ground.errors import ArgumentError
from jaxcam.classifier import Classifier

_FEW = 4
Batch = Mapping[str, jax.Array]


class Metric(NamedTuple):
    """`measure(forward, batch) -> arrays`, and the passes that it cannot do without."""

    measure: Callable[[Callable, Batch], Any]
    passes: int
    gradients: bool = False  # each pass is a gradient with respect to the images


class Cost(NamedTuple):
    """Passes needed, time as their multiple, seconds a batch, peak bytes of temporaries by XLA."""

    passes: int
    multiple: float
    seconds: float
    memory: int


def _model(metric: Callable, passes: int, **options: Any) -> Metric:
    call = lambda f, b: metric(f, b["image"], b["saliency"], b["target"], **options)
    return Metric(call, passes)


def _boxes(metric: Callable, **options: Any) -> Metric:
    return Metric(lambda _, b: metric(b["saliency"], b["boxes"], **options), 0)


def _map(metric: Callable) -> Metric:
    return Metric(lambda _, b: metric(b["saliency"]), 0)


def _pair(metric: Callable, **options: Any) -> Metric:
    return Metric(lambda _, b: metric(b["saliency"], b["other"], **options), 0)


def _perturbed(explainer: Callable, passes: int, **options: Any) -> Metric:
    return Metric(lambda f, b: explainer(f, b["image"], b["target"], **options), passes)


def segmented(samples: int, chunk: int) -> Callable[[Callable, Batch], Any]:
    """LIME on a grid of 7 x 7 segments: what the host takes to find superpixels is not counted.

    Args:
        samples: rows of z.
        chunk: how many at once.
    """

    def run(forward: Callable, batch: Batch) -> Any:
        count, height, width, _ = batch["image"].shape
        rows = jnp.arange(height) * 7 // height
        columns = jnp.arange(width) * 7 // width
        segments = jnp.broadcast_to(7 * rows[:, None] + columns[None], (count, height, width))
        options = {"segments": segments, "num_segments": 49}
        options |= {"num_samples": samples, "chunk": chunk}
        return jaxcam.lime(forward, batch["image"], batch["target"], **options)

    return run


def _masked(forward: Callable, batch: Batch, *, baseline: str) -> Any:
    variant = MASK_VARIANTS["jacobgil"]._replace(steps=20)
    return jaxcam.mask(forward, batch["image"], batch["target"], variant=variant, baseline=baseline)


def _objects(metric: Callable) -> Metric:
    return Metric(lambda _, b: metric(b["saliency"], b["other"] > 0), 0)


def _explained(metric: Callable, passes: int, **options: Any) -> Metric:
    """Of Grad-CAM: each explanation needs one of the passes, and the backward pass of the head."""
    call = lambda f, b: metric(f, b["image"], jaxcam.grad_cam, b["target"], **options)
    return Metric(call, passes)


def _sim(forward: Callable, batch: Batch) -> jax.Array:
    """As if two networks were asked, of which here is one: of two batches."""
    classes = forward(batch["image"])
    return metrics.sim(classes, forward(-batch["image"]), n=min(5, classes.shape[-1]))


_PERCENT = (20, 50, 80)
METRICS: dict[str, Metric] = {
    "average_drop": _model(metrics.average_drop, 2),
    "average_drop, half": _model(metrics.average_drop, 2, top=0.5),
    "average_increase": _model(metrics.average_increase, 2),
    "average_gain": _model(metrics.average_gain, 2),
    "drop_in_deletion": _model(metrics.drop_in_deletion, 2),
    "deletion, 28 steps": _model(metrics.deletion, 29),
    "insertion, 28 steps": _model(metrics.insertion, 29),
    "deletion, 100 steps": _model(metrics.deletion, 101, step=0.01),
    "insertion, 100 steps": _model(metrics.insertion, 101, step=0.01, baseline=0.0),
    "road, 3 percentages": _model(metrics.road, 7, percent=_PERCENT),
    "region_perturbation, 28 steps": _model(metrics.region_perturbation, 29, side=4, steps=28),
    "infidelity, 28 samples": _model(metrics.infidelity, 29, num_samples=28),
    "faithfulness_correlation, 28 sets": _model(
        metrics.faithfulness_correlation, 29, num_samples=28
    ),
    "adcc of Grad-CAM": _explained(metrics.adcc, 2),
    "arcc of Grad-CAM, 3 percentages": _explained(metrics.arcc, 8, percent=_PERCENT),
    "max_sensitivity of Grad-CAM, 10 samples": _explained(metrics.max_sensitivity, 11),
    "sim": Metric(_sim, 2),
    "mask_iou": _boxes(metrics.mask_iou),
    "loc": _boxes(metrics.loc),
    "pointing_game": _boxes(metrics.pointing_game),
    "energy_in_box": _boxes(metrics.energy_in_box),
    "box_from_map": _map(metrics.box_from_map),
    "box_iou": Metric(lambda _, b: metrics.box_iou(b["boxes"][:, 0], b["boxes"]), 0),
    "pointing_at": _objects(metrics.pointing_at),
    "mass_accuracy": _objects(metrics.mass_accuracy),
    "rank_accuracy": _objects(metrics.rank_accuracy),
    "class_sensitivity": Metric(
        lambda _, b: metrics.class_sensitivity(b["saliency"], b["other"], b["boxes"], b["boxes"]),
        0,
    ),
    "entropy": _map(metrics.entropy),
    "area": _map(metrics.area),
    "dispersion": _map(metrics.dispersion),
    "complexity": _map(metrics.complexity),
    "relative_difference": _map(metrics.relative_difference),
    "selectivity": Metric(lambda _, b: metrics.selectivity(b["saliency"][:, 0]), 0),
    "coherency": _pair(metrics.coherency),
    "spearman": _pair(metrics.spearman),
    "ssim": _pair(metrics.ssim),
    "hog_similarity": _pair(metrics.hog_similarity),
}
# Of the library's table of metrics what is no function of a batch, and why.
WITHOUT = {
    "cascade": "randomises the network a group of parameters at a time, and the caller explains "
    "each: its cost is theirs",
}
EXPLAINERS: dict[str, Metric] = {
    "rise, 64 masks": _perturbed(jaxcam.rise, 64, num_masks=64, chunk=_FEW),
    "lime, 64 samples": Metric(segmented(64, _FEW), 64),
    "mask, 20 steps": Metric(partial(_masked, baseline="constant"), 20, gradients=True),
    # The usual baseline is made once; of so few steps it is a large part.
    "mask, 20 steps and the median baseline": Metric(
        partial(_masked, baseline="median"), 20, gradients=True
    ),
}
ROWS = METRICS | EXPLAINERS


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure.

    Args:
        model: as for the protocols.
        metrics: names of this module's table.
        batch: photos at once.
        rounds: how often each is timed.
        root: folder of the named nets; none means that of the variable JAXCAM_DATA.
    """

    model: str = "tiny20"
    metrics: tuple[str, ...] = tuple(ROWS)
    batch: int = 16
    rounds: int = 9
    root: Path | None = None


def measure(settings: Settings) -> dict[str, Cost]:
    """Costs by metric.

    Raises:
        FileNotFoundError: no such model.
        ValueError: an unknown metric.
    """
    if unknown := [name for name in settings.metrics if name not in ROWS]:
        raise ArgumentError("metrics", ", ".join(unknown), f"any of {', '.join(ROWS)}")
    network = networks.load(settings.model, settings.root)
    batch = _batch(network.shape, settings.batch)
    programs: dict[Any, Any] = {}
    for name in settings.metrics:
        base = _base(ROWS[name])
        if base not in programs:
            programs[base] = _passes(network, *base)
        programs[name] = _measured(network, ROWS[name])
    compiled = {}
    for name, program in programs.items():
        compiled[name] = program.lower(network.params, batch).compile()
    times: dict[Any, list[float]] = {name: [] for name in compiled}
    clock = time.perf_counter
    if jax.default_backend() == "cpu":
        clock = time.process_time
    for _ in range(settings.rounds + 1):  # the first is to warm up
        for name, program in compiled.items():
            start = clock()
            jax.block_until_ready(program(network.params, batch))
            times[name].append(clock() - start)
    costs = {}
    for name in settings.metrics:
        metric = ROWS[name]
        passes = times[_base(metric)][1:]
        costs[name] = _cost(metric, times[name][1:], passes, _peak(compiled[name]))
    return costs


def _measured(network: Classifier, metric: Metric) -> Any:
    return jax.jit(lambda params, batch: metric.measure(network.forward(params), batch))


def _peak(compiled: Any) -> int:
    """Bytes of temporaries beside arguments and results; 0 where the backend does not say."""
    return getattr(compiled.memory_analysis(), "temp_size_in_bytes", 0)


def _base(metric: Metric) -> tuple[int, bool]:
    """What a metric is compared with: how many passes, and whether they are gradients."""
    return max(metric.passes, 1), metric.gradients


def _passes(network: Classifier, count: int, gradients: bool) -> Any:
    """`count` passes over a batch: in a loop if they are many, as metrics do it."""

    def run(params: Any, batch: Batch) -> Any:
        forward = loops.quick(network.forward(params))
        one = forward
        if gradients:
            one = jax.grad(lambda images: jax.nn.softmax(forward(images))[:, 0].sum())

        def once(shift: jax.Array) -> jax.Array:
            """Each pass gets other images, or the compiler would do one and no more."""
            return one(batch["image"] + shift)

        shifts = 1e-3 * jnp.arange(count)
        if count > _FEW:
            return loops.map(once, shifts)
        return list(map(once, shifts))

    return jax.jit(run)


def _cost(metric: Metric, seconds: list[float], passes: list[float], memory: int) -> Cost:
    ratios = np.array(seconds) / np.array(passes)
    return Cost(metric.passes, statistics.median(ratios), statistics.median(seconds), memory)


def _batch(shape: tuple[int, int, int], count: int) -> Batch:
    keys = jax.random.split(jax.random.key(0), 4)
    height, width, _ = shape
    size = (height, width)
    corner = jnp.array([width // 4, height // 4, width // 2, height // 2], jnp.float32)
    return {
        "image": jax.random.normal(keys[0], (count, *shape)),
        "saliency": _drawn(keys[1], size, count),
        "other": _drawn(keys[2], size, count),
        "boxes": jnp.broadcast_to(corner, (count, 1, 4)),
        "target": jnp.zeros(count, jnp.int32),
    }


def _drawn(key: jax.Array, size: tuple[int, int], count: int) -> jax.Array:
    return maps.resize(jax.random.normal(key, (count, 8, 8)), size)


def table(costs: Mapping[str, Cost], batch: int) -> str:
    """The costs as a Markdown table."""
    lines = [
        "| | passes needed | time, as their multiple | ms a photo | MiB |",
        "|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        needed = f"{cost.passes}"
        if not cost.passes:
            needed = "none; compared with 1"
        elif ROWS[name].gradients:
            needed = f"{cost.passes} gradients"
        measured = (
            f"{cost.multiple:.3f} | {1e3 * cost.seconds / batch:.2f} | {cost.memory / 2**20:.0f}"
        )
        lines.append(f"| {name} | {needed} | {measured} |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Prints what metrics cost."""
    costs = measure(settings)
    print(
        f"{settings.model}, batch {settings.batch}, {jax.devices()[0].device_kind}, "
        f"{settings.rounds} rounds\n"
    )
    print(table(costs, settings.batch))
