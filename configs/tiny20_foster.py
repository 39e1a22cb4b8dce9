"""CAM fostering of the bundled network: fine-tuned on its own photos for a sharper Grad-CAM.

Command: python -m train.foster --config configs/tiny20_foster.py --set beta=1.0 seed=0 workdir=... export=...
Cost: about a minute an epoch on 2 CPU cores (10,000 photos at 48 x 48).
Expected: see README; beta 0 is the plain fine-tuning that the others are compared with.
"""

from configs.common import as_kind, named
from configs.schema import Fostering
from configs.tiny20 import config as tiny20

config = as_kind(
    Fostering,
    named(tiny20, "tiny20_foster"),
    beta=1.0,
    init_from="tiny20",
    epochs=2,
    crop_sizes=((0, 48),),
    cutmix=0.0,
    learning_rate=0.01,
    warmup_epochs=0.2,
    ema_decay=0.99,
    export_dtype="float32",
)
