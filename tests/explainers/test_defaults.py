"""Numbers of the papers and their codes, each asserted once: what an option is if nobody says."""

import inspect

import pytest

import jaxcam
from jaxcam import fostering, metrics
from jaxcam._explainers.attention import _STAGES
from jaxcam._explainers.formulas import PLUS_PLUS
from jaxcam._explainers.mask import _CIRCLE_BLUR, _CIRCLE_SCORE, _RADII
from jaxcam._explainers.masking import _BLUR, _MEDIAN, MASK_VARIANTS
from jaxcam._explainers.perturbation import SCORE_VARIANTS
from jaxcam._explainers.surrogates import KERNELS

DEFAULTS = {
    jaxcam.cam: {"relu": None, "layer": None},
    jaxcam.grad_cam: {"relu": "sum"},
    jaxcam.grad_cam_plus_plus: {"variant": "paper", "relu": "sum"},
    jaxcam.hires_cam: {"relu": None},
    jaxcam.xgrad_cam: {"relu": "sum"},
    jaxcam.layer_cam: {"relu": "sum"},
    jaxcam.eigen_cam: {"center": False, "relu": None},
    jaxcam.eigen_grad_cam: {"center": False, "relu": None},
    jaxcam.relevance_cam: {"composite": "z_plus", "init": "contrastive", "relu": None},
    jaxcam.channel_weights: {"composite": "z_plus", "init": "contrastive"},
    jaxcam.top_channels: {"k": 3, "composite": "z_plus", "init": "contrastive"},
    jaxcam.lrp_map: {"composite": "z_plus", "init": "one_hot", "layer": "pixels"},
    jaxcam.clrp_map: {"composite": "z_plus", "init": "contrastive", "layer": "pixels"},
    jaxcam.score_cam: {"variant": "official", "relu": "sum", "activation": None},
    jaxcam.ablation_cam: {"variant": "paper", "relu": "sum"},
    jaxcam.rise: {"num_masks": 8000, "grid": 7, "keep": 0.5, "tolerance": None},
    jaxcam.lime_surrogate: {
        "num_samples": None,
        "kernel": "cosine",
        "kernel_width": 0.25,
        "alpha": None,
        "hide_color": None,
    },
    jaxcam.mask: {"variant": "official", "baseline": None},
    jaxcam.cbam_attention: {"source": "att", "reduction": "mean", "normalize": None},
    jaxcam.layerwise_grad_cam: {"normalize": None},
    jaxcam.attention_grad_cam: {"source": "att", "reduction": "mean", "normalize": "sum"},
    fostering.fostering_loss: {"beta": 100.0, "term": "entropy", "explain": "label"},
    fostering.cam_entropy: {"norm": "sum"},
    metrics.box_from_map: {"fraction": 0.2},
    metrics.loc: {"delta": 0.25},
    metrics.mask_iou: {"k": 1.0},
    metrics.pointing_game: {"tolerance": 0.0},
}

# steps, learning rate, prices of hiding and of unevenness, beta; what is summed; pixels per cell,
# growth, blur; start, baseline, jitter and noise
MASKS = {
    "official": (300, 0.1, 1e-4, 1e-2, 3, "sum", 8, "nearest", 5, "circle", "blur", 4, 0),
    "jacobgil": (500, 0.1, 0.01, 0.2, 3, "mean", 8, "aligned", 0, "ones", "median", 0, 0.2),
}

# class probability or logit, softmax over channels, aligned corners, epsilon
SCORES = {
    "official": (True, False, False, 0),
    "paper": (False, True, False, 0),
    "jacobgil": (False, True, True, 1e-8),
}


@pytest.mark.parametrize("function", DEFAULTS, ids=lambda function: function.__name__)
def test_defaults(function):
    known = inspect.signature(function).parameters
    assert {name: known[name].default for name in DEFAULTS[function]} == DEFAULTS[function]


def test_numbers_of_mask():
    """A circle of up to 170 pixels of 224, smoothed by 10, is enough where 1 % is left."""
    assert {name: tuple(rules) for name, rules in MASK_VARIANTS.items()} == MASKS
    assert (_BLUR, _MEDIAN) == (10, 11)
    assert (_RADII[0], _RADII[1], _RADII[-1]) == (0, 5, 170)
    assert (_CIRCLE_BLUR, _CIRCLE_SCORE) == (10, 1e-2)


def test_numbers_of_the_variants():
    assert {name: tuple(rules) for name, rules in SCORE_VARIANTS.items()} == SCORES
    assert {name: rules.eps for name, rules in PLUS_PLUS.items() if rules.eps} == {"jacobgil": 1e-6}
    assert {name: kernel.alpha for name, kernel in KERNELS.items()} == {"cosine": 1, "shap": 0}
    assert _STAGES == 3
