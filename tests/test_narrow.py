"""Forward passes in bfloat16: a model that is cast by hand, and the methods that ask for it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from jaxcam._program.narrow import narrowed

HALF = jnp.bfloat16
_DRAWN = np.random.default_rng(3)
KERNEL: Any = _DRAWN.normal(size=(3, 3, 3, 6)).astype(np.float32)
SCALE = _DRAWN.uniform(0.5, 1.5, (1, 1, 1, 6)).astype(np.float32)
DENSE = _DRAWN.normal(size=(6, 3)).astype(np.float32)
IMAGES: Any = _DRAWN.normal(size=(2, 12, 12, 3)).astype(np.float32)
SALIENCY = _DRAWN.normal(size=(2, 12, 12)).astype(np.float32)
SEGMENTS = np.arange(144).reshape(1, 12, 12).repeat(2, 0) // 36
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def forward(images):
    conv = jax.lax.conv_general_dilated(images, KERNEL, (1, 1), "SAME", dimension_numbers=_LAYOUT)
    x = jaxcam.tag(jax.nn.relu(conv * SCALE), "features")
    return jnp.dot(x.mean((1, 2)), DENSE)


def features(images):
    x = jnp.asarray(images).astype(HALF)
    conv = jax.lax.conv_general_dilated(
        x,
        KERNEL.astype(HALF),
        (1, 1),
        "SAME",
        dimension_numbers=_LAYOUT,
        preferred_element_type=jnp.float32,
    ).astype(HALF)
    scaled = (conv.astype(jnp.float32) * SCALE).astype(HALF)
    return jnp.maximum(scaled, 0)


def by_hand(images):
    x = jaxcam.tag(features(images), "features").astype(jnp.float32).mean((1, 2)).astype(HALF)
    return jnp.dot(x, DENSE.astype(HALF), preferred_element_type=jnp.float32)


def test_it_is_the_model_cast_by_hand():
    found = narrowed(forward, "bfloat16")(IMAGES)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, by_hand(IMAGES))
    apart = np.abs(found - forward(IMAGES)).max()
    assert 1e-4 < apart < 0.02 * np.abs(found).max()
    assert narrowed(forward, None) is forward


def test_sums_are_of_float32_numbers():
    """In bfloat16 a sum of ones stops at 256, and a mean over 4096 of them is 1/16."""
    ones = np.ones((1, 64, 64, 1), np.float32)
    dense = np.ones((4096, 2), np.float32)
    np.testing.assert_array_equal(narrowed(lambda x: x.sum((1, 2)), "bfloat16")(ones), [[4096]])
    product = narrowed(lambda x: x.reshape(1, 4096) @ dense, "bfloat16")(ones)
    np.testing.assert_array_equal(product, [[4096, 4096]])


def test_what_is_wider_and_what_is_whole_stay():
    with jax.enable_x64(True):
        double = narrowed(lambda x: x @ x, "bfloat16")(jnp.full((2, 2), 1 / 3, jnp.float64))
        assert double.dtype == jnp.float64
        np.testing.assert_allclose(double, np.full((2, 2), 2 / 9), rtol=1e-15)
    counted = narrowed(lambda x: x.astype(jnp.int32) + 1, "bfloat16")(np.full((1, 1, 1), 1000.0))
    np.testing.assert_array_equal(counted, [[[1001]]])


ASKED = {
    "rise": lambda f, **o: jaxcam.rise(f, IMAGES, 0, num_masks=8, chunk=4, grid=3, **o),
    "lime": lambda f, **o: jaxcam.lime(
        f, IMAGES, 0, segments=SEGMENTS, num_segments=4, num_samples=16, chunk=8, **o
    ),
    "occlusion": lambda f, **o: jaxcam.occlusion(f, IMAGES, 0, window=4, stride=4, **o),
    "score_cam": lambda f, **o: jaxcam.score_cam(f, IMAGES, 0, layer="features", **o),
    "ablation_cam": lambda f, **o: jaxcam.ablation_cam(f, IMAGES, 0, layer="features", **o),
    "deletion": lambda f, **o: metrics.deletion(f, IMAGES, SALIENCY, 0, step=0.25, **o),
    "insertion": lambda f, **o: metrics.insertion(f, IMAGES, SALIENCY, step=0.25, **o),
}


@pytest.mark.parametrize("name", ["rise", "score_cam", "ablation_cam", "deletion"])
def test_methods_ask_the_model_that_is_cast(name):
    ask = ASKED[name]
    found = np.asarray(ask(forward, dtype="bfloat16"))
    usual = np.asarray(ask(forward))
    expected = np.asarray(ask(by_hand))
    assert found.dtype == np.float32
    size = np.abs(usual).max()
    assert 0 < np.abs(found - usual).max() < 0.05 * size
    if name != "score_cam":  # whose masks are of the features, which stay as the model has them
        np.testing.assert_allclose(found, expected, atol=4e-3 * size)
    assert np.corrcoef(found.ravel(), usual.ravel())[0, 1] > 0.999


def test_refusals():
    for ask in ASKED.values():
        expected = "dtype: got 'float8', expected one of 'bfloat16' or None"
        with pytest.raises(ValueError, match=expected):
            ask(forward, dtype="float8")
    host = lambda images: np.asarray(forward(images))
    with pytest.raises(ValueError, match="dtype: got 'bfloat16', expected None for a model"):
        ASKED["rise"](host, host=True, dtype="bfloat16")
