"""Relevance-CAM and LRP heatmaps: the paper's formulas, the last stage's closed form, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp, maps
from jaxcam._explainers import relevance
from tests import nets


@pytest.fixture(scope="module")
def tiny():
    model, variables, images = nets.tiny()
    return jaxcam.linen(model, variables), variables, images


def test_formula(tiny):
    """alpha_k = sum_ij R_ijk, L = sum_k alpha_k A_k, in loops; raw, signed, float32."""
    forward, _, images = tiny
    got = relevance.relevance_cam(forward, images, 1, layer="stem")
    result = lrp.propagate(forward, images, 1, layer="stem", init="contrastive")
    A, R = (np.asarray(d["stem"], np.float64) for d in (result.activations, result.relevance))
    for b in range(len(images)):
        total = sum(R[b, :, :, k].sum() * A[b, :, :, k] for k in range(A.shape[-1]))
        assert np.allclose(got[b], total, atol=1e-4)
    assert got.dtype == jnp.float32
    assert got.min() < 0


def test_closed_form_at_the_last_stage(tiny):
    """Below a pooled linear head, R_k = g_k sum_c R_c W+_ck / sum_j g_j W+_cj, g the mean (z+)."""
    forward, variables, images = tiny
    W = np.maximum(np.asarray(variables["params"]["head"]["kernel"], np.float64), 0)
    result = lrp.propagate(forward, images, 2, layer="top", init="contrastive")
    start = np.asarray(lrp.initial(result.logits, 2, "contrastive"), np.float64)
    A = np.asarray(result.activations["top"], np.float64)
    g = A.mean((1, 2))
    weights = g * ((start / (g @ W)) @ W.T)
    assert np.allclose(
        relevance.channel_weights(forward, images, 2, layer="top"), weights, atol=1e-5
    )
    expected = np.einsum("bhwc,bc->bhw", A, weights)
    assert np.allclose(
        relevance.relevance_cam(forward, images, 2, layer="top"), expected, atol=1e-5
    )


def test_default_layer_class_and_init(tiny):
    forward, _, images = tiny
    default = jaxcam.layers(forward, images).default
    classes = np.asarray(forward(images)).argmax(1)
    explicit = relevance.relevance_cam(
        forward, images, classes, layer=default, init="contrastive", composite="z_plus"
    )
    assert np.array_equal(relevance.relevance_cam(forward, images), explicit)
    assert not np.allclose(relevance.relevance_cam(forward, images, init="official"), explicit)


def test_several_layers_and_classes(tiny):
    forward, _, images = tiny
    targets = np.array([[0, 3]] * 3)
    explain = jax.jit(lambda t: relevance.relevance_cam(forward, images, t, layer=["stem", "top"]))
    both, second = explain(targets), explain(targets[:, 1])
    assert {k: v.shape for k, v in both.items()} == {"stem": (3, 2, 8, 8), "top": (3, 2, 4, 4)}
    for name in both:
        assert np.allclose(both[name][:, 1], second[name], atol=1e-5)
    assert relevance.channel_weights(forward, images, targets, layer="top").shape == (3, 2, 6)


def test_top_channels(tiny):
    forward, _, images = tiny
    top = relevance.top_channels(forward, images, 1, k=2, layer="top")
    weights = np.asarray(relevance.channel_weights(forward, images, 1, layer="top"))
    acts = np.asarray(lrp.propagate(forward, images, 1, layer="top").activations["top"])
    for b in range(3):
        order = np.argsort(-weights[b])[:2]
        assert np.array_equal(top.channels[b], order)
        assert np.allclose(top.weights[b], weights[b, order])
        assert np.array_equal(top.maps[b], acts[b][..., order].transpose(2, 0, 1))


def test_segmentation_mask():
    raw = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4)), jnp.float32)
    big = np.asarray(maps.resize(raw, (16, 12)))
    expected = big > (big.mean((1, 2)) + big.std((1, 2)))[:, None, None]
    assert np.array_equal(jaxcam.maps.segmentation_mask(raw, (16, 12)), expected)


def test_heatmaps_at_the_pixels(tiny):
    forward, _, images = tiny
    for explainer, init in ((jaxcam.lrp_map, "one_hot"), (jaxcam.clrp_map, "contrastive")):
        rel = lrp.relevance(forward, images, 2, init=init)
        assert np.allclose(explainer(forward, images, 2), rel.sum(-1), atol=1e-6)
    logits = forward(images)[:, 2]
    sums = jaxcam.lrp_map(forward, images, 2, composite="epsilon").sum((1, 2))
    assert np.allclose(sums, logits, rtol=1e-3, atol=1e-4)
    at_layer = jaxcam.lrp_map(forward, images, 2, layer=["top"])
    assert at_layer["top"].shape == (3, 4, 4)


def test_aux(tiny):
    forward, _, images = tiny
    with_aux = lambda x: (forward(x), {"mean": x.mean()})
    for explainer in (relevance.relevance_cam, jaxcam.lrp_map, jaxcam.clrp_map):
        got, aux = explainer(with_aux, images, 1, layer="top", has_aux=True)
        assert np.array_equal(got, explainer(forward, images, 1, layer="top"))
        assert np.allclose(aux["mean"], images.mean())


def test_a_constant_shift_of_all_logits_does_not_change_contrastive_maps_of_pooled_heads(tiny):
    """The law behind contrastive initialisation: what all classes share, cancels."""
    forward, _, images = tiny
    start = np.zeros((3, 5), np.float32)
    start[:, 1], start[:, 2] = 1, -1
    common = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    rel = lambda init: relevance.channel_weights(forward, images, layer="top", init=init)
    assert np.allclose(rel(common + start) - rel(common), rel(start), atol=1e-5)
    assert np.allclose(rel(start).sum(-1), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f, x: relevance.relevance_cam(f, x, layer="head"),
            r"layer: got 'head' of shape \(3, 5\), expected spatial",
        ),
        (
            lambda f, x: relevance.relevance_cam(f, x, lambda z: z),
            r"targets: got shape \(3, 5\) from the function",
        ),
        (
            lambda f, x: relevance.top_channels(f, x, k=9, layer="top"),
            "k: got 9, expected 1 to 6, the channels of layer 'top'",
        ),
        (
            lambda f, x: relevance.top_channels(f, x, layer=["top"]),
            r"layer: got \['top'\], expected one name or None",
        ),
        (
            lambda f, x: relevance.top_channels(f, x, np.ones((3, 2), int)),
            r"targets: got shape \(3, 2\), expected one class",
        ),
        (lambda f, x: jaxcam.lrp_map(f, x, composite="grad"), "composite: got 'grad'"),
    ],
)
def test_bad_input(tiny, call, message):
    forward, _, images = tiny
    with pytest.raises(ValueError, match=message):
        call(forward, images)
