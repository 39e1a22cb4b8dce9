"""One notion of confidence: a logit z and its twin [0, z] get the same numbers everywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam import metrics
from jaxcam.targets import confidence, probabilities

RNG = np.random.default_rng(3)
IMAGES = jnp.asarray(RNG.normal(size=(3, 8, 8, 3)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 3, 5)), jnp.float32)
WEIGHTS = jnp.asarray(RNG.normal(size=(5, 1)), jnp.float32)
SALIENCY = jnp.asarray(RNG.uniform(size=(3, 8, 8)), jnp.float32)


def single(images):
    maps = lax.conv_general_dilated(
        images, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jaxcam.tag(jax.nn.relu(maps), "maps").mean((1, 2)) @ WEIGHTS


def twin(images):
    return jnp.pad(single(images), ((0, 0), (1, 0)))


def segments():
    rows, columns = np.divmod(np.arange(64).reshape(8, 8), 8)
    return np.broadcast_to(rows // 4 * 2 + columns // 4, (3, 8, 8))


def short(forward, images, targets):
    from jaxcam._explainers.mask import MASK_VARIANTS

    rules = MASK_VARIANTS["official"]._replace(steps=3, cell=2, jitter=2, blur=1.0, init="ones")
    return jaxcam.mask(forward, images, targets, variant=rules)


def adcc(forward, images, targets):
    return metrics.adcc(forward, images, jaxcam.grad_cam, targets).adcc


def on_saliency(metric, **options):
    return lambda forward, images, targets: metric(forward, images, SALIENCY, targets, **options)


LIME = functools.partial(jaxcam.lime, segments=segments(), num_samples=30)
ASKED = {
    "grad_cam": jaxcam.grad_cam,
    "score_cam": jaxcam.score_cam,
    "score_cam_paper": functools.partial(jaxcam.score_cam, variant="paper"),
    "ablation_cam": jaxcam.ablation_cam,
    "relevance_cam": jaxcam.relevance_cam,
    "lrp": functools.partial(jaxcam.lrp.relevance, init="contrastive"),
    "rise": functools.partial(jaxcam.rise, num_masks=20, grid=3),
    "lime": LIME,
    "shap": functools.partial(LIME, kernel="shap"),
    "mask": short,
    "confidence": metrics.confidence,
    "average_drop": on_saliency(metrics.average_drop),
    "average_increase": on_saliency(metrics.average_increase),
    "deletion": on_saliency(metrics.deletion, step=0.25),
    "insertion": on_saliency(metrics.insertion, step=0.25),
    "adcc": adcc,
}


@pytest.mark.parametrize("name", ASKED)
def test_one_logit_and_its_twin_get_the_same_numbers(name):
    one, two = (np.asarray(ASKED[name](f, IMAGES, t)) for f, t in ((single, 0), (twin, 1)))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    assert np.ptp(one) > 0 or name == "average_increase", "a constant proves nothing"


@pytest.mark.parametrize(
    "name", ["score_cam", "rise", "lime", "shap", "confidence", "average_drop", "deletion"]
)
def test_an_activation_reaches_what_asks_for_confidence(name):
    """Sigmoid of the second of two logits is what its own network of one logit says."""
    both = lambda images: jnp.concatenate([3 * single(images), single(images)], -1)
    function = ASKED[name]
    if name in ("average_drop", "deletion"):
        metric, options = getattr(metrics, name), {"step": 0.25} if name == "deletion" else {}
        function = lambda forward, images, targets, **o: metric(
            forward, images, SALIENCY, targets, **options, **o
        )
    each = np.asarray(function(both, IMAGES, 1, activation="sigmoid"))
    np.testing.assert_allclose(each, function(single, IMAGES, 0), rtol=1e-4, atol=1e-6)
    assert not np.allclose(each, function(both, IMAGES, 1), rtol=1e-2), (
        "softmax gives another number"
    )
    own = np.asarray(function(lambda x: jax.nn.sigmoid(both(x)), IMAGES, 1, activation="identity"))
    np.testing.assert_allclose(own, each, rtol=1e-4, atol=1e-6)


def test_literal_values():
    z = np.array([[1.5, -0.5, 0.25]])
    softmax = np.exp(z) / np.exp(z).sum()
    assert np.allclose(probabilities(jnp.asarray(z)), softmax, rtol=1e-6)
    assert np.allclose(confidence(jnp.asarray(z), 2), softmax[:, 2], rtol=1e-6)
    assert np.allclose(confidence(jnp.asarray(z), [[2, 0]]), softmax[:, [2, 0]], rtol=1e-6)
    assert np.allclose(confidence(jnp.asarray(z), 2, "sigmoid"), 1 / (1 + np.exp(-0.25)), rtol=1e-6)
    assert np.allclose(confidence(jnp.asarray(z), 0, lambda z: z / 10), 0.15, rtol=1e-6)
    assert np.allclose(probabilities(jnp.asarray([[0.3]])), 1 / (1 + np.exp(-0.3)), rtol=1e-6)
    assert np.allclose(confidence(jnp.asarray(z), lambda z: z[:, 1]), -0.5), (
        "a function's value is taken as it is"
    )
    assert probabilities(jnp.ones((1, 2), jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("outputs", "activation", "message"),
    [
        (
            jnp.ones((2, 1)),
            "softmax",
            "activation: got 'softmax' for one output, of which it is always 1",
        ),
        (
            jnp.ones((2, 3)),
            "tanh",
            r"activation: got 'tanh', expected one of 'softmax', 'sigmoid', .* or a function",
        ),
        (jnp.ones((2, 3)), True, "activation: got True, expected one of"),
        (
            jnp.ones((2, 3)),
            lambda z: z[:, 0],
            r"activation: got shape \(2,\) from the function, expected \(2, 3\)",
        ),
    ],
)
def test_refusals(outputs, activation, message):
    with pytest.raises(ValueError, match=message):
        probabilities(outputs, activation)


def test_training_on_one_logit_wants_yes_or_no():
    """A softmax of one logit is 1: its cross-entropy is 0 and would train nothing."""
    loss = functools.partial(
        jaxcam.fostering.fostering_loss, single, IMAGES, beta=0.0, layer="maps"
    )
    with pytest.raises(ValueError, match="labels: got int32 for a single logit, expected booleans"):
        loss(np.zeros(3, np.int32))
    value, _ = loss(np.array([[True], [False], [True]]))
    z, y = np.asarray(single(IMAGES))[:, 0], np.array([1, 0, 1])
    assert np.allclose(value, (np.log1p(np.exp(z)) - y * z).mean(), rtol=1e-5)


def _undefined(images):
    """Four classes of which dark images know none: a function that returns NaN."""
    seen = images.mean((1, 2, 3))[:, None] * jnp.arange(4.0)[None]
    return jnp.where(seen[:, 1:2] < 0.3, jnp.nan, seen)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_confidence_of_nan_is_nan_compiled_too(activation):
    """XLA takes z - max z for 0, and a softmax of NaN for 1 / N, where it sees where z is from."""
    images = jnp.stack([jnp.full((8, 8, 3), 0.1), jnp.full((8, 8, 3), 0.9)])
    ask = lambda x: confidence(_undefined(x), 2, activation)
    for found in (ask(images), jax.jit(ask)(images), jax.lax.map(ask, images[None])[0]):
        assert np.isnan(found).tolist() == [True, False]


def test_black_boxes_and_games_carry_nan_through():
    bright = jnp.full((1, 8, 8, 3), 0.5)
    assert np.isnan(jaxcam.rise(_undefined, bright, 2, num_masks=16)).all()
    curve = metrics.deletion(_undefined, bright, SALIENCY[:1], 2, step=8)
    assert np.isnan(curve).tolist() == [[False] * 4 + [True] * 5]


def test_where_xla_loses_nan():
    """On a CPU in max(x, c) that is fused into a sum, which jaxlib 0.10 gives to YNNPACK.

    So NaN in a network below a pooled ReLU is gone from its logits, and weights are checked when
    they are loaded. XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= keeps it.
    """
    nan = jnp.full((1, 16, 16, 16), jnp.nan)
    pooled = jax.jit(lambda x: jax.nn.relu(x).sum((1, 2))).lower(nan).compile()
    lost = not np.isnan(pooled(nan)).any()
    assert lost == ("__ynn_fusion" in pooled.as_text())
    for kept in (jax.nn.relu, lambda x: x.sum((1, 2))):
        assert np.isnan(jax.jit(kept)(nan)).all()


def test_lime_of_a_constant_answer_is_exactly_zero():
    """A network's rounding is no evidence."""
    rounding = lambda images: 0.3 + 1e-7 * images.mean((1, 2, 3))[:, None] * jnp.ones((1, 2))
    found = jaxcam.lime(rounding, IMAGES, 0, segments=segments(), num_segments=4, num_samples=32,
                        activation="identity")  # fmt: skip
    assert not np.asarray(found).any()
