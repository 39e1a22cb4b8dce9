"""Every method and metric at every scale: powers of two of the network's values are exact.

So a map that is homogeneous in them is the same map times a power of two, to the last bits, unless
something overflows or vanishes on the way.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import maps
from jaxcam._explainers import activation, formulas, smooth_plus_plus
from jaxcam._ground.units import unit, without_denormals
from jaxcam.methods import METHODS
from tests import test_laws as laws
from tests.explainers import literal
from tests.metrics import test_properties as metrics

# 1e-30, 1e-20, 1e-10, 1e10, 1e20, 1e30
POWERS = (-100, -66, -33, 33, 66, 100)
GATE = jnp.asarray([[[[0.5, 0.25, 0.75, 1.0, 0.5]]]], jnp.float32)


def network(images, gain, scale):
    """All activations are times gain, all logits times gain and scale. ReLUs, and no biases."""
    stem = jaxcam.tag(jax.nn.relu(laws.conv(gain * images, laws.STEM, (1, 1))), "layer1")
    signal = jax.nn.relu(laws.conv(stem, laws.TOP, (2, 2)))
    gated = signal * GATE
    jaxcam.tag(gated - signal, "layer2.att")
    return jaxcam.tag(gated, "layer2").mean((1, 2)) @ laws.HEAD * scale


class Degrees(NamedTuple):
    """A map of activations times s is times s^a, of logits times s times s^l."""

    activations: int | None  # None: not asked
    logits: int
    # Of no degree, but of one at either end, where a softmax is flat or one-hot: (small, large).
    ends: bool = False
    small: int = 0
    options: dict = {}
    least: int = min(POWERS)  # the least power of two that is looked at


LOGITS = {"activation": "identity"}
DEGREES = {
    "grad_cam": Degrees(1, 1),
    "grad_cam_plus_plus": Degrees(None, 0, ends=True, small=1),
    "hires_cam": Degrees(1, 1),
    "xgrad_cam": Degrees(1, 1),
    "layer_cam": Degrees(1, 1),
    "cam": Degrees(1, 1),
    "eigen_cam": Degrees(1, 0),
    "eigen_grad_cam": Degrees(1, 1),
    "relevance_cam": Degrees(2, 1),
    "score_cam": Degrees(2, 1, options=LOGITS),
    "ablation_cam": Degrees(1, 0),
    "cbam_attention": Degrees(0, 0),
    "layerwise_grad_cam": Degrees(0, 0),
    "attention_grad_cam": Degrees(0, 0),
    "lrp": Degrees(1, 1),
    "clrp": Degrees(1, 1),
    "rise": Degrees(1, 1, options=LOGITS),
    "lime": Degrees(1, 1, options=LOGITS),
    "mask": Degrees(None, 0),  # below: its prices are those of probabilities
    "shapley_cam": Degrees(1, 1),
    "finer_cam": Degrees(None, 1, ends=True, small=1),
    "smooth_grad_cam_plus_plus": Degrees(None, 0, ends=True, small=1),
    "kpca_cam": Degrees(1, 0, options={"kernel": "linear"}),
    "fem": Degrees(1, 0, options={"k": 1.0}),
    "ss_cam": Degrees(None, 0, ends=True),
    "is_cam": Degrees(None, 0, ends=True),
    "fullgrad": Degrees(0, 0),
    "refine_cam": Degrees(None, 0, ends=True),
    "gradient": Degrees(1, 1, options={"reduction": "norm"}),
    "gradient_input": Degrees(1, 1),
    "integrated_gradients": Degrees(1, 1),
    "guided_backprop": Degrees(1, 1),
    "deconvnet": Degrees(1, 1),
    "guided_grad_cam": Degrees(2, 2),
    "occlusion": Degrees(1, 1, options=LOGITS),
    "attention_rollout": Degrees(None, 0),
    "legrad": Degrees(None, 1),
}


def test_every_method_has_its_degrees():
    assert list(DEGREES) == list(METHODS)


def close(found, expected, rtol=1e-5):
    found = np.asarray(found, np.float64)
    top = np.abs(expected).max()
    assert top > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * top)


@pytest.mark.parametrize("name", [name for name in DEGREES if name != "mask"])
def test_a_map_is_homogeneous_at_every_scale(name):
    row = DEGREES[name]
    model = lambda gain, scale: lambda x: network(x, gain, scale)
    if name in ("attention_rollout", "legrad"):
        model = lambda gain, scale: lambda x: laws.transformer(x) * scale

    @jax.jit
    def explained(gain, scale):
        return laws.explain(name, laws.IMAGES, model=model(gain, scale), **row.options)

    def at(power, activations=False):
        size = np.float32(2.0**power)
        one = np.float32(1)
        found = explained(size, one) if activations else explained(one, size)
        return np.asarray(found, np.float64)

    if row.ends:
        for degree, (near, far) in ((row.small, (-66, -100)), (row.logits, (66, 100))):
            close(at(far) / 2.0 ** (degree * far), at(near) / 2.0 ** (degree * near))
        return
    for degree, activations in ((row.logits, False), (row.activations, True)):
        if degree is None:
            continue
        expected = at(0)
        for power in POWERS:
            power = max(power, row.least) // max(degree, 1)  # the map itself is in range
            close(at(power, activations) / 2.0 ** (degree * power), expected)


def test_a_mask_of_huge_scores_is_that_of_large_ones():
    """Their prices do not count beside the scores, and Adam's steps know no unit."""

    @jax.jit
    def explained(scale):
        model = lambda x: network(x, np.float32(1), scale)
        return laws.explain("mask", laws.IMAGES, model=model, **LOGITS)

    expected = np.asarray(explained(np.float32(2.0**33)))
    for power in (39, 42, 66, 100):
        close(explained(np.float32(2.0**power)), expected, 1e-4)


# Formulas of no degree, against their literal forms in float64 ---------------------------------

PAIRS = [(a, g) for a in (-100, -33, 0, 33, 100) for g in (-100, -33, 0, 33, 100) if a + g < 120]


def acts_and_grads(rng):
    """A and G `[pairs, 3, 4, 2]`, float64, of each pair of scales."""
    acts = np.maximum(rng.normal(size=(3, 4, 2)), 0).astype(np.float32).astype(np.float64)
    grads = rng.normal(size=(3, 4, 2)).astype(np.float32).astype(np.float64)
    return (
        np.stack([acts * 2.0**a for a, _ in PAIRS]),
        np.stack([grads * 2.0**g for _, g in PAIRS]),
    )


def same(found, expected, *, overflows=False):
    """As near as 1e-5 of each map's largest value; what float32 cannot hold is not asked."""
    for one, other, pair in zip(np.asarray(found, np.float64), expected, PAIRS, strict=True):
        top = np.abs(other).max()
        if 1e-37 < top < 1e38:
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * top, err_msg=str(pair))
        assert not np.isnan(one).any() or (overflows and top > 1e38)


@pytest.mark.parametrize("variant", formulas.PLUS_PLUS)
def test_grad_cam_plus_plus_at_every_scale(variant, rng):
    acts, grads = acts_and_grads(rng)
    formula = jax.jit(functools.partial(formulas.grad_cam_plus_plus_map, variant=variant))
    found = formula(acts.astype(np.float32), grads.astype(np.float32))
    with np.errstate(all="ignore"):
        expected = [literal.grad_cam_plus_plus(*ag, variant) for ag in zip(acts, grads)]
    same(found, expected, overflows=not formulas.PLUS_PLUS[variant].divided)


@pytest.mark.parametrize("variant", smooth_plus_plus.VARIANTS)
def test_smooth_grad_cam_plus_plus_at_every_scale(variant, rng):
    acts, grads = acts_and_grads(rng)
    noised = np.stack([grads, 0.5 * grads[:, ::-1], -0.25 * grads[..., ::-1]])

    @jax.jit
    def formula(a, g):
        moments = smooth_plus_plus.no_moments(a.shape, a.dtype)
        for each in g:
            moments = smooth_plus_plus.with_image(moments, each)
        weights = smooth_plus_plus.smooth_weights(a, moments, len(g), variant)
        return formulas.combined(a, weights)

    found = formula(acts.astype(np.float32), noised.astype(np.float32))
    with np.errstate(all="ignore"):
        expected = [
            literal.smooth_grad_cam_plus_plus(acts[i], list(noised[:, i]), variant)
            for i in range(len(acts))
        ]
    same(found, expected)


def test_kpca_cam_of_huge_activations_is_its_literal_form(rng):
    acts = rng.normal(size=(1, 3, 4, 2)).astype(np.float32) * np.float32(1e25)
    found = activation.kpca_cam_map(jnp.asarray(acts))
    expected = literal.kpca_cam(acts[0].astype(np.float64))
    np.testing.assert_allclose(np.abs(found[0]), np.abs(expected), atol=1e-5)


def test_gradients_of_grad_cam_plus_plus_are_finite(rng):
    acts, grads = acts_and_grads(rng)
    grads[:, 0] = 0
    total = lambda a, g: formulas.grad_cam_plus_plus_map(a, g).sum()
    for slope in jax.grad(total, (0, 1))(acts.astype(np.float32), grads.astype(np.float32)):
        assert not np.isnan(slope).any()


# Metrics -----------------------------------------------------------------------------------

# Its answer is in the unit of the map where it is not scaled.
ABSOLUTE = {"infidelity square"}
# Of what saliency is the rest comes from: `images[..., 0]`, times 2^100 at the most.
LARGEST = {"max_sensitivity": 100, "max_sensitivity_of_maps": 100, "adcc": 100, "arcc": 100}
MAPS = {
    "threshold": maps.threshold,
    "threshold_of_max": maps.threshold_of_max,
    "segmentation_mask": functools.partial(maps.segmentation_mask, size=(20, 21)),
    "normalize outliers": functools.partial(maps.normalize, percentile=90),
} | {
    f"normalize {method}": functools.partial(maps.normalize, method=method)
    for method in ("min_max", "positive", "max", "signed")
}


def unchanged(measure, saliency, largest=126):
    """Whether `measure` gives the same of saliency `[B, H, W]` times any power of two."""
    jitted = jax.jit(measure)
    expected = metrics.leaves(jitted(saliency))
    for power in (*POWERS, 118, largest):
        if power > largest:
            continue
        found = metrics.leaves(jitted(saliency * np.float32(2.0**power)))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=str(power))


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(7)
    saliency = rng.uniform(-1, 1, size=(3, *metrics.SIZE))
    saliency = np.where(np.abs(saliency) < 1e-3, 0.5, saliency).astype(np.float32)
    return rng.normal(size=(3, *metrics.SIZE, 2)).astype(np.float32), saliency


@pytest.mark.parametrize("name", [name for name in metrics.METRICS if name not in ABSOLUTE])
def test_a_metric_knows_no_unit(name, scene):
    images, saliency = scene
    everyone = np.ones(3, bool)
    measure = lambda s: metrics.METRICS[name](images, s, metrics.TARGETS, metrics.BOXES, everyone)
    unchanged(measure, saliency, LARGEST.get(name, 126))


@pytest.mark.parametrize("name", MAPS)
def test_a_map_without_unit(name, scene):
    unchanged(MAPS[name], scene[1])


def test_denormal_maps_are_zero():
    tiny = jnp.full((1, 4, 4), 1e-41).at[0, 1, 1].set(2e-41)
    np.testing.assert_array_equal(without_denormals(tiny), 0)
    for method in ("min_max", "positive", "max", "signed"):
        np.testing.assert_array_equal(maps.normalize(tiny, method), 0)
    np.testing.assert_array_equal(maps.resize(tiny, (7, 9)), 0)
    assert not maps.threshold(tiny).any()
    assert np.isnan(jaxcam.metrics.entropy(tiny)).all()
    np.testing.assert_array_equal(jaxcam.fostering.cam_entropy(tiny), 0)


def test_the_largest_histograms_are_finite(scene):
    images = scene[1]
    found = jaxcam.metrics.hog(images * np.float32(2.0**126), cell=5)
    np.testing.assert_allclose(found, jaxcam.metrics.hog(images * 2.0**30, cell=5), atol=1e-5)


@pytest.mark.parametrize("value", [1e-38, 1.2e-38, 1e-20, 1.0, 5.0, 3e38])
def test_a_unit_is_a_power_of_two_near_the_largest(value):
    found = unit(jnp.asarray([[value, -value / 2, 0]], jnp.float32), 1)
    assert found.shape == (1, 1)
    (exact,) = np.asarray(found[0], np.float64)
    assert np.log2(exact) % 1 == 0
    if value >= jnp.finfo(jnp.float32).tiny:
        assert 0.6 <= value / exact <= 4
    assert np.float32(1 / exact) >= jnp.finfo(jnp.float32).tiny


def test_a_unit_of_nothing_is_one():
    rows = jnp.asarray([[0, 0], [np.nan, 1], [np.inf, 1], [1e-41, 0]], jnp.float32)
    np.testing.assert_array_equal(unit(rows, 1), 1)
    assert (jax.grad(lambda x: (x / unit(x, 0)).sum())(jnp.asarray([4.0, 1.0])) == 0.25).all()
