"""A small vision transformer that learns to predict as the bundled network does, and the labels.

Command: python -m train.distill --config configs/tiny20_vit.py
Cost: 7 minutes on 2 CPU cores that other work shared (24 to 113 images/s).
Reached: 40.1 % top-1 of the 1000 validation photos (the teacher: 79.3 %), the last averaged
    parameters, 2.3 MB as float32; not bundled. 3 epochs were what time allowed, and the accuracy
    was still rising (28.3 % and 36.4 % after the first and the second). `results/vit` has its maps'
    games.
Choices: photos of 48 pixels, 36 patches: 64 of them, 64 pixels, cost about twice as much.
"""

from configs.common import as_kind, named
from configs.schema import Distillation
from configs.tiny20 import config as tiny20

config = as_kind(
    Distillation,
    named(tiny20, "tiny20_vit"),
    architecture="vit_compact",
    options={"depth": 4, "size": 48},
    teacher="tiny20",
    temperature=2.0,
    image_size=48,
    crop_on="host",
    crop_sizes=((0, 48),),  # the positions are learnt for 48 pixels: 36 patches
    crop_area=(0.5, 1.0),
    color_jitter=0.0,
    cutmix=0.0,
    optimizer="adamw",
    learning_rate=1.5e-3,
    weight_decay=0.05,
    clip_norm=1.0,
    warmup_epochs=0.5,
    epochs=3,
    ema_decay=0.995,
    export_dtype="float32",
)
