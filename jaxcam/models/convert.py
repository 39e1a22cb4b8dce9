"""Variables <-> state dicts in torchvision's format: its keys, arrays in PyTorch's layout.

The models name their submodules after torchvision's, so a variable's path is its key and no table
per model is needed: `("params", "layer1.0", "conv1", "kernel")` is `layer1.0.conv1.weight`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcam._ground.errors import ArgumentError, listing
from jaxcam.models.registry import ARCHITECTURES, create

__all__ = ["from_torchvision", "to_torchvision"]

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# Variables of a module's own, under one name in both.
_PLAIN = ("cls_token", "pos_embed")
# Number of dimensions of a kernel -> the axes that take it to PyTorch: HWIO -> OIHW, IO -> OI.
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}
_FROM_TORCH = {4: (2, 3, 1, 0), 2: (1, 0)}
# timm's VGG holds torchvision's weights, its linear layers as convolutions under other names.
_TIMM = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}
_NAMED = 8  # how many keys an error lists


def to_torchvision(variables: Mapping) -> dict[str, np.ndarray]:
    """The state dict of a model's variables, as PyTorch saves it (without `num_batches_tracked`).

    Args:
        variables: `{"params": ..., "batch_stats": ...}` of any Linen model; a module's path, joined
            by ".", becomes the prefix of its keys.

    Returns:
        Arrays by key, kernels as OIHW and OI, in the variables' own type.

    Raises:
        ValueError: a variable that has no counterpart in PyTorch's layers.

    Example:
        >>> model, variables = jaxcam.models.load("tiny20")
        >>> state = jaxcam.models.to_torchvision(variables)
        >>> state["fc.weight"].shape
        (20, 192)
    """
    state = {}
    for key, path, value in _entries(variables):
        state[key] = _transpose(np.asarray(value), path, _TO_TORCH)
    return state


def from_torchvision(name: str, state_dict: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """The variables of `create(name)` from a state dict in torchvision's format (or timm's).

    CBAM and ABN networks take those of their authors' code (Jongchan/attention-module,
    machine-perception-robotics-group/attention_branch_network), which follow torchvision.

    Args:
        name: an architecture, say "resnet50".
        state_dict: arrays by key in PyTorch's layout. `num_batches_tracked` is ignored.
        **options: options of `create`; `num_classes` is inferred from the last layer's bias.

    Returns:
        `{"params": ..., "batch_stats": ...}` in float32.

    Raises:
        ValueError: keys that are missing, unused or misshapen, each named; values that are no
            floats or not finite, or negative variances; or what `create` raises.

    Example:
        >>> fields = {"stage_sizes": (1,), "widths": (4,), "strides": (1,), "num_classes": 3}
        >>> model = jaxcam.models.create("resnet18", **fields)
        >>> state = jaxcam.models.to_torchvision(model.init(jax.random.key(0), images))
        >>> variables = jaxcam.models.from_torchvision("resnet18", state, **fields)
        >>> model.apply(variables, images).shape
        (2, 3)
    """
    state = torchvision_keys(state_dict)
    return fill(create(name, **infer_classes(name, state, options)), state, name)


def fill(
    model: nn.Module, state: Mapping[str, np.ndarray], name: str = "the model"
) -> dict[str, Any]:
    """The variables of `model` from a state dict that fits it, else the error of `check_fit`.

    Raises:
        ValueError: as `check_fit`; numbers that are no floats or not finite in float32, variances
            below 0.
    """
    check_fit(model, state, name)
    flat = {}
    for key, path, _ in _entries(_abstract(model)):
        value = _checked(key, state[key], path[-1] == "var", name)
        # jnp.asarray would compile a program for each shape
        flat[path] = jax.device_put(_transpose(value, path, _FROM_TORCH))
    return unflatten_dict(flat)


def _checked(key: str, value: np.ndarray, variance: bool, name: str) -> np.ndarray:
    """The array in float32.

    On a CPU XLA gives max(x, 0) that is fused into a sum to YNNPACK, which drops NaN (jaxlib 0.10):
    a network with NaN in it then answers plausibly.
    """
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ArgumentError("state_dict", f"{key} of {value.dtype}", f"floats in {name}")
    with np.errstate(over="ignore"):
        found = np.asarray(value, np.float32)
    lost = found.size - np.count_nonzero(np.isfinite(found))
    if lost:
        got = f"{key} with {lost} of {found.size} values that are NaN or infinite"
        raise ArgumentError("state_dict", got, f"finite numbers in {name}")
    if variance and found.min() < 0:
        got = f"{key} with variances down to {found.min():.4g}"
        raise ArgumentError("state_dict", got, f"at least 0 in {name}")
    return found


def check_fit(model: nn.Module, state: Mapping[str, np.ndarray], name: str) -> None:
    """ValueError with the missing, unused, misshapen keys of a state that does not fit `model`."""
    expected = expected_shapes(model)
    findings: dict[str, list[str]] = {"missing": [], "unused": [], "misshapen": []}
    for key, shape in expected.items():
        if key not in state:
            findings["missing"].append(key)
        elif tuple(state[key].shape) != shape:
            findings["misshapen"].append(f"{key} {tuple(state[key].shape)} instead of {shape}")
    findings["unused"] = [key for key in state if key not in expected]
    found = [f"{len(keys)} {kind}: {first(keys)}" for kind, keys in findings.items() if keys]
    if found:
        raise ArgumentError("state_dict", "; ".join(found), f"the keys and shapes of {name}")


def expected_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """`{key: shape}` of the state dict that `model` takes in PyTorch's layout; nothing runs."""
    shapes = {}
    for key, path, value in _entries(_abstract(model)):
        stand_in = np.broadcast_to(0, value.shape)  # takes no memory
        shapes[key] = _transpose(stand_in, path, _TO_TORCH).shape
    return shapes


def torchvision_keys(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict under torchvision's keys and shapes: timm's undone, no `num_batches_tracked`.

    The `module.` that PyTorch's DataParallel puts before every key is dropped.
    """
    prefix = ""
    if all(key.startswith("module.") for key in state_dict):
        prefix = "module."
    state = {}
    for key, value in state_dict.items():
        module, _, leaf = key.removeprefix(prefix).rpartition(".")
        # EfficientNet's ports to PyTorch call their modules `_blocks.0._bn1`.
        module = ".".join(part.lstrip("_") for part in module.split("."))
        if leaf == "num_batches_tracked":
            continue
        value = np.asarray(value)
        if module in _TIMM and leaf == "weight":
            value = value.reshape(len(value), -1)
        state[f"{_TIMM.get(module, module)}.{leaf}".removeprefix(".")] = value
    return state


def infer_classes(
    name: str, state: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """`options` with the `num_classes` that the last layer of `state` has, unless they give it."""
    if name not in ARCHITECTURES:
        return dict(options)
    bias = state.get(f"{ARCHITECTURES[name].module.classifier}.bias")
    if bias is None:
        return dict(options)
    return {"num_classes": len(bias), **options}


def first(keys: Sequence[str]) -> str:
    """The first keys, and how many more there are, as an error lists them."""
    text = ", ".join(keys[:_NAMED])
    if len(keys) > _NAMED:
        text += f" and {len(keys) - _NAMED} more"
    return text


@cache
def _abstract(model: nn.Module) -> Any:
    """Shapes of a model's variables, at the size of images that it is made for, if for one."""
    size = getattr(model, "size", 64)
    init = lambda: model.init(jax.random.key(0), jnp.zeros((1, size, size, 3), jnp.float32))
    return jax.eval_shape(init)


def _entries(variables: Mapping) -> list[tuple[str, tuple[str, ...], Any]]:
    """`(key, path, value)` of every variable."""
    return [(_key(path), path, value) for path, value in flatten_dict(dict(variables)).items()]


def _key(path: tuple[str, ...]) -> str:
    if path[-1] in _PLAIN:
        return ".".join(path[1:])
    if path[-1] not in _LEAVES:
        got = f"{'/'.join(path)}, which has no counterpart in PyTorch"
        raise ArgumentError("variables", got, f"one of {listing(_LEAVES)} at the end")
    return ".".join((*path[1:-1], _LEAVES[path[-1]]))


def _transpose(
    value: np.ndarray, path: tuple[str, ...], axes: Mapping[int, tuple[int, ...]]
) -> np.ndarray:
    if path[-1] != "kernel":
        return value
    return value.transpose(axes[value.ndim])
