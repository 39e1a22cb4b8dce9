"""Architectures by name."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxcam.models.abn import AttentionBranchNetwork
from jaxcam.models.efficientnet import EfficientNetLite
from jaxcam.models.resnet import ResNet
from jaxcam.models.vgg import VGG
from jaxcam.models.vit import VisionTransformer

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
_CBAM = {
    f"cbam_{name.replace('resnet_compact', 'compact')}": {**_RESNETS[name], "attention": "cbam"}
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet_compact")
}
_ABN = {
    f"abn_{name.replace('resnet_compact', 'compact')}": _RESNETS[name]
    for name in ("resnet50", "resnet_compact")
}
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
ARCHITECTURES: dict[str, tuple[type[nn.Module], Mapping[str, Any]]] = {
    **{name: (ResNet, fields) for name, fields in _RESNETS.items()},
    **{name: (VGG, fields) for name, fields in _VGGS.items()},
    **{name: (ResNet, fields) for name, fields in _CBAM.items()},
    **{name: (AttentionBranchNetwork, fields) for name, fields in _ABN.items()},
    **{name: (EfficientNetLite, fields) for name, fields in _LITES.items()},
    **{name: (VisionTransformer, fields) for name, fields in _VITS.items()},
}
# of which it has weights
TORCHVISION = (*(name for name in _RESNETS if name != "resnet_compact"), *_VGGS)


def create(name: str, num_classes: int = 1000, **options: Any) -> nn.Module:
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
    """
    if name not in ARCHITECTURES:
        nearest = (
            difflib.get_close_matches(str(name), ARCHITECTURES, n=3, cutoff=0.3) or ARCHITECTURES
        )
        raise ValueError(
            f"name: got {name!r}, which is no architecture; nearest: {', '.join(nearest)}"
        )
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes: got {num_classes!r}, expected a positive int")
    module, defaults = ARCHITECTURES[name]
    valid = [
        field.name
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name", "num_classes")
    ]
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise ValueError(
            f"options: {name} got {', '.join(unknown)}, expected any of {', '.join(valid)}"
        )
    _check_dtype(options.get("dtype"))
    fields = {**defaults, **options}
    hashable = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    return module(num_classes=num_classes, **hashable)


def _check_dtype(dtype: Any) -> None:
    try:
        valid = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        valid = False
    if not valid:
        raise ValueError(f"dtype: got {dtype!r}, expected a floating-point type, say 'bfloat16'")
