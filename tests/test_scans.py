"""Scanned stacks: written out where layers or relevance are asked for, as their twin in a loop."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam import lrp
from jaxcam._program import trace, unroll

STEPS = 3
_KEYS = jax.random.split(jax.random.key(0), 5)
STEM = 0.3 * jax.random.normal(_KEYS[0], (3, 3, 3, 4))
KERNELS = 0.3 * jax.random.normal(_KEYS[1], (STEPS, 3, 3, 4, 4))
BIASES = 0.1 * jax.random.normal(_KEYS[2], (STEPS, 4))
HEAD = jax.random.normal(_KEYS[3], (4, 5))
IMAGES = jax.random.normal(_KEYS[4], (2, 8, 8, 3))
NAMES = ["stem", "inner", "block", "inner@2", "block@2", "inner@3", "block@3", "last"]


def conv(x, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def block(x, weights):
    kernel, bias = weights
    inner = jaxcam.tag(jax.nn.relu(conv(x, kernel) + bias.reshape(1, 1, 1, 4)), "inner")
    return jaxcam.tag(x + inner, "block"), inner.mean((1, 2))


def net(stack):
    def forward(images):
        x = jaxcam.tag(jax.nn.relu(conv(images, STEM)), "stem")
        x, means = stack(x)
        x = jaxcam.tag(2 * x, "last")
        return (x.mean((1, 2)) + means[0] - means[-1]) @ HEAD

    return forward


def looped(x):
    means = []
    for step in range(STEPS):
        x, mean = block(x, (KERNELS[step], BIASES[step]))
        means.append(mean)
    return x, means


def backwards(x):
    means = [None] * STEPS
    for step in reversed(range(STEPS)):
        x, means[step] = block(x, (KERNELS[step], BIASES[step]))
    return x, means


STACKS = {
    "scan": (lambda x: lax.scan(block, x, (KERNELS, BIASES)), looped),
    "jit": (jax.jit(lambda x: lax.scan(block, x, (KERNELS, BIASES))), looped),
    "remat": (lambda x: lax.scan(jax.checkpoint(block), x, (KERNELS, BIASES)), looped),
    "reverse": (lambda x: lax.scan(block, x, (KERNELS, BIASES), reverse=True), backwards),
}


@pytest.mark.parametrize("kind", STACKS)
def test_layers_are_those_of_the_twin(kind):
    stack, twin = map(net, STACKS[kind])
    found, expected = jaxcam.layers(stack, IMAGES), jaxcam.layers(twin, IMAGES)
    assert list(found) == list(expected) == NAMES
    assert found.default == expected.default == "stem"  # the means go round what follows
    assert found.cuts == expected.cuts
    assert found.grids == expected.grids


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("layer", ["block@2", "inner@3", None])
def test_maps_and_relevance_are_those_of_the_twin(kind, layer):
    """Also under jit, and where the layer is cut."""
    stack, twin = map(net, STACKS[kind])
    for explain in (jaxcam.grad_cam, jaxcam.relevance_cam):
        expected = jax.jit(lambda x: explain(twin, x, 1, layer=layer))(IMAGES)
        assert np.abs(expected).max() > 0
        found = jax.jit(lambda x: explain(stack, x, 1, layer=layer))(IMAGES)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    cut = jaxcam.split(stack, IMAGES, layer)
    np.testing.assert_allclose(cut.activations, jaxcam.split(twin, IMAGES, layer).activations, 1e-4)
    np.testing.assert_allclose(cut.head(cut.activations), stack(IMAGES), rtol=1e-4, atol=1e-5)
    output, _ = jaxcam.tap(stack, layer)(IMAGES)
    np.testing.assert_allclose(output, stack(IMAGES), rtol=1e-4, atol=1e-5)


def test_relevance_at_the_pixels_passes_a_scan_and_is_conserved_as_in_the_twin():
    stack, twin = map(net, STACKS["scan"])
    for composite in ("z_plus", "epsilon_plus_flat"):
        found = lrp.relevance(stack, IMAGES, 1, composite=composite)
        np.testing.assert_allclose(
            found, lrp.relevance(twin, IMAGES, 1, composite=composite), rtol=1e-3, atol=1e-6
        )
    sums, expected = (lrp.conservation(each, IMAGES, 1) for each in (stack, twin))
    assert list(sums.layers) == list(expected.layers) == NAMES
    for name in NAMES:
        np.testing.assert_allclose(sums.layers[name], expected.layers[name], rtol=1e-4, atol=1e-6)
    vjp = jax.vjp(lrp.transform(stack), IMAGES)[1]
    expected = jax.vjp(lrp.transform(twin), IMAGES)[1](jnp.ones((2, 5)))
    np.testing.assert_allclose(vjp(jnp.ones((2, 5)))[0], expected[0], rtol=1e-3, atol=1e-6)


def test_a_scan_is_written_out_only_where_it_is_needed():
    """A layer outside of it whose axes are known keeps it."""
    stack = net(STACKS["scan"][0])
    program = str(jax.make_jaxpr(lambda x: jaxcam.grad_cam(stack, x, 1, layer="stem"))(IMAGES))
    assert "scan" in program
    program = str(jax.make_jaxpr(lambda x: jaxcam.grad_cam(stack, x, 1, layer="block@2"))(IMAGES))
    assert "scan" not in program
    plain = trace.trace(lambda x: 2 * x, IMAGES)
    assert unroll.unrolled(plain, IMAGES) is plain


def test_scans_of_scans_of_no_steps_and_without_results():
    def forward(x):
        inner = lambda x, _: (jaxcam.tag(jnp.sin(x), "deep"), None)
        outer = lambda x, _: (lax.scan(inner, x, None, length=2)[0], x.mean())
        x, _ = lax.scan(outer, x, None, length=2)
        _, none = lax.scan(outer, x, None, length=0)
        return x.mean((1, 2)) + none.sum()

    assert list(jaxcam.layers(forward, IMAGES)) == ["deep", "deep@2", "deep@3", "deep@4"]
    _, found = jaxcam.tap(forward, ["deep@3"])(IMAGES)
    np.testing.assert_allclose(found["deep@3"], jnp.sin(jnp.sin(jnp.sin(IMAGES))), rtol=1e-5)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(3, name="mlp")(jnp.sin(x)), None


class Scanned(nn.Module):
    """As in big_vision: parameters stacked, one module."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (2, 2), strides=2, name="stem")(x)
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x, _ = nn.scan(Block, length=2, **axes)(name="blocks")(x, None)
        return x.mean((1, 2))


def test_linens_scan():
    model = Scanned()
    forward = jaxcam.linen(model, jax.jit(model.init)(jax.random.key(0), IMAGES))
    found = jaxcam.layers(forward, IMAGES)
    assert list(found) == ["stem", "blocks.mlp", "blocks", "blocks.mlp@2", "blocks@2"]
    assert found.default == "blocks@2"
    _, acts, grads = jaxcam.activations_and_gradients(forward, IMAGES, 1)
    np.testing.assert_allclose(acts.mean((1, 2)), forward(IMAGES), rtol=1e-5)
    expected = np.zeros(acts.shape)
    expected[..., 1] = 1 / 16
    np.testing.assert_allclose(grads, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("loop", "kind"),
    [
        (lambda x: lax.while_loop(lambda x: x.sum() > 1e9, jnp.sin, x), "while"),
        (lambda x: lax.scan(lambda x, _: (jnp.sin(x), None), x, None, length=2)[0], "scan"),
    ],
)
def test_a_default_layer_before_a_loop_warns(loop, kind):
    forward = lambda x: loop(jaxcam.tag(x * 2, "stem")).mean((1, 2))
    with pytest.warns(UserWarning, match=f"default layer 'stem' stands before a {kind}, in which"):
        jaxcam.grad_cam(forward, IMAGES, 1) if kind == "scan" else jaxcam.tap(forward)(IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jaxcam.tap(forward, "stem")(IMAGES)
