"""FullGrad, fused layers and the kin of Score-CAM: against literal forms, and their laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam._explainers import fullgrad as full
from jaxcam._explainers import masked_scores
from jaxcam._program.question import ask
from tests import nets
from tests.explainers import literal

close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)


@pytest.fixture(scope="module")
def tiny():
    model, variables, images = nets.tiny(batch=2)
    return jaxcam.linen(model, variables), images


# FullGrad ------------------------------------------------------------


def sums(forward, images, targets):
    question = ask(forward, images, targets, layer="pixels")
    inputs, biases, _ = full.full_gradients(question)
    axes = tuple(range(inputs.ndim - 3, inputs.ndim))
    total = inputs.sum(axes)
    for term, _ in biases:
        total += term.reshape(*total.shape, -1).sum(-1)
    return total, biases


def test_full_gradients_sum_to_the_score(tiny):
    """Completeness: batch norm, biases of convolutions and of the head, one and several classes."""
    forward, images = tiny
    logits = forward(images)
    total, biases = sums(forward, images, [1, 2])
    close(total, logits[np.arange(2), [1, 2]], atol=1e-5)
    several, _ = sums(forward, images, [[0, 3], [1, 4]])
    close(several.T, np.take_along_axis(logits, np.array([[0, 3], [1, 4]]), 1), atol=1e-5)
    # convolution and batch norm are one affine layer
    shapes = [term.shape[1:] for term, _ in biases]
    assert shapes == [(8, 8, 4), (4, 4, 6), (5,)]


def test_full_gradients_of_a_residual_network_sum_to_the_score(cifar):
    _, _, forward, images, targets = cifar
    total, _ = jax.jit(lambda x: (sums(forward, x, targets[:2])[0], 0))(images[:2])
    logits = np.asarray(forward(images[:2]))
    np.testing.assert_allclose(total, logits[np.arange(2), targets[:2]], rtol=1e-3)


BIAS = np.array([[[[0.3, -0.2, 0.1]]]])


def affine(x):
    """Two branches of one bias, a difference and a quotient on the way."""
    y = (x - jnp.asarray(BIAS, x.dtype)) / 2.0
    z = 1.0 - y
    return (jax.nn.relu(y) + 3 * jax.nn.relu(z)).mean((1, 2))


@pytest.mark.parametrize("rescale", full.RESCALE)
def test_fullgrad_equals_its_literal_form(rescale, rng):
    images = rng.normal(size=(2, 4, 4, 3))
    with jax.enable_x64(True):
        maps = jaxcam.fullgrad(affine, jnp.asarray(images), [0, 2], rescale=rescale)
    for i, target in enumerate((0, 2)):
        x, only = images[i], np.eye(3)[target] / 16
        y = (x - BIAS[0]) / 2
        up, down = (y > 0) * only, -3 * (1 - y > 0) * only  # dY/dy by the one and the other branch
        terms = [
            x * (up + down) / 2,
            np.broadcast_to(-BIAS[0] / 2, x.shape) * up,
            np.broadcast_to(1 + BIAS[0] / 2, x.shape) * -down,
        ]
        sum_of_all = sum(term.sum() for term in terms)
        np.testing.assert_allclose(sum_of_all, float(affine(jnp.asarray(x[None]))[0, target]), 1e-5)
        expected = sum(literal.psi(term, (4, 4), rescale) for term in terms)
        np.testing.assert_allclose(maps[i], expected, rtol=1e-9, atol=1e-12)


def test_biases_that_cannot_be_seen_are_refused():
    images = jnp.ones((1, 4, 4, 3))
    looped = lambda x: jax.lax.fori_loop(0, 2, lambda i, y: jax.nn.relu(y) - 0.1, x).mean((1, 2))
    with pytest.raises(ValueError, match=r"forward: got a model with sums inside '(while|scan)'"):
        jaxcam.fullgrad(looped, images)

    @jax.custom_vjp
    def layer(x):
        return x @ jnp.ones((3, 3)) + 1.0

    layer.defvjp(lambda x: (layer(x), None), lambda _, back: (back @ jnp.ones((3, 3)),))
    with pytest.raises(ValueError, match="forward: got a model with sums inside 'custom_vjp_call"):
        jaxcam.fullgrad(lambda x: layer(x).mean((1, 2)), images)


def test_fullgrad_costs_a_forward_and_a_backward_pass(tiny):
    forward, images = tiny
    flops = lambda f: jax.jit(f).lower(images).cost_analysis()["flops"]
    gradient = lambda x: jax.value_and_grad(lambda x: forward(x)[:, 0].sum())(x)
    assert flops(lambda x: jaxcam.fullgrad(forward, x, 0)) < 1.6 * flops(gradient)


# Fusion --------------------------------------------------------------


def test_fuse_equals_its_literal_form(rng):
    maps = {"deep": rng.normal(size=(2, 3, 2, 2)), "shallow": rng.normal(size=(2, 3, 4, 4))}
    maps["deep"][..., 0, 0] = 1.0  # something positive in each
    scaled = {}
    for name, each in maps.items():
        flat = each.reshape(6, *each.shape[2:])
        large = np.stack([literal.relu(literal.bilinear(m, 8, 8)) for m in flat])
        low, high = large.min((1, 2), keepdims=True), large.max((1, 2), keepdims=True)
        scaled[name] = ((large - low) / (high - low)).reshape(2, 3, 8, 8)
    stack = np.stack(list(scaled.values()))
    expected = {"mean": stack.mean(0), "max": stack.max(0), "product": stack.prod(0)}
    for how, each in expected.items():
        close(jaxcam.fuse(maps, (8, 8), how=how), each, atol=1e-5)
    raw = jaxcam.fuse(maps, (4, 4), how="max", normalize=None)
    deep = np.stack([literal.bilinear(m, 4, 4) for m in maps["deep"].reshape(6, 2, 2)])
    close(raw, np.maximum(deep.reshape(2, 3, 4, 4), maps["shallow"]), atol=1e-5)


def test_what_cannot_be_fused_is_refused():
    maps = {"a": np.ones((2, 4, 4)), "b": np.ones((3, 4, 4))}
    with pytest.raises(ValueError, match=r"maps: got shapes \[\(2,\), \(3,\)\] before h and w"):
        jaxcam.fuse(maps, (4, 4))
    with pytest.raises(ValueError, match="maps: got a dict, expected maps of layers by name"):
        jaxcam.fuse({}, (4, 4))
    with pytest.raises(ValueError, match="how: got 'sum', expected one of 'mean', 'max'"):
        jaxcam.fuse(maps, (4, 4), how="sum")
    with pytest.raises(ValueError, match="normalize: got 'l2', expected one of"):
        jaxcam.fuse(maps, (4, 4), normalize="l2")


def test_refine_cam_is_the_product_of_the_layers_maps(tiny):
    forward, images = tiny
    found = jaxcam.refine_cam(forward, images, [1, 2], layers=["stem", "top"])
    maps = jaxcam.grad_cam_plus_plus(forward, images, [1, 2], layer=["stem", "top"])
    close(found, jaxcam.fuse(maps, (8, 8), how="product"))
    assert found.shape == (2, 8, 8) and found.max() > 0
    close(jaxcam.refine_cam(forward, images, [1, 2]), found)  # the last of each size
    with pytest.raises(ValueError, match="layers: got None for a model with no spatial extent"):
        jaxcam.refine_cam(lambda x: x.mean((1, 2)), images)
    # a layer beside which evidence passes is none of its own choice, and may be named
    beside = lambda x: jaxcam.tag(jnp.abs(x), "half").mean((1, 2)) + x.mean((1, 2))
    named = jax.eval_shape(lambda x: jaxcam.refine_cam(beside, x, 1, layers="half"), images)
    assert named.shape == (2, 8, 8)
    other = jaxcam.refine_cam(forward, images, [1, 2], layers="top", method=jaxcam.grad_cam)
    close(other, jaxcam.fuse({"top": jaxcam.grad_cam(forward, images, [1, 2])}, (8, 8)))


# Kin of Score-CAM ----------------------------------------------------


def answering(forward):
    answer = jax.jit(forward)
    return lambda image: np.asarray(answer(jnp.asarray(image[None], jnp.float32))[0], np.float64)


@pytest.mark.parametrize("scale", masked_scores.SCALES)
@pytest.mark.parametrize("name", ["ss_cam", "is_cam", "is_cam running_sum"])
def test_masked_scores_equal_their_literal_form(tiny, name, scale):
    forward, images = tiny
    acts = np.asarray(jaxcam.tap(forward, "top")(images)[1], np.float64)
    key = jax.random.key(5)

    def noised(channel, k):
        found = []
        for i in range(3):
            own = jax.random.fold_in(jax.random.fold_in(key, k), i)
            noise = np.asarray(jax.random.normal(own, channel.shape), np.float64)
            found.append((channel + 0.5 * noise, 1.0))
        return found

    ratios = {"is_cam": (1 / 3, 2 / 3, 1), "is_cam running_sum": (1 / 3, 1, 2)}
    options = {"samples": 3, "chunk": 7, "layer": "top", "scale": scale}
    if name == "ss_cam":
        maps = jaxcam.ss_cam(forward, images, [1, 2], sigma=0.5, key=key, **options)
        versions = noised
    else:
        path = name.partition(" ")[2] or "linear"
        maps = jaxcam.is_cam(forward, images, [1, 2], path=path, **options)
        versions = lambda channel, k: [(channel, ratio) for ratio in ratios[name]]
    for i, target in enumerate((1, 2)):
        photo = np.asarray(images[i], np.float64)
        model = answering(forward)
        before = scale == "before"
        expected = literal.masked_scores(acts[i], photo, model, target, versions, before)
        assert expected.max() > 0
        np.testing.assert_allclose(maps[i], expected, rtol=1e-4, atol=1e-6)


def test_options_of_masked_scores_are_checked(tiny):
    with pytest.raises(ValueError, match="path: got 'log', expected one of 'linear', 'running_sum"):
        jaxcam.is_cam(*tiny, path="log")
    with pytest.raises(ValueError, match="scale: got 'never', expected one of 'after', 'before'"):
        jaxcam.ss_cam(*tiny, scale="never")
    with pytest.raises(ValueError, match="chunk: got 0, expected at least 1"):
        jaxcam.is_cam(*tiny, chunk=0)
    with pytest.raises(ValueError, match="samples: got 0, expected a whole number"):
        jaxcam.ss_cam(*tiny, samples=0)
    assert masked_scores.PATHS["running_sum"](4) == [0.25, 0.75, 1.5, 2.5]
