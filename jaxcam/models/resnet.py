"""ResNet v1.5 for `[B, H, W, C]` images, submodules and layers named as in torchvision."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcam._ground.errors import ArgumentError, check_choice
from jaxcam._program.layers import tag
from jaxcam.models.cbam import CBAM
from jaxcam.models.common import conv, uniform_by_fan_in

__all__ = [
    "ATTENTIONS",
    "BLOCKS",
    "STEMS",
    "Convolution",
    "ResNet",
    "ResidualBlock",
    "Stage",
    "Stem",
]


class Stem(NamedTuple):
    """Before the first stage: one convolution and perhaps torchvision's 3x3 stride-2 max pool."""

    kernel: int
    stride: int
    pool: bool


class Convolution(NamedTuple):
    """One convolution of a residual branch; one of them carries the block's stride."""

    kernel: int
    strided: bool
    expansion: int


STEMS = {
    "imagenet": Stem(kernel=7, stride=2, pool=True),
    "small": Stem(kernel=3, stride=1, pool=False),
    "small_stride2": Stem(kernel=3, stride=2, pool=False),
}
BLOCKS = {
    "basic": (Convolution(3, True, 1), Convolution(3, False, 1)),
    "bottleneck": (Convolution(1, False, 1), Convolution(3, True, 1), Convolution(1, False, 4)),
}
ATTENTIONS = {"cbam": CBAM}


class Stage(NamedTuple):
    """A run of blocks at one width, named `layer1`, `layer2`, ...; the first has the stride."""

    name: str
    blocks: int
    width: int
    stride: int


class ResidualBlock(nn.Module):
    """y = ReLU(branch(x) + shortcut(x)).

    The branch being the convolutions of `BLOCKS[block]`, perhaps with attention. The shortcut is a
    1x1 convolution and a norm where stride or number of channels change, else x itself.
    """

    block: str
    width: int
    stride: int
    conv: Any
    norm: Any
    zero_init_residual: bool = False
    attention: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, h, w, c]` to `[B, h / stride, w / stride, width * expansion]`."""
        convolutions = BLOCKS[self.block]
        y = x
        for index, (kernel, strided, expansion) in enumerate(convolutions, start=1):
            last = index == len(convolutions)
            scale_init = nn.initializers.ones
            if last and self.zero_init_residual:
                scale_init = nn.initializers.zeros
            stride = self.stride if strided else 1
            y = self.conv(self.width * expansion, kernel, stride, name=f"conv{index}")(y)
            y = self.norm(scale_init=scale_init, name=f"bn{index}")(y)
            if not last:
                y = nn.relu(y)
        if self.stride != 1 or x.shape[-1] != y.shape[-1]:
            x = self.conv(y.shape[-1], 1, self.stride, name="downsample.0")(x)
            x = self.norm(name="downsample.1")(x)
        if self.attention is not None:
            attention = ATTENTIONS[self.attention]
            y = attention(self.conv, self.norm, dtype=self.dtype, name=self.attention)(y)
        return nn.relu(y + x)


class ResNet(nn.Module):
    """Residual network v1.5 (He et al. 2015; the stride sits on the 3x3 convolution).

    Layers tagged: `relu` (and `maxpool`) at the stem, `layer1`, `layer2`, ... after the stages;
    with attention also `layer1.0.channel_gate`, `layer1.0.spatial_gate` and `layer1.0.att` in every
    block (see `CBAM`).

    Args:
        stage_sizes: blocks per stage.
        block: "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1 with four times the width).
        widths: channels of each stage's convolutions, before the expansion of a bottleneck.
        strides: stride of each stage's first block.
        stem: "imagenet" (7x7 stride 2, max pool), "small" (3x3 stride 1) or "small_stride2" (3x3
            stride 2).
        stem_width: channels of the stem; None takes `widths[0]`.
        num_classes: number of logits.
        dtype: type of the computation, say "bfloat16"; parameters stay float32. None follows the
            inputs.
        axis_name: mapped axis over which batch norm averages its statistics in training; None: this
            device's.
        zero_init_residual: starts every block as the identity (last norm's scale 0).
        attention: None, or "cbam" after the last norm of every block's branch, before the addition.

    Raises:
        ValueError: an unknown `block`, `stem` or `attention`, or sequences of different lengths.

    References:
        He et al., Deep residual learning for image recognition, 2015, table 1.
    """

    classifier: ClassVar[str] = "fc"  # torchvision's name of the last linear layer

    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    block: str = "basic"
    widths: Sequence[int] = (64, 128, 256, 512)
    strides: Sequence[int] = (1, 2, 2, 2)
    stem: str = "imagenet"
    stem_width: int | None = None
    num_classes: int = 1000
    dtype: Any = None
    axis_name: str | None = None
    zero_init_residual: bool = False
    attention: str | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_choice("block", self.block, BLOCKS)
        check_choice("stem", self.stem, STEMS)
        check_choice("attention", self.attention, (None, *ATTENTIONS))
        lengths = tuple(map(len, (self.stage_sizes, self.widths, self.strides)))
        if len(set(lengths)) != 1:
            arguments = "stage_sizes, widths and strides"
            raise ArgumentError(arguments, f"lengths {lengths}", "one length for all")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[B, num_classes]`, float32 unless the inputs are wider, of images `[B, H, W, C]`.

        Args:
            images: normalised images `[B, H, W, C]`.
            train: normalise by the batch's statistics and update the averages
                (`mutable=["batch_stats"]`).
        """
        norm = self._norm(train)
        x = self._stem(images, norm)
        for stage in self._stages():
            x = tag(self._stage(x, stage, norm), stage.name)
        return self._head(x)

    @property
    def _logits_dtype(self) -> Any:
        """Logits are never rounded to bfloat16."""
        if self.dtype is None:
            return None
        return jnp.float32

    def _norm(self, train: bool) -> Any:
        return partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )

    def _stages(self) -> list[Stage]:
        columns = zip(self.stage_sizes, self.widths, self.strides, strict=True)
        return [Stage(f"layer{number}", *column) for number, column in enumerate(columns, start=1)]

    def _stage(self, x: jax.Array, stage: Stage, norm: Any) -> jax.Array:
        for index in range(stage.blocks):
            x = ResidualBlock(
                self.block,
                stage.width,
                1 if index else stage.stride,
                partial(conv, dtype=self.dtype),
                norm,
                self.zero_init_residual,
                self.attention,
                self.dtype,
                name=f"{stage.name}.{index}",
            )(x)
        return x

    def _stem(self, x: jax.Array, norm: Any) -> jax.Array:
        kernel, stride, pool = STEMS[self.stem]
        width = self.stem_width or self.widths[0]
        x = conv(width, kernel, stride, dtype=self.dtype, name="conv1")(x)
        x = tag(nn.relu(norm(name="bn1")(x)), "relu")
        if not pool:
            return x
        padding: Any = [(1, 1), (1, 1)]  # flax takes pairs, but its annotation says a string
        return tag(nn.max_pool(x, (3, 3), (2, 2), padding), "maxpool")

    def _head(self, x: jax.Array) -> jax.Array:
        initializer = uniform_by_fan_in(x.shape[-1])
        classify = nn.Dense(
            self.num_classes,
            dtype=self._logits_dtype,
            kernel_init=initializer,
            bias_init=initializer,
            name=self.classifier,
        )
        return classify(x.mean((1, 2), dtype=self._logits_dtype))
