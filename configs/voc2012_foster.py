"""CAM fostering of a ResNet-50 on VOC 2012 at 192 x 192, as in the paper (Schoettl 2020).

Command: python -m train.foster --config configs/voc2012_foster.py and --set beta=0.0
    workdir=runs/voc2012_plain export=runs/voc2012_plain/voc2012_plain.safetensors (TFDS_DATA_DIR:
    the prepared voc/2012)
Cost: not run here. The paper: 8:22 minutes an epoch on a GTX 1080 Ti, 4:35 with beta 0.
Expected: the paper reports a mean area of the CAMs 20 % smaller, a dispersion six times as large,
    and accuracy best at beta 0 with a small loss at moderate beta (no numbers).
Open in the paper: batch size, split, augmentation, which label of several. Here 32, train and
    validation, photos resized to 192 x 192 and flips, no crops, the class of the largest object;
    `--set loss=sigmoid` for all classes of a photo.
"""

from configs.common import as_kind, imagenet
from configs.schema import Fostering

config = as_kind(
    Fostering,
    imagenet(
        "voc2012_foster",
        "resnet50",
        data="voc/2012",
        init_from="resnet50.tv_in1k",
        image_size=192,
        crop_sizes=((0, 192),),
        crop_fraction=1.0,
        stretch=True,
        epochs=30,
        batch_size=32,
        optimizer="adam",
        learning_rate=1e-3,
        schedule="constant",
        weight_decay=0.0,
        checkpoint_every=0,
    ),
    beta=100.0,
)
