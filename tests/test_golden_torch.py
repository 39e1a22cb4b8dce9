"""Our maps against torchcam's, pytorch-grad-cam's and captum's kept ones, also without torch."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import maps
from tests import golden, golden_torch
from tests.golden_peers import TARGETS
from tests.golden_xplique import HIDE, ROWS, squares, stripes

KEPT = dict(np.load(golden_torch.FILE))
GIVEN = dict(np.load(golden.FILE))
IMAGES = jnp.asarray(GIVEN["images"])
SIZE = IMAGES.shape[1:3]
SAMPLED = {"activation": "identity", "hide_color": HIDE}


def forward(x):
    return golden.convolutional(GIVEN)(x)


def tokens(x):
    return golden_torch.ours_of_tokens(GIVEN)(x)


def close(found, name, rtol=1e-4):
    expected = KEPT[name]
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * size, err_msg=name)


def test_the_networks_are_the_same():
    close(forward(IMAGES), "logits")
    close(tokens(IMAGES), "logits of the transformer")
    assert golden_torch.FILE.stat().st_size < 25_000


def test_legrad_is_torchcams():
    found = jax.jit(lambda x: jaxcam.legrad(tokens, x, TARGETS))(IMAGES)
    expected = maps.resize(KEPT["torchcam/LeGrad"], SIZE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_layers_are_fused_as_they_are_there():
    """Each map is scaled before it is enlarged, where `fuse` alone scales it after."""
    raw = jaxcam.grad_cam(forward, IMAGES, TARGETS, layer=golden_torch.LAYERS)
    scaled = {name: maps.normalize(each, "min_max") for name, each in raw.items()}
    greatest = jaxcam.fuse(scaled, SIZE, how="max", normalize=None)
    close(greatest, "torchcam/fuse_cams")
    mean = jaxcam.fuse(scaled, SIZE, how="mean", normalize=None)
    close(maps.normalize(mean, "min_max"), "pytorch-grad-cam/target_layers")


def test_factors_are_pytorch_grad_cams():
    """From the same start by as many updates; from its own start, by its own, no less is left."""
    found = jaxcam.deep_feature_factorization(
        *(forward, IMAGES),
        layer="layer3",
        components=golden_torch.COMPONENTS,
        steps=golden_torch.UPDATES,
        head=lambda concepts: concepts @ GIVEN["head"],
    )
    theirs = KEPT["pytorch-grad-cam/concepts"]
    order = np.argmax(_directions(theirs) @ _directions(found.concepts).T, 1)
    assert sorted(order) == list(range(golden_torch.COMPONENTS))
    kept = _directions(theirs)
    np.testing.assert_allclose(_directions(found.concepts[order]), kept, rtol=0, atol=1e-4)
    scaled = maps.normalize(found.masks[:, order], "min_max")
    close(maps.resize(scaled, SIZE), "pytorch-grad-cam/masks", rtol=1e-3)
    size = np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = np.linalg.norm(found.concepts[order], axis=1, keepdims=True)
    close(found.scores[order] * size / ours, "pytorch-grad-cam/scores", rtol=1e-3)
    long = jaxcam.deep_feature_factorization(
        forward, IMAGES, layer="layer3", components=golden_torch.COMPONENTS
    )
    assert abs(float(long.error) - KEPT["pytorch-grad-cam/error"]) < 0.01


def _directions(concepts):
    return concepts / np.linalg.norm(concepts, axis=1, keepdims=True)


def test_lime_is_captums():
    """With our kernel, which is of segments and not of pixels, and a ridge for its lasso."""
    found = jaxcam.lime(
        *(forward, IMAGES, TARGETS),
        segments=squares(IMAGES, 6),
        num_segments=16,
        num_samples=ROWS,
        **SAMPLED,
    )
    close(found, "captum/Lime")


def test_kernel_shap_is_captums():
    """Of all coalitions of three segments; all and none count a million there, and bind here."""
    found = jaxcam.lime(
        *(forward, IMAGES, TARGETS),
        segments=stripes(IMAGES),
        num_segments=3,
        num_samples=8,
        kernel="shap",
        **SAMPLED,
    )
    close(found, "captum/KernelShap")


def test_the_peers_say_so_still():
    """Where they are installed: what is kept is what their code computes."""
    for name in golden_torch.PEERS:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name, value in golden_torch.theirs(GIVEN).items():
        close(value, name)
