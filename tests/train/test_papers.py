"""Every number of the experiments, once, against what the papers and the published recipes say."""

import json
import pathlib

import numpy as np
import pytest

import configs
from jaxcam import models
from train import optimizer

FOLDER = pathlib.Path(configs.__file__).parent

# What none of the papers mentions is off.
UNMENTIONED = {
    "frozen": (),
    "compute_dtype": "float32",
    "loss": "softmax",
    "color_jitter": 0.0,
    "cutmix": 0.0,
    "accumulate": 1,
    "clip_norm": 0.0,
    "ema_decay": 0.0,
    "label_smoothing": 0.0,
    "warmup_epochs": 0.0,
    "auxiliary_weight": 1.0,
    "options": {},
    "seed": 0,
}
# torchvision's reference recipe of its first weights (IMAGENET1K_V1), which is also that of CBAM's
# authors (Woo et al. 2018, their code: batch 256, 0.1 a tenth every 30 epochs, 0.9, 1e-4).
TORCHVISION = {
    **UNMENTIONED,
    "data": "imagenet2012",
    "train_split": "train",
    "val_split": "validation",
    "init_from": None,
    "image_size": 224,
    "crop_on": "host",
    "crop_sizes": ((0, 224),),
    "crop_area": (0.08, 1.0),
    "crop_ratio": 4 / 3,
    "crop_fraction": 224 / 256,
    "epochs": 90,
    "batch_size": 256,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 1e-4,
    "learning_rate": 0.1,
    "schedule": "step",
    "decay_every": 30.0,
    "decay_factor": 0.1,
}
# Kang et al. 2021: KL at temperature 1 and cross-entropy, 1 to 1 (eq. 5); SGD, 100 epochs, 0.9,
# 1e-4; on ImageNet 0.1, a tenth every 30 epochs; 224 x 224 of 256 x 256. Batch not stated: as
# torchvision's.
KANG = {
    **TORCHVISION,
    "architecture": "cbam_resnet50",
    "epochs": 100,
    "stretch": True,
    "teacher": "resnet50.tv_in1k",
    "teacher_kind": "network",
    "temperature": 1.0,
    "kd_weight": 1.0,
    "ce_weight": 1.0,
}


def _fine_grained(name, data, train_split):
    """Kang et al. 2021: 0.01, a tenth at 30, 50, 60 and 70, from the ImageNet student.

    The teacher is a fine-tuned ResNet-50. The batch is not stated.
    """
    return {
        **KANG,
        "data": data,
        "train_split": train_split,
        "val_split": "test",
        "init_from": "runs/imagenet_distill/imagenet_distill.safetensors",
        "batch_size": 64,
        "learning_rate": 0.01,
        "schedule": "multistep",
        "milestones": (30.0, 50.0, 60.0, 70.0),
        "teacher": f"runs/{name}_teacher/teacher.safetensors",
    }


PAPERS = {
    "imagenet_resnet50": {**TORCHVISION, "architecture": "resnet50"},
    # torchvision trained its VGGs at a tenth of the rate
    "imagenet_vgg16_bn": {**TORCHVISION, "architecture": "vgg16_bn", "learning_rate": 0.01},
    "imagenet_cbam_resnet50": {**TORCHVISION, "architecture": "cbam_resnet50", "epochs": 100},
    "imagenet_distill": KANG,
    "cub_distill": _fine_grained("cub", "caltech_birds2011", "train"),
    "cars_distill": _fine_grained("cars", "cars196", "train"),
    "aircraft_variant_distill": _fine_grained(
        "aircraft_variant", "fgvc_aircraft/variant", "train+validation"
    ),
    "aircraft_family_distill": _fine_grained(
        "aircraft_family", "fgvc_aircraft/family", "train+validation"
    ),
    "aircraft_manufacturer_distill": _fine_grained(
        "aircraft_manufacturer", "fgvc_aircraft/manufacturer", "train+validation"
    ),
    # Schoettl 2020: ResNet-50 pretrained on ImageNet, everything trainable, VOC 2012 at 192 x 192,
    # 30 epochs of Adam at 1e-3, beta 100, entropy of the ground-truth class's Grad-CAM at the last
    # layer. Batch, split and augmentation are not stated.
    "voc2012_foster": {
        **UNMENTIONED,
        "architecture": "resnet50",
        "data": "voc/2012",
        "train_split": "train",
        "val_split": "validation",
        "init_from": "resnet50.tv_in1k",
        "image_size": 192,
        "crop_on": "host",
        "crop_sizes": ((0, 192),),
        "stretch": True,
        "crop_fraction": 1.0,
        "epochs": 30,
        "batch_size": 32,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "weight_decay": 0.0,
        "beta": 100.0,
        "layer": None,
        "term": "entropy",
        "explain": "label",
    },
    # The comparison on Stanford Dogs says only: a pooled linear head, 0.75 of the validation
    # photos.
    "stanford_dogs_gap": {
        **TORCHVISION,
        "architecture": "resnet50",
        "data": "stanford_dogs",
        "val_split": "test",
        "init_from": "resnet50.tv_in1k",
        "crop_area": (0.25, 1.0),
        "epochs": 20,
        "batch_size": 64,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "nesterov": True,
        "warmup_epochs": 1.0,
        "label_smoothing": 0.1,
    },
}
# Experiments of our own, whose reports these numbers made: what differs from the one before.
OURS = {
    "tiny20_foster": (
        "tiny20",
        {
            "init_from": "tiny20",
            "epochs": 1,
            "crop_sizes": ((0, 48),),
            "cutmix": 0.0,
            "learning_rate": 0.01,
            "clip_norm": 5.0,
            "warmup_epochs": 0.2,
            "ema_decay": 0.99,
            "export_dtype": "float32",
            "beta": 1.0,
            "term": "entropy",
            "explain": "label",
            "layer": None,
        },
    ),
    "tiny20_distill_onnx": (
        "tiny20_distill",
        {
            "teacher": "runs/tiny20.onnx",
            "teacher_kind": "onnx",
            "views": 5,
            "crop_sizes": ((0, 44),),
            "label_smoothing": 0.0,
            "epochs": 10,
        },
    ),
}
# where a run writes, and what a machine is like
PLACES = {"name", "workdir", "export", "answers", "workers", "checkpoint_every", "log_every"}


def _load(name):
    return configs.load(str(FOLDER / f"{name}.py"))


def _plain(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", PAPERS)
def test_the_numbers_are_the_papers(name):
    config = _load(name)
    found = {field: getattr(config, field) for field in PAPERS[name]}
    assert found == PAPERS[name]


@pytest.mark.parametrize("name", PAPERS)
def test_photos_are_normalised_as_the_published_weights_want(name):
    config = _load(name)
    published = models.Preprocess(224)
    assert (config.mean, config.std) == (published.mean, published.std)


@pytest.mark.parametrize(
    ("name", "weights"), [("tiny20", "tiny20"), ("tiny20_distill", "tiny20_cbam")]
)
def test_the_bundled_networks_were_trained_by_their_configs(name, weights):
    """Their files say all the numbers that they were made with."""
    config = _load(name)
    written = json.loads(models.describe(weights).metadata["config"])
    assert len(written) > 15
    assert {field: _plain(getattr(config, field)) for field in written} == {
        **written,
        "export_dtype": "float16",
    }


@pytest.mark.parametrize("name", OURS)
def test_our_own_experiments_differ_by_what_they_say(name):
    origin, changes = OURS[name]
    config, before = _load(name), _load(origin)
    for field in set(vars(before)) - PLACES:
        assert getattr(config, field) == changes.get(field, getattr(before, field)), field
    for field, value in changes.items():
        assert getattr(config, field) == value, field


def test_every_experiment_is_in_a_table():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "schema", "common"}
    assert files == {*PAPERS, *OURS, "tiny20", "tiny20_distill", "tiny20_vit", "smoke"}


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        ("imagenet_distill", 5000, {0: 0.1, 29: 0.1, 30: 0.01, 59: 0.01, 60: 1e-3, 90: 1e-4}),
        ("cub_distill", 93, {0: 0.01, 29: 0.01, 30: 1e-3, 50: 1e-4, 60: 1e-5, 70: 1e-6}),
        ("voc2012_foster", 178, {0: 1e-3, 29: 1e-3}),
    ],
)
def test_the_rates_at_the_start_of_epochs_are_the_papers(name, steps, expected):
    rate = optimizer.schedule(_load(name), steps)
    found = [rate(steps * epoch) for epoch in expected]
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5)
