"""How far results in float32 are from those in float64: what libraries differ by is rounding first.

    python -m eval rounding --model resnet50 --image-size 224

Random weights and images, and calls, are those of `python -m eval speed --peers`. A unit at the
edge of its ReLU falls to the other side in float32, and with it cells of a map: most photos have no
such unit. Other compilations round otherwise: XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= is
that of `jaxcam-without-ynnpack`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval.costs.peers import cases, ours, turns
from eval.costs.peers.measures import differences as of_results
from jaxcam import models


@dataclasses.dataclass(frozen=True)
class RoundingSettings:
    """What is compared.

    Args:
        model: of torchvision's names, as `python -m eval speed --peers` takes them.
        image_size: height and width, pixels.
        batch: images.
        seed: of weights and images.
        methods: calls such as gradient, or calls at a layer, such as grad_cam/layer4.
    """

    model: str = "resnet50"
    image_size: int = 224
    batch: int = 1
    seed: int = 0
    methods: tuple[str, ...] = (
        "gradient",
        "grad_cam/layer4",
        "grad_cam/layer1",
        "lrp_epsilon_plus_flat",
    )


def chosen(settings: RoundingSettings) -> list[cases.Case]:
    """The cases.

    Raises:
        ValueError: an unknown model or method; the message has the nearest.
    """
    found = turns.Request(
        methods=settings.methods,
        model=settings.model,
        image_size=settings.image_size,
        batch=settings.batch,
    )
    return turns.chosen(found)


def differences(settings: RoundingSettings, case: cases.Case) -> np.ndarray:
    """The largest difference of a photo's map, in parts of its largest value: `[B]`.

    Of a training step, that of the loss and the sizes of the gradients: `[1]`.
    """
    made = ours.made(settings.model, settings.image_size, settings.batch, settings.seed)
    narrow = _result(settings, case, *made)
    with jax.enable_x64(True):
        wide = _result(settings, case, *jax.tree.map(_widened, made))
    return of_results(wide, narrow, cases.CALLS[case.call].sign)


def _widened(x: Any) -> np.ndarray:
    x = np.asarray(x)
    if np.issubdtype(x.dtype, np.floating):
        return x.astype(np.float64)
    return x


def _result(
    settings: RoundingSettings, case: cases.Case, variables: Any, given: ours.Given
) -> np.ndarray:
    network = models.create(settings.model, dtype=given.images.dtype)
    run = jax.jit(ours.program(network, case.call, case.layer))
    with jax.default_matmul_precision("highest"):
        return ours.shown(run(variables, ours.Given(*map(jnp.asarray, given))))


def main(settings: RoundingSettings) -> None:
    """The table."""
    known = chosen(settings)
    print("| call | largest difference | median over photos |", "|---|---|---|", sep="\n")
    for case in known:
        found = differences(settings, case)
        print(f"| {case.name} | {found.max():.1e} | {np.median(found):.1e} |", flush=True)
