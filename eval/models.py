"""Trained networks for the protocols, each as a plain function of its parameters."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from eval import nets
from eval.data import SHARED

_CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class Network:
    """A trained network.

    Args:
        params: its parameters, any pytree.
        apply: `(params, normalised images [B, H, W, 3]) -> logits [B, N]`.
        preprocess: RGB in [0, 1] -> normalised images.
        size: height and width of its input.
        layers: what to explain unless asked otherwise.
        classes: their names, if they are known.
        activation: what makes its logits probabilities, as in `jaxcam.targets.probabilities`.
        init: from a key to untrained parameters by the architecture's own initialisers, if these
            are known.
    """

    params: Any
    apply: Callable[[Any, jax.Array], jax.Array]
    preprocess: Callable[[jax.Array], jax.Array]
    size: int
    layers: tuple[str, ...]
    classes: tuple[str, ...] = ()
    init: Callable[[jax.Array], Any] | None = None
    activation: str | None = None

    def forward(self, params: Any) -> "Forward":
        """The network with these parameters."""
        return Forward(self, params)

    def prepare(self, images: jax.Array) -> jax.Array:
        """uint8 photos -> normalised images."""
        return self.preprocess(images.astype(jnp.float32) / 255)


@dataclass(frozen=True, eq=False)
class Forward:
    """Normalised images -> logits, and what makes these probabilities."""

    network: Network
    params: Any

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `[B, N]` of images `[B, H, W, 3]`."""
        return self.network.apply(self.params, images)

    @property
    def activation(self) -> str | None:
        """As in `jaxcam.targets.probabilities`."""
        return self.network.activation


def load(name: str, root: Path = SHARED) -> Network:
    """A network by name.

    Args:
        name: "squeezenet", "cifar10_resnet20" or "cifar10_resnet56" from `root`, or what
            `jaxcam.models.load` takes: "tiny20" (bundled), "resnet50.tv_in1k", a `.safetensors`
            file; or a black box outside JAX: an `.onnx` file of RGB images `[B, 3, H, W]` in [0, 1]
            -> logits, as `eval.onnx_export` writes it.
        root: folder of the trained nets.

    Raises:
        FileNotFoundError: its file is not there.
        ValueError: an unknown name.
    """
    if name in OURS:
        return OURS[name](root)
    return _black_box(Path(name)) if name.endswith(".onnx") else _library(name)


def _black_box(path: Path) -> Network:
    """A file of images in [0, 1]. Ours are normalised too, so that 0 is a mean colour here."""
    height, width = jaxcam.blackbox.onnx_size(path)
    if height != width:
        raise ValueError(f"model: {path} takes images of {height} x {width}, expected a square")
    box = jaxcam.blackbox.onnx(path)
    classes = box(np.zeros((1, height, width, 3))).shape[1]
    ask = jaxcam.blackbox.callback(box, classes)
    mean, std = jnp.array(nets.IMAGENET_MEAN), jnp.array(nets.IMAGENET_STD)
    return Network(
        (), lambda _, images: ask(images * std + mean), nets.imagenet_normalize, height, ()
    )


def _squeezenet(root: Path) -> Network:
    params = nets.load_squeezenet(root / "squeezenet_imagenet.npz")
    classes = _imagenet_classes(root / "imagenet_classes.csv")
    return Network(
        params,
        nets.squeezenet,
        nets.squeezenet_preprocess,
        224,
        ("fire4", "fire8", "fire9"),
        classes,
    )


def _imagenet_classes(path: Path) -> tuple[str, ...]:
    with path.open(newline="") as file:
        return tuple(row["name"] for row in csv.DictReader(file))


def _cifar(root: Path, depth: int) -> Network:
    params = nets.load_cifar_resnet(root / f"cifar10_resnet{depth}.safetensors")
    return Network(
        params,
        nets.cifar_resnet,
        nets.imagenet_normalize,
        32,
        ("layer1", "layer2", "layer3"),
        _CIFAR10,
    )


OURS: dict[str, Callable[[Path], Network]] = {
    "squeezenet": _squeezenet,
    "cifar10_resnet20": partial(_cifar, depth=20),
    "cifar10_resnet56": partial(_cifar, depth=56),
}


def _library(name: str) -> Network:
    from jaxcam import models
    from jaxcam.classifier import stages

    about = models.describe(name)
    model, variables = models.load(name)
    apply = lambda params, images: jaxcam.linen(model, params)(images)
    size = about.preprocess.size
    shapes = jaxcam.layers(
        partial(apply, variables), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    )
    init = lambda key: jax.jit(model.init)(key, jnp.zeros((1, size, size, 3)))
    return Network(
        variables,
        apply,
        about.preprocess,
        size,
        stages(shapes),
        tuple(about.classes),
        init,
        about.activation,
    )
