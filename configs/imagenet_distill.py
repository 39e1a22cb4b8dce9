"""A ResCBAM-50 that learns to answer as torchvision's ResNet-50, and the labels (Kang et al. 2021).

Command: python -m train.distill --config configs/imagenet_distill.py
    (TFDS_DATA_DIR: the prepared imagenet2012)
Cost: not run here. As imagenet_cbam_resnet50, and a forward pass of the teacher a step.
Expected: no accuracy is published; Sim-1 to Sim-5 with the teacher 0.807, 0.701, 0.633, 0.574,
    0.534.
As in the paper, crops of 224 x 224 at a random place of the photo resized to 256 x 256, the middle
    for validation. Open there: batch size and flips; here as imagenet_cbam_resnet50. The
    divergence is the sum over classes, mean over photos.
"""

from configs.common import as_kind, imagenet
from configs.schema import Distillation

config = as_kind(
    Distillation,
    imagenet("imagenet_distill", "cbam_resnet50", epochs=100, stretch=True),
    teacher="resnet50.tv_in1k",
)
