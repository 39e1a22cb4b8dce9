"""EfficientNet-Lite for `[B, H, W, C]` images: inverted residuals, ReLU6, no squeeze and excite."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcam._program.layers import tag
from jaxcam.models.common import uniform_by_fan_in

__all__ = ["STAGES", "EfficientNetLite", "InvertedResidual", "Stage", "scaled"]

_STEM = 32
_HEAD = 1280
_DIVISOR = 8  # channels are multiples of it
_EPSILON = 1e-3
_KAIMING = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Stage(NamedTuple):
    """A run of blocks: how many, the depthwise kernel, the first's stride, expansion, channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; and the input added where shapes allow.

    Nothing is done to the sum: the projection is linear (Sandler et al., MobileNetV2, 2018).
    """

    stage: Stage
    stride: int
    norm: Any
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, h, w, c]` to `[B, h / stride, w / stride, channels]`."""
        y = x
        if self.stage.expansion != 1:
            y = _conv(x.shape[-1] * self.stage.expansion, 1, 1, "expand_conv", self.dtype)(y)
            y = nn.relu6(self.norm(name="bn0")(y))
        side = self.stage.kernel
        depthwise = nn.Conv(
            y.shape[-1],
            (side, side),
            (self.stride, self.stride),
            padding="SAME",
            feature_group_count=y.shape[-1],
            use_bias=False,
            kernel_init=_KAIMING,
            dtype=self.dtype,
            name="depthwise_conv",
        )
        y = nn.relu6(self.norm(name="bn1")(depthwise(y)))
        y = _conv(self.stage.channels, 1, 1, "project_conv", self.dtype)(y)
        y = self.norm(name="bn2")(y)
        if self.stride == 1 and x.shape[-1] == self.stage.channels:
            return x + y
        return y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite: stem, seven stages of inverted residuals, 1x1 head, pool, linear layer.

    Layers are `stage1` to `stage7`, `conv_head`, and every block `blocks.N`, numbered through.

    Args:
        num_classes: number of logits.
        width: channels of the blocks, as a multiple of Lite0's.
        depth: blocks of a stage, as a multiple of Lite0's; the first and the last stage keep one.
        dtype: of the computation; None is that of parameters and images.
        axis_name: mapped axis over which batch statistics are shared.

    References:
        Tan and Le, EfficientNet, ICML 2019; github.com/tensorflow/tpu, efficientnet/lite.
    """

    num_classes: int = 1000
    width: float = 1.0
    depth: float = 1.0
    dtype: Any = None
    axis_name: str | None = None
    classifier: ClassVar[str] = "fc"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        stages = scaled(self.width, self.depth)

        def norm(name: str) -> nn.BatchNorm:
            return nn.BatchNorm(
                use_running_average=not train,
                momentum=0.99,
                epsilon=_EPSILON,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name=name,
            )

        x = nn.relu6(norm(name="bn0")(_conv(_STEM, 3, 2, "conv_stem", self.dtype)(x)))
        index = 0
        for number, stage in enumerate(stages, start=1):
            for block in range(stage.repeats):
                stride = stage.stride if block == 0 else 1
                name = f"blocks.{index}"
                x = InvertedResidual(stage, stride, norm, self.dtype, name=name)(x)
                index += 1
            x = tag(x, f"stage{number}")
        x = nn.relu6(norm(name="bn1")(_conv(_HEAD, 1, 1, "conv_head", self.dtype)(x)))
        x = tag(x, "head")
        init = uniform_by_fan_in(_HEAD)
        dense = nn.Dense(
            self.num_classes, kernel_init=init, bias_init=init, dtype=self.dtype, name="fc"
        )
        return dense(jnp.mean(x, (1, 2)))


def scaled(width: float, depth: float) -> Sequence[Stage]:
    """The stages at a width and a depth; the first and the last keep their number of blocks."""
    found = []
    for index, stage in enumerate(STAGES):
        repeats = stage.repeats
        if 0 < index < len(STAGES) - 1:
            repeats = math.ceil(depth * repeats)
        found.append(stage._replace(repeats=repeats, channels=_rounded(width * stage.channels)))
    return found


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at most a tenth below."""
    nearest = max(_DIVISOR, int(channels + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    if nearest < 0.9 * channels:
        nearest += _DIVISOR
    return nearest


def _conv(features: int, kernel: int, stride: int, name: str, dtype: Any) -> nn.Conv:
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding="SAME",
        use_bias=False,
        kernel_init=_KAIMING,
        dtype=dtype,
        name=name,
    )
