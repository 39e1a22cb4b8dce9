"""Our maps and metrics against xplique's kept ones, also where TensorFlow is not installed."""

import importlib.util
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from tests import golden, golden_xplique
from tests.golden_peers import TARGETS, heat

KEPT = dict(np.load(golden_xplique.FILE))
GIVEN = dict(np.load(golden.FILE))
IMAGES = jnp.asarray(GIVEN["images"])
SMOOTH = {"samples": golden_xplique.SAMPLES, "sigma": golden_xplique.SIGMA}
WINDOWS = {"window": golden_xplique.PATCH, "stride": golden_xplique.PATCH}


def forward(x):
    return golden.convolutional(GIVEN)(x)


def close(found, name, rtol=1e-4):
    expected = KEPT[name]
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * size, err_msg=name)


def variance(forward, images, targets):
    """Of each colour's gradient, unbiased, summed: by E |g|^2 - |E g|^2."""
    by_colour = 0
    for colour in range(3):
        one = lambda x, g, colour=colour: g[..., colour]
        method = jaxcam.smooth(partial(jaxcam.explain, one), statistic="variance", **SMOOTH)
        by_colour += method(forward, images, targets, layer="pixels")
    return by_colour * SMOOTH["samples"] / (SMOOTH["samples"] - 1)


summed = partial(jaxcam.gradient, reduction="sum")
OF_PIXELS = {
    "Saliency": jaxcam.gradient,
    "GradientInput": jaxcam.gradient_input,
    "IntegratedGradients": partial(
        jaxcam.integrated_gradients, steps=golden_xplique.POINTS - 1, rule="trapezoid"
    ),
    "GuidedBackprop": partial(jaxcam.guided_backprop, reduction="sum"),
    "DeconvNet": partial(jaxcam.deconvnet, reduction="sum"),
    "Occlusion": partial(jaxcam.occlusion, activation="identity", **WINDOWS),
    "SmoothGrad": jaxcam.smooth(summed, **SMOOTH),
    "SquareGrad": jaxcam.smooth(
        partial(jaxcam.gradient, reduction="norm"), statistic="square", **SMOOTH
    ),
    "VarGrad": variance,
}
OF_LAYERS = {
    "GradCAM": jaxcam.grad_cam,
    "GradCAMPP": partial(jaxcam.grad_cam_plus_plus, variant="xplique"),
    "FEM": jaxcam.fem,
}


DROPS = {
    "AverageDropMetric": metrics.average_drop,
    "AverageIncreaseMetric": metrics.average_increase,
    "AverageGainMetric": metrics.average_gain,
}
STEP = GIVEN["images"][0, :, :, 0].size // golden_xplique.STEPS


@jax.jit  # one program: compiling many costs more
def ours(images):
    found = {"logits": forward(images)}
    for name, method in OF_PIXELS.items():
        found[name] = method(forward, images, TARGETS)
    for name, method in OF_LAYERS.items():
        maps = method(forward, images, TARGETS, layer=golden_xplique.LAYERS)
        found |= {f"{name}/{layer}": each for layer, each in maps.items()}
    maps = jnp.asarray(heat(GIVEN["images"]))
    call = (forward, images, maps, TARGETS)
    found["Deletion"] = metrics.deletion(*call, step=STEP, chunk=3)
    found["Insertion"] = metrics.insertion(*call, step=STEP, chunk=3, baseline=0.0)
    for name, drop in DROPS.items():
        found[name] = drop(*call) / 100
    found["Complexity"] = metrics.entropy(maps)
    found["Sparseness"] = metrics.selectivity(maps.reshape(len(maps), -1))
    return found


def test_ours_are_xpliques():
    found = ours(IMAGES)
    assert set(found) == set(KEPT)
    for name, value in found.items():
        close(value, name)
    assert golden_xplique.FILE.stat().st_size < 60_000


def test_xplique_says_so_still():
    """Where it is installed: what is kept is what its code computes."""
    for name in ("tensorflow", "xplique"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name, value in golden_xplique.theirs(GIVEN).items():
        close(value, name)
