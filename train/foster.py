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
from jaxcam.fostering import fostering_loss
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
            "empty": _share_empty(seen.maps, present, options["axis_name"]),
        }
        return value + objectives.auxiliary(config, seen.aux, targets), (seen.aux, metrics)

    return objectives.Objective(loss)


def _share_empty(maps: jax.Array, present: jax.Array | None, axis_name: str | None) -> jax.Array:
    """The share of maps `[B, ..., h, w]` without evidence, which the penalty leaves out.

    Of present classes, where several may be; its mean over devices is that of the whole batch.
    """
    empty = maps.max((-2, -1)) <= 0
    if present is None:
        return empty.mean()
    number = present.sum().astype(jnp.float32)
    if axis_name is not None:
        number = jax.lax.pmean(number, axis_name)
    return (empty & present).sum() / jnp.where(number == 0, 1, number)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    program.main("train.foster", __doc__, fostering, Fostering, arguments)


if __name__ == "__main__":
    main()
