"""The deletion and insertion games: literal form, RISE's own numbers, theory, conventions, cost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from jaxcam.metrics import _games as games
from tests import nets_squeezenet
from tests.metrics import literal

# A model whose confidence is the share of the object's pixels that are there.
OBJECT = np.zeros((8, 8))
OBJECT[1:4, 2:6] = 1
CELLS, AREA = 64, 12
MEAN = lambda logits: logits[:, 0]


def share(x):
    return (x[..., 0] * OBJECT[None]).sum((1, 2))[:, None] / AREA


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_curve_equals_its_literal_form(name, rng):
    weights = rng.normal(size=(7 * 9 * 2, 3))
    images, saliency = rng.normal(size=(2, 7, 9, 2)), rng.normal(size=(2, 7, 9))
    saliency[1] = np.round(saliency[1])  # many ties
    forward = lambda x: x.reshape(len(x), -1) @ jnp.asarray(weights, x.dtype)
    with jax.enable_x64(True):
        curve = getattr(metrics, name)(
            forward, jnp.asarray(images), saliency, [2, 0], step=10, chunk=3
        )
        areas = metrics.auc(curve)
    assert curve.shape == (2, 8)
    for i, target in enumerate((2, 0)):
        other = np.zeros_like(images[i]) if name == "deletion" else literal.blur(images[i])
        ends = (images[i], other) if name == "deletion" else (other, images[i])
        expected = literal.game(lambda x: x.ravel() @ weights, *ends, saliency[i], target, 10)
        np.testing.assert_allclose(curve[i], expected, rtol=1e-9)
        np.testing.assert_allclose(areas[i], literal.auc(expected), rtol=1e-9)


@pytest.mark.lenient  # the network promotes
def test_rise_on_a_trained_net(shared):
    """RISE's own code on SqueezeNet: confidences, both games, Grad-CAM on a net without adapter."""
    import jaxcam

    reference = np.load(shared / "reference/games_squeezenet.npz")
    forward, images = nets_squeezenet.load(shared), nets_squeezenet.prepared(reference["images"])
    saliency, targets = reference["saliency"], reference["targets"][:2]

    def measure(x, s):
        maps = jaxcam.grad_cam(forward, x, targets, layer="fire9")
        both = {
            name: getattr(metrics, name)(forward, x, s, chunk=2)
            for name in ("deletion", "insertion")
        }
        soft = metrics.confidences(forward, x, s)
        return maps, both, soft, metrics.confidences(forward, x, s, top=0.5).masked

    maps, curves, soft, half = jax.jit(measure)(images[:2], saliency[:2])
    np.testing.assert_allclose(
        maps, reference["grad_cam_fire9"][:2], atol=1e-4 * reference["grad_cam_fire9"].max()
    )
    np.testing.assert_allclose(soft.full, reference["confidence"][:2], atol=1e-5)
    np.testing.assert_allclose(soft.masked, reference["confidence_soft_mask"][:2], atol=1e-5)
    np.testing.assert_allclose(half, reference["confidence_top_half"][:2], atol=1e-5)
    for name, curve in curves.items():
        np.testing.assert_allclose(curve, reference[f"{name}_curve"][:2], atol=2e-3)
        np.testing.assert_allclose(metrics.auc(curve), reference[f"{name}_auc"][:2], atol=1e-3)


@pytest.mark.parametrize(
    ("saliency", "deleted", "inserted"),
    [
        (OBJECT, AREA / 2 / CELLS, 1 - AREA / 2 / CELLS),  # perfect
        (-OBJECT, 1 - AREA / 2 / CELLS, AREA / 2 / CELLS),  # worst
    ],
)
def test_perfect_and_worst_saliency(saliency, deleted, inserted):
    images, saliency = jnp.ones((1, 8, 8, 1)), saliency[None]
    deletion = metrics.deletion(share, images, saliency, MEAN, step=1)
    insertion = metrics.insertion(share, images, saliency, MEAN, step=1, baseline=0.0)
    assert deletion.shape == insertion.shape == (1, 65)
    np.testing.assert_allclose(metrics.auc(deletion), [deleted], rtol=1e-5)
    np.testing.assert_allclose(metrics.auc(insertion), [inserted], rtol=1e-5)


def test_random_saliency_is_worth_one_half(rng):
    images, saliency = jnp.ones((400, 8, 8, 1)), rng.normal(size=(400, 8, 8))
    areas = metrics.auc(metrics.deletion(share, images, saliency, MEAN, step=4))
    # The standard deviation of a random order's AUC is at most sqrt(1 / 12 / AREA); three standard
    # errors of the mean.
    assert abs(areas.mean() - 0.5) < 3 * np.sqrt(1 / 12 / AREA / 400)


def test_constant_saliency_deletes_from_the_end_of_the_image():
    images = jnp.arange(6.0).reshape(1, 2, 3, 1)
    total = lambda x: x.sum((1, 2, 3))[:, None]
    curve = metrics.deletion(total, images, np.zeros((1, 2, 3)), MEAN, step=1)
    np.testing.assert_allclose(curve, [[15, 10, 6, 3, 1, 0, 0]])


def test_constant_model_has_its_confidence_as_area(rng):
    forward = lambda x: jnp.tile(jnp.array([[0.0, 1.0]]), (len(x), 1))
    for game in (metrics.deletion, metrics.insertion):
        curve = game(forward, jnp.ones((2, 8, 8, 1)), rng.normal(size=(2, 8, 8)), 1)
        assert curve.shape == (2, 23)  # 3 of 64 pixels a step
        np.testing.assert_allclose(metrics.auc(curve), 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_score_cam_variant_has_one_percent_steps_from_zero_or_one(rng):
    images, saliency = (
        jnp.asarray(rng.normal(size=(1, 20, 20, 1)), jnp.float32),
        rng.normal(size=(1, 20, 20)),
    )
    total = lambda x: x.sum((1, 2, 3))[:, None]
    curve = metrics.insertion(total, images, saliency, MEAN, step=0.01, baseline=1.0)
    assert curve.shape == (1, 101)
    np.testing.assert_allclose(curve[0, [0, -1]], [400, images.sum()], rtol=1e-5)
    deleted = metrics.deletion(total, images, saliency, MEAN, step=0.01, baseline=1.0)
    np.testing.assert_allclose(deleted[0, [0, -1]], [images.sum(), 400], rtol=1e-5)


def test_baseline_may_be_a_colour_or_an_image(rng):
    images, saliency = jnp.ones((2, 4, 4, 3)), rng.normal(size=(2, 4, 4))
    total = lambda x: x.sum((1, 2, 3))[:, None]
    ends = lambda baseline: metrics.deletion(
        total, images, saliency, MEAN, step=8, baseline=baseline
    )[:, -1]
    np.testing.assert_allclose(ends(jnp.array([1.0, 2.0, 3.0])), [96, 96])
    np.testing.assert_allclose(
        ends(jnp.stack([jnp.zeros((4, 4, 3)), jnp.full((4, 4, 3), 2.0)])), [0, 96]
    )
    np.testing.assert_allclose(ends("blur"), metrics.blur(images).sum((1, 2, 3)), rtol=1e-6)


def test_curve_does_not_depend_on_the_chunk(rng):
    images, saliency = jnp.ones((2, 8, 8, 1)), rng.normal(size=(2, 8, 8))
    curves = [metrics.insertion(share, images, saliency, MEAN, step=5, chunk=c) for c in (4, 1, 99)]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "chunk", "passes"),
    [(1 / 28, 8, 28), (0.01, 8, 100), (1792, 3, 28), (0.03, 7, 35), (1 / 224, 16, 224)],
)
def test_games_cost_the_passes_they_need(step, chunk, passes):
    """Images that enter the loop, by shapes alone; with the first pass, at most 1.07 of n + 1."""
    forward = lambda x: jaxcam.tag(x, "seen").mean((1, 2))
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(partial(metrics.deletion, forward, step=step, chunk=chunk))(
        images, jax.ShapeDtypeStruct((1, 224, 224), jnp.float32)
    )
    (loop,) = [eqn for eqn in jaxpr.jaxpr.eqns if eqn.primitive.name == "scan"]
    (seen,) = [eqn for eqn in loop.params["jaxpr"].eqns if eqn.primitive.name == "name"]
    batch, count = seen.outvars[0].aval.shape[:2]
    assert batch == 1
    assert count <= chunk
    assert loop.params["length"] * count == passes


def test_blur_kernel_is_rise_s():
    from scipy.ndimage import gaussian_filter

    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    taps = games.blur_taps()
    np.testing.assert_allclose(np.outer(taps, taps), gaussian_filter(delta, 5), rtol=1e-12)
    np.testing.assert_allclose(taps.sum(), 1)
    np.testing.assert_allclose(taps[5] ** 2, 0.008833, atol=5e-7)


def test_blur_keeps_the_dtype_and_the_inside_of_a_constant():
    blurred = metrics.blur(jnp.ones((1, 24, 24, 2), jnp.bfloat16))
    assert blurred.dtype == jnp.bfloat16
    assert blurred[0, 5:-5, 5:-5].min() == 1
    assert blurred[0, 0, 0, 0] < 0.5


def test_bad_input_is_named(rng):
    images, saliency = jnp.ones((2, 4, 4, 1)), rng.normal(size=(2, 4, 4))
    play = partial(metrics.deletion, share, images, saliency)
    for step in (0, 17, 1.5, 0.0):
        with pytest.raises(ValueError, match=f"step: got {step}, expected pixels, 1 to 16"):
            play(step=step)
    with pytest.raises(ValueError, match="chunk: got 0, expected at least 1"):
        play(chunk=0)
    with pytest.raises(ValueError, match="baseline: got 'grey', expected 'blur'"):
        play(baseline="grey")
    with pytest.raises(
        ValueError, match=r"baseline: got shape \(5,\), expected to fit images \(2, 4, 4, 1\)"
    ):
        play(baseline=np.zeros(5))
    with pytest.raises(ValueError, match=r"curve: got shape \(3, 1\)"):
        metrics.auc(np.zeros((3, 1)))
