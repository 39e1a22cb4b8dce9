"""VGG for `[B, H, W, C]` images, its submodules and layers named as torchvision names them."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcam._ground.errors import ArgumentError
from jaxcam._program.layers import tag

__all__ = ["VGG", "adaptive_average_pool"]

_kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_POOLED = 7  # cells per side that the classifier sees


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """y_ij = mean of x over [floor(ih/s), ceil((i+1)h/s)), columns likewise: AdaptiveAvgPool2d.

    Means of slices, not a matrix product: the traced program shows average pooling and no linear
    layer.

    Args:
        x: activations `[B, h, w, c]`.
        size: s, cells per side; larger than h or w repeats cells.

    Returns:
        `[B, s, s, c]`.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if n == size:
            continue
        bins = []
        for i in range(size):
            cells = jax.lax.slice_in_dim(x, i * n // size, -(-(i + 1) * n // size), axis=axis)
            bins.append(cells.mean(axis, keepdims=True))
        x = jnp.concatenate(bins, axis)
    return x


class VGG(nn.Module):
    """VGG: stages of 3x3 convolutions, each ended by a 2x2 max pool, and two hidden linear layers.

    Layers tagged: `features.0`, `features.1`, ... after every convolution, norm, ReLU and pool,
    counted as torchvision counts them.

    Args:
        stage_sizes: convolutions per stage.
        widths: channels per stage.
        batch_norm: a batch norm after every convolution.
        hidden: units of the hidden linear layers.
        dropout: probability of dropping a hidden unit in training.
        num_classes: number of logits.
        dtype: type of the computation, say "bfloat16"; parameters stay float32. None follows the
            inputs.
        axis_name: mapped axis over which batch norm averages its statistics in training; None: this
            device's.

    Raises:
        ValueError: `stage_sizes` and `widths` of different lengths.

    References:
        Simonyan and Zisserman, Very deep convolutional networks for large-scale image
        recognition, 2014.
    """

    classifier: ClassVar[str] = "classifier.6"  # torchvision's name of the last linear layer

    stage_sizes: Sequence[int] = (2, 2, 3, 3, 3)
    widths: Sequence[int] = (64, 128, 256, 512, 512)
    batch_norm: bool = False
    hidden: int = 4096
    dropout: float = 0.5
    num_classes: int = 1000
    dtype: Any = None
    axis_name: str | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        if len(self.stage_sizes) != len(self.widths):
            got = f"{self.stage_sizes} and {self.widths}"
            raise ArgumentError("stage_sizes and widths", got, "one length for both")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits `[B, num_classes]`, float32 unless the inputs are wider, of images `[B, H, W, C]`.

        Args:
            images: normalised images `[B, H, W, C]`.
            train: drop units (`rngs={"dropout": key}`), normalise by the batch's statistics and
                update the averages (`mutable=["batch_stats"]`).
        """
        x = self._features(images, train)
        x = adaptive_average_pool(x, _POOLED)
        # torchvision flattens (C, H, W); in its order its weights need no permutation.
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        for index in (0, 3):
            x = nn.relu(self._linear(self.hidden, f"classifier.{index}", self.dtype)(x))
            x = nn.Dropout(self.dropout, deterministic=not train, name=f"classifier.{index + 2}")(x)
        dtype = self.dtype
        if dtype is not None:
            dtype = jnp.float32  # logits are never rounded to bfloat16
        return self._linear(self.num_classes, self.classifier, dtype)(x)

    def _features(self, x: jax.Array, train: bool) -> jax.Array:
        for index, kind in enumerate(self._plan()):
            name = f"features.{index}"
            x = tag(self._feature(kind, train, name)(x), name)
        return x

    def _plan(self) -> list[str | int]:
        """The flat list of modules, a convolution being written as its number of channels."""
        plan: list[str | int] = []
        for convolutions, width in zip(self.stage_sizes, self.widths, strict=True):
            plan += [width, *["norm"] * self.batch_norm, "relu"] * convolutions + ["pool"]
        return plan

    def _feature(self, kind: str | int, train: bool, name: str) -> Any:
        if kind == "relu":
            return nn.relu
        if kind == "pool":
            return partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
        common = {"dtype": self.dtype, "name": name}
        if isinstance(kind, int):
            padding = [(1, 1), (1, 1)]
            return nn.Conv(kind, (3, 3), padding=padding, kernel_init=_kaiming_normal, **common)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            axis_name=self.axis_name,
            **common,
        )

    def _linear(self, units: int, name: str, dtype: Any) -> nn.Dense:
        return nn.Dense(units, dtype=dtype, kernel_init=nn.initializers.normal(0.01), name=name)
