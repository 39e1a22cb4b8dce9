"""Weights that a program makes of its own numbers: a layer's, or pooling's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam import lrp
from jaxcam._program import trace
from jaxcam.lrp import _fixed as fixed
from tests.lrp import literal

RNG = np.random.default_rng(3)
X = np.abs(RNG.normal(size=(2, 4, 4, 3)))
HEAD = RNG.normal(size=(3, 4))
NAMES = ("NHWC", "HWIO", "NHWC")


def dense(x):
    return x @ (60 * jnp.eye(3) - 20)


def conv(x):
    """A Laplacian of all channels, its kernel made in place."""
    rows = jnp.arange(3.0) - 1
    kernel = 1.5 - rows[:, None] ** 2 - rows[None] ** 2
    kernel = kernel[:, :, None, None] * jnp.ones((1, 1, 3, 3))
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NAMES)


def matrices():
    kernel = 1.5 - np.array([1, 0, 1])[:, None] - np.array([1, 0, 1])[None]
    kernel = np.broadcast_to(kernel[:, :, None, None], (3, 3, 3, 3))
    one = np.kron(np.eye(16), 60 * np.eye(3) - 20)
    return {"dense": one, "conv": literal.conv_matrix((4, 4, 3), kernel, padding=1)[0]}


@pytest.mark.parametrize("middle", [dense, conv], ids=["dense", "conv"])
def test_weights_made_in_place_take_the_layers_rule(middle):
    """As from a closed-over array: relevance is z+'s, and not the plain gradient's."""
    forward = lambda x: jax.nn.relu(middle(x)).mean((1, 2)) @ HEAD
    with jax.enable_x64(True):
        found = jax.jit(lambda x: lrp.relevance(forward, x, 1))(jnp.asarray(X))
    weights = matrices()[middle.__name__]
    for image, relevance in zip(X, np.asarray(found), strict=True):
        x = image.ravel()
        top = np.maximum(x @ weights, 0)
        pooled = top.reshape(16, 3).mean(0)
        r = literal.z_plus(pooled, HEAD, np.eye(4)[1] * (pooled @ HEAD))
        share = np.divide(r, pooled, out=np.zeros(3), where=pooled != 0)
        r = (top.reshape(16, 3) / 16 * share).ravel()
        expected = literal.z_plus(x, weights, r)
        assert np.abs(expected).sum() > 0
        np.testing.assert_allclose(relevance.ravel(), expected, rtol=1e-8, atol=1e-12)


def test_a_layer_of_fixed_weights_is_there_for_a_composite():
    forward = lambda x: jaxcam.tag(dense(x), "whitened").mean((1, 2)) @ HEAD
    composite = {"whitened": lrp.rules.flat, "*": lrp.rules.z_plus}
    assert lrp.relevance(forward, jnp.asarray(X, jnp.float32), 1, composite=composite).any()


def test_fixed_weights_inside_shard_map():
    """Where numbers of the code are cast to vary over devices."""
    forward = lambda x: dense(x).mean((1, 2)) @ jnp.asarray(HEAD, x.dtype)
    explain = lambda x: lrp.relevance(forward, x, 1)
    images = jnp.asarray(X, jnp.float32)
    over = jax.sharding.PartitionSpec("devices")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("devices",))
    shared = jax.shard_map(explain, mesh=mesh, in_specs=over, out_specs=over)
    np.testing.assert_allclose(jax.jit(shared)(images), explain(images), rtol=1e-5)


@pytest.mark.parametrize("how", ["linear", "cubic", "lanczos3", "lanczos5"])
def test_resizing_is_pooling(how):
    for size in (3, 9, 20):
        assert fixed.is_pooling(jax.image.resize(jnp.eye(9), (9, size), how), (0,))


@pytest.mark.parametrize(
    ("matrix", "pooling"),
    [
        (np.ones((4, 2)), True),
        (-np.eye(3), True),
        (np.eye(3) - 1 / 3, False),  # takes the mean away
        (2 * np.eye(3) - 1 / 3, False),  # sharpens: sums to 1, by large weights of both signs
        (0.9 * np.eye(3) - 0.05, False),
        (np.array([[1.125, 0], [-0.125, 0]]), True),  # nothing is at the second place
        (np.full((2, 2), np.nan), False),
    ],
)
def test_pooling_is_told_by_its_weights(matrix, pooling):
    assert fixed.is_pooling(matrix, (0,)) == pooling


def test_parameters_make_a_layer_and_averages_none():
    scale = jnp.asarray(2.0)

    def forward(x):
        averaged = x @ (jnp.ones((3, 3)) / 3)
        return averaged @ (scale * (jnp.eye(3) + 0.5))

    assert len(fixed.pools(trace.trace(forward, jnp.asarray(X)))) == 1
