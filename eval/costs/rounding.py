"""How far maps in float32 are from those in float64: what libraries differ by is rounding first.

    python -m eval rounding --model resnet50 --image-size 224

Random weights and images as those of `python -m eval speed --peers`. A unit at the edge of its ReLU
falls to the other side in float32, and with it cells of a map: most photos have no such unit.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from eval.costs.peers.ours import calibrated
from jaxcam import models

Maps = Callable[[Callable, jax.Array, np.ndarray], jax.Array]

MAPS: dict[str, Maps] = {
    "gradient": lambda forward, x, classes: jaxcam.gradient(forward, x, classes, reduction="sum"),
    "grad_cam/layer4": partial(jaxcam.grad_cam, layer="layer4"),
    "grad_cam/layer1": partial(jaxcam.grad_cam, layer="layer1"),
    "lrp_epsilon_plus_flat": partial(jaxcam.lrp_map, layer="pixels", composite="epsilon_plus_flat"),
}


@dataclasses.dataclass(frozen=True)
class RoundingSettings:
    """What is compared.

    Args:
        model: a name of `jaxcam.models` with stages `layer1` and `layer4`.
        image_size: height and width, pixels.
        batch: images.
        seed: of weights and images.
        methods: of those that are compared; none: all.
    """

    model: str = "resnet50"
    image_size: int = 224
    batch: int = 1
    seed: int = 0
    methods: tuple[str, ...] = tuple(MAPS)


def differences(settings: RoundingSettings, method: str) -> np.ndarray:
    """`[B]`: the largest difference of any cell of a photo's map, in parts of its largest value."""
    rng = np.random.default_rng(settings.seed)
    shape = (settings.batch, settings.image_size, settings.image_size, 3)
    images = rng.normal(size=shape).astype(np.float32)
    network = models.create(settings.model)
    variables = calibrated(network, jnp.asarray(images), settings.seed)
    logits = jax.jit(partial(network.apply, train=False))(variables, images)
    classes = np.asarray(logits.argmax(-1))
    narrow = _maps(settings, method, (variables, images), classes)
    with jax.enable_x64(True):
        given = jax.tree.map(lambda a: np.asarray(a, np.float64), (variables, images))
        wide = _maps(settings, method, given, classes)
    return np.abs(narrow - wide).max((1, 2)) / np.abs(wide).max((1, 2))


def _maps(settings: RoundingSettings, method: str, given: tuple, classes: np.ndarray) -> Any:
    network = models.create(settings.model, dtype=given[1].dtype)

    @jax.jit
    def run(variables: Any, images: jax.Array) -> jax.Array:
        forward = jaxcam.linen(network, variables, train=False)
        return MAPS[method](forward, images, classes)

    with jax.default_matmul_precision("highest"):
        return np.asarray(run(*given), np.float64)


def main(settings: RoundingSettings) -> None:
    """The table."""
    print("| map | largest difference | median over photos |", "|---|---|---|", sep="\n")
    for method in settings.methods:
        found = differences(settings, method)
        print(f"| {method} | {found.max():.1e} | {np.median(found):.1e} |")
