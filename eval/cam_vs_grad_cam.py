"""How CAM and Grad-CAM differ on a pooled linear head: the comparison on Stanford Dogs, measured.

For such a network Grad-CAM = ReLU(CAM) / (h w) exactly, so that all difference lies in the cells
where CAM is negative and in how the maps are scaled afterwards. `identity_error` is by how much the
two sides are apart, relative to the highest |CAM|. Both are made of the same gradient here, so
`sum_error` checks CAM without one: its mean over the cells has to be the logit less that of a layer
that is 0 everywhere, the bias. `iou_std` and `iou_max` compare the masks above mean + std and above
20 % of the maximum, at the photo's size.

    python -m eval.cam_vs_grad_cam --model tiny20 --data tiny20 --output runs/cam_vs_grad_cam
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import jaxcam
from eval import common
from eval.applies import check_layers, why_not
from eval.command import command
from eval.common import Protocol, Settings
from eval.methods import METHODS
from eval.record import table
from jaxcam import maps

COLUMNS = (
    "correlation",
    "share_negative",
    "iou_std",
    "iou_max",
    "empty",
    "identity_error",
    "sum_error",
)


@dataclasses.dataclass(frozen=True)
class CamSettings(Settings):
    """What a run compares; `methods` is always CAM, and `layers` the last one unless one is named.

    Args:
        methods: cam.
    """

    methods: tuple[str, ...] = ("cam",)


def measure(
    forward: Callable, batch: Mapping[str, jax.Array], cam: jax.Array, *, layer: str
) -> dict[str, jax.Array]:
    """What distinguishes Grad-CAM from CAM `[B, h, w]`, and whether they are as theory says."""
    images, cells = batch["image"], cam.shape[1] * cam.shape[2]
    grad_cam = jaxcam.grad_cam(forward, images, batch["target"], layer=layer)
    apart = jnp.abs(cells * grad_cam - jax.nn.relu(cam)).max((1, 2))
    large = [maps.resize(each, images.shape[1:3]) for each in (cam, grad_cam)]
    return {
        "correlation": jax.vmap(_correlation)(cam, grad_cam),
        "share_negative": (cam < 0).mean((1, 2)),
        "iou_std": _iou(*map(maps.threshold, large)),
        "iou_max": _iou(*map(maps.threshold_of_max, large)),
        "empty": (cam <= 0).all((1, 2)).astype(cam.dtype),
        "identity_error": apart / jnp.abs(cam).max((1, 2)),
        "sum_error": _sum_error(forward, batch, cam, layer),
    }


def _sum_error(
    forward: Callable, batch: Mapping[str, jax.Array], cam: jax.Array, layer: str
) -> jax.Array:
    """|mean CAM - (Y(A) - Y(0))| / max |CAM|, from forward passes alone."""
    tapped = jaxcam.tap(forward, layer)
    logits, activations = tapped(batch["image"])
    bias, _ = tapped(batch["image"], -activations)
    score = jaxcam.targets.scores(logits - bias, batch["target"])
    return jnp.abs(cam.mean((1, 2)) - score) / jnp.abs(cam).max((1, 2))


def _correlation(first: jax.Array, second: jax.Array) -> jax.Array:
    """Pearson's, of two maps; NaN if either is constant."""
    return jnp.corrcoef(first.ravel(), second.ravel())[0, 1]


def _iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """Intersection over union of masks `[B, H, W]`; NaN if both are empty."""
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2))


def run(settings: CamSettings) -> dict[str, Any]:
    """Carries the protocol out; returns its record.

    Raises:
        ValueError: other methods than CAM, several layers, or a layer without a pooled linear head
            above it; as `eval.common.run`.
    """
    if settings.methods != ("cam",) or len(settings.layers) > 1:
        got = (
            f"methods {', '.join(settings.methods)} and layers "
            f"{', '.join(settings.layers) or 'none'}"
        )
        raise ValueError(f"methods: got {got}, expected cam alone and one layer or none")
    network = common.begin(settings)
    check_layers(settings, network, settings.model)
    layer = (settings.layers or network.layers)[-1]
    if why := why_not(METHODS["cam"], network, (layer,)):
        raise ValueError(f"layers: got {layer!r}: {why[layer]}")
    settings = dataclasses.replace(settings, layers=(layer,))
    return common.run(
        settings, Protocol("cam_vs_grad_cam", partial(measure, layer=layer), raw=True)
    )


def main(settings: CamSettings) -> None:
    """CAM against Grad-CAM."""
    print(table(run(settings), COLUMNS))


if __name__ == "__main__":
    command(main, CamSettings, __doc__)
