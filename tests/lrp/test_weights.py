"""Parts of weights, such as max(w, 0), are made where they are used, and of no other value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import loops
from jaxcam._ground.dtypes import wide
from jaxcam.lrp import _weights

WIDTH = 512
DEPTH = 6
COPY = 4 * WIDTH * WIDTH  # bytes of one layer's weights


@pytest.fixture(scope="module")
def case():
    """Weights `[DEPTH, WIDTH, WIDTH]`, images `[2, 4, 4, 32]` of `WIDTH` values, and a network."""
    key = jax.random.key(0)
    weights = jax.random.normal(key, (DEPTH, WIDTH, WIDTH)) / WIDTH**0.5
    images = jax.random.normal(jax.random.key(1), (2, 4, 4, WIDTH // 16))

    def forward(weights):
        def run(x):
            hidden = x.reshape(len(x), -1)
            for each in weights:
                hidden = jax.nn.relu(hidden @ each)
            return hidden[:, :10]

        return run

    return list(weights), images, forward


def relevance(case, targets=None, composite="z_plus"):
    weights, images, forward = case
    explain = lambda w, x: jaxcam.lrp.relevance(forward(w), x, targets, composite=composite)
    return jax.jit(explain).lower(weights, images).compile(), (weights, images)


@pytest.mark.parametrize("composite", ["z_plus", "gamma", jaxcam.lrp.rules.alpha_beta(2, 1)])
def test_values_are_those_of_weights_that_are_constants(case, composite):
    if composite == "gamma":
        composite = jaxcam.lrp.rules.gamma(0.5)
    weights, images, forward = case
    program, args = relevance(case, composite=composite)
    constant = jax.jit(lambda x: jaxcam.lrp.relevance(forward(weights), x, composite=composite))
    np.testing.assert_allclose(program(*args), constant(images), rtol=2e-5, atol=1e-7)


def test_no_copy_of_the_weights_lives_through_the_program(case):
    program, _ = relevance(case)
    assert program.memory_analysis().temp_size_in_bytes < 2.5 * COPY
    with loops.compiling_for("tpu"):  # where parts of weights are left to the compiler
        program, _ = relevance(case)
    assert program.memory_analysis().temp_size_in_bytes > (DEPTH - 1) * COPY


def test_targets_share_the_parts_of_weights(case):
    """A product for each target with weights of its own would hold as many copies."""
    targets = jnp.arange(8).reshape(2, 4)
    program, args = relevance(case, targets)
    assert program.memory_analysis().temp_size_in_bytes < 2.5 * COPY
    found = program(*args)
    for number in range(4):
        alone, args = relevance(case, targets[:, number])
        np.testing.assert_allclose(found[:, number], alone(*args), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.float64])
def test_products_are_those_of_any_numbers_to_the_bit(dtype):
    """Infinite weights, NaN, zeros of both signs, and whatever the first value of x is."""
    values = np.random.default_rng(0).normal(size=(300, 300)).astype(dtype)
    values[0, :5] = [np.inf, -np.inf, np.nan, 0.0, -0.0]
    w = jnp.asarray(values)
    op = lambda x, w: x * w
    part = lambda w: jnp.minimum(w, 0)
    for first in (1.0, -1.0, 0.0, np.nan):
        x = jnp.full((300, 300), first, wide(w.dtype)).astype(w.dtype)
        found = jax.jit(lambda x, w: _weights.product(op, part, x, w))(x, w)
        expected = jax.jit(lambda x, w: op(x, part(w)))(x, w)
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()


def test_gradients_reach_the_weights(case):
    """A loss of relevance differentiates it once more, with respect to the weights."""
    weights, images, forward = case

    def loss(weights):
        return (jaxcam.lrp.relevance(forward(weights), images, 3) ** 2).sum()

    found = jax.jit(jax.grad(loss))(weights)
    with loops.compiling_for("tpu"):
        expected = jax.jit(jax.grad(loss))(weights)
    for a, b in zip(found, expected, strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
