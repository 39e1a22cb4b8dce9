"""Validation: a network's accuracy and loss on photos, by all processes together."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from configs import Classification
from jaxcam import datasets, models
from jaxcam._ground.devices import Devices, is_writer
from jaxcam._ground.stops import Notice
from train import parallel, pipeline
from train.state import Variables, validation_step


def validator(
    config: Classification, model: nn.Module, devices: Devices | None = None
) -> Callable[..., dict[str, float]]:
    """Replicated variables and photos -> `val_accuracy` and `val_loss`, of all processes together.

    Args:
        config: the run's; the loss is without smoothing.
        model: whose variables they are.
        devices: of this process, which must then be the only one; None: all.
    """
    how = parallel.choose(config, devices)
    step = partial(validation_step, config=config, model=model, axis_name=how.axis_name)
    compiled = how.compile(step, donate=())

    def validate(
        variables: Variables, photos: datasets.Dataset, notice: Notice | None = None
    ) -> dict[str, float]:
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        batches = pipeline.validation_batches(photos, config, config.batch_size, **share)
        placed = pipeline.prefetch(batches, how.place)
        each = []
        for batch in placed:
            each.append(jax.device_get(compiled(variables, batch, None)))
            if notice is not None and jax.process_count() == 1:  # all must agree to leave it
                notice.check("validation")
        sums = jax.tree.map(lambda *values: np.array(values, np.float64).sum(), *each)
        return {
            "val_accuracy": float(sums["correct"] / sums["count"]),
            "val_loss": float(sums["loss"] / sums["count"]),
        }

    return validate


def evaluate(
    config: Classification, photos: datasets.Dataset, devices: Devices | None = None
) -> float:
    """Prints and returns the accuracy of the exported file."""
    model, variables = models.load(config.export)
    placed = parallel.choose(config, devices).replicate(variables)
    share = validator(config, model, devices)(placed, photos)["val_accuracy"]
    if is_writer():
        size = Path(config.export).stat().st_size / 1e6
        said = (
            f"{config.export} ({size:.2f} MB): top-1 {100 * share:.1f} % of {len(photos)} "
            "validation photos"
        )
        print(said, flush=True)
    return share
