"""The bundled network: a ResNet of 13 convolutions a path on 20 classes of Tiny ImageNet.

Trained from scratch at 64 x 64. The photos are a zip in the folder that the variable JAXCAM_DATA
names, or elsewhere by `--set data=FILE`.

Command: python -m train.classify --config configs/tiny20.py
Cost: 85 minutes on 2 CPU cores that other work shared (70 to 370 images/s); 1.2 GB of memory.
Reached: 79.3 % top-1 of the 1000 validation photos, by the averaged parameters after the last
    epoch; the same by the float16 file (3.6 MB, 1.79 million parameters). Stopped and resumed once,
    after epoch 39.
Choices: the last averaged parameters are exported whatever their accuracy, so none is selected on
    these photos (the best of the 70 epochs was 80.0 %, the last parameters without averaging 79.5
    %). Crops of at most 48 pixels cost half of 64, and one of 30 to 100 % of the area shows its
    object about as large as the whole photo at 64; training at 64 was not compared.
"""

from configs import Classification

config = Classification(
    name="tiny20",
    data="tiny20.zip",
    workdir="runs/tiny20",
    export="jaxcam/models/weights/tiny20.safetensors",
    export_dtype="float16",
    architecture="resnet_compact",
    options={
        "stage_sizes": (1, 2, 2, 1),
        "widths": (32, 96, 160, 192),
        "strides": (1, 2, 2, 1),  # 32, 16, 8 and 8 cells a side for a photo of 64 pixels
        "stem": "small_stride2",
    },
    image_size=64,
    mean=(0.493, 0.439, 0.358),
    std=(0.275, 0.262, 0.273),
    crop_sizes=((0, 40), (18, 48)),
    epochs=70,
    batch_size=32,
    learning_rate=0.05,
    warmup_epochs=2.0,
    momentum=0.9,
    weight_decay=5e-4,
    label_smoothing=0.1,
    ema_decay=0.998,
    crop_area=(0.3, 1.0),
    crop_ratio=4 / 3,
    color_jitter=0.3,
    cutmix=0.5,
    seed=0,
)
