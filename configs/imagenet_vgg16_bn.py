"""VGG-16 with batch norm on ImageNet from scratch, by torchvision's first recipe.

Command: python -m train.classify --config configs/imagenet_vgg16_bn.py
    (TFDS_DATA_DIR: the prepared imagenet2012)
Cost: not run here. 15.5 GFLOPs of multiply-adds a photo, four times ResNet-50's.
Expected: torchvision reports 73.360 % top-1 (IMAGENET1K_V1), trained at learning rate 0.01.
"""

from configs.common import imagenet

config = imagenet("imagenet_vgg16_bn", "vgg16_bn", learning_rate=0.01)
