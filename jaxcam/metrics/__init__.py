"""What the papers measure on explanations, one value per example, on the device.

Common form: `metric(forward, images, saliency, targets=None, *, ...)`, saliency `[B, H, W]` of real
numbers of any range at the size of the images; metrics that need no model take arrays alone. What
asks a model takes signals `[B, L, C]` and volumes `[B, D, H, W, C]` as well, with saliency of their
axes, and any output if the targets are a function of it; what takes maps alone is told their axes
(`spatial=1`, `spatial=3`). Boxes, HOG and the ellipse of `area` are of pictures. With
`has_aux=True` the model returns `(logits, aux)`, and aux is not looked at. Values are `[B]`, drops
and increases in percent; means and intervals are the caller's. What has no answer is NaN: saliency
that is not finite, an example that `mask` leaves out, an image without a box. A map that marks
nothing is not excused: it gets the worst score where the question has an answer.
"""

from jaxcam.metrics._agreement import (
    sim,
)
from jaxcam.metrics._arcc import (
    Arcc,
    arcc,
    arcc_of_maps,
)
from jaxcam.metrics._complexity import (
    Adcc,
    adcc,
    adcc_of_maps,
    area,
    coherency,
    complexity,
    dispersion,
    entropy,
    harmonic,
    relative_difference,
)
from jaxcam.metrics._correlation import (
    faithfulness_correlation,
)
from jaxcam.metrics._faithfulness import (
    Confidences,
    average_drop,
    average_increase,
    confidence,
    confidences,
    drop,
    increase,
    mask_images,
    win_rate,
)
from jaxcam.metrics._gain import (
    average_gain,
    drop_in_deletion,
    gain,
)
from jaxcam.metrics._games import (
    auc,
    blur,
    deletion,
    insertion,
)
from jaxcam.metrics._localization import (
    box_from_map,
    box_iou,
    box_mask,
    energy_in_box,
    loc,
    mask_iou,
    pointing_game,
    resize_boxes,
)
from jaxcam.metrics._masks import (
    mass_accuracy,
    pointing_at,
    rank_accuracy,
)
from jaxcam.metrics._perturbation import (
    aopc,
    infidelity,
    region_perturbation,
)
from jaxcam.metrics._randomization import (
    ClassSensitivity,
    cascade,
    class_sensitivity,
    shuffled,
)
from jaxcam.metrics._road import (
    Road,
    impute,
    road,
)
from jaxcam.metrics._sensitivity import (
    max_sensitivity,
    max_sensitivity_of_maps,
)
from jaxcam.metrics._similarity import (
    Similarity,
    hog,
    hog_similarity,
    similarity,
    spearman,
    ssim,
)
from jaxcam.metrics._weights import (
    selectivity,
    top_share,
)

__all__ = [
    "Adcc",
    "Arcc",
    "ClassSensitivity",
    "Confidences",
    "Road",
    "Similarity",
    "adcc",
    "adcc_of_maps",
    "aopc",
    "arcc",
    "arcc_of_maps",
    "area",
    "auc",
    "average_drop",
    "average_gain",
    "average_increase",
    "blur",
    "box_from_map",
    "box_iou",
    "box_mask",
    "cascade",
    "class_sensitivity",
    "coherency",
    "complexity",
    "confidence",
    "confidences",
    "deletion",
    "dispersion",
    "drop",
    "drop_in_deletion",
    "energy_in_box",
    "entropy",
    "faithfulness_correlation",
    "gain",
    "harmonic",
    "hog",
    "hog_similarity",
    "impute",
    "increase",
    "infidelity",
    "insertion",
    "loc",
    "mask_images",
    "mask_iou",
    "mass_accuracy",
    "max_sensitivity",
    "max_sensitivity_of_maps",
    "pointing_at",
    "pointing_game",
    "rank_accuracy",
    "region_perturbation",
    "relative_difference",
    "resize_boxes",
    "road",
    "selectivity",
    "shuffled",
    "sim",
    "similarity",
    "spearman",
    "ssim",
    "top_share",
    "win_rate",
]
