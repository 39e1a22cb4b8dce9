"""CBAM, channel then spatial attention, its submodules named as the authors' code names them."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcam._program.layers import tag
from jaxcam.models.common import uniform_by_fan_in

__all__ = ["CBAM", "ChannelGate", "SpatialGate", "largest"]

_MINIMUM = 4  # hidden units: those of the narrowest block of the published networks, 64 / 16


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def largest(x: jax.Array, axis: int) -> jax.Array:
    """Maximum of x over one axis, whose gradient goes to the first of the largest values.

    JAX's own rule looks for the values that equal the maximum. Where XLA computes them anew for
    that, in another fusion and rounded differently, it finds none and divides 0 by 0: CBAM's
    gradients were NaN in compiled programs.

    Args:
        x: any array.
        axis: the axis to reduce.

    Returns:
        x without the axis.
    """
    return x.max(axis)


@largest.defjvp
def _largest_jvp(axis: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,) = primals
    (tangent,) = tangents
    first = jax.nn.one_hot(x.argmax(axis), x.shape[axis], axis=axis, dtype=tangent.dtype)
    return largest(x, axis), (first * tangent).sum(axis)


class ChannelGate(nn.Module):
    """Mc = sigmoid(MLP(mean_ij F) + MLP(max_ij F)), one MLP of one hidden layer for both.

    Args:
        reduction: the hidden layer has c / reduction units, rounded down, but 4 at least.
        dtype: type of the computation; None follows the inputs.
    """

    reduction: int = 16
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The gate `[B, 1, 1, c]`, in (0, 1), of activations `[B, h, w, c]`."""
        channels = x.shape[-1]
        pooled = jnp.stack([x.mean((1, 2)), largest(x.reshape(len(x), -1, channels), 1)], axis=1)
        hidden = nn.relu(
            self._linear(max(channels // self.reduction, _MINIMUM), channels, "mlp.1")(pooled)
        )
        logits = self._linear(channels, hidden.shape[-1], "mlp.3")(hidden)
        return nn.sigmoid(logits.sum(1))[:, None, None, :]

    def _linear(self, units: int, fan_in: int, name: str) -> nn.Dense:
        return nn.Dense(units, dtype=self.dtype, kernel_init=uniform_by_fan_in(fan_in), name=name)


class SpatialGate(nn.Module):
    """Ms = sigmoid(BN(conv([max_k F, mean_k F]))), a 7x7 convolution of two planes.

    1/2 everywhere at first.

    Args:
        conv: makes a convolution of (features, kernel, stride, name=).
        norm: makes a batch norm of (scale_init=, momentum=, name=).
    """

    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The gate `[B, h, w, 1]`, in (0, 1), of activations `[B, h, w, c]`."""
        planes = jnp.stack([largest(x, 3), x.mean(-1)], axis=-1)
        z = self.conv(1, 7, 1, name="spatial.conv")(planes)
        # PyTorch's 0.01
        norm = self.norm(scale_init=nn.initializers.zeros, momentum=0.99, name="spatial.bn")
        return nn.sigmoid(norm(z))


class CBAM(nn.Module):
    """F_o = Ms(F') * F' with F' = Mc(F_i) * F_i.

    Layers tagged, after the path of the module that holds this one: `.channel_gate` (Mc
    `[B, 1, 1, c]`), `.spatial_gate` (Ms `[B, h, w, 1]`) and `.att` (ATT = F_o - F_i
    `[B, h, w, c]`). Nothing consumes ATT, so a compiled forward pass leaves it out, and no logit
    has a gradient with respect to it.

    Args:
        conv: as of `SpatialGate`.
        norm: as of `SpatialGate`.
        reduction: as of `ChannelGate`.
        dtype: type of the computation; None follows the inputs.

    References:
        Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018, eq. 1 to 3. Kang et al.
        2021, eq. 7, for ATT.
    """

    conv: Any
    norm: Any
    reduction: int = 16
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """F_o of F_i, both `[B, h, w, c]`."""
        layer = lambda value, name: tag(value, ".".join((*self.path[:-1], name)))
        y = (
            layer(ChannelGate(self.reduction, self.dtype, name="ChannelGate")(x), "channel_gate")
            * x
        )
        y = layer(SpatialGate(self.conv, self.norm, name="SpatialGate")(y), "spatial_gate") * y
        layer(y - x, "att")
        return y
