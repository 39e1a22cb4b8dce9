"""The network of a run and the variables that it starts from."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import Classification
from jaxcam import models
from jaxcam._ground.errors import ArgumentError
from train import objectives
from train.state import Variables

_NAMED = 6  # how many paths a message lists


def network(config: Classification, num_classes: int, axis_name: str | None = None) -> nn.Module:
    """The config's architecture; its batch norms average over `axis_name`.

    Raises:
        ValueError: one class, and a loss that then is 0 whatever the network says.
    """
    objectives.check_outputs(config, num_classes)
    options = dict(config.options)
    if config.compute_dtype != "float32":
        options["dtype"] = config.compute_dtype
    return models.create(
        config.architecture, num_classes=num_classes, axis_name=axis_name, **options
    )


def variables(config: Classification, model: nn.Module) -> tuple[Variables, str]:
    """Variables drawn from the config's seed, or those of `config.init_from`.

    What depends on the classes is drawn where their number differs, and so is what the file lacks.

    Returns:
        The variables, and a line that says where they come from.

    Raises:
        FileNotFoundError: `init_from` is no file.
        ValueError: it holds what the network has no place for.
    """
    images = jnp.zeros((1, config.image_size, config.image_size, 3))
    drawn = jax.jit(model.init)(jax.random.key(config.seed), images)
    if config.init_from is None:
        return drawn, f"parameters drawn from seed {config.seed}"
    source, loaded = models.load(config.init_from)
    return _merge(config, drawn, loaded, (source.num_classes, model.num_classes))


def _merge(
    config: Classification, drawn: Variables, loaded: Variables, classes: tuple[int, int]
) -> tuple[Variables, str]:
    """`loaded` where it fits and `drawn` elsewhere."""
    merged: dict[str, Any] = dict(flatten_dict(drawn, sep="/"))
    held: dict[str, Any] = dict(flatten_dict(loaded, sep="/"))
    new = set(merged)
    left = []
    for path, leaf in held.items():
        if path not in merged:
            left.append(path)
        elif leaf.shape == merged[path].shape:
            merged[path] = jnp.asarray(leaf, merged[path].dtype)
            new.remove(path)
        elif not _by_classes(leaf, merged[path], classes):
            left.append(path)
    if left:
        raise ArgumentError(
            "init_from",
            f"{config.init_from} with {_listing(left)}",
            f"only what {config.architecture} has a place for",
        )
    said = f"parameters from {config.init_from}"
    if new:
        said += f"; new: {_listing(new)}"
    return unflatten_dict(merged, sep="/"), said


def _by_classes(old: jax.Array, new: jax.Array, classes: tuple[int, int]) -> bool:
    """Whether shapes differ only where one has the old and the other the new number of classes."""
    if old.ndim != new.ndim:
        return False
    pairs = zip(old.shape, new.shape, strict=True)
    return all(a == b or (a, b) == classes for a, b in pairs)


def _listing(paths: Iterable[str]) -> str:
    """Names without their collection: "params/layer1.0/conv1/kernel" is "layer1.0.conv1.kernel"."""
    names = sorted({path.partition("/")[2].replace("/", ".") for path in paths})
    text = ", ".join(names[:_NAMED])
    if len(names) > _NAMED:
        text += f" and {len(names) - _NAMED} more"
    return text
