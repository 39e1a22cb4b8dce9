"""How CAM and Grad-CAM differ on a pooled linear head: the comparison on Stanford Dogs, measured.

For such a network Grad-CAM = ReLU(CAM) / (h w) exactly, so that all difference lies in the cells
where CAM is negative and in how the maps are scaled afterwards. `identity_error` is by how much the
two sides are apart, relative to the highest |CAM|. Both are made of the same gradient here, so
`sum_error` checks CAM without one: its mean over the cells has to be the logit less that of a layer
that is 0 everywhere, the bias. `iou_std` and `iou_max` compare the masks above mean + std and above
20 % of the maximum, at the photo's size.

    python -m eval cam_vs_grad_cam --model tiny20 --data tiny20 --output runs/cam_vs_grad_cam
"""

import dataclasses

import jax
import jax.numpy as jnp

import jaxcam
from eval.run.protocol import Explained, Metric, Protocol
from eval.run.settings import Settings
from eval.subjects import applies, methods
from jaxcam import maps
from jaxcam._ground.errors import ArgumentError
from jaxcam.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class CamSettings(Settings):
    """What a run compares; `methods` is always CAM, and `layers` the last one unless one is named.

    Args:
        methods: cam.
    """

    methods: tuple[str, ...] = ("cam",)


def settle(settings: CamSettings, network: Classifier) -> CamSettings:
    """The settings with the one layer that is compared.

    Raises:
        ValueError: other methods than CAM, several layers, or a layer without a pooled linear head
            above it.
    """
    if settings.methods != ("cam",) or len(settings.layers) > 1:
        layers = ", ".join(settings.layers) or "none"
        got = f"methods {', '.join(settings.methods)} and layers {layers}"
        raise ArgumentError("methods", got, "cam alone and one layer or none")
    rows = methods.find(settings.methods)
    layer = applies.find_layers(settings.layers, rows, network)[-1]
    if why := applies.why_not(rows["cam"], network, (layer,)):
        expected = f"one that cam can explain: {why[layer]}"
        raise ArgumentError("layers", repr(layer), expected)
    return dataclasses.replace(settings, layers=(layer,))


def measure(case: Explained) -> dict[str, jax.Array]:
    """What distinguishes Grad-CAM from CAM `[B, h, w]`, and whether they are as theory says."""
    cam = case.maps
    cells = cam.shape[1] * cam.shape[2]
    (layer,) = case.settings.layers
    grad_cam = jaxcam.grad_cam(case.forward, case.images, case.targets, layer=layer)
    apart = jnp.abs(cells * grad_cam - jax.nn.relu(cam)).max((1, 2))
    size = (case.images.shape[1], case.images.shape[2])
    large = [maps.resize(each, size) for each in (cam, grad_cam)]
    return {
        "correlation": jax.vmap(_correlation)(cam, grad_cam),
        "share_negative": (cam < 0).mean((1, 2)),
        "iou_std": _iou(*map(maps.threshold, large)),
        "iou_max": _iou(*map(maps.threshold_of_max, large)),
        "empty": (cam <= 0).all((1, 2)).astype(cam.dtype),
        "identity_error": apart / jnp.abs(cam).max((1, 2)),
        "sum_error": _sum_error(case, layer),
    }


def _sum_error(case: Explained, layer: str) -> jax.Array:
    """|mean CAM - (Y(A) - Y(0))| / max |CAM|, from forward passes alone."""
    cam = case.maps
    tapped = jaxcam.tap(case.forward, layer)
    logits, activations = tapped(case.images)
    bias, _ = tapped(case.images, -activations)
    score = jaxcam.targets.scores(logits - bias, case.targets)
    return jnp.abs(cam.mean((1, 2)) - score) / jnp.abs(cam).max((1, 2))


def _correlation(first: jax.Array, second: jax.Array) -> jax.Array:
    """Pearson's, of two maps; NaN if either is constant."""
    return jnp.corrcoef(first.ravel(), second.ravel())[0, 1]


def _iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """Intersection over union of masks `[B, H, W]`; NaN if both are empty."""
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2))


PROTOCOL = Protocol(
    "cam_vs_grad_cam",
    measure,
    metrics={
        "correlation": Metric("Correlation of CAM and Grad-CAM"),
        "share_negative": Metric("Share of cells where CAM is negative"),
        "iou_std": Metric("IoU of the masks above mean + std"),
        "iou_max": Metric("IoU of the masks above 20 % of the maximum"),
        "empty": Metric("Share of maps without a positive cell"),
        "identity_error": Metric("Error of Grad-CAM = ReLU(CAM) / (h w)"),
        "sum_error": Metric("Error of CAM's mean"),
    },
    settings=CamSettings,
    raw=True,
    settle=settle,
)
