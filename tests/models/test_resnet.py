import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import models
from jaxcam._program.adapters import linen
from jaxcam._program.layers import layers
from jaxcam.models.convert import expected_shapes

SMALL = {"stage_sizes": (1, 1), "widths": (4, 8), "strides": (1, 2), "stem": "small"}


@pytest.fixture(scope="module")
def variables():
    model = models.create("resnet18", num_classes=5, **SMALL)
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def zeros(model, size=32):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def test_tagged_layers_of_resnet50_at_224_pixels():
    model = models.create("resnet50")
    state = zeros(model)
    found = layers(
        lambda x: model.apply(state, x), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    )
    assert {name: aval.shape[1:] for name, aval in found.items()} == {
        "relu": (112, 112, 64),
        "maxpool": (56, 56, 64),
        "layer1": (56, 56, 256),
        "layer2": (28, 28, 512),
        "layer3": (14, 14, 1024),
        "layer4": (7, 7, 2048),
    }
    assert found.default == "layer4"


def test_submodules_are_named_as_torchvision_names_them(variables):
    model = models.create("resnet18", num_classes=5, **SMALL)
    found = layers(linen(model, variables), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    assert {key.rpartition(".")[0] for key in expected_shapes(model)} < set(found)
    assert found.default == "layer2"
    assert [name for name in found if "@" in name] == []


@pytest.mark.parametrize(
    ("stem", "cells"),
    [
        ("imagenet", (8, 8, 4, 2, 1)),
        ("small", (32, 32, 16, 8, 4)),
        ("small_stride2", (16, 16, 8, 4, 2)),
    ],
)
def test_stems(stem, cells):
    model = models.create("resnet18", widths=(2, 2, 2, 2), stem=stem)
    state = zeros(model)
    found = layers(
        lambda x: model.apply(state, x), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    )
    first = "maxpool" if stem == "imagenet" else "relu"
    assert (
        tuple(found[name].shape[1] for name in (first, "layer1", "layer2", "layer3", "layer4"))
        == cells
    )
    assert ("maxpool" in found) == (stem == "imagenet")


def test_stride_sits_on_the_3x3_convolution_of_a_bottleneck():
    model = models.create("resnet50", **SMALL)
    state = zeros(model)
    found = layers(linen(model, state), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    assert [found[f"layer2.0.conv{i}"].shape[1] for i in (1, 2, 3)] == [8, 4, 4]


def test_training_averages_batch_statistics_as_torch_does(variables, rng):
    """new = 0.9 old + 0.1 batch, literally and in float64 for the stem's norm."""
    images = rng.normal(size=(3, 8, 8, 3)).astype(np.float32)
    model = models.create("resnet18", num_classes=5, **SMALL)
    _, updated = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, images
    )
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = np.asarray(variables["params"]["conv1"]["kernel"], np.float64)
    z = np.zeros((3, 8, 8, 4))
    for i in range(8):
        for j in range(8):
            z[:, i, j] = np.einsum("bhwc,hwco->bo", padded[:, i : i + 3, j : j + 3], kernel)
    stats = updated["batch_stats"]["bn1"]
    np.testing.assert_allclose(stats["mean"], 0.1 * z.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * z.var((0, 1, 2)), rtol=1e-4)


def test_axis_name_shares_batch_statistics_across_devices(variables, rng):
    images = rng.normal(size=(4, 2, 8, 8, 3)).astype(np.float32)

    def statistics(axis_name):
        model = models.create("resnet18", num_classes=5, axis_name=axis_name, **SMALL)
        return lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])

    whole, _ = statistics(None)(images.reshape(8, 8, 8, 3))
    shared, stats = jax.vmap(statistics("devices"), axis_name="devices")(images)
    alone, _ = jax.vmap(statistics(None))(images)
    np.testing.assert_allclose(shared.reshape(8, -1), whole, rtol=1e-3, atol=1e-4)
    assert np.abs(alone.reshape(8, -1) - whole).max() > 1e-2
    assert all(np.allclose(leaf, leaf[:1]) for leaf in jax.tree.leaves(stats))


@pytest.mark.lenient  # flax normalises bfloat16 by float32 means
def test_bfloat16_computes_in_bfloat16_and_returns_float32(variables, rng):
    images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    plain, half = (
        models.create("resnet18", num_classes=5, dtype=dtype, **SMALL)
        for dtype in (None, "bfloat16")
    )
    logits = half.apply(variables, images)
    found = layers(linen(half, variables), images)
    assert {found[name].dtype for name in ("conv1", "bn1", "layer1", "layer2")} == {
        jnp.dtype("bfloat16")
    }
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(half.init(jax.random.key(0), images))} == {
        jnp.dtype("float32")
    }
    expected = plain.apply(variables, images)
    assert 0 < np.abs(logits - expected).max() < 0.03 * np.abs(expected).max()


def test_initialisation_is_torchvisions():
    model = models.create("resnet_compact", num_classes=50)
    params = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))["params"]
    kernel = params["layer4.1"]["conv1"]["kernel"]  # kaiming normal by fan out
    assert abs(float(kernel.std()) / (2 / (9 * 192)) ** 0.5 - 1) < 0.02
    for leaf in params["fc"].values():  # uniform within 1 / sqrt(fan in)
        assert 0.9 * 192**-0.5 < float(jnp.abs(leaf).max()) <= 192**-0.5


def test_zero_init_residual_starts_blocks_as_the_identity():
    model = models.create("resnet18", num_classes=5, zero_init_residual=True, **SMALL)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    assert not params["layer1.0"]["bn2"]["scale"].any()
    assert (
        params["layer1.0"]["bn1"]["scale"].all()
        and params["layer2.0"]["downsample.1"]["scale"].all()
    )


def test_it_is_a_plain_linen_module():
    assert isinstance(models.create("resnet18"), nn.Module)
