"""A ResNet-50 with a pooled linear head on Stanford Dogs.

CAM and Grad-CAM are to agree on it.

Command: python -m train.classify --config configs/stanford_dogs_gap.py
    (TFDS_DATA_DIR: the prepared stanford_dogs)
    then python -m eval.cam_vs_grad_cam on runs/stanford_dogs_gap/stanford_dogs_gap.safetensors
Cost: not run here. 20 epochs of 12,000 photos.
Expected: above 75 % top-1, which the comparison that this repeats reports; its photos are of
    ImageNet, whose weights this starts from and which have seen them.
"""

from configs.common import imagenet

config = imagenet(
    "stanford_dogs_gap",
    "resnet50",
    data="stanford_dogs",
    val_split="test",
    init_from="resnet50.tv_in1k",
    crop_area=(0.25, 1.0),
    epochs=20,
    batch_size=64,
    learning_rate=0.01,
    schedule="cosine",
    warmup_epochs=1.0,
    nesterov=True,
    label_smoothing=0.1,
    checkpoint_every=0,
)
