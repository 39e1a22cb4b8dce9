r"""What explanations cost, as multiples of a forward pass measured in the same process.

    python -m eval.speed --model resnet50 --image-size 224 --batch 1 \
        --methods relevance_cam/layer4 lrp

FLOPs are XLA's own count of the compiled program; times are medians over rounds in which every
method runs once, so that a busy machine slows all of them alike.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxcam
from eval.command import command
from jaxcam import fostering, linen, lrp, models
from jaxcam._explainers import attention, gradient, relevance


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


def _fostering(layer: str, term: str = "entropy") -> Callable:
    def loss(forward: Callable, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        total, seen = fostering.fostering_loss(
            forward, images, labels, layer=layer, term=term, has_aux=True
        )
        return total, seen.aux

    return _stepped(loss)


ATTENTION = ("cbam_attention", "layerwise_grad_cam", "attention_grad_cam")  # of a CBAM network
_STAGES = ("layer4", "layer3", "layer2", "layer1")

METHODS: dict[str, Method] = {
    "forward": Method(_explained(lambda forward, images: forward(images))),
    "gradient": Method(
        _explained(lambda forward, images: jax.grad(lambda x: forward(x).max(-1).sum())(images))
    ),
    **{f"grad_cam/{stage}": Method(_at(gradient.grad_cam, stage)) for stage in _STAGES},
    **{f"relevance_cam/{stage}": Method(_at(relevance.relevance_cam, stage)) for stage in _STAGES},
    "relevance_cam/all": Method(
        _at(relevance.relevance_cam, list(_STAGES)), base="relevance_cam/layer1"
    ),
    **{name: Method(_at(jaxcam.lrp_map, "pixels", composite=name)) for name in lrp.COMPOSITES},
    "clrp": Method(_at(jaxcam.clrp_map, "pixels"), base="z_plus"),
    **{name: Method(_explained(getattr(attention, name))) for name in ATTENTION},
    "training": Method(_stepped(_cross_entropy), base="training"),
    **{f"fostering/{stage}": Method(_fostering(stage), base="training") for stage in _STAGES},
    "fostering_area/layer4": Method(_fostering("layer4", "area"), base="training"),
    "fostering_dispersion/layer4": Method(_fostering("layer4", "dispersion"), base="training"),
}


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
        raise ValueError(f"methods: got {', '.join(unknown)}, expected any of {', '.join(METHODS)}")
    network = models.create(model)
    images = jax.random.normal(jax.random.key(0), (batch, image_size, image_size, 3))
    # Parameters are arguments: as constants XLA would fold what only depends on them.
    variables = jax.jit(network.init)(jax.random.key(1), images)
    compiled, seconds = {}, {}
    for name in names:
        run = jax.jit(lambda v, x, m=METHODS[name]: m.run(network, v, x))
        start = time.perf_counter()
        compiled[name] = run.lower(variables, images).compile()
        seconds[name] = time.perf_counter() - start
        jax.block_until_ready(compiled[name](variables, images))
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, function in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(function(variables, images))
            times[name].append(time.perf_counter() - start)
    flops = {name: function.cost_analysis()["flops"] for name, function in compiled.items()}
    return {
        name: Cost(flops[name], statistics.median(times[name]), seconds[name]) for name in names
    }


def table(costs: dict[str, Cost]) -> str:
    """The costs as a Markdown table, as multiples of each method's base."""
    lines = [
        "| method | compared to | FLOPs | time | ms | compile s |",
        "|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        base = costs[METHODS[name].base]
        flops, seconds = cost.flops / base.flops, cost.seconds / base.seconds
        milliseconds = f"{1e3 * cost.seconds:.1f} | {cost.compile_seconds:.1f}"
        lines.append(
            f"| {name} | {METHODS[name].base} | x{flops:.2f} | x{seconds:.2f} | {milliseconds} |"
        )
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure.

    Args:
        model: a name of `jaxcam.models`.
        image_size: height and width, pixels.
        batch: images per call.
        rounds: timed calls of each method.
        methods: what to measure; what these are compared to is measured too.
    """

    model: str = "resnet50"
    image_size: int = 224
    batch: int = 1
    rounds: int = 7
    methods: tuple[str, ...] = tuple(name for name in METHODS if name not in ATTENTION)


def main(settings: Settings) -> None:
    """Prints what explanations cost."""
    model, size, batch = settings.model, settings.image_size, settings.batch
    names = list(dict.fromkeys(["forward", *[n for m in settings.methods for n in (_base(m), m)]]))
    costs = measure(names, model, size, batch, settings.rounds)
    print(f"{model}, {size} x {size} pixels, batch {batch}, {jax.devices()[0].device_kind}\n")
    print(table(costs))


def _base(name: str) -> str:
    return METHODS[name].base if name in METHODS else name


if __name__ == "__main__":
    command(main, Settings, __doc__)
