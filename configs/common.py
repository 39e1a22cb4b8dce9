"""What several experiments share."""

import dataclasses
from typing import Any

from configs.schema import Classification, Config, Distillation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def as_kind(kind: type[Config], config: Classification, **changes: Any) -> Config:
    """A config of another kind with the fields of `config`, but for `changes`."""
    return kind(
        **{
            **{field.name: getattr(config, field.name) for field in dataclasses.fields(config)},
            **changes,
        }
    )


def named(config: Config, name: str, **changes: Any) -> Config:
    """`config` under another name, in folders of its own, but for `changes`."""
    folders = {"workdir": f"runs/{name}", "export": f"runs/{name}/{name}.safetensors"}
    return dataclasses.replace(config, name=name, **{**folders, **changes})


def imagenet(name: str, architecture: str, **changes: Any) -> Classification:
    """The recipe of torchvision's first ImageNet weights, at 224 x 224 from scratch.

    SGD of momentum 0.9 (not Nesterov's), weight decay 1e-4 (here not of norms and biases), batches
    of 256, learning rate 0.1, a tenth every 30 epochs; random crops of 8 to 100 % of the area,
    flips, no other augmentation.
    """
    fields = {
        "name": name,
        "data": "imagenet2012",
        "train_split": "train",
        "val_split": "validation",
        "workdir": f"runs/{name}",
        "export": f"runs/{name}/{name}.safetensors",
        "architecture": architecture,
        "image_size": 224,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "crop_on": "host",
        "crop_sizes": ((0, 224),),
        "crop_area": (0.08, 1.0),
        "crop_ratio": 4 / 3,
        "crop_fraction": 0.875,
        "workers": 16,
        "epochs": 90,
        "batch_size": 256,
        "learning_rate": 0.1,
        "schedule": "step",
        "decay_every": 30.0,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "checkpoint_every": 1000,
        "seed": 0,
    }
    return Classification(**{**fields, **changes})


def fine_grained_distill(
    name: str, data: str, val_split: str = "test", **changes: Any
) -> Distillation:
    """The distillation of a fine-tuned ResNet-50 into a ResCBAM-50 begun as the ImageNet student.

    Photos resized to 256 x 256, crops of 224 x 224 at a random place, the middle for validation.
    100 epochs, learning rate 0.01, a tenth at epochs 30, 50, 60 and 70 (Kang et al. 2021).
    """
    student = imagenet(
        f"{name}_distill",
        "cbam_resnet50",
        stretch=True,
        data=data,
        val_split=val_split,
        init_from="runs/imagenet_distill/imagenet_distill.safetensors",
        epochs=100,
        batch_size=64,
        learning_rate=0.01,
        schedule="multistep",
        milestones=(30.0, 50.0, 60.0, 70.0),
        checkpoint_every=0,
    )
    return as_kind(
        Distillation, student, teacher=f"runs/{name}_teacher/teacher.safetensors", **changes
    )
