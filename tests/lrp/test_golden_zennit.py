"""Our rules against zennit's kept maps, also where it is not installed."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp
from tests import golden, golden_zennit

KEPT = dict(np.load(golden_zennit.FILE))
GIVEN = dict(np.load(golden.FILE))
TARGETS = golden_zennit.TARGETS
SAMPLES = golden_zennit.SAMPLES
LOW, HIGH = golden_zennit.LOW, golden_zennit.HIGH
FLAT = lrp.Composite({"first": lrp.rules.flat, **lrp.epsilon_alpha2_beta1().rules})
OURS = {
    "EpsilonPlus": lrp.Composite(
        {lrp.composites.CONV: lrp.rules.z_plus, lrp.composites.DENSE: lrp.rules.epsilon(1e-6)}
    ),
    "EpsilonPlusFlat": "epsilon_plus_flat",
    "EpsilonAlpha2Beta1": "epsilon_alpha2_beta1",
    "EpsilonAlpha2Beta1Flat": FLAT,
    "EpsilonGammaBox": lrp.epsilon_gamma_box(LOW, HIGH),
    "ExcitationBackprop": "z_plus",
}


def relevance(name, *, merged):
    offset = golden_zennit.OFFSETS.get(name, 0.1)
    forward = golden_zennit.network(GIVEN, merged=merged, offset=offset)
    start = jnp.eye(5)[TARGETS]
    images = jnp.asarray(GIVEN["images"])
    return lrp.relevance(forward, images, composite=OURS[name], init=start).sum(-1)


def close(found, expected, rtol=1e-4):
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert np.linalg.norm(expected) > 0.01
    assert error < rtol, error


def test_the_network_is_the_same():
    for merged in (False, True):
        forward = golden_zennit.network(GIVEN, merged=merged)
        np.testing.assert_allclose(forward(GIVEN["images"]), KEPT["logits"], rtol=1e-4, atol=1e-5)
    assert golden_zennit.FILE.stat().st_size < 50_000


@pytest.mark.parametrize("name", OURS)
def test_composites(name):
    close(relevance(name, merged=True), KEPT[name])


def test_a_batch_norm_apart_is_the_merged_one():
    close(relevance("EpsilonPlusFlat", merged=False), KEPT["EpsilonPlusFlat"])


@pytest.mark.parametrize(
    ("name", "method"),
    [("GuidedBackprop", jaxcam.guided_backprop), ("DeconvNet", jaxcam.deconvnet)],
)
def test_relus_of_another_derivative(name, method):
    forward = golden_zennit.network(GIVEN, merged=True)
    close(method(forward, jnp.asarray(GIVEN["images"]), TARGETS, reduction="sum"), KEPT[name])


def test_smooth_grad_of_the_same_noise():
    """Zennit's last sample has none: its mean is that of ours and the plain gradient."""
    forward = golden_zennit.network(GIVEN, merged=True)
    images = jnp.asarray(GIVEN["images"])
    smoothed = jaxcam.smooth(jaxcam.gradient, samples=SAMPLES, sigma=golden_zennit.SIGMA)
    noisy = smoothed(forward, images, TARGETS, reduction="sum")
    plain = jaxcam.gradient(forward, images, TARGETS, reduction="sum")
    close((SAMPLES * noisy + plain) / (SAMPLES + 1), KEPT["SmoothGrad"])
    assert np.linalg.norm(noisy - plain) > 0.1 * np.linalg.norm(plain)


def test_zennit_says_so_still():
    """Where it is installed: what is kept is what its code computes."""
    for name in ("torch", "zennit"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name, value in golden_zennit.theirs(GIVEN).items():
        close(value, KEPT[name])
