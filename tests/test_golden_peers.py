"""Our metrics against the peers' kept numbers, also where none of them is installed."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from tests import golden, golden_peers

KEPT = dict(np.load(golden_peers.FILE))
GIVEN = dict(np.load(golden.FILE))
IMAGES = GIVEN["images"]
HEAT = golden_peers.heat(IMAGES)
OBJECTS = golden_peers.objects(IMAGES)
TARGETS = golden_peers.TARGETS


def forward(x):
    return golden.convolutional(GIVEN)(x)


def close(found, name, rtol=1e-4):
    np.testing.assert_allclose(found, KEPT[name], rtol=rtol, atol=1e-5)


def test_the_network_is_the_same():
    close(forward(jnp.asarray(IMAGES)), "torch/logits")
    assert golden_peers.FILE.stat().st_size < 10_000


def test_captums_infidelity_and_sensitivity():
    logit = jaxcam.targets.logit(TARGETS)
    for name, scaled in (("infidelity", True), ("infidelity unscaled", False)):
        found = metrics.infidelity(
            *(forward, IMAGES, HEAT, logit),
            sigma=golden_peers.SIGMA,
            num_samples=golden_peers.SAMPLES,
            scaled=scaled,
        )
        close(found, f"captum/{name}", rtol=1e-3)
    found = metrics.max_sensitivity(
        *(forward, IMAGES, jaxcam.gradient_input, TARGETS),
        radius=golden_peers.RADIUS,
        num_samples=golden_peers.SAMPLES,
    )
    close(found, "captum/max_sensitivity", rtol=1e-3)


def test_pytorch_grad_cams_road_and_arcc():
    percent = golden_peers.PERCENT
    found = metrics.road(forward, IMAGES, HEAT, TARGETS, percent=percent, noise=0)
    close(found.morf, "pytorch-grad-cam/morf", rtol=2e-3)
    close(found.lerf, "pytorch-grad-cam/lerf", rtol=2e-3)
    again = (IMAGES * golden_peers.unit(-HEAT)[..., None]).sum(-1)
    arcc = metrics.arcc_of_maps(forward, IMAGES, -HEAT, again, TARGETS, noise=0)
    assert (arcc.road > 0).all(), "a map without ROAD says nothing of the other parts"
    close(arcc.arcc, "pytorch-grad-cam/arcc", rtol=5e-3)


def test_quantus_localisation_and_regions():
    for name in ("mass_accuracy", "rank_accuracy", "pointing_at"):
        close(getattr(metrics, name)(HEAT, OBJECTS), f"quantus/{name}")
    curve = jax.jit(
        lambda x: metrics.region_perturbation(
            *(forward, x, HEAT, TARGETS),
            side=golden_peers.SIDE,
            steps=golden_peers.STEPS,
            baseline=0.0,
        )
    )(IMAGES)
    close(curve[:, :1] - curve[:, 1:], "quantus/region_perturbation")


def test_quantus_faithfulness_correlation():
    options = {"subset": golden_peers.SUBSET, "num_samples": golden_peers.SETS}
    found = metrics.faithfulness_correlation(forward, IMAGES, HEAT, TARGETS, **options)
    close(found, "quantus/faithfulness_correlation")


def test_the_peers_say_so_still():
    """Where they are installed: what is kept is what their code computes."""
    for name in golden_peers.PEERS:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name, value in golden_peers.theirs(GIVEN).items():
        close(value, name)
