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
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.stops import Notice
from train import parallel, pipeline
from train.state import Variables, validation_step
from train.unreadable import Unreadable


def validator(
    config: Classification,
    model: nn.Module,
    devices: Devices | None = None,
    left_out: Unreadable | None = None,
) -> Callable[..., dict[str, float]]:
    """Replicated variables and photos -> `val_accuracy` and `val_loss`, of all processes together.

    They are of the photos that have a label and can be read.

    Args:
        config: the run's; the loss is without smoothing.
        model: whose variables they are.
        devices: of this process, which must then be the only one; None: all.
        left_out: counts photos that cannot be read. None: an error.
    """
    sums_of = summed(config, model, devices, left_out)

    def validate(
        variables: Variables, photos: datasets.Dataset, notice: Notice | None = None
    ) -> dict[str, float]:
        sums = sums_of(variables, photos, notice)
        return {
            "val_accuracy": sums["correct"] / sums["count"],
            "val_loss": sums["loss"] / sums["count"],
        }

    return validate


def summed(
    config: Classification,
    model: nn.Module,
    devices: Devices | None = None,
    left_out: Unreadable | None = None,
) -> Callable[..., dict[str, float]]:
    """As `validator`, the sums over the photos that count: `count`, `correct` and `loss`."""
    how = parallel.choose(config, devices)
    step = partial(validation_step, config=config, model=model, axis_name=how.axis_name)
    compiled = how.compile(step, donate=())

    def sums_of(
        variables: Variables, photos: datasets.Dataset, notice: Notice | None = None
    ) -> dict[str, float]:
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        batches = pipeline.validation_batches(
            photos, config, config.batch_size, **share, left_out=left_out
        )
        placed = pipeline.prefetch(batches, how.place)
        each = []
        for batch in placed:
            each.append(jax.device_get(compiled(variables, batch, None)))
            if notice is not None and jax.process_count() == 1:  # all must agree to leave it
                notice.check("validation")
        sums = jax.tree.map(lambda *values: np.array(values, np.float64).sum(), *each)
        if not sums["count"]:
            got = f"{config.val_split!r}, of whose {len(photos)} photos none has a label"
            raise ArgumentError("val_split", got, "a split with labels")
        return {name: float(value) for name, value in sums.items()}

    return sums_of


def evaluate(
    config: Classification,
    photos: datasets.Dataset,
    devices: Devices | None = None,
    left_out: Unreadable | None = None,
) -> float:
    """Prints and returns the accuracy of the exported file on the photos that have a label."""
    if left_out is None:
        left_out = Unreadable(config.unreadable)
    model, variables = models.load(config.export)
    placed = parallel.choose(config, devices).replicate(variables)
    sums = summed(config, model, devices, left_out)(placed, photos)
    share = sums["correct"] / sums["count"]
    if is_writer():
        size = Path(config.export).stat().st_size / 1e6
        said = (
            f"{config.export} ({size:.2f} MB): top-1 {100 * share:.1f} % of {sums['count']:.0f} "
            "validation photos"
        )
        if sums["count"] < len(photos):
            said += f"; the others of {len(photos)} have no label or cannot be read"
        print(said, flush=True)
    return share
