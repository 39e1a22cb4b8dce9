"""Attention Branch Network: a ResNet whose last stage sees what an attentive classifier passes."""

import flax.linen as nn
import jax

from jaxcam._ground.errors import ArgumentError
from jaxcam._program.layers import tag
from jaxcam.models.common import conv
from jaxcam.models.resnet import ResNet

__all__ = ["AttentionBranchNetwork"]


class AttentionBranchNetwork(ResNet):
    """ResNet with an attention branch before its last stage (Fukui et al. 2019).

    The branch, on features x: a stage like the last one but of stride 1, BN, 1x1 conv to the
    classes, BN, ReLU; from there a 3x3 conv to one plane, BN and a sigmoid give the attention, and
    a 1x1 conv and a global average pool the auxiliary logits. The last stage gets x * (1 +
    attention).

    `__call__` returns the main logits. The auxiliary ones `[B, num_classes]` are found under
    "logits" in the collection "auxiliary" where that is mutable,
    `mutable=["batch_stats", "auxiliary"]`; the paper's loss is the sum of the cross-entropies of
    both.

    Layers tagged besides those of `ResNet`: `attention` `[B, h, w, 1]`, in (0, 1), and `attended`,
    the last stage's input. Submodules are named as the authors' code names them.

    Args:
        stage_sizes: and all other fields, as of `ResNet`; two stages at least.

    Raises:
        ValueError: as `ResNet`; a single stage.

    References:
        Fukui et al., Attention Branch Network, CVPR 2019, section 3.
    """

    def __post_init__(self) -> None:
        """Checks the fields."""
        if len(self.stage_sizes) < 2:
            raise ArgumentError("stage_sizes", self.stage_sizes, "two stages at least")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits of images, as `ResNet` computes them, and the auxiliary logits aside.

        Args:
            images: normalised images `[B, H, W, C]`.
            train: normalise by the batch's statistics and update the averages.
        """
        norm = self._norm(train)
        *trunk, last = self._stages()
        x = self._stem(images, norm)
        for stage in trunk:
            x = tag(self._stage(x, stage, norm), stage.name)
        attention = self._attention(
            self._stage(x, last._replace(name=f"att_{last.name}", stride=1), norm), norm
        )
        x = tag(x * (1 + attention), "attended")
        return self._head(tag(self._stage(x, last, norm), last.name))

    def _attention(self, x: jax.Array, norm) -> jax.Array:
        convolve = lambda features, kernel, name: conv(
            features, kernel, 1, dtype=self.dtype, name=name
        )
        y = convolve(self.num_classes, 1, "att_conv")(norm(name="bn_att")(x))
        y = nn.relu(norm(name="bn_att2")(y))
        classes = convolve(self.num_classes, 1, "att_conv2")(y)
        if not self.is_initializing():  # else the logits would be among the variables
            logits = classes.mean((1, 2), dtype=self._logits_dtype)
            newest = {"init_fn": lambda: logits, "reduce_fn": lambda _, new: new}
            self.sow("auxiliary", "logits", logits, **newest)
        return tag(nn.sigmoid(norm(name="bn_att3")(convolve(1, 3, "att_conv3")(y))), "attention")
