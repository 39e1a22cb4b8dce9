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
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max())


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


def test_the_network_is_the_same():
    close(forward(IMAGES), "logits")
    assert golden_xplique.FILE.stat().st_size < 60_000


@pytest.mark.parametrize("name", OF_PIXELS)
def test_maps_of_the_pixels(name):
    close(OF_PIXELS[name](forward, IMAGES, TARGETS), name)


def test_maps_of_layers():
    for name, method in OF_LAYERS.items():
        for layer, maps in method(forward, IMAGES, TARGETS, layer=golden_xplique.LAYERS).items():
            close(maps, f"{name}/{layer}")


def test_games_drops_and_what_asks_no_network():
    maps = heat(GIVEN["images"])
    call = (forward, IMAGES, maps, TARGETS)
    step = IMAGES.shape[1] * IMAGES.shape[2] // golden_xplique.STEPS
    for name in ("Deletion", "Insertion"):
        options = {"step": step, "chunk": 3}
        if name == "Insertion":
            options["baseline"] = 0.0
        close(getattr(metrics, name.lower())(*call, **options), name)
    shares = jax.jit(lambda *call: jnp.stack([f(forward, *call) for f in DROPS.values()]))
    for name, found in zip(DROPS, shares(*call[1:]), strict=True):
        close(found / 100, name)
    close(metrics.entropy(maps), "Complexity")
    close(metrics.selectivity(maps.reshape(len(maps), -1)), "Sparseness")


DROPS = {
    "AverageDropMetric": metrics.average_drop,
    "AverageIncreaseMetric": metrics.average_increase,
    "AverageGainMetric": metrics.average_gain,
}


def test_xplique_says_so_still():
    """Where it is installed: what is kept is what its code computes."""
    for name in ("tensorflow", "xplique"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name, value in golden_xplique.theirs(GIVEN).items():
        close(value, name)
