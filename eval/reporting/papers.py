"""The numbers that the papers print, to stand beside ours, and what differs in the set-up."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxcam.methods import WHOLE

ANY = "*"  # any method or layer of ours, where the paper's number is no method's
LAST = "last"


class Published(NamedTuple):
    """One number of a paper; `layer` is the paper's, and ours of that name is put beside it."""

    protocol: str
    method: str
    layer: str
    metric: str
    value: float
    source: str


class Source(NamedTuple):
    """Where numbers come from; `data` is the TFDS set of ours they stand beside, "" for any."""

    title: str
    setup: str
    data: str = ""


_VAL = "2000 photos of ImageNet's validation set"
_WHOLE_VAL = (
    "ImageNet's whole validation set, resized to 256 and cropped to 224; soft mask on the "
    "normalised image"
)
SOURCES = {
    "relevance_cam": Source(
        "Relevance-CAM, Table 1",
        f"torchvision's ResNet-50 on {_VAL} (their number inferred); the paper does not describe "
        "its mask, which is taken to be that of the top half of pixels; its Grad-CAM may rectify "
        "channel by channel",
    ),
    "relevance_cam_vgg": Source(
        "Relevance-CAM, Table 2", "as Table 1, with torchvision's VGG16 with batch norm"
    ),
    "relevance_cam_iou": Source(
        "Relevance-CAM, IoU figure",
        f"ResNet-50 on {_VAL} that it classifies correctly; read off a plot, approximate",
    ),
    "score_cam": Source("Score-CAM", f"VGG16 on {_VAL}; half of the pixels muted"),
    "score_cam_games": Source("Score-CAM, games", f"VGG16 on {_VAL}, in steps of 1 %"),
    "score_cam_energy": Source(
        "Score-CAM, energy game",
        "VGG16 on 500 photos of ImageNet with one box of less than half of the photo",
    ),
    "grad_cam_plus_plus": Source(
        "Grad-CAM++, ResNet-50", "ImageNet's whole validation set; soft mask"
    ),
    "grad_cam_plus_plus_vgg": Source(
        "Grad-CAM++, VGG16", "ImageNet's whole validation set; soft mask"
    ),
    "grad_cam_plus_plus_voc": Source(
        "Grad-CAM++, ResNet-50 on VOC 2007", "its validation set; soft mask", "voc/2007"
    ),
    "grad_cam_plus_plus_voc_vgg": Source(
        "Grad-CAM++, VGG16 on VOC 2007", "its validation set; soft mask", "voc/2007"
    ),
    "grad_cam_plus_plus_loc": Source(
        "Grad-CAM++, VGG16 on VOC 2012", "its validation set", "voc/2012"
    ),
    "rise": Source(
        "RISE, the authors' notebook",
        "ResNet-50 on 10,000 photos of ImageNet's validation set, 28 steps",
    ),
    "distillation": Source(
        "Distillation paper, Tables 2 and 3",
        "ImageNet; the number of photos is not stated, and LIME's row equals that of the RISE "
        "paper",
    ),
    **{
        f"distillation_{name}": Source(
            f"Distillation paper, {title}", "the number of photos is not stated", data
        )
        for name, title, data in (
            ("birds", "CUB-200-2011", "caltech_birds2011"),
            ("cars", "Stanford Cars", "cars196"),
            ("variant", "Aircraft, variants", "fgvc_aircraft/variant"),
            ("family", "Aircraft, families", "fgvc_aircraft/family"),
            ("manufacturer", "Aircraft, manufacturers", "fgvc_aircraft/manufacturer"),
        )
    },
    "shapley_cam": Source(
        "ShapleyCAM's repository, ResNet-50",
        f"torchvision's first weights on {_WHOLE_VAL}; score z + ln p; ADCC is that of the means",
    ),
    "shapley_cam_18": Source(
        "ShapleyCAM's repository, ResNet-18", f"the same on {_WHOLE_VAL}; score z + ln p"
    ),
    "shapley_cam_vgg": Source(
        "ShapleyCAM's repository, VGG-16", f"the same on {_WHOLE_VAL}; features[-1], plain logit"
    ),
    "torchcam": Source(
        "torchcam's README",
        "torchvision's ResNet-18 on Imagenette's validation set, resized to 256 and cropped to "
        "224; soft mask",
        "imagenette",
    ),
    "schoettl": Source(
        "CAM-fostering paper",
        "ResNet-50 on VOC 2012 at 192 x 192, 30 epochs, beta 100 beside 0, on a GTX 1080 Ti; the "
        "relative difference is that of active cells a to inactive ones i of one photo, and not "
        "defined: ours is 100 (a - i) / ((a + i) / 2), of at most 200, the mean over photos, and "
        "100 (a - i) / i, without bound, the median photo's; seconds are of one training, and "
        "have no interval",
        "voc/2012",
    ),
    "distillation_sim": Source(
        "Distillation paper, Table 1", "ImageNet, a student distilled from the teacher"
    ),
}

# What papers say of a protocol in other ways than by numbers of single runs.
NOTES: Mapping[str, str] = {
    "interpretability": (
        "The CAM-fostering paper gives changes by fostering, of two networks: the area 20 % "
        "smaller, the dispersion six times as large."
    ),
    "sanity": "Relevance-CAM (Figure 8) shows maps of ResNet-50's layer2, and no numbers.",
    "class_sensitivity": "Relevance-CAM (Figures 6 and 7) shows maps, and no numbers.",
    "cam_vs_grad_cam": (
        "The paper on Stanford Dogs compares the two by looking at them, without a winner."
    ),
}

_HALF = ("drop_half", "increase_half")
_SOFT = ("drop_soft", "increase_soft")
_GAMES = ("deletion", "insertion")
_LOC = ("loc_0", "loc_0.25", "loc_0.5")
_RCAM = ("grad_cam", "grad_cam_plus_plus", "score_cam", "relevance_cam")
_PLUS = ("grad_cam", "grad_cam_plus_plus")
_ADCC = ("drop", "coherency", "complexity", "adcc_of_means")
_GAINS = ("increase_soft", "drop_in_deletion")
_SHAPLEY: tuple[tuple[Any, ...], ...] = (
    ("shapley_cam", "grad_cam_rest", 13.84, 0.9707, 0.3842, 0.7864, 40.05, 43.82),
    ("shapley_cam", "grad_cam_plus_plus_rest", 14.27, 0.9803, 0.4116, 0.7720, 38.19, 43.60),
    ("shapley_cam", "random_weights", 67.35, 0.5429, 0.1975, 0.4877, 8.24, 14.36),
    ("shapley_cam_18", "grad_cam_rest", 18.73, 0.9751, 0.3884, 0.7710, 33.77, 51.89),
    ("shapley_cam_vgg", "grad_cam", 22.75, 0.9008, 0.3085, 0.7790, 29.65, 38.23),
)
# The paper's one number, of which it does not say what the difference is relative to.
_DIFFERENCES = ("relative_difference", "relative_difference_to_inactive")
_TORCHCAM = ("grad_cam", "layer_cam", "grad_cam_plus_plus_torchcam")
_KD = ("grad_cam", "lime", "rise", "attention_grad_cam")


def _rows(
    protocol: str,
    source: str,
    metrics: Iterable[str],
    methods: Iterable[str],
    layer: str,
    *values: tuple[float, ...],
) -> Iterator[Published]:
    """One tuple of values for each method."""
    metrics = tuple(metrics)
    for method, numbers in zip(methods, values, strict=True):
        for metric, number in zip(metrics, numbers, strict=True):
            yield Published(protocol, method, layer, metric, number, source)


def _kd(source: str, *values: tuple[float, float]) -> Iterator[Published]:
    """A row of the distillation paper's Tables 2 and 3: both games by the methods of `_KD`."""
    yield from _rows("games", source, _GAMES, _KD[:1], LAST, *values[:1])
    yield from _rows("games", source, _GAMES, _KD[1:], WHOLE, *values[1:])


def _relevance_cam() -> Iterator[Published]:
    half = ("faithfulness", "relevance_cam", _HALF, _RCAM)
    yield from _rows(*half, "layer2", (74.91, 4.45), (71.15, 4.85), (56.59, 8.8), (39.02, 16.6))
    yield from _rows(*half, "layer4", (23.13, 24.05), (22.03, 25.35), (21.89, 24.65), (21.53, 25.7))
    half = ("faithfulness", "relevance_cam_vgg", _HALF, _RCAM)
    yield from _rows(*half, "features.23", (85.43, 1.5), (86.77, 1.3), (76.11, 3.2), (72.25, 3.9))
    yield from _rows(
        *half, "features.43", (23.15, 22.35), (22.98, 22.35), (21.22, 23.5), (22.42, 24.95)
    )
    iou = ("localization", "relevance_cam_iou", ("mask_iou",), _RCAM)
    yield from _rows(*iou, "layer1", (0.12,), (0.13,), (0.21,), (0.30,))
    yield from _rows(*iou, "layer2", (0.18,), (0.19,), (0.25,), (0.32,))
    yield from _rows(*iou, "layer3", (0.22,), (0.22,), (0.28,), (0.32,))
    yield from _rows(*iou, "layer4", (0.34,), (0.34,), (0.34,), (0.34,))


def _score_cam() -> Iterator[Published]:
    half = ("faithfulness", "score_cam", _HALF)
    yield from _rows(*half, _RCAM[:3], LAST, (47.8, 19.6), (45.5, 18.9), (31.5, 30.6))
    yield from _rows(*half, ("rise", "mask"), WHOLE, (47.0, 14.0), (63.5, 5.29))
    games = ("games", "score_cam_games", _GAMES, _RCAM[:3])
    yield from _rows(*games, LAST, (0.089, 0.357), (0.082, 0.346), (0.077, 0.386))
    energy = ("localization", "score_cam_energy", ("energy_in_box",))
    yield from _rows(*energy, _RCAM[:3], LAST, (0.481,), (0.493,), (0.637,))
    yield from _rows(*energy, ("rise", "mask"), WHOLE, (0.363,), (0.561,))


def _grad_cam_plus_plus() -> Iterator[Published]:
    soft = ("faithfulness", "grad_cam_plus_plus", _SOFT, _PLUS)
    yield from _rows(*soft, LAST, (30.36, 22.11), (28.90, 22.16))
    soft = ("faithfulness", "grad_cam_plus_plus_vgg", _SOFT, _PLUS)
    yield from _rows(*soft, LAST, (46.56, 13.42), (36.84, 17.05))
    soft = ("faithfulness", "grad_cam_plus_plus_voc", _SOFT, _PLUS)
    yield from _rows(*soft, LAST, (20.86, 21.99), (16.19, 19.52))
    soft = ("faithfulness", "grad_cam_plus_plus_voc_vgg", _SOFT, _PLUS)
    yield from _rows(*soft, LAST, (28.54, 21.43), (19.53, 18.96))
    loc = ("localization", "grad_cam_plus_plus_loc", _LOC, _PLUS)
    yield from _rows(*loc, LAST, (0.33, 0.28, 0.16), (0.34, 0.38, 0.28))


def _distillation() -> Iterator[Published]:
    yield from _kd(
        "distillation", (0.1253, 0.6785), (0.1217, 0.6940), (0.1077, 0.7335), (0.1236, 0.6055)
    )
    yield from _kd(
        "distillation_birds", (0.0805, 0.6982), (0.1287, 0.6531), (0.0588, 0.7461), (0.0627, 0.6415)
    )
    yield from _kd(
        "distillation_cars", (0.0796, 0.7197), (0.1345, 0.6447), (0.0658, 0.7720), (0.0698, 0.6785)
    )
    yield from _kd(
        "distillation_variant",
        (0.0740, 0.6742),
        (0.1508, 0.5647),
        (0.0569, 0.7248),
        (0.0628, 0.6168),
    )
    yield from _kd(
        "distillation_family",
        (0.1049, 0.7480),
        (0.1935, 0.6532),
        (0.0762, 0.8026),
        (0.0878, 0.7261),
    )
    yield from _kd(
        "distillation_manufacturer",
        (0.1735, 0.8011),
        (0.3009, 0.7091),
        (0.1388, 0.8475),
        (0.1627, 0.7798),
    )


def _shapley_cam() -> Iterator[Published]:
    for source, method, *values in _SHAPLEY:
        yield from _rows("adcc", source, _ADCC, (method,), LAST, tuple(values[:4]))
        yield from _rows("faithfulness", source, _GAINS, (method,), LAST, tuple(values[4:]))


def _published() -> Iterator[Published]:
    yield from _relevance_cam()
    yield from _score_cam()
    yield from _grad_cam_plus_plus()
    yield from _rows("games", "rise", _GAMES, ("rise",), WHOLE, (0.10483, 0.77192))
    yield from _distillation()
    yield from _shapley_cam()
    yield from _rows(
        *("faithfulness", "torchcam", _SOFT, _TORCHCAM, LAST),
        *((26.86, 22.50), (17.12, 28.19), (52.71, 19.62)),
    )
    # Seconds an epoch: 4:35 and 8:22. Area and dispersion: with fostering to without.
    fostering = ("foster_effect", "schoettl", (*_DIFFERENCES, "epoch_seconds"))
    both = ((33.0, 33.0, 275.0), (114.0, 114.0, 502.0))
    yield from _rows(*fostering, ("beta 0", "beta 100"), LAST, *both)
    fostering = ("foster_effect", "schoettl", ("area_ratio", "dispersion_ratio"))
    yield from _rows(*fostering, ("beta 100",), LAST, (0.8, 6.0))
    sims = ("agreement", "distillation_sim", tuple(f"sim_{n}" for n in range(1, 6)))
    yield from _rows(*sims, (ANY,), ANY, (0.807, 0.701, 0.633, 0.574, 0.534))


PUBLISHED: tuple[Published, ...] = tuple(_published())
