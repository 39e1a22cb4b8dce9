import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import models
from jaxcam._program.adapters import linen
from jaxcam._program.layers import layers
from jaxcam.models.convert import expected_shapes
from jaxcam.models.vgg import adaptive_average_pool

SMALL = {"stage_sizes": (1, 2), "widths": (4, 8), "hidden": 6}


def adaptive_average_pool_literal(x, size):
    """PyTorch's definition, cell by cell in float64."""
    b, h, w, c = x.shape
    y = np.zeros((b, size, size, c))
    for i in range(size):
        for j in range(size):
            top, bottom = math.floor(i * h / size), math.ceil((i + 1) * h / size)
            left, right = math.floor(j * w / size), math.ceil((j + 1) * w / size)
            y[:, i, j] = x[:, top:bottom, left:right].astype(np.float64).mean((1, 2))
    return y


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (7, 7), (8, 10), (14, 7), (23, 16)])
def test_adaptive_average_pool_is_torchs(shape, rng):
    x = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    np.testing.assert_allclose(
        adaptive_average_pool(x, 7), adaptive_average_pool_literal(x, 7), rtol=1e-5, atol=1e-6
    )


def test_tagged_layers_of_vgg16_bn_at_224_pixels():
    model = models.create("vgg16_bn", hidden=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    found = layers(
        lambda x: model.apply(state, x), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    )
    assert list(found) == [f"features.{i}" for i in range(44)]
    pools = {i: found[f"features.{i}"].shape[1:] for i in (6, 13, 23, 33, 43)}
    assert pools == {
        6: (112, 112, 64),
        13: (56, 56, 128),
        23: (28, 28, 256),
        33: (14, 14, 512),
        43: (7, 7, 512),
    }
    assert found.default == "features.43"


@pytest.mark.parametrize("batch_norm", [False, True])
def test_submodules_are_named_as_torchvision_names_them(batch_norm):
    model = models.create("vgg11", num_classes=5, batch_norm=batch_norm, **SMALL)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    found = layers(linen(model, variables), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    assert {key.rpartition(".")[0] for key in expected_shapes(model)} < set(found)
    # the adapter's tag and the model's own are one layer
    assert [name for name in found if "@" in name] == []


def test_dropout_only_in_training(rng):
    model = models.create("vgg11", num_classes=5, **SMALL)
    images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    train = [
        model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(i)})
        for i in (1, 2)
    ]
    assert np.abs(train[0] - train[1]).max() > 0
    still = models.create("vgg11", num_classes=5, dropout=0.0, **SMALL)
    kept = still.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})
    np.testing.assert_array_equal(kept, model.apply(variables, images))


@pytest.mark.lenient  # flax normalises bfloat16 by float32 means
def test_bfloat16_computes_in_bfloat16_and_returns_float32(rng):
    plain, half = (
        models.create("vgg11_bn", num_classes=5, dtype=dtype, **SMALL)
        for dtype in (None, "bfloat16")
    )
    images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    variables = half.init(jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    found = layers(linen(half, variables), images)
    assert {aval.dtype for name, aval in found.items() if name != "classifier.6"} == {
        jnp.dtype("bfloat16")
    }
    assert found["classifier.6"].dtype == jnp.float32
    logits, expected = half.apply(variables, images), plain.apply(variables, images)
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()
