"""Vision transformers for `[B, H, W, C]` images, submodules and layers named as in timm."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcam._ground.errors import ArgumentError, check_choice
from jaxcam._program.layers import tag

_EPSILON = 1e-6
_EMBEDDED = nn.initializers.truncated_normal(0.02)
__all__ = ["POOLS", "VisionTransformer"]

POOLS = ("token", "avg")


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v over `heads` heads, then a projection."""

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens `[B, T, c]` to `[B, T, c]`."""
        batch, tokens, width = x.shape
        each = width // self.heads
        qkv = nn.Dense(3 * width, kernel_init=_EMBEDDED, dtype=self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, each), 2, 0)
        scores = jnp.einsum("bthd,bshd->bhts", q, k) * each**-0.5
        shares = jax.nn.softmax(scores, axis=-1)
        mixed = jnp.einsum("bhts,bshd->bthd", shares, v).reshape(batch, tokens, width)
        return nn.Dense(width, kernel_init=_EMBEDDED, dtype=self.dtype, name="proj")(mixed)


class MLP(nn.Module):
    """Two dense layers with a GELU between them."""

    hidden: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens `[B, T, c]` to `[B, T, c]`."""
        y = nn.Dense(self.hidden, kernel_init=_EMBEDDED, dtype=self.dtype, name="fc1")(x)
        y = nn.gelu(y, approximate=False)
        return nn.Dense(x.shape[-1], kernel_init=_EMBEDDED, dtype=self.dtype, name="fc2")(y)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    heads: int
    mlp_ratio: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens `[B, T, c]` to `[B, T, c]`."""
        norm = lambda name: nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name=name)
        x = x + Attention(self.heads, self.dtype, name="attn")(norm("norm1")(x))
        hidden = int(self.mlp_ratio * x.shape[-1])
        return x + MLP(hidden, self.dtype, name="mlp")(norm("norm2")(x))


class VisionTransformer(nn.Module):
    """ViT: patches, a class token, positions, blocks, and a head on the class token or the mean.

    Layers are `blocks.0`, `blocks.1`, ... (tokens `[B, 1 + h w, c]`) and everything inside them.

    Args:
        num_classes: number of logits.
        patch: pixels of a patch's side.
        width: channels of a token.
        depth: number of blocks.
        heads: of the attention.
        mlp_ratio: hidden channels of a block's MLP, as a multiple of `width`.
        pool: "token", the class token; or "avg", the mean of the patches (there is no class token).
        size: height and width of the images, which the positions are learnt for.
        dtype: of the computation; None is that of parameters and images.
        axis_name: not used; the other architectures share batch statistics over it.

    References:
        Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021.
    """

    num_classes: int = 1000
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    pool: str = "token"
    size: int = 224
    dtype: Any = None
    axis_name: str | None = None
    classifier: ClassVar[str] = "head"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        del train
        check_choice("pool", self.pool, POOLS)
        side = (self.patch, self.patch)
        x = nn.Conv(
            self.width,
            side,
            side,
            padding="VALID",
            kernel_init=_EMBEDDED,
            dtype=self.dtype,
            name="patch_embed.proj",
        )(x)
        x = x.reshape(x.shape[0], -1, self.width)
        if self.pool == "token":
            token = self.param("cls_token", _EMBEDDED, (1, 1, self.width))
            first = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width))
            x = jnp.concatenate([first, x], 1)
        positions = self.param("pos_embed", _EMBEDDED, (1, self.tokens, self.width))
        if x.shape[1] != self.tokens:
            expected = f"{self.tokens}, those of `size`"
            raise ArgumentError("images", f"{x.shape[1]} tokens", expected)
        x = tag(x + positions.astype(x.dtype), "embedded")
        for index in range(self.depth):
            name = f"blocks.{index}"
            x = Block(self.heads, self.mlp_ratio, self.dtype, name=name)(x)
        x = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name="norm")(x)
        pooled = x[:, 0] if self.pool == "token" else x.mean(1)
        return nn.Dense(self.num_classes, kernel_init=_EMBEDDED, dtype=self.dtype, name="head")(
            pooled
        )

    @property
    def tokens(self) -> int:
        """How many tokens there are, the class token among them."""
        return (self.size // self.patch) ** 2 + (self.pool == "token")
