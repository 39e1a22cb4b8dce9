"""What the papers' tables were made on, and what stands in for it here: one table of records."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from eval.reporting import papers
from jaxcam._ground.text import counted
from jaxcam.methods import WHOLE


class Setup(NamedTuple):
    """A network and photos.

    Args:
        model: as of every protocol.
        data: as of every protocol.
        split: of the data.
        photos: how many.
        layers: ours, in the order in which the paper's numbers name its own.
        crop: of the photos, as of every protocol.
        options: of the methods, as of every protocol.
        student: whose maps are measured on `model` by the methods of a student.
    """

    model: str
    data: str
    split: str
    photos: int
    layers: tuple[str, ...] = ()
    crop: float = 0.0
    options: tuple[str, ...] = ()
    student: str = ""

    def __str__(self) -> str:
        """As it is named above a table."""
        split = f", split {self.split}" if self.split else ""
        return f"{self.model} on {counted(self.photos, 'photo')} of {self.data}{split}"


class Experiment(NamedTuple):
    """A table of a paper.

    Args:
        source: of `papers.SOURCES`; its numbers are those of `papers.PUBLISHED`.
        theirs: what it was made on.
        stand_in: what is small enough to be here.
    """

    source: str
    theirs: Setup
    stand_in: Setup

    def numbers(self) -> list[papers.Published]:
        """The paper's."""
        return [row for row in papers.PUBLISHED if row.source == self.source]

    def layers(self) -> list[str]:
        """The paper's, in the order of its numbers."""
        found = dict.fromkeys(row.layer for row in self.numbers())
        return [layer for layer in found if layer not in (WHOLE, papers.ANY)]

    def protocols(self) -> Iterator[tuple[str, list[str]]]:
        """The protocols that give its numbers, and of which methods."""
        found: dict[str, dict[str, None]] = {}
        for row in self.numbers():
            found.setdefault(row.protocol, {})[row.method] = None
        for protocol, methods in found.items():
            yield protocol, list(methods)


_VAL = ("imagenet2012", "validation")
# A folder in JAXCAM_DATA: val/WNID/*, boxes.csv of `python -m jaxcam.datasets boxes`.
_BOXED = ("imagenet_val", "val")
_RESIZED = 0.875  # Resize(256), CenterCrop(224)
_TINY = Setup("tiny20", "tiny20", "", 20)  # the bundled network, on photos that it was not shown
NOTHING = ("skimage", 2)  # the photos of last resort, which scikit-image brings
_FEW = ("rise.num_masks=256", "lime.num_samples=128")
# Kang et al. do not state theirs: RISE's for a ResNet-50, LIME's default.
_MANY = ("rise.num_masks=8000", "lime.num_samples=1000")
_STUDENT = _TINY._replace(layers=("layer4",), options=_FEW, student="tiny20_cbam")


def _kang(source: str, name: str, data: str, split: str = "test") -> Experiment:
    teacher = f"runs/{name}_teacher/teacher.safetensors"
    if name == "imagenet":
        teacher = "resnet50.tv_in1k"
    student = f"runs/{name}_distill/{name}_distill.safetensors"
    theirs = Setup(teacher, data, split, 1000, ("layer4",), 0.0, _MANY, student)
    return Experiment(source, theirs, _STUDENT)


PAPERS: Mapping[str, tuple[Experiment, ...]] = {
    "relevance_cam": (
        Experiment(
            "relevance_cam",
            Setup("resnet50.tv_in1k", *_VAL, 2000, ("layer2", "layer4")),
            _TINY._replace(layers=("layer2", "layer4")),
        ),
        Experiment(
            "relevance_cam_vgg",
            Setup("vgg16_bn.tv_in1k", *_VAL, 2000, ("features.23", "features.43")),
            _TINY._replace(layers=("layer2", "layer4")),
        ),
        Experiment(
            "relevance_cam_iou",
            Setup("resnet50.tv_in1k", *_BOXED, 2000, ("layer1", "layer2", "layer3", "layer4")),
            _TINY._replace(layers=("layer1", "layer2", "layer3", "layer4")),
        ),
    ),
    "shapley_cam": (
        Experiment(
            "shapley_cam",
            Setup("resnet50.tv_in1k", *_VAL, 50_000, ("layer4",), _RESIZED),
            _TINY._replace(layers=("layer4",), crop=_RESIZED),
        ),
        Experiment(
            "shapley_cam_18",
            Setup("resnet18.tv_in1k", *_VAL, 50_000, ("layer4",), _RESIZED),
            _TINY._replace(layers=("layer4",), crop=_RESIZED),
        ),
        Experiment(
            "shapley_cam_vgg",
            Setup("vgg16.tv_in1k", *_VAL, 50_000, ("features.30",), _RESIZED),
            _TINY._replace(layers=("layer4",), crop=_RESIZED),
        ),
    ),
    "torchcam": (
        Experiment(
            "torchcam",
            Setup(
                *("resnet18.tv_in1k", "imagenette/320px-v2", "validation", 3925, ("layer4",)),
                _RESIZED,
            ),
            _TINY._replace(layers=("layer4",), crop=_RESIZED),
        ),
    ),
    "kang": (
        Experiment(
            "distillation_sim",
            Setup(
                *("resnet50.tv_in1k", *_VAL, 50_000),
                student="runs/imagenet_distill/imagenet_distill.safetensors",
            ),
            _TINY._replace(photos=200, student="tiny20_cbam"),
        ),
        _kang("distillation", "imagenet", *_VAL),
        _kang("distillation_birds", "cub", "caltech_birds2011"),
        _kang("distillation_cars", "cars", "cars196"),
        _kang("distillation_variant", "aircraft_variant", "fgvc_aircraft/variant"),
        _kang("distillation_family", "aircraft_family", "fgvc_aircraft/family"),
        _kang("distillation_manufacturer", "aircraft_manufacturer", "fgvc_aircraft/manufacturer"),
    ),
    "schoettl": (
        Experiment(
            "schoettl",
            Setup("resnet50.tv_in1k", "voc/2012", "validation", 5823, ("layer4",)),
            _TINY._replace(layers=("layer4",), photos=100),
        ),
    ),
}
