"""The network of a run and the variables that it starts from."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import Classification
from jaxcam import models
from train import objectives
from train.state import Variables

_NAMED = 6  # how many paths a message lists


def network(config: Classification, num_classes: int, axis_name: str | None = None) -> nn.Module:
    """The config's architecture; its batch norms average over `axis_name`.

    Raises:
        ValueError: one class, and a loss that then is 0 whatever the network says.
    """
    objectives.check_outputs(config, num_classes)
    dtype = {} if config.compute_dtype == "float32" else {"dtype": config.compute_dtype}
    return models.create(
        config.architecture, num_classes, **{**config.options, **dtype}, axis_name=axis_name
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
    drawn, loaded = flatten_dict(drawn), flatten_dict(loaded)
    of_classes = [
        path for path in loaded if path in drawn and _by_classes(loaded[path], drawn[path], classes)
    ]
    fits = [path for path in loaded if path in drawn and loaded[path].shape == drawn[path].shape]
    left = [path for path in loaded if path not in fits and path not in of_classes]
    if left:
        raise ValueError(
            f"init_from: {config.init_from} holds {_listing(left)}, for which "
            f"{config.architecture} has no place"
        )
    new = [path for path in drawn if path not in fits]
    merged = {**drawn, **{path: jnp.asarray(loaded[path], drawn[path].dtype) for path in fits}}
    return unflatten_dict(merged), f"parameters from {config.init_from}" + (
        f"; new: {_listing(new)}" if new else ""
    )


def _by_classes(old: jax.Array, new: jax.Array, classes: tuple[int, int]) -> bool:
    """Whether shapes differ, only where one has the old and the other the new number of classes."""
    same_rank = old.ndim == new.ndim and old.shape != new.shape
    return same_rank and all(
        a == b or (a, b) == classes for a, b in zip(old.shape, new.shape, strict=True)
    )


def _listing(paths: list[tuple[str, ...]]) -> str:
    names = sorted({".".join(path[1:]) for path in paths})
    return ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )
