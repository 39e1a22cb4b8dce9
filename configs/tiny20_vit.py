"""A small vision transformer that learns to predict as the bundled network does, and the labels.

Command: python -m train.distill --config configs/tiny20_vit.py
Cost: 69 minutes on 2 CPU cores that ten and more other processes shared (26 to 40 images/s).
Reached: 53.3 % top-1 of the 1000 validation photos (the teacher: 79.3 %), the last averaged
    parameters. Of these 13 epochs the first three and a half had the learning rate of a schedule of
    20, which was shortened on resuming (`--allow-changes`). The accuracy had stopped rising by
    epoch 10 (52.8 %). That network was not kept.
    In 7 epochs (`--set epochs=7`): 48.4 %, in 55 minutes on half a core; 1430 of its 2184 steps had
    the learning rate of a schedule of 9. It is the one of `results/vit`, as float16 (1.1 MB).
Choices: photos of 48 pixels, 64 patches of 6 pixels: after three epochs 40.8 %, where 36 patches
    of 8 pixels had 40.1 % at the end of a schedule of three.
"""

from configs.common import as_kind, named
from configs.schema import Distillation
from configs.tiny20 import config as tiny20

config = as_kind(
    Distillation,
    named(tiny20, "tiny20_vit"),
    architecture="vit_compact",
    options={"depth": 4, "size": 48, "patch": 6},
    teacher="tiny20",
    temperature=2.0,
    image_size=48,
    crop_on="host",
    crop_sizes=((0, 48),),  # the positions are learnt for 48 pixels: 64 patches
    crop_area=(0.4, 1.0),
    color_jitter=0.0,
    cutmix=0.0,
    optimizer="adamw",
    learning_rate=1.5e-3,
    weight_decay=0.05,
    clip_norm=1.0,
    warmup_epochs=1.0,
    epochs=13,
    ema_decay=0.995,
    export_dtype="float32",
)
