"""Contrastive LRP, the whole map, against float64 NumPy: Lee's form and both of Gu's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests import nets
from tests.lrp import literal

TARGET = 3
HOT = np.eye(5)[TARGET]
LAYERS = ["pixels", "stem"]


@pytest.fixture(scope="module")
def tiny():
    """The model, its variables, two images, and maps by layer from what enters at the logits."""
    model, variables, images = nets.tiny(batch=2)

    @jax.jit
    def maps(variables, init):
        forward = jaxcam.linen(model, variables)
        return jaxcam.lrp_map(forward, images, layer=LAYERS, init=init)

    return model, variables, images, maps


def literal_maps(variables, images, start):
    """[B, h, w] by layer."""
    found = [literal.network(variables, image, start)[0] for image in np.asarray(images)]
    return {name: np.stack([each[name].sum(-1) for each in found]) for name in LAYERS}


def same(found, expected):
    size = np.abs(expected).max()
    assert size > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * size)


def test_clrp_is_one_pass_of_the_class_against_the_mean_of_all_others(tiny):
    """R_t = |z_t|, R_n = -|z_t| / (N - 1): Lee et al. 2021, eq. 4."""
    model, variables, images, _ = tiny
    forward = jaxcam.linen(model, variables)
    found = jax.jit(lambda x: jaxcam.clrp_map(forward, x, TARGET, layer=LAYERS))(images)
    expected = literal_maps(
        variables, images, lambda z: np.where(HOT, abs(z[TARGET]), -abs(z[TARGET]) / 4)
    )
    for name in LAYERS:
        same(found[name], expected[name])


def shares(maps):
    return maps / maps.sum((1, 2), keepdims=True)


def negated(variables):
    """The network whose last layer speaks against the class: its weights w_t are -w_t."""
    head = dict(variables["params"]["head"])
    head["kernel"] = head["kernel"] * jnp.asarray(1 - 2 * HOT, jnp.float32)[None]
    return {**variables, "params": {**variables["params"], "head": head}}


@pytest.mark.parametrize("form", ["CLRP1", "CLRP2"])
def test_gus_two_passes_can_be_had_of_arrays(tiny, form):
    """max(0, R / sum R - R' / sum R'), R from |z_t|: Gu et al. 2018.

    R' is from the others' |z| (CLRP1), or from |z_t| through -w_t (CLRP2).
    """
    model, variables, images, maps = tiny
    z = np.asarray(jaxcam.linen(model, variables)(images))
    other = negated(variables) if form == "CLRP2" else variables
    against = HOT if form == "CLRP2" else 1 - HOT
    bias = np.asarray(variables["params"]["head"]["bias"], np.float64)
    own = lambda logits: logits
    if form == "CLRP2":  # whose z_t without the bias is turned
        own = lambda logits: (1 - 2 * HOT) * (logits - bias) + bias
    for_it = maps(variables, np.abs(z) * HOT.astype(np.float32))
    not_it = maps(other, np.abs(z) * against.astype(np.float32))
    # |z| is that of the network as it is in both passes.
    first = literal_maps(variables, images, lambda z: np.abs(z) * HOT)
    second = literal_maps(other, images, lambda z: np.abs(own(z)) * against)
    for name in LAYERS:
        found = np.maximum(shares(for_it[name]) - shares(not_it[name]), 0)
        same(found, np.maximum(shares(first[name]) - shares(second[name]), 0))
