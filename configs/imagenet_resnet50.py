"""ResNet-50 on ImageNet from scratch, by torchvision's first recipe.

Command: python -m train.classify --config configs/imagenet_resnet50.py
    (TFDS_DATA_DIR: the prepared imagenet2012)
Cost: not run here. 90 epochs of 1.28 million photos, 3 x 4.1 GFLOPs each multiply-add: a day on 8
    GPUs of 2018. --set compute_dtype=bfloat16 on a TPU or a recent GPU.
Expected: torchvision reports 76.130 % top-1 (IMAGENET1K_V1).
"""

from configs.common import imagenet

config = imagenet("imagenet_resnet50", "resnet50")
