"""What the residual networks share: PyTorch's convolution and its default initialisation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["conv", "uniform_by_fan_in"]

_kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(features: int, kernel: int, stride: int, **kwargs: Any) -> nn.Conv:
    """Convolution with PyTorch's padding: (k - 1) / 2 on both sides.

    'SAME' pads (0, 1) at stride 2.
    """
    padding = [(kernel // 2, kernel // 2)] * 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding,
        use_bias=False,
        kernel_init=_kaiming_normal,
        **kwargs,
    )


def uniform_by_fan_in(fan_in: int) -> Callable[..., jax.Array]:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear weights and biases."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )
