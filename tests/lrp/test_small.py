"""Convolutions over few positions: as products they are the same sums, and only on CPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import loops
from jaxcam._program import trace
from jaxcam.lrp import _small


def conv(images, kernel, strides=(1, 1), padding=((1, 1), (1, 1)), groups=1):
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def literal(images, kernel, strides, padding):
    """y_ijo = sum_abc x_(s i + a)(t j + b)c w_abco, in float64."""
    x = np.pad(images.astype(np.float64), ((0, 0), *padding, (0, 0)))
    size = [(x.shape[k + 1] - kernel.shape[k]) // strides[k] + 1 for k in (0, 1)]
    found = np.zeros((len(x), *size, kernel.shape[-1]))
    for i, j in np.ndindex(*size):
        top, left = i * strides[0], j * strides[1]
        seen = x[:, top : top + kernel.shape[0], left : left + kernel.shape[1]]
        found[:, i, j] = np.einsum("nabc,abco->no", seen, kernel.astype(np.float64))
    return found


def equation(images, kernel, **options):
    (eqn,) = trace.trace(lambda x, w: conv(x, w, **options), images, kernel).closed.jaxpr.eqns
    return eqn


@pytest.mark.parametrize(
    ("strides", "padding"),
    [((1, 1), ((1, 1), (1, 1))), ((2, 1), ((0, 1), (2, 0))), ((1, 2), ((0, 0), (1, 1)))],
)
def test_a_product_of_patches_is_the_convolution(rng, monkeypatch, strides, padding):
    monkeypatch.setattr(_small, "_WEIGHTS", 1)
    images = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 2, 3, 4)).astype(np.float32)
    eqn = equation(images, kernel, strides=strides, padding=padding)
    assert _small.suits(eqn)
    convolve = lambda x, w: _small.convolve(eqn, x, w, precision=jax.lax.Precision.HIGHEST)
    expected = literal(images, kernel, strides, padding)
    np.testing.assert_allclose(convolve(images, kernel), expected, rtol=1e-5, atol=1e-5)
    # and so is its way back
    seed = rng.normal(size=expected.shape).astype(np.float32)
    _, back = jax.vjp(convolve, images, kernel)
    _, usual = jax.vjp(lambda x, w: conv(x, w, strides, padding), images, kernel)
    for found, wanted in zip(back(seed), usual(seed), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_stays_a_convolution(monkeypatch):
    images = jax.ShapeDtypeStruct((1, 3, 3, 256), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 256, 64), jnp.float32)
    assert _small.suits(equation(images, kernel))
    with loops.compiling_for("tpu"):
        assert not _small.suits(equation(images, kernel))
    many = jax.ShapeDtypeStruct((100, 3, 3, 256), jnp.float32)
    few = jax.ShapeDtypeStruct((3, 3, 256, 2), jnp.float32)
    half = jax.ShapeDtypeStruct((3, 3, 128, 64), jnp.float32)
    assert not _small.suits(equation(many, kernel))
    assert not _small.suits(equation(images, few))
    assert not _small.suits(equation(images, half, groups=2))
