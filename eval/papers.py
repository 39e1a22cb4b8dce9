"""The numbers that the papers print, to stand beside ours, and what differs in the set-up."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jaxcam.methods import WHOLE

ANY = "*"  # any method or layer of ours, where the paper's number is no method's


class Published(NamedTuple):
    """One number of a paper; `layer` is the paper's, and ours of that name is put beside it."""

    protocol: str
    method: str
    layer: str
    metric: str
    value: float
    source: str


class Source(NamedTuple):
    """Where numbers come from."""

    title: str
    setup: str


SOURCES = {
    "relevance_cam": Source(
        "Relevance-CAM, Table 1",
        "torchvision's ResNet-50 on 2000 photos (inferred) of ImageNet's validation set; the paper does not describe "
        "its mask, which is taken to be that of the top half of pixels; its Grad-CAM may rectify channel by channel",
    ),
    "relevance_cam_iou": Source(
        "Relevance-CAM, IoU figure",
        "ResNet-50 on 2000 correctly classified photos of ImageNet's validation set; read off a plot, approximate",
    ),
    "score_cam": Source("Score-CAM", "VGG16 on 2000 photos of ImageNet's validation set; half of the pixels muted"),
    "score_cam_games": Source("Score-CAM, games", "VGG16 on 2000 photos of ImageNet's validation set, in steps of 1 %"),
    "score_cam_energy": Source(
        "Score-CAM, energy game", "VGG16 on 500 photos of ImageNet with one box of less than half of the photo"
    ),
    "grad_cam_plus_plus": Source("Grad-CAM++", "ResNet-50 on ImageNet's whole validation set; soft mask"),
    "distillation": Source(
        "Distillation paper, Tables 2 and 3",
        "ImageNet; the number of photos is not stated, and LIME's row equals that of the RISE paper",
    ),
    "distillation_sim": Source("Distillation paper, Table 1", "ImageNet, a student distilled from the teacher"),
}


def _rows(
    protocol: str, source: str, layer: str, metrics: Iterable[str], values: dict[str, tuple[float, ...]]
) -> Iterator[Published]:
    metrics = tuple(metrics)
    for method, numbers in values.items():
        for metric, number in zip(metrics, numbers, strict=True):
            yield Published(protocol, method, layer, metric, number, source)


_HALF, _SOFT = ("drop_half", "increase_half"), ("drop_soft", "increase_soft")
_GAMES = ("deletion", "insertion")
_IOU = {
    "layer1": (0.12, 0.13, 0.21, 0.30),
    "layer2": (0.18, 0.19, 0.25, 0.32),
    "layer3": (0.22, 0.22, 0.28, 0.32),
    "layer4": (0.34, 0.34, 0.34, 0.34),
}
_RCAM = ("grad_cam", "grad_cam_plus_plus", "score_cam", "relevance_cam")
_TABLE_1 = {
    "layer2": ((74.91, 4.45), (71.15, 4.85), (56.59, 8.8), (39.02, 16.6)),
    "layer4": ((23.13, 24.05), (22.03, 25.35), (21.89, 24.65), (21.53, 25.7)),
}
_SCORE_CAM_GAMES = {"grad_cam": (0.089, 0.357), "grad_cam_plus_plus": (0.082, 0.346), "score_cam": (0.077, 0.386)}
_SCORE_CAM = {"grad_cam": (47.8, 19.6), "grad_cam_plus_plus": (45.5, 18.9), "score_cam": (31.5, 30.6)}
_ENERGY = {"grad_cam": (0.481,), "grad_cam_plus_plus": (0.493,), "score_cam": (0.637,)}
_SIMS = tuple(f"sim_{n}" for n in range(1, 6))

PUBLISHED: tuple[Published, ...] = (
    *(
        row
        for layer, values in _TABLE_1.items()
        for row in _rows("faithfulness", "relevance_cam", layer, _HALF, dict(zip(_RCAM, values, strict=True)))
    ),
    *_rows("faithfulness", "score_cam", "last", _HALF, _SCORE_CAM),
    *_rows("faithfulness", "score_cam", WHOLE, _HALF, {"rise": (47.0, 14.0), "mask": (63.5, 5.29)}),
    *_rows(
        "faithfulness",
        "grad_cam_plus_plus",
        "last",
        _SOFT,
        {"grad_cam": (30.36, 22.11), "grad_cam_plus_plus": (28.90, 22.16)},
    ),
    *(
        Published("localization", method, layer, "mask_iou", value, "relevance_cam_iou")
        for layer, values in _IOU.items()
        for method, value in zip(_RCAM, values, strict=True)
    ),
    *_rows("localization", "score_cam_energy", "last", ("energy_in_box",), _ENERGY),
    *_rows("games", "distillation", "last", _GAMES, {"grad_cam": (0.1253, 0.6785)}),
    *_rows("games", "distillation", WHOLE, _GAMES, {"lime": (0.1217, 0.6940), "rise": (0.1077, 0.7335)}),
    *_rows("games", "score_cam_games", "last", _GAMES, _SCORE_CAM_GAMES),
    *_rows("agreement", "distillation_sim", ANY, _SIMS, {ANY: (0.807, 0.701, 0.633, 0.574, 0.534)}),
)
