"""Depthwise convolutions as sums of shifted images on CPUs: values, slopes, where they apply."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam import loops, lrp, metrics
from jaxcam._explainers.masking import MASK_VARIANTS
from jaxcam._ground import platforms
from jaxcam._program import quick, trace

SHORT = MASK_VARIANTS["jacobgil"]._replace(cell=4, steps=2, noise=0.0, baseline="constant")


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    """Small ones too."""
    monkeypatch.setattr(quick, "_SHIFTED", 1)


def depthwise(
    images,
    kernels,
    strides=(1, 1),
    padding=((1, 1), (1, 1)),
    dilation=(1, 1),
    layout="NHWC",
    groups=None,
):
    numbers = (layout, "HWIO", layout)
    return lax.conv_general_dilated(
        images,
        kernels,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=numbers,
        feature_group_count=groups or kernels.shape[-1],
    )


def literal(images, kernels, strides, padding, dilation):
    """y_ijc = sum_ab x_(s i + d a)(t j + e b)c w_abc, in float64."""
    x = np.pad(images.astype(np.float64), ((0, 0), *padding, (0, 0)))
    high, wide = kernels.shape[:2]
    seen = [(side - 1) * step + 1 for side, step in zip((high, wide), dilation, strict=True)]
    size = [(x.shape[k + 1] - seen[k]) // strides[k] + 1 for k in (0, 1)]
    found = np.zeros((len(x), *size, kernels.shape[-1]))
    for i, j, a, b in np.ndindex(*size, high, wide):
        row, column = i * strides[0] + a * dilation[0], j * strides[1] + b * dilation[1]
        found[:, i, j] += x[:, row, column] * kernels[a, b, 0].astype(np.float64)
    return found


GEOMETRIES = [
    ((3, 2), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((3, 3), (2, 1), ((0, 1), (2, 0)), (1, 1)),
    ((2, 3), (3, 2), ((0, 0), (1, 1)), (2, 1)),
    ((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("kernel", "strides", "padding", "dilation"), GEOMETRIES)
def test_values_and_slopes(rng, kernel, strides, padding, dilation, layout):
    images = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
    kernels = rng.normal(size=(*kernel, 1, 3)).astype(np.float32)
    move = lambda x: x if layout == "NHWC" else jnp.moveaxis(x, -1, 1)
    usual = lambda x, w: depthwise(move(x), w, strides, padding, dilation, layout)
    ours = quick.rewritten(usual)
    value, back = jax.vjp(ours, images, kernels)
    expected = literal(images, kernels, strides, padding, dilation)
    np.testing.assert_allclose(value, move(expected), rtol=1e-5, atol=1e-5)
    seed = rng.normal(size=value.shape).astype(np.float32)
    theirs = jax.vjp(usual, images, kernels)[1](seed)
    for found, wanted in zip(back(seed), theirs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(ours)(images, kernels))


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-13), ("bfloat16", 1e-2)])
def test_types(rng, dtype, close):
    with jax.enable_x64(True):
        images = jnp.asarray(rng.normal(size=(1, 5, 5, 4)), dtype)
        kernels = jnp.asarray(rng.normal(size=(3, 3, 1, 4)), dtype)
        found = jax.jit(quick.rewritten(depthwise))(images, kernels)
        assert found.dtype == dtype
        geometry = (1, 1), ((1, 1), (1, 1)), (1, 1)
        expected = literal(np.asarray(images), np.asarray(kernels), *geometry)
    np.testing.assert_allclose(np.float64(found), expected, rtol=close, atol=close)


def test_operands_wider_than_traced_stay_so(rng):
    """As LRP of a bfloat16 network has them."""
    narrow = (
        jax.ShapeDtypeStruct((1, 5, 5, 4), "bfloat16"),
        jax.ShapeDtypeStruct((3, 3, 1, 4), "bfloat16"),
    )
    (eqn,) = trace.trace(depthwise, *narrow).closed.jaxpr.eqns
    images = rng.normal(size=(1, 5, 5, 4)).astype(np.float32)
    kernels = rng.normal(size=(3, 3, 1, 4)).astype(np.float32)
    found = quick.shifted(eqn, images, kernels)
    assert found.dtype == trace.bind(eqn, (images, kernels))[0].dtype == np.float32
    expected = literal(images, kernels, (1, 1), ((1, 1), (1, 1)), (1, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def applies(function, *shapes):
    program = trace.trace(function, *(jax.ShapeDtypeStruct(each, "float32") for each in shapes))
    return [quick.is_depthwise(eqn) for eqn in program.closed.jaxpr.eqns] == [True]


def test_where_it_applies(monkeypatch):
    assert applies(depthwise, (1, 8, 8, 4), (3, 3, 1, 4))
    with platforms.compiling_for("gpu"):
        assert not applies(depthwise, (1, 8, 8, 4), (3, 3, 1, 4))
    pairs = lambda x, w: depthwise(x, w, groups=2)
    assert not applies(pairs, (1, 8, 8, 2), (3, 3, 1, 4))  # two kernels for each channel
    assert not applies(pairs, (1, 8, 8, 4), (3, 3, 2, 4))  # of two channels each
    assert not applies(depthwise, (1, 8, 8, 1), (3, 3, 1, 1))  # of one channel: a convolution
    assert not applies(depthwise, (1, 9, 9, 4), (8, 8, 1, 4))  # a large kernel
    monkeypatch.undo()
    assert not applies(depthwise, (1, 8, 8, 4), (3, 3, 1, 4))  # not worth it
    assert applies(depthwise, (1, 8, 8, 64), (3, 3, 1, 64))


@pytest.fixture
def network(rng):
    """Two blocks of a mobile network, of 4 and 6 channels, and a head of 3 classes."""
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    first, point, second, head = draw(3, 3, 1, 4), draw(4, 6), draw(3, 3, 1, 6), draw(6, 3)

    def forward(images):
        x = jax.nn.relu(depthwise(images, first, (2, 2)))
        x = jaxcam.tag(jax.nn.relu(x @ point), "features")
        return jax.nn.relu(depthwise(x, second)).mean((1, 2)) @ head

    return forward, draw(2, 8, 8, 4)


def everything(forward, images):
    box = jnp.ones((2, 8, 8))
    key = jax.random.key(0)
    return {
        "grad_cam": jaxcam.grad_cam(forward, images, 1, layer="features"),
        "ablation": jaxcam.ablation_cam(forward, images, 1, layer="features"),
        "rise": jaxcam.rise(forward, images, 1, key=key, num_masks=8, grid=2, chunk=4),
        "mask": jaxcam.mask(forward, images, 1, variant=SHORT),
        "lrp": lrp.relevance(forward, images, 1),
        "relevance_cam": jaxcam.relevance_cam(forward, images, 1, layer="features"),
        "drop": metrics.average_drop(forward, images, box, 1),
    }


def test_every_method_is_what_it_was_and_has_no_slow_convolution(network, monkeypatch):
    found = jax.jit(lambda images: everything(network[0], images))
    program = str(jax.make_jaxpr(found)(network[1]))
    # ablation and LRP ask how the network is made, and run nothing of what they asked
    assert "feature_group_count=4" not in program and "feature_group_count=6" not in program
    ours = found(network[1])
    monkeypatch.setattr(quick, "is_depthwise", lambda eqn: False)
    theirs = jax.jit(lambda images: everything(network[0], images))(network[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def test_the_public_function(network):
    forward, images = network
    plain = lambda x: forward(x).max(-1).sum()
    found = jax.jit(jax.value_and_grad(loops.quick(plain)))(images)
    expected = jax.jit(jax.value_and_grad(plain))(images)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected)
    assert (loops.quick(forward)(images) == forward(images)).all()  # outside jit as it is
