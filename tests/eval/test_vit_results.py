"""The vision transformer whose weights lie beside its results: loaded, explained, not bundled."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from eval.studies.benchmark import PLANS
from eval.subjects import methods, networks
from eval.subjects.applies import why_not
from jaxcam.methods import WHOLE

ROOT = pathlib.Path(__file__).parents[2]
WEIGHTS = ROOT / "results/vit/tiny20_vit.safetensors"


@pytest.fixture(scope="module")
def vit():
    return networks.load("tiny20_vit")


def test_it_is_a_network_of_the_benchmark(vit):
    assert "tiny20_vit" in PLANS
    assert vit.name == "tiny20_vit"
    assert vit.input_size == (48, 48)
    assert vit.classes == networks.load("tiny20").classes
    assert vit.layers.default == "blocks.2"
    assert vit.layers.grids["blocks.2"] == (8, 8)


def test_its_weights_are_small_and_not_in_the_package():
    assert WEIGHTS.stat().st_size < 2_500_000
    assert not list((ROOT / "jaxcam").rglob("tiny20_vit*"))


def test_methods_of_attention_apply_to_it_and_not_to_the_bundled_network(vit):
    for name in ("attention_rollout", "attention_rollout_max", "legrad", "lrp_attnlrp"):
        assert why_not(methods.METHODS[name], vit, (WHOLE,)) == {}
    refused = why_not(methods.METHODS["legrad"], networks.load("tiny20"), (WHOLE,))
    assert "attention" in refused[WHOLE] or "tokens" in refused[WHOLE]


def test_variants_are_the_librarys(vit):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 48, 48, 3)), jnp.float32)
    forward = vit.forward()
    found = methods.METHODS["attention_rollout_max"].function(forward, images, 3)
    expected = jaxcam.attention_rollout(forward, images, 3, heads="max")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.abs(found - jaxcam.attention_rollout(forward, images, 3)).max() > 0
