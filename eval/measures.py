"""What reports know of measures and methods: what protocols show, names, which way is better."""

from typing import Any, NamedTuple

from eval import (
    adcc,
    cam_vs_grad_cam,
    class_sensitivity,
    faithfulness,
    games,
    interpretability,
    localization,
    methods,
)

# The metrics that a report shows of a protocol, in this order; all that are numbers for any other
# protocol.
COLUMNS: dict[str, tuple[str, ...]] = {
    "faithfulness": faithfulness.COLUMNS,
    "localization": localization.COLUMNS,
    "games": games.COLUMNS,
    "interpretability": interpretability.COLUMNS,
    "adcc": adcc.COLUMNS,
    "class_sensitivity": (*class_sensitivity.PAIRS, *class_sensitivity.TOP[1:]),
    "cam_vs_grad_cam": cam_vs_grad_cam.COLUMNS,
}


class Named(NamedTuple):
    """A measure's title, and whether lower (-1) or higher (1) is better; 0 where neither is."""

    title: str
    better: int = 0

    @property
    def direction(self) -> str:
        """In words, or nothing."""
        return {-1: "lower is better", 1: "higher is better", 0: ""}[self.better]


NAMED: dict[str, Named] = {
    "drop_half": Named("Average drop, %, most salient half kept", -1),
    "increase_half": Named("Average increase, %, most salient half kept", 1),
    "drop_soft": Named("Average drop, %, soft mask", -1),
    "increase_soft": Named("Average increase, %, soft mask", 1),
    "mask_iou": Named("IoU of the map above mean + std and the box", 1),
    "pointing_game": Named("Pointing game: maximum in the box", 1),
    "energy_in_box": Named("Energy in the box", 1),
    "loc_0.25": Named("Loc at threshold 0.25", 1),
    "box_iou": Named("IoU of the map's box and the box", 1),
    "box_hit": Named("Share of boxes with IoU of at least 0.5", 1),
    "deletion": Named("Deletion, area under the curve", -1),
    "insertion": Named("Insertion, area under the curve", 1),
    "deletion_curve": Named("Deletion", -1),
    "insertion_curve": Named("Insertion", 1),
    "entropy": Named("Entropy of the map, nats"),
    "area": Named("Area of the map, cells"),
    "dispersion": Named("Dispersion of the map"),
    "empty": Named("Share of maps without a positive cell"),
    "adcc": Named("ADCC", 1),
    "coherency": Named("ADCC's coherency", 1),
    "complexity": Named("ADCC's complexity", -1),
    "drop": Named("ADCC's average drop, %", -1),
    "correlation": Named("Correlation of two classes' maps", -1),
    "own": Named("Energy in the class's own box", 1),
    "other": Named("Energy in the other class's box", -1),
    "own_share": Named("Own box's share of both boxes' energy", 1),
    "energy_first": Named("Energy of the first class in the box"),
    "energy_second": Named("Energy of the second class in the box"),
    "spearman_abs": Named("Spearman of the maps' magnitudes"),
    "spearman": Named("Spearman of the maps"),
    "ssim": Named("SSIM of the maps"),
    "hog": Named("Spearman of the maps' HOG"),
    **{f"sim_{n}": Named(f"Sim {n}", 1) for n in range(1, 6)},
}


def named(metric: str) -> Named:
    """What a measure is called; by its own name if it has no other."""
    return NAMED.get(metric, Named(metric.replace("_", " ")))


def title(method: str) -> str:
    """What a method is called."""
    return methods.METHODS[method].title if method in methods.METHODS else method


def is_control(method: str) -> bool:
    """Whether a method knows nothing of the model."""
    return method in methods.CONTROLS


def decimals(values: list[Any]) -> str:
    """A format for numbers that stand in one table."""
    largest = max((abs(v) for v in values if v is not None), default=0)
    return (
        ".1f" if largest >= 20 else ".2f" if largest >= 2 else ".3f" if largest >= 0.01 else ".2g"
    )
