"""Every explainer, metric and training step, as something to compile: what a call of it does.

What goes chunk by chunk through a loop has a single chunk here, since XLA counts a loop's body
once: RISE has 8 masks, the games 8 steps, SS-CAM one version of each channel.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxcam
from eval.costs import throughput
from jaxcam import fostering, linen, lrp, metrics, models
from jaxcam._explainers.mask import MASK_VARIANTS
from jaxcam.methods import METHODS

ONCE = 8  # masks, samples, steps or channels in a chunk
ATTENTION = ("cbam_attention", "layerwise_grad_cam", "attention_grad_cam")  # of a CBAM network
SMALL = "small"
_SMALL = {"stage_sizes": (1, 1), "widths": (32, 64), "strides": (1, 2), "stem": "small"}
_CHUNK = {"chunk": ONCE}
_STEPS = (f", {ONCE} steps", {"step": 1 / ONCE, **_CHUNK})
_SAMPLES = (f", {ONCE} samples", {"num_samples": ONCE, **_CHUNK})
_PERCENT = (", 4 percentages", {"percent": (20, 40, 60, 80), **_CHUNK})  # ONCE photos of each
# Metrics that go through a loop: how the row goes on, and options that make it one chunk.
_LOOPED: dict[str, tuple[str, dict[str, Any]]] = {
    "deletion": _STEPS,
    "insertion": _STEPS,
    "road": _PERCENT,
    "region_perturbation": (f", {ONCE} steps", {"side": 4, "steps": ONCE, **_CHUNK}),
    "infidelity": _SAMPLES,
    "faithfulness_correlation": _SAMPLES,
    "arcc": (" of Grad-CAM, 4 percentages", _PERCENT[1]),
    "max_sensitivity": (" of Grad-CAM, a sample", {"num_samples": 1}),
}
_EXPLAINING = (metrics.arcc, metrics.max_sensitivity)

Batch = Mapping[str, jax.Array]
Call = Callable[[Callable, Batch], Any]  # (forward, batch) -> arrays


class Row(NamedTuple):
    """A call, and whether it is of a network with attention."""

    call: Call
    attention: bool = False


class Step(NamedTuple):
    """A training step: the layer whose maps are fostered, or None for a plain one."""

    layer: str | None


def network(name: str, *, attention: bool = False, dtype: str | None = None) -> Any:
    """A network of `jaxcam.models`, or the small one: two stages of one block, 10 classes.

    Args:
        name: of an architecture, or `SMALL`.
        attention: whether with CBAM.
        dtype: of its computation.
    """
    if name == SMALL:
        options: dict[str, Any] = {**_SMALL, "num_classes": 10}
        name = "resnet18"
    else:
        options = {}
    if attention:
        options["attention"] = "cbam"
    return models.create(name, dtype=dtype, **options)


_OF_TRANSFORMERS = ("attention_rollout", "legrad")  # and the networks here have no tokens


def explainers(stages: list[str], channels: int) -> dict[str, Row]:
    """Rows of the table of methods, at the last stage and at the first, and of LRP's composites.

    Args:
        stages: layers of the network, in order.
        channels: of the last.
    """
    found = {
        "forward": Row(lambda forward, batch: forward(batch["image"])),
        "gradient": Row(_gradient),
    }
    options = {
        "score_cam": {"chunk": channels},
        "ablation_cam": {"chunk": channels},
        "rise": {"num_masks": ONCE, "chunk": ONCE},
        "mask": {"variant": MASK_VARIANTS["jacobgil"]._replace(steps=1)},
        "ss_cam": {"samples": 1, "chunk": channels},
        "is_cam": {"samples": 1, "chunk": channels},
        "smooth_grad_cam_plus_plus": {"samples": 1},
        "integrated_gradients": {"steps": ONCE, "chunk": ONCE},
    }
    for name, method in METHODS.items():
        if name in _OF_TRANSFORMERS:
            continue
        explain = partial(method.function, **options.get(name, {}))
        if name == "lime":
            found[name] = Row(throughput.segmented(ONCE, ONCE))
        elif not method.layered:
            found[name] = Row(_whole(explain), name in ATTENTION)
        else:
            for stage in _places(name, stages):
                found[f"{name}/{stage}"] = Row(_at(explain, stage))
    for name in lrp.COMPOSITES:
        found[f"lrp, {name}"] = Row(_whole(partial(jaxcam.lrp_map, composite=name)))
    for precision in ("high", "default"):
        rules = lrp.epsilon_plus_flat(precision=precision)
        row = Row(_whole(partial(jaxcam.lrp_map, composite=rules)))
        found[f"lrp, epsilon_plus_flat, {precision}"] = row
    return found


def _places(method: str, stages: list[str]) -> list[str]:
    """CAM explains the last stage only, and channel by channel the first is no other program."""
    if method in ("cam", "score_cam", "ablation_cam", "ss_cam", "is_cam"):
        return stages[-1:]
    return [stages[-1], stages[0]]


def measures() -> dict[str, Row]:
    """Rows of all metrics; what goes through a loop has a single chunk of it."""
    found = {}
    for name, metric in throughput.METRICS.items():
        if of_metric(name) not in _LOOPED:
            found[name] = Row(metric.measure)
    for name, (about, options) in _LOOPED.items():
        found[f"{name}{about}"] = Row(_measured(getattr(metrics, name), options))
    return found


def of_metric(row: str) -> str:
    """The function of `jaxcam.metrics` that a row measures: "road, 3 percentages" is road's."""
    return row.partition(",")[0].partition(" of ")[0]


def _measured(metric: Callable, options: Mapping[str, Any]) -> Call:
    """A metric of a network; of Grad-CAM, if it explains by itself."""

    def call(forward: Callable, batch: Batch) -> Any:
        shown = batch["saliency"]
        if metric in _EXPLAINING:
            shown = jaxcam.grad_cam
        return metric(forward, batch["image"], shown, batch["target"], **options)

    return call


def training(stages: list[str]) -> dict[str, Step]:
    """The training steps: a plain one, and with the maps of the last or first stage fostered."""
    return {
        "training": Step(None),
        f"fostering/{stages[-1]}": Step(stages[-1]),
        f"fostering/{stages[0]}": Step(stages[0]),
    }


def called(row: Row, model: Any) -> Callable:
    """`(variables, batch) -> arrays` of a network."""
    return lambda variables, batch: row.call(linen(model, variables), batch)


def stepped(step: Step, model: Any, axis_name: str | None) -> Callable:
    """`(state, batch) -> state`: a step of stochastic gradient descent with momentum.

    Args:
        step: what is minimised.
        model: whose batch norms average over `axis_name`.
        axis_name: of the devices, if each has its share.
    """
    optimizer = optax.sgd(0.1, momentum=0.9)

    def run(state: Any, batch: Batch) -> Any:
        variables, momentum = state

        def minimised(params: Any) -> Any:
            apply = lambda x: model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return _loss(step, apply, batch, axis_name)

        params = variables["params"]
        gradients, updated = jax.grad(minimised, has_aux=True)(params)
        if axis_name is not None:
            gradients = jax.lax.pmean(gradients, axis_name)
        updates, momentum = optimizer.update(gradients, momentum, params)
        params = optax.apply_updates(params, updates)
        return {**variables, **updated, "params": params}, momentum

    return run


def state(variables: Any) -> Any:
    """What a step goes on from."""
    return variables, optax.sgd(0.1, momentum=0.9).init(variables["params"])


def _loss(step: Step, apply: Callable, batch: Batch, axis_name: str | None) -> tuple:
    if step.layer is None:
        logits, updated = apply(batch["image"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["target"])
        return losses.mean(), updated
    total, seen = fostering.fostering_loss(
        apply,
        batch["image"],
        batch["target"],
        layer=step.layer,
        has_aux=True,
        axis_name=axis_name,
    )
    return total, seen.aux


def _gradient(forward: Callable, batch: Batch) -> jax.Array:
    return jax.grad(lambda x: forward(x).max(-1).sum())(batch["image"])


def _at(explain: Callable, layer: str) -> Call:
    return lambda forward, batch: explain(forward, batch["image"], batch["target"], layer=layer)


def _whole(explain: Callable) -> Call:
    return lambda forward, batch: explain(forward, batch["image"], batch["target"])


def arrays(batch: int, size: int, dtype: Any = jnp.float32) -> dict[str, jax.ShapeDtypeStruct]:
    """What a call is given, abstractly: photos, two maps, a box and a class each."""
    float32 = jnp.float32
    return {
        "image": jax.ShapeDtypeStruct((batch, size, size, 3), dtype),
        "saliency": jax.ShapeDtypeStruct((batch, size, size), float32),
        "other": jax.ShapeDtypeStruct((batch, size, size), float32),
        "boxes": jax.ShapeDtypeStruct((batch, 1, 4), float32),
        "target": jax.ShapeDtypeStruct((batch,), jnp.int32),
    }
