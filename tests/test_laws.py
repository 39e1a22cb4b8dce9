"""One table of methods, one table of laws: what holds of every explainer holds of each."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam._explainers.mask import MASK_VARIANTS
from jaxcam.methods import METHODS

RNG = np.random.default_rng(8)
IMAGES = jnp.asarray(RNG.normal(size=(3, 8, 8, 3)), jnp.float32)
STEM = jnp.asarray(RNG.normal(size=(3, 3, 3, 6)), jnp.float32)
TOP = jnp.asarray(RNG.normal(size=(3, 3, 6, 5)) / 3, jnp.float32)
HEAD = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
SEGMENTS = np.broadcast_to(np.arange(64).reshape(8, 8) // 16, (3, 8, 8))


def conv(x, kernel, stride):
    numbers = ("NHWC", "HWIO", "NHWC")
    kernel = kernel.astype(x.dtype)
    return lax.conv_general_dilated(x, kernel, stride, "SAME", dimension_numbers=numbers)


def forward(images):
    """Two layers, an attention block beside the second, and a pooled linear head."""
    stem = jaxcam.tag(jax.nn.relu(conv(images, STEM, (1, 1))), "layer1")
    signal = jax.nn.relu(conv(stem, TOP, (2, 2)))
    gate = jax.nn.sigmoid(signal.mean((1, 2), keepdims=True))
    jaxcam.tag(signal * gate - signal, "layer2.att")
    top = jaxcam.tag(signal * gate, "layer2")
    return top.mean((1, 2)) @ HEAD.astype(top.dtype)


EMBED = jnp.asarray(RNG.normal(size=(12, 6)), jnp.float32)
QUERY_KEY_VALUE = jnp.asarray(RNG.normal(size=(3, 6, 6)) / 2, jnp.float32)
CLASSIFY = jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32)


def transformer(images):
    """Patches of 2 x 2 pixels and two blocks of attention of one head, the mean of whose tokens is

    classified.
    """
    batch = len(images)
    parts = images.reshape(batch, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    tokens = parts.reshape(batch, 16, 12) @ EMBED.astype(images.dtype)
    for name in ("block1", "block2"):
        weights = QUERY_KEY_VALUE.astype(images.dtype)
        query, key, value = (tokens @ each for each in weights)
        scores = jnp.einsum("bqc,bkc->bqk", query, key)
        mixed = jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(scores), value)
        tokens = jaxcam.tag(tokens + mixed, name)
    return jnp.tanh(tokens).mean(1) @ CLASSIFY.astype(images.dtype)


class Law(NamedTuple):
    """How a method of the table is called here: with less work than it would do by itself."""

    call: object
    layered: bool
    size: tuple  # of a map: of layer2, or of the image
    model: object = forward


SMALL = {
    "integrated_gradients": functools.partial(jaxcam.integrated_gradients, steps=2),
    "occlusion": functools.partial(jaxcam.occlusion, window=4, stride=4),
    "ss_cam": functools.partial(jaxcam.ss_cam, samples=2, chunk=40),
    "is_cam": functools.partial(jaxcam.is_cam, samples=2, chunk=40),
    "smooth_grad_cam_plus_plus": functools.partial(jaxcam.smooth_grad_cam_plus_plus, samples=2),
    "rise": functools.partial(jaxcam.rise, num_masks=12, grid=3),
    "lime": functools.partial(jaxcam.lime, segments=SEGMENTS, num_segments=4, num_samples=16),
    "mask": functools.partial(
        jaxcam.mask,
        variant=MASK_VARIANTS["official"]._replace(
            steps=4, cell=2, jitter=2, blur=1.0, init="ones"
        ),
    ),
}


def law(name):
    row = METHODS[name]
    model = transformer if name in ("attention_rollout", "legrad") else forward
    return Law(SMALL.get(name, row.function), row.layered, (4, 4) if row.layered else (8, 8), model)


LAWS = {name: law(name) for name in METHODS}
LAYERED = [name for name, row in LAWS.items() if row.layered]
CLASSES = np.array([1, 0, 3])
EAGER = {}  # each method's maps, computed once


def explain(name, images=IMAGES, targets=CLASSES, model=None, **options):
    row = LAWS[name]
    call = row.call
    model = model or row.model
    if name == "lime" and len(images) != 3:
        call = functools.partial(call, segments=SEGMENTS[: len(images)])
    if row.layered:
        options.setdefault("layer", "layer2")
    return call(model, images, targets, **options)


def eager(name):
    if name not in EAGER:
        EAGER[name] = np.asarray(explain(name))
    return EAGER[name]


def close(found, expected, rtol=1e-3, atol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", LAWS)
def test_maps_are_raw_float32_of_the_layer_or_the_image(name):
    maps = eager(name)
    assert maps.shape == (3, *LAWS[name].size)
    assert maps.dtype == jnp.float32
    assert np.isfinite(maps).all()
    assert np.ptp(maps) > 0


@pytest.mark.parametrize("name", LAWS)
def test_jit_is_eager(name):
    close(jax.jit(lambda x, t: explain(name, x, t))(IMAGES, jnp.asarray(CLASSES)), eager(name))


@pytest.mark.parametrize("name", LAWS)
def test_a_batch_is_a_loop_in_any_order(name):
    alone = jax.jit(lambda x, t: explain(name, x, t))  # else op by op, of one image all anew
    for i in (0, 2):
        close(alone(IMAGES[i : i + 1], CLASSES[i : i + 1])[0], eager(name)[i])
    order = np.array([2, 0, 1])
    close(explain(name, IMAGES[order], CLASSES[order]), eager(name)[order])


@pytest.mark.parametrize("name", LAWS)
def test_several_targets_are_each_alone(name):
    both = np.stack([CLASSES, (CLASSES + 1) % 4], 1)
    several = jax.jit(lambda x: explain(name, x, both))(IMAGES)
    assert several.shape == (3, 2, *LAWS[name].size)
    close(several[:, 0], eager(name))
    close(several[:, 1], explain(name, targets=(CLASSES + 1) % 4))


@pytest.mark.parametrize("name", LAWS)
def test_one_class_for_all_and_none_for_the_likeliest(name):
    close(explain(name, targets=2), explain(name, targets=np.full(3, 2)))
    likeliest = np.argmax(LAWS[name].model(IMAGES), 1)
    close(explain(name, targets=None), explain(name, targets=likeliest))


@pytest.mark.parametrize("name", LAYERED)
def test_several_layers_are_each_alone_in_the_order_asked(name):
    if name == "cam":
        with pytest.raises(ValueError, match="layer: got 'layer1', above which there is"):
            explain(name, layer="layer1")
        with pytest.raises(ValueError, match="layer: got 'layer1', above which there is"):
            explain(name, layer=["layer2", "layer1"])
        return
    several = explain(name, layer=["layer2", "layer1"])
    assert list(several) == ["layer2", "layer1"]
    close(several["layer2"], eager(name))
    close(several["layer1"], explain(name, layer="layer1"))


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("layer", ["layer2.att", ["layer2", "layer2.att"]])
def test_a_layer_that_nothing_depends_on_is_refused_alone_and_beside_others(name, layer):
    with pytest.raises(ValueError, match=r"layer: got 'layer2.att', which the output does not"):
        explain(name, layer=layer)


@pytest.mark.parametrize("name", LAWS)
def test_aux_comes_beside_the_maps(name):
    model = lambda x: (LAWS[name].model(x), {"mean": x.mean((1, 2, 3))})
    maps, aux = explain(name, model=model, has_aux=True)
    close(maps, eager(name))
    close(aux["mean"], IMAGES.mean((1, 2, 3)))


# Small numbers of samples, signs, and gradients at the pixels: a ReLU that rounding turns shows.
COARSE = {"mask", "lime", "eigen_grad_cam", "gradient", "gradient_input", "integrated_gradients"}


@pytest.mark.parametrize("name", LAWS)
def test_bfloat16_models_give_float32_maps(name):
    images = IMAGES.astype(jnp.bfloat16)
    maps = explain(name, images)
    assert maps.dtype == jnp.float32
    assert np.isfinite(maps).all()
    flat = lambda m: np.asarray(m, np.float64).reshape(3, -1)
    if name not in COARSE:
        for a, b in zip(flat(maps), flat(eager(name)), strict=True):
            assert np.corrcoef(a, b)[0, 1] > 0.97 or np.ptp(b) == 0


NO_CLASS = {
    "eigen_cam",
    "kpca_cam",
    "fem",
    "attention_rollout",
    "cbam_attention",
    "rise",
    "lime",
    "mask",
}  # do not ask for a gradient


@pytest.mark.parametrize("name", [name for name in LAWS if name not in NO_CLASS])
def test_without_evidence_the_map_is_zero(name):
    """A head of zeros: no gradient, no relevance, and perturbations that change nothing."""

    def blind(images):
        return LAWS[name].model(images) * 0

    if name in ("ss_cam", "is_cam"):  # a softmax of equal scores
        acts = jaxcam.tap(forward, "layer2")(IMAGES)[1]
        close(explain(name, model=blind, relu=None), acts.mean(-1))
        return
    if name == "score_cam":  # every mask is as good: the probabilities are all alike
        weights = explain(name, model=blind, relu=None)
        acts = jaxcam.tap(forward, "layer2")(IMAGES)[1]
        shown = acts.max((1, 2)) > acts.min((1, 2))
        close(weights, (acts * shown[:, None, None].astype(acts.dtype) / 4).sum(-1))
        return
    np.testing.assert_array_equal(explain(name, model=blind), 0)


@pytest.mark.parametrize("name", LAWS)
def test_nan_images_are_refused(name):
    with pytest.raises(ValueError, match="images: got NaN or infinite values"):
        explain(name, IMAGES.at[1, 0, 0, 0].set(jnp.nan))


@pytest.mark.parametrize("name", LAWS)
def test_a_target_out_of_range_is_refused_and_under_jit_nan(name):
    """At every layer, also far below the logits; what else is asked of the image stays."""
    with pytest.raises(ValueError, match="targets: got class 4, expected 0 to 3"):
        explain(name, targets=np.array([0, 4, 1]))
    options = {}
    if name in LAYERED and name != "cam":  # which has but the last
        options = {"layer": ["layer1", "layer2"]}
    jitted = jax.jit(lambda t: explain(name, targets=t, **options))
    for found in jax.tree.leaves(jitted(jnp.array([[0, 1], [4, 2], [1, -1]]))):
        assert np.isnan(found[1, 0]).all() and np.isnan(found[2, 1]).all()
        assert np.isfinite(found[0]).all()
        assert np.isfinite(found[1, 1]).all() and np.isfinite(found[2, 0]).all()


@pytest.mark.parametrize("init", ["one_hot", "contrastive", "official"])
def test_relevance_of_a_target_out_of_range_is_nan_at_every_layer(init):
    options = {"layer": ["pixels", "layer1", "layer2"], "init": init}
    jitted = jax.jit(lambda t: jaxcam.lrp.relevance(forward, IMAGES, t, **options))
    for found in jax.tree.leaves(jitted(jnp.array([0, 4, -1]))):
        assert np.isnan(found[1:]).all()
        assert np.isfinite(found[0]).all()


def test_gradients_of_a_target_out_of_range_are_nan():
    jitted = jax.jit(lambda t: jaxcam.activations_and_gradients(forward, IMAGES, t, layer="layer1"))
    logits, _, slopes = jitted(jnp.array([0, 4, 1]))
    assert np.isnan(slopes[1]).all()
    assert np.isfinite(slopes[0]).all() and np.isfinite(logits).all()


@functools.cache
def rectified(name, relu):
    return np.asarray(explain(name, relu=relu))


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("relu", ["sum", "channel"])
def test_relu_means_the_same_everywhere(name, relu):
    maps = rectified(name, relu)
    signed = rectified(name, None)
    if relu == "sum":
        close(maps, np.maximum(signed, 0))
    else:
        assert (maps >= 0).all()
        assert (maps >= np.maximum(signed, 0) - 1e-5).all()


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("relu", [True, False, "relu", 1])
def test_other_values_of_relu_are_refused(name, relu):
    with pytest.raises(ValueError, match=r"relu: got .*, expected one of 'sum', 'channel', None"):
        explain(name, relu=relu)


def test_an_explainer_of_ones_own_is_one_function():
    """Grad-CAM in a line, and nothing else to write."""

    def my_cam(a, g):
        return jax.nn.relu((a * g.mean((1, 2), keepdims=True)).sum(-1))

    for options in ({}, {"layer": ["layer1", "layer2"]}, {"has_aux": True}):
        model = (lambda x: (forward(x), 0.0)) if "has_aux" in options else forward
        mine = jaxcam.explain(my_cam, model, IMAGES, CLASSES, **options)
        theirs = jaxcam.grad_cam(model, IMAGES, CLASSES, **options)
        jax.tree.map(close, mine, theirs)
    several = jaxcam.explain(my_cam, forward, IMAGES, [[0, 1]] * 3)
    close(several, jaxcam.grad_cam(forward, IMAGES, [[0, 1]] * 3))
