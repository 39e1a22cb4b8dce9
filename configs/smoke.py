"""A few steps of a tiny network on synthetic data: does everything run?

Command: python -m train.classify --config configs/smoke.py
Cost: seconds.
Expected: the four classes, told by brightness, are found: top-1 above 90 %.
"""

from configs import Classification

config = Classification(
    name="smoke",
    data="synthetic",
    workdir="runs/smoke",
    export="runs/smoke/smoke.safetensors",
    export_dtype="float32",
    architecture="resnet_compact",
    options={"stage_sizes": (1,), "widths": (8,), "strides": (2,), "stem": "small_stride2"},
    image_size=16,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    crop_sizes=((0, 12), (2, 16)),
    epochs=4,
    batch_size=8,
    learning_rate=0.05,
    warmup_epochs=0.5,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.1,
    ema_decay=0.9,
    crop_area=(0.5, 1.0),
    crop_ratio=4 / 3,
    color_jitter=0.05,
    cutmix=0.0,
    seed=0,
)
