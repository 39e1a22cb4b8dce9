"""Deletion and insertion: Tables 2 and 3 of the distillation paper, as RISE or Score-CAM has it.

python -m eval games --model squeezenet --data imagenet100 -n 100 --output runs/games
"""

import dataclasses
from typing import Any, Literal

import jax

from eval.run.protocol import Explained, Metric, Protocol
from eval.run.settings import Settings
from jaxcam import metrics

# Steps and baselines: RISE's batch evaluation, a cheap one, its single image, Score-CAM's.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "rise": {"deletion": {"step": 1 / 28}, "insertion": {"step": 1 / 28}},
    "rise_coarse": {"deletion": {"step": 0.1}, "insertion": {"step": 0.1}},
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
        variant: rise (28 steps, insertion into the blurred photo), rise_coarse (10 steps, for what
            is dear), rise_fine (224 steps), score_cam (100 steps, into the mean colour).
        chunk: steps evaluated at once; memory is that of chunk * batch photos.
        dtype: of the masked photos' forward passes: the model's own, or bfloat16, for accelerators.
    """

    variant: Literal["rise", "rise_coarse", "rise_fine", "score_cam"] = "rise"
    chunk: int = 4
    dtype: Literal["own", "bfloat16"] = "own"


def measure(case: Explained) -> dict[str, jax.Array]:
    """Both curves and their areas."""
    call = (case.forward, case.images, case.maps, case.targets)
    usual = {
        "chunk": case.settings.chunk,
        "activation": case.forward.activation,
        "dtype": None if case.settings.dtype == "own" else case.settings.dtype,
    }
    options = VARIANTS[case.settings.variant]
    deletion = metrics.deletion(*call, **usual, **options["deletion"])
    insertion = metrics.insertion(*call, **usual, **options["insertion"])
    return {
        "deletion": metrics.auc(deletion),
        "insertion": metrics.auc(insertion),
        "deletion_curve": deletion,
        "insertion_curve": insertion,
    }


PROTOCOL = Protocol(
    "games",
    measure,
    metrics={
        "deletion": Metric("Deletion, area under the curve", -1),
        "insertion": Metric("Insertion, area under the curve", 1),
        "deletion_curve": Metric("Deletion", -1, shown=False),
        "insertion_curve": Metric("Insertion", 1, shown=False),
    },
    settings=GameSettings,
)
