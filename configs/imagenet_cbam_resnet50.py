"""ResNet-50 with CBAM in all 16 blocks on ImageNet, by its authors' recipe (Woo et al. 2018).

Command: python -m train.classify --config configs/imagenet_cbam_resnet50.py
    (TFDS_DATA_DIR: the prepared imagenet2012)
Cost: not run here. 100 epochs of 1.28 million photos.
Expected: the authors' code reports 77.622 % top-1.
"""

from configs.common import imagenet

config = imagenet("imagenet_cbam_resnet50", "cbam_resnet50", epochs=100)
