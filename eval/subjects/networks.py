"""Trained networks for the protocols: the library's, published ones, black boxes."""

import csv
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxcam
from eval.subjects import nets
from eval.subjects.data import file_in
from jaxcam import classifier
from jaxcam._ground.errors import renaming
from jaxcam.classifier import Classifier

_CHECKOUT = Path(__file__).parent.parent.parent
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"


def load(name: str, root: Path | None = None) -> Classifier:
    """A network by name.

    Args:
        name: "squeezenet", "cifar10_resnet20" or "cifar10_resnet56" from `root`, "tiny20_vit" from
            results/vit, or what `jaxcam.models.load` takes: "tiny20" (bundled),
            "resnet50.tv_in1k", a `.safetensors` file; or `FILE.py:function`, which returns a model
            of one's own (`docs/own_model.md`); or a black box outside JAX: an `.onnx` file of RGB
            images `[B, 3, H, W]` in [0, 1] -> logits, as `python -m eval onnx_export` writes it.
        root: folder of the trained nets; None: that of the variable JAXCAM_DATA.

    Raises:
        FileNotFoundError: its file is not there.
        ValueError: an unknown name.
    """
    found = _found(name, root)
    return dataclasses.replace(found, name=name)


def _found(name: str, root: Path | None) -> Classifier:
    if name in OURS:
        with renaming(root="model"):
            return OURS[name](root)
    if name.endswith(".onnx"):
        return _black_box(Path(name))
    return classifier.load(name)


def _black_box(path: Path) -> Classifier:
    """A file of images in [0, 1]. Ours are normalised too, so that 0 is a mean colour here."""
    height, width = jaxcam.blackbox.onnx_size(path)
    box = jaxcam.blackbox.onnx(path)
    classes = box(np.zeros((1, height, width, 3))).shape[1]
    ask = jaxcam.blackbox.callback(box, classes)

    def apply(params: Any, images: jax.Array) -> jax.Array:
        del params
        scaled = images * nets.along(nets.IMAGENET_STD, images)
        return ask(scaled + nets.along(nets.IMAGENET_MEAN, images))

    return Classifier((), apply, nets.imagenet_normalize, (height, width))


def _squeezenet(root: Path | None) -> Classifier:
    return Classifier(
        params=nets.load_squeezenet(file_in(root, "squeezenet_imagenet.npz")),
        apply=nets.squeezenet,
        preprocess=nets.squeezenet_preprocess,
        size=224,
        stages=("fire4", "fire8", "fire9"),
        classes=_imagenet_classes(file_in(root, "imagenet_classes.csv")),
    )


def _imagenet_classes(path: Path) -> tuple[str, ...]:
    with path.open(newline="") as file:
        return tuple(row["name"] for row in csv.DictReader(file))


def _cifar(root: Path | None, depth: int) -> Classifier:
    return Classifier(
        params=nets.load_cifar_resnet(file_in(root, f"cifar10_resnet{depth}.safetensors")),
        apply=nets.cifar_resnet,
        preprocess=nets.imagenet_normalize,
        size=32,
        stages=("layer1", "layer2", "layer3"),
        classes=tuple(_CIFAR10.split()),
    )


def _efficientnet(root: Path | None) -> Classifier:
    found = classifier.load(
        str(file_in(root, "efficientnet_lite0.safetensors")),
        architecture="efficientnet_lite0",
        classes=str(file_in(root, "imagenet_classes.csv")),
    )
    return dataclasses.replace(
        found,
        preprocess=lambda rgb: (255 * rgb - 127) / 128,
        stages=("stage2", "stage4", "stage6"),
    )


def _transformer(root: Path | None) -> Classifier:
    """The small one of `configs/tiny20_vit.py`, whose weights lie beside its results."""
    del root
    return classifier.load(str(_CHECKOUT / "results/vit/tiny20_vit.safetensors"))


OURS: dict[str, Callable[[Path | None], Classifier]] = {
    "efficientnet_lite0": _efficientnet,
    "squeezenet": _squeezenet,
    "tiny20_vit": _transformer,
    "cifar10_resnet20": partial(_cifar, depth=20),
    "cifar10_resnet56": partial(_cifar, depth=56),
}
