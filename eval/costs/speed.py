r"""What explanations cost, as multiples of a forward pass measured in the same process.

    python -m eval speed --model resnet50 --image-size 224 --batch 1 \
        --methods relevance_cam/layer4 z_plus

FLOPs are XLA's own count of the compiled program; times are medians over rounds in which every
method runs once, so that a busy machine slows all of them alike.

    python -m eval speed --compile-for v5e:2x2

compiles for TPUs that are not there, and says what their compiler found: see `eval.costs.tpu`.

    python -m eval speed --peers torch pytorch-grad-cam torchcam captum zennit --image-size 96

times jaxcam beside PyTorch's libraries (the extra `benchmark`), each in a process of its own and in
turn, on the same weights and images, once their maps agree: see `eval.costs.peers`.

    python -m eval speed --first-picture

says what `jaxcam explain PHOTO` takes, by phase, the first time and the second.

    python -m eval speed --scaling

fits how costs grow with batch, image size, channels, masks, classes, layers and devices.

    python -m eval speed --narrow

says what bfloat16 does to the maps of perturbation methods, of the bundled network or `--model`.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxcam
from eval.costs import first, laws, narrow, tpu, written
from eval.costs.peers import report, turns
from jaxcam import fostering, linen, loops, lrp, models
from jaxcam._explainers import attention, gradient, relevance
from jaxcam._ground.errors import ArgumentError
from jaxcam.methods import METHODS as LIBRARY


class Method(NamedTuple):
    """`run(network, variables, images)`, and the row it is compared to."""

    run: Callable
    base: str = "forward"


class Cost(NamedTuple):
    """What one call takes: operations, seconds, and seconds to compile."""

    flops: float
    seconds: float
    compile_seconds: float


def _explained(explain: Callable) -> Callable:
    """A row that calls `explain(forward, images)` on the network in inference mode."""
    return lambda network, variables, images: explain(
        linen(network, variables, train=False), images
    )


def _at(explainer: Callable, layer: Any, **options: Any) -> Callable:
    return _explained(lambda forward, images: explainer(forward, images, layer=layer, **options))


def _stepped(loss: Callable) -> Callable:
    """A row that differentiates `loss(forward, images, labels)` by the parameters, in training.

    As in a training step, the updated batch statistics and the loss are results too.
    """

    def run(network: Any, variables: Any, images: jax.Array) -> Any:
        def total(params: Any) -> tuple[jax.Array, Any]:
            apply = lambda x: network.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return loss(apply, images, jnp.zeros(len(images), int))

        return jax.value_and_grad(total, has_aux=True)(variables["params"])

    return run


def _cross_entropy(
    forward: Callable, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, Any]:
    logits, updated = forward(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated


def _quick(loss: Callable) -> Callable:
    """A loss of the quick forward pass, as `train` takes it."""
    return lambda forward, images, labels: loss(loops.quick(forward), images, labels)


def _slope(forward: Callable, images: jax.Array) -> jax.Array:
    return jax.grad(lambda x: forward(x).max(-1).sum())(images)


def _fostering(layer: str, term: str = "entropy") -> Callable:
    def loss(forward: Callable, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        total, seen = fostering.fostering_loss(
            forward, images, labels, layer=layer, term=term, has_aux=True
        )
        return total, seen.aux

    return _stepped(loss)


# Of a network of tokens; on superpixels that are found outside a program.
_OTHERWISE = ("attention_rollout", "legrad", "lime")
ATTENTION = ("cbam_attention", "layerwise_grad_cam", "attention_grad_cam")  # of a CBAM network
_STAGES = ("layer4", "layer3", "layer2", "layer1")

METHODS: dict[str, Method] = {
    "forward": Method(_explained(lambda forward, images: loops.quick(forward)(images))),
    "forward_plain": Method(_explained(lambda forward, images: forward(images))),
    "gradient": Method(_explained(_slope)),
    "gradient_quick": Method(
        _explained(lambda forward, images: _slope(loops.quick(forward), images))
    ),
}
for _stage in _STAGES:
    METHODS[f"grad_cam/{_stage}"] = Method(_at(gradient.grad_cam, _stage))
for _stage in _STAGES:
    METHODS[f"relevance_cam/{_stage}"] = Method(_at(relevance.relevance_cam, _stage))
METHODS["relevance_cam/all"] = Method(
    _at(relevance.relevance_cam, list(_STAGES)), base="relevance_cam/layer1"
)
for _name in lrp.COMPOSITES:
    METHODS[_name] = Method(_at(jaxcam.lrp_map, "pixels", composite=_name))
METHODS["clrp"] = Method(_at(jaxcam.clrp_map, "pixels"), base="z_plus")
for _name in ATTENTION:
    METHODS[_name] = Method(_explained(getattr(attention, _name)))
METHODS["training"] = Method(_stepped(_quick(_cross_entropy)), base="training")
METHODS["training_plain"] = Method(_stepped(_cross_entropy), base="training")
for _stage in _STAGES:
    METHODS[f"fostering/{_stage}"] = Method(_fostering(_stage), base="training")
for _term in ("area", "dispersion"):
    METHODS[f"fostering_{_term}/layer4"] = Method(_fostering("layer4", _term), base="training")


def _of_table() -> dict[str, Method]:
    """The other methods of the library's table, at the last stage and at the first."""
    found = {}
    for name, method in LIBRARY.items():
        if name in (*METHODS, *_OTHERWISE):
            continue
        if not method.layered:
            found[name] = Method(_explained(method.function))
            continue
        for stage in _places(name):
            place = f"{name}/{stage}"
            if place not in METHODS:
                found[place] = Method(_at(method.function, stage))
    return found


def _places(method: str) -> tuple[str, ...]:
    """CAM explains the last stage only, and channel by channel the first is no other program."""
    if method in ("cam", "score_cam", "ablation_cam", "ss_cam", "is_cam"):
        return _STAGES[:1]
    return _STAGES[0], _STAGES[-1]


OF_TABLE = _of_table()
METHODS.update(OF_TABLE)


def measure(
    names: list[str],
    model: str = "resnet50",
    image_size: int = 224,
    batch: int = 1,
    rounds: int = 7,
) -> dict[str, Cost]:
    """Costs of `names`, compiled one by one and timed in turn.

    Args:
        names: keys of `METHODS`.
        model: a name of `jaxcam.models`, with random weights.
        image_size: height and width, pixels.
        batch: images per call.
        rounds: timed calls of each.

    Returns:
        Costs by name.

    Raises:
        ValueError: an unknown method.
    """
    if unknown := [name for name in names if name not in METHODS]:
        raise ArgumentError("methods", ", ".join(unknown), f"any of {', '.join(METHODS)}")
    network = models.create(model)
    images = jax.random.normal(jax.random.key(0), (batch, image_size, image_size, 3))
    # Parameters are arguments: as constants XLA would fold what only depends on them.
    variables = jax.jit(network.init)(jax.random.key(1), images)
    compiled = {}
    seconds = {}
    for name in names:
        start = time.perf_counter()
        compiled[name] = _program(METHODS[name], network).lower(variables, images).compile()
        seconds[name] = time.perf_counter() - start
        jax.block_until_ready(compiled[name](variables, images))
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, function in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(function(variables, images))
            times.setdefault(name, []).append(time.perf_counter() - start)
    costs = {}
    for name, function in compiled.items():
        flops = function.cost_analysis()["flops"]
        costs[name] = Cost(flops, statistics.median(times[name]), seconds[name])
    return costs


def _program(method: Method, network: Any) -> Any:
    return jax.jit(lambda variables, images: method.run(network, variables, images))


def table(costs: dict[str, Cost]) -> str:
    """The costs as a Markdown table, as multiples of each method's base."""
    lines = [
        "| method | compared to | FLOPs | time | ms | compile s |",
        "|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        base = costs[METHODS[name].base]
        flops = cost.flops / base.flops
        seconds = cost.seconds / base.seconds
        milliseconds = f"{1e3 * cost.seconds:.1f} | {cost.compile_seconds:.1f}"
        lines.append(
            f"| {name} | {METHODS[name].base} | x{flops:.2f} | x{seconds:.2f} | {milliseconds} |"
        )
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure.

    Args:
        model: a name of `jaxcam.models`. None: resnet50; compiled for a TPU, a small network.
        image_size: height and width, pixels. None: 224; of the small network 48.
        batch: images per call. None: 1; compiled for a TPU, 8 a chip.
        rounds: timed calls of each method.
        methods: what to measure; what these are compared to is measured too. None: all but the
            other methods of the library's table, such as finer_cam/layer4, layer_cam/layer1, rise.
        compile_for: a TPU topology, such as v5e:2x2 or v5e:16x16: nothing is run, what its compiler
            says is reported, and so are metrics; `methods` then are rows of that report.
        dtype: of the network's computation and the images. None: bfloat16 if compiled for a TPU,
            float32 beside peers; otherwise it is float32.
        chips: "one", "all" of the topology's, or both.
        peers: frameworks to stand beside: torch, pytorch-grad-cam, torchcam, captum, zennit,
            jaxcam-without-ynnpack; "jaxcam" is itself alone. `methods` then are calls, such as
            grad_cam, or calls at a layer, such as grad_cam/layer4.
        threads: cores of each framework's process.
        channels_last: whether PyTorch's models and images have this layout.
        compile_torch: whether a forward pass by `torch.compile` is among those measured.
        tf32: whether products of float32 numbers are in TF32, of all frameworks, on GPUs that can.
        limit: seconds after which a row beside peers has no further round, once it has three.
        python: the interpreter of PyTorch's processes, if they are installed elsewhere.
        first_picture: whether to time the command `jaxcam explain`, by phase; with `model` or the
            bundled network.
        narrow: whether to compare maps made in bfloat16 with the model's own, of `model` or the
            bundled network; `methods` then are perturbation methods and games.
        scaling: whether to fit how costs grow; `methods` then are what they grow with.
        output: a JSON file for what is measured; the table is written beside it.
    """

    model: str | None = None
    image_size: int | None = None
    batch: int | None = None
    rounds: int = 7
    methods: tuple[str, ...] = ()
    compile_for: str | None = None
    dtype: str | None = None
    chips: tuple[str, ...] = tpu.WHICH
    peers: tuple[str, ...] = ()
    threads: int = 1
    channels_last: bool = False
    compile_torch: bool = False
    tf32: bool = False
    limit: float = 60.0
    python: str = sys.executable
    first_picture: bool = False
    narrow: bool = False
    scaling: bool = False
    output: Path | None = None


def main(settings: Settings) -> None:
    """Prints what explanations cost."""
    if settings.first_picture:
        words = () if settings.model is None else ("--model", settings.model)
        runs = first.measure(words, settings.rounds)
        _tell(first.table(runs), runs, settings.output)
        return
    if settings.narrow:
        changes = narrow.measure(settings.model or "tiny20", settings.methods)
        _tell(narrow.table(changes), changes, settings.output)
        return
    if settings.scaling:
        laws.report(settings.methods, settings.rounds, settings.output)
        return
    if settings.compile_for is not None:
        tpu.report(_request(settings.compile_for, settings), settings.output)
        return
    if settings.peers:
        report.report(_beside(settings), settings.output)
        return
    _time(settings)


def _given(settings: Settings) -> dict[str, Any]:
    """What was said of the settings whose default depends on what is measured."""
    found: dict[str, Any] = {}
    for name in ("model", "image_size", "batch", "dtype"):
        if (value := getattr(settings, name)) is not None:
            found[name] = value
    return found


def _request(topology: str, settings: Settings) -> tpu.Request:
    return tpu.Request(
        topology=topology,
        methods=settings.methods,
        chips=settings.chips,
        **_given(settings),
    )


def _beside(settings: Settings) -> turns.Request:
    same = {}
    for name in turns.SHARED:
        same[name] = getattr(settings, name)
    return turns.Request(frameworks=settings.peers, **same, **_given(settings))


def _time(settings: Settings) -> None:
    model = settings.model or "resnet50"
    size = settings.image_size or 224
    batch = settings.batch or 1
    asked = {*ATTENTION, *OF_TABLE}
    methods = settings.methods or [name for name in METHODS if name not in asked]
    names = {"forward": None}
    for name in methods:
        if name in METHODS:
            names[METHODS[name].base] = None
        names[name] = None
    costs = measure(list(names), model, size, batch, settings.rounds)
    device = jax.devices()[0].device_kind
    about = f"{model}, {size} x {size} pixels, batch {batch}, {device}"
    _tell(f"{about}\n\n{table(costs)}", costs, settings.output)


def _tell(shown: str, records: dict[str, Any], output: Path | None) -> None:
    """Prints a table, and writes it and what it shows."""
    print(shown)
    if output is not None:
        written.write(output, shown, rows=records)
