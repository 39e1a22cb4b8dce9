"""A classifier by name: a network of `jaxcam.models`, or a function in a file of the user's own."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxcam
from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from jaxcam.classifier import _own
from jaxcam.classifier._classifier import Classifier, stages


def load(name: str, *, architecture: str | None = None, classes: str | None = None) -> Classifier:
    """A network of `jaxcam.models`, or one of the user's own.

    Args:
        name: what `jaxcam.models.load` takes, a bundled or published network or a `.safetensors`
            file; or `FILE.py:function`, a function without arguments that returns
            `(forward, about)`, or an adapter's result alone: see `docs/own_model.md`.
        architecture: as `jaxcam.models.describe` takes it.
        classes: likewise; instead of the classes that `about` names.

    Returns:
        The network with its stages, classes and initialisers.

    Raises:
        FileNotFoundError, ValueError: as `jaxcam.models.describe` and `jaxcam.models.load`; a file
            or function that is not there, that raises or returns something else.

    Example:
        >>> load("tiny20").stages
        ('layer1', 'layer2', 'layer3', 'layer4')
    """
    if not _own.is_own(name):
        return _of_library(name, architecture, classes)
    if architecture is not None:
        raise ArgumentError("architecture", repr(architecture), f"none for {name}, which is code")
    return _own.load(name, classes)


def _of_library(name: str, architecture: str | None, classes: str | None) -> Classifier:
    from jaxcam import models  # flax is slow to import, and a command's --help does without

    if architecture is None and not Path(name).exists():
        _refuse_unpublished(name)
    about = models.describe(name, architecture=architecture, classes=classes)
    model, variables = models.load(name, architecture=architecture)
    size = about.preprocess.size

    def apply(params: Any, images: jax.Array) -> jax.Array:
        return jaxcam.linen(model, params)(images)

    def init(key: jax.Array) -> Any:
        return jax.jit(model.init)(key, jnp.zeros((1, size, size, 3)))

    found = Classifier(
        params=variables,
        apply=apply,
        preprocess=about.preprocess,
        size=size,
        classes=tuple(about.classes),
        activation=about.activation,
        init=init,
        name=short_name(name),
        architecture=about.architecture,
    )
    return found.with_stages(stages(found.layers))


def short_name(name: str) -> str:
    """A file's stem, and any other network's own name."""
    if name.endswith(".safetensors"):
        return Path(name).stem
    return name


def _refuse_unpublished(name: str) -> None:
    """ArgumentFileError for an architecture of which no weights are published: how to give some."""
    from jaxcam.models.pretrained import PUBLISHED
    from jaxcam.models.registry import ARCHITECTURES

    if name not in ARCHITECTURES or any(known.startswith(f"{name}.") for known in PUBLISHED):
        return
    expected = f"a weights file with --architecture {name}, and --classes FILE.csv for its names"
    raise ArgumentFileError("name_or_path", f"{name!r}, which comes without weights", expected)
