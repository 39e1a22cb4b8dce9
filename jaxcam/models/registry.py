"""Architectures by name."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxcam._ground.errors import ArgumentError, check_choice, check_whole, listing
from jaxcam.models.abn import AttentionBranchNetwork
from jaxcam.models.efficientnet import EfficientNetLite
from jaxcam.models.resnet import ResNet
from jaxcam.models.vgg import VGG
from jaxcam.models.vit import VisionTransformer

__all__ = ["ARCHITECTURES", "TORCHVISION", "Architecture", "create"]

_RESNETS = {
    "resnet18": {"stage_sizes": (2, 2, 2, 2), "block": "basic"},
    "resnet34": {"stage_sizes": (3, 4, 6, 3), "block": "basic"},
    "resnet50": {"stage_sizes": (3, 4, 6, 3), "block": "bottleneck"},
    "resnet101": {"stage_sizes": (3, 4, 23, 3), "block": "bottleneck"},
    "resnet152": {"stage_sizes": (3, 8, 36, 3), "block": "bottleneck"},
    "resnet_compact": {"stage_sizes": (2, 2, 2, 2), "widths": (32, 64, 128, 192), "stem": "small"},
}
_VGGS = {
    "vgg11": {"stage_sizes": (1, 1, 2, 2, 2)},
    "vgg13": {"stage_sizes": (2, 2, 2, 2, 2)},
    "vgg16": {"stage_sizes": (2, 2, 3, 3, 3)},
    "vgg19": {"stage_sizes": (2, 2, 4, 4, 4)},
}
_VGGS |= {f"{name}_bn": {**fields, "batch_norm": True} for name, fields in _VGGS.items()}
_CBAMS = {
    "cbam_resnet18": {**_RESNETS["resnet18"], "attention": "cbam"},
    "cbam_resnet34": {**_RESNETS["resnet34"], "attention": "cbam"},
    "cbam_resnet50": {**_RESNETS["resnet50"], "attention": "cbam"},
    "cbam_resnet101": {**_RESNETS["resnet101"], "attention": "cbam"},
    "cbam_compact": {**_RESNETS["resnet_compact"], "attention": "cbam"},
}
_ABNS = {"abn_resnet50": _RESNETS["resnet50"], "abn_compact": _RESNETS["resnet_compact"]}
_LITES = {
    "efficientnet_lite0": {},
    "efficientnet_lite1": {"depth": 1.1},
    "efficientnet_lite2": {"width": 1.1, "depth": 1.2},
    "efficientnet_lite3": {"width": 1.2, "depth": 1.4},
    "efficientnet_lite4": {"width": 1.4, "depth": 1.8},
}
_VITS = {
    "vit_tiny": {"width": 192, "heads": 3},
    "vit_small": {"width": 384, "heads": 6},
    "vit_base": {},
    # For images of 64 pixels: 8 x 8 patches.
    "vit_compact": {"patch": 8, "width": 128, "depth": 6, "heads": 4, "mlp_ratio": 2.0, "size": 64},
}
Module = type[ResNet | VGG | EfficientNetLite | VisionTransformer]


class Architecture(NamedTuple):
    """A module and the fields that make it the architecture."""

    module: Module
    fields: Mapping[str, Any]


def _of(module: Module, family: Mapping[str, Mapping]) -> dict[str, Architecture]:
    return {name: Architecture(module, fields) for name, fields in family.items()}


ARCHITECTURES = {
    **_of(ResNet, _RESNETS),
    **_of(VGG, _VGGS),
    **_of(ResNet, _CBAMS),
    **_of(AttentionBranchNetwork, _ABNS),
    **_of(EfficientNetLite, _LITES),
    **_of(VisionTransformer, _VITS),
}
# of which it has weights
TORCHVISION = tuple(name for name in (*_RESNETS, *_VGGS) if name != "resnet_compact")
_OWN = {"parent", "name", "num_classes"}  # fields that are no options


def create(name: str, *, num_classes: int = 1000, **options: Any) -> nn.Module:
    """A fresh Flax Linen classifier: `model.apply(variables, images, train=False) -> logits`.

    Args:
        name: one of `ARCHITECTURES`: resnet18/34/50/101/152, resnet_compact, vgg11/13/16/19 and
            vgg11_bn/..., cbam_resnet18/34/50/101, cbam_compact, abn_resnet50, abn_compact,
            efficientnet_lite0 to 4, vit_tiny, vit_small, vit_base, vit_compact.
        num_classes: number of logits.
        **options: fields of `ResNet` (also for cbam and abn) or `VGG` that differ from the
            architecture's, say `dtype="bfloat16"`.

    Returns:
        The module; `model.init(key, images)` draws its variables as torchvision does.

    Raises:
        ValueError: an unknown name (the nearest are named), an unknown option (the valid ones are
            named) or a value that the option does not take.

    Example:
        >>> model = jaxcam.models.create("resnet_compact", num_classes=3)
        >>> shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> shapes["params"]["fc"]["kernel"].shape
        (192, 3)
    """
    check_choice("name", name, ARCHITECTURES, kind="architectures")
    check_whole("num_classes", num_classes, 1)
    module, defaults = ARCHITECTURES[name]
    valid = [field.name for field in dataclasses.fields(module) if field.name not in _OWN]
    unknown = sorted(set(options) - set(valid))
    if unknown:
        got = f"{listing(unknown)} for {name}"
        raise ArgumentError("options", got, f"any of {listing(valid)}")
    _check_dtype(options.get("dtype"))
    fields = {**defaults, **options}
    for key, value in fields.items():
        if isinstance(value, list):
            fields[key] = tuple(value)  # modules are hashable
    return module(num_classes=num_classes, **fields)


def _check_dtype(dtype: Any) -> None:
    try:
        valid = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        valid = False
    if not valid:
        raise ArgumentError("dtype", repr(dtype), "a floating-point type, say 'bfloat16'")
