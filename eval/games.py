"""Deletion and insertion: Tables 2 and 3 of the distillation paper, as RISE or Score-CAM has it.

python -m eval.games --model squeezenet --data imagenet100 -n 100 --output runs/games
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax

from eval.command import command
from eval.common import Protocol, Settings, run
from eval.record import table
from jaxcam import metrics

COLUMNS = ("deletion", "insertion")
# Steps and baselines: RISE's batch evaluation, its single image, Score-CAM's.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "rise": {"deletion": {"step": 1 / 28}, "insertion": {"step": 1 / 28}},
    "rise_fine": {"deletion": {"step": 1 / 224}, "insertion": {"step": 1 / 224}},
    "score_cam": {
        "deletion": {"step": 0.01, "baseline": 0.0},
        "insertion": {"step": 0.01, "baseline": 0.0},
    },
}


@dataclasses.dataclass(frozen=True)
class GameSettings(Settings):
    """What a run of the games explains, and how it plays.

    Args:
        variant: rise (28 steps, insertion into the blurred photo), rise_fine (224 steps), score_cam
            (100 steps, into the mean colour).
        chunk: steps evaluated at once; memory is that of chunk * batch photos.
    """

    variant: Literal["rise", "rise_fine", "score_cam"] = "rise"
    chunk: int = 4


def measure(
    forward: Callable,
    batch: Mapping[str, jax.Array],
    saliency: jax.Array,
    *,
    variant: str,
    chunk: int,
) -> dict[str, jax.Array]:
    """Both curves and their areas."""
    call, values = (forward, batch["image"], saliency, batch["target"]), {}
    for name, options in VARIANTS[variant].items():
        curve = getattr(metrics, name)(*call, chunk=chunk, activation=forward.activation, **options)
        values |= {name: metrics.auc(curve), f"{name}_curve": curve}
    return values


def protocol(settings: GameSettings) -> Protocol:
    """The games with these settings."""
    return Protocol("games", partial(measure, variant=settings.variant, chunk=settings.chunk))


def main(settings: GameSettings) -> None:
    """The deletion and insertion games."""
    print(table(run(settings, protocol(settings)), COLUMNS))


if __name__ == "__main__":
    command(main, GameSettings, __doc__)
