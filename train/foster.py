"""Trains for sharp CAMs: `python -m train.foster --config FILE [--set key=value ...] [--resume]`.

FILE is for example `configs/tiny20_foster.py`; `--set beta=1.0` sets the weight of the penalty. The
loss is cross-entropy + beta * entropy of the Grad-CAM (`jaxcam.fostering.fostering_loss`); options
are those of `train.classify`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from configs import Fostering
from jaxcam._ground.errors import ArgumentError
from jaxcam.fostering import cam_area, fostering_loss
from train import objectives, parallel, program


def fostering(config: Fostering, classes: tuple[str, ...]) -> objectives.Objective:
    """Cross-entropy + beta * penalty of the class's Grad-CAM, and auxiliary logits' cross-entropy.

    Args:
        config: its beta, layer, term and explain.
        classes: names, not used.

    Raises:
        ValueError: smoothed labels of several classes, of which one cannot say which are present.
    """
    del classes
    several = config.loss == "sigmoid"
    if several and config.label_smoothing:
        raise ArgumentError("label_smoothing", config.label_smoothing, "0 with loss='sigmoid'")
    options = {
        "layer": config.layer,
        "beta": config.beta,
        "term": config.term,
        "explain": config.explain,
        "axis_name": parallel.axis_name(config),
    }

    def loss(
        forward: objectives.Forward, images: jax.Array, targets: jax.Array, batch: dict[str, Any]
    ) -> objectives.Outcome:
        del batch
        labels = targets
        present = None
        if several:
            labels = present = targets > 0
        value, seen = fostering_loss(forward, images, labels, **options, has_aux=True)
        metrics = {
            "accuracy": objectives.accuracy(seen.logits, targets),
            "classification": seen.classification,
            "penalty": seen.penalty,
            **_of_maps(seen.maps, present, options["axis_name"]),
        }
        return value + objectives.auxiliary(config, seen.aux, targets), (seen.aux, metrics)

    return objectives.Objective(loss)


def _of_maps(
    maps: jax.Array, present: jax.Array | None, axis_name: str | None
) -> dict[str, jax.Array]:
    """Mean elliptic area of the maps `[B, ..., h, w]`, in cells squared, and the share of empty.

    Of present classes, where several may be; their means over devices are the whole batch's. An
    empty map, in which nothing speaks for the class, has the area 0 and no penalty: a network that
    learns to make them looks sharper than it is.
    """
    flat = maps.reshape(-1, *maps.shape[-2:])
    counts = jnp.ones(len(flat), bool)
    if present is not None:
        counts = present.reshape(-1)
    number = counts.sum().astype(jnp.float32)
    if axis_name is not None:
        number = jax.lax.pmean(number, axis_name)
    share = counts / jnp.where(number == 0, 1, number)
    empty = flat.max((1, 2)) <= 0
    return {"map_area": (share * cam_area(flat)).sum(), "empty": (share * empty).sum()}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    program.main("train.foster", __doc__, fostering, Fostering, arguments)


if __name__ == "__main__":
    main()
