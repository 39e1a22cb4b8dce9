"""A small CBAM student that learns to predict as the bundled network does, and the labels.

Command: python -m train.distill --config configs/tiny20_distill.py
Cost: 30 minutes on 2 CPU cores that other work shared (30 to 190 images/s).
Reached: 72.0 % top-1 of the 1000 validation photos (the teacher: 79.3 %), the last averaged
    parameters, bundled as `tiny20_cbam`. Sim-1 0.743: it names the teacher's class for three photos
    in four. Stopped and resumed once, after the first epoch. 15 epochs were what time allowed; the
    accuracy was still rising.
"""

from configs.common import as_kind, named
from configs.schema import Distillation
from configs.tiny20 import config as tiny20

config = as_kind(
    Distillation,
    named(tiny20, "tiny20_distill"),
    architecture="cbam_compact",
    teacher="tiny20",
    epochs=15,
    crop_sizes=((0, 40), (11, 48)),
    warmup_epochs=1.0,
    cutmix=0.0,
)
