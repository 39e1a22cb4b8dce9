"""Cuts: the layers that everything passes through, and with them the default layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam._program import sites, trace
from tests import nets


class Transformer(nn.Module):
    """Patches, two blocks of attention with two heads, the mean of the tokens."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), (2, 2), name="patches")(x)
        x = x.reshape(x.shape[0], -1, 8)
        for i in range(2):
            x = x + nn.MultiHeadDotProductAttention(2, name=f"attention{i}")(
                nn.LayerNorm(name=f"norm{i}")(x)
            )
            x = x + nn.Dense(8, name=f"mlp{i}")(nn.gelu(x))
        return nn.Dense(3, name="head")(x.mean(1))


class Grid(Transformer):
    """The same, with the tokens laid out again."""

    @nn.compact
    def __call__(self, x):
        side = x.shape[1] // 2
        x = nn.Conv(8, (2, 2), (2, 2), name="patches")(x).reshape(x.shape[0], -1, 8)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(x)
        x = jaxcam.tag(x.reshape(x.shape[0], side, side, 8), "grid")
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Dense(nn.Module):
    """Each layer sees all before it; a norm at the end, as in DenseNet, if there is one."""

    norm: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="stem")(x)
        for i in range(3):
            x = jnp.concatenate([x, nn.Conv(2, (3, 3), name=f"dense{i}")(nn.relu(x))], -1)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x) if self.norm else x
        return nn.Dense(3, name="head")(nn.relu(x).mean((1, 2)))


class Branches(nn.Module):
    """An Inception module with branches joined in the open, behind one that joins them itself."""

    named: bool

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (1, 1), name="before")(x))
        parts = [nn.relu(nn.Conv(3, (k, k), name=f"branch{k}")(x)) for k in (1, 3, 5)]
        x = jnp.concatenate(parts, -1)
        x = jaxcam.tag(x, "joined") if self.named else x
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Gated(nn.Module):
    """Spatial attention behind the last convolution, an auxiliary head with unused answer."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="trunk")(x))
        x = x * nn.sigmoid(nn.Conv(1, (3, 3), name="gate")(x))
        nn.Dense(3, name="auxiliary_head")(nn.Conv(4, (3, 3), name="auxiliary")(x).mean((1, 2)))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Residual(nn.Module):
    """The last block is not a module of its own, but its branch is."""

    @nn.compact
    def __call__(self, x):
        x = jaxcam.tag(nn.relu(nn.Conv(4, (3, 3), name="stem")(x)), "stage")
        x = nn.relu(x + nn.Conv(4, (3, 3), name="branch")(x))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


MODELS = {
    "transformer": (Transformer(), "patches"),
    "transformer with a grid": (Grid(), "grid"),
    "dense": (Dense(norm=True), "norm"),
    "dense without norm": (Dense(norm=False), "stem"),
    "branches": (Branches(named=False), "before"),
    "named branches": (Branches(named=True), "joined"),
    "gated": (Gated(), "trunk"),
    "residual": (Residual(), "stage"),
    "resnet": (nets.CifarResNet(1), "layer3"),
    "tiny": (nets.TinyNet(), "top"),
}


def _forward(model):
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    return jaxcam.linen(model, variables), images


@pytest.mark.parametrize("name", MODELS)
def test_the_default_layer_is_the_last_that_all_evidence_passes_through(name):
    model, expected = MODELS[name]
    found = jaxcam.layers(*_forward(model))
    assert found.default == expected
    assert f"{expected} " in next(line for line in str(found).splitlines() if "(default)" in line)


@pytest.mark.parametrize("name", ["transformer", "dense", "gated", "residual", "tiny"])
def test_a_cut_is_where_another_images_head_gives_this_images_logits(name):
    """The law: what a head holds besides its activations matters iff the layer is no cut."""
    forward, images = _forward(MODELS[name][0])
    here, there = images[:1], images[1:]
    layers, logits = jaxcam.layers(forward, here), forward(there)
    for layer in layers:
        if layer.startswith("auxiliary"):
            continue
        head = jaxcam.split(forward, here, layer).head
        same = np.allclose(head(jaxcam.tap(forward, layer)(there)[1]), logits, atol=1e-6)
        assert same == (layer in layers.cuts), layer


def test_what_the_logits_do_not_use_is_no_cut():
    layers = jaxcam.layers(*_forward(Gated()))
    assert {"auxiliary", "auxiliary_head", "gate"} <= set(layers) and layers.cuts == {
        "trunk",
        "head",
    }


def test_the_default_is_the_same_in_every_framework():
    model = nets.NnxCifarResNet(1, nnx.Rngs(0))
    model.eval()
    assert jaxcam.layers(jaxcam.nnx(model), jnp.ones((1, 8, 8, 3))).default == "layer3"
    forward = lambda x: jaxcam.tag(x * 2, "a").mean((1, 2)) + jaxcam.tag(x * 3, "b").mean((1, 2))
    found = jaxcam.layers(forward, jnp.ones((1, 4, 4, 3)))
    # of two towers none is a cut: the last
    assert found.default == "b" and found.cuts == frozenset()


def test_cuts_are_found_in_calls_and_behind_auxiliary_results():
    def inner(x):
        x = jaxcam.tag(jnp.sin(x), "a")
        return x + jaxcam.tag(jnp.cos(x), "b")

    def forward(x):
        x = jax.checkpoint(jax.jit(inner))(x)
        y = jaxcam.tag(x, "c")
        return y.mean((1, 2)), jaxcam.tag(x * 2, "statistics")

    found = jaxcam.layers(forward, jnp.ones((1, 4, 4, 3)))
    assert found.cuts == {"a", "c"} and found.default == "c"
    maps, _ = jaxcam.grad_cam(forward, jnp.ones((1, 4, 4, 3)), 0, has_aux=True)
    np.testing.assert_allclose(
        maps, jaxcam.grad_cam(forward, jnp.ones((1, 4, 4, 3)), 0, layer="c", has_aux=True)[0]
    )


def side(x):
    """A side branch that nothing uses, beside one that the logits do."""
    x = jaxcam.tag(x * 2, "stem")
    jaxcam.tag(x - 1, "side")
    return jaxcam.tag(x * x, "top").mean((1, 2))


def test_a_layer_that_no_logit_depends_on_has_no_gradient_and_says_so(rng):
    images = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    used = {site.name: site.used for site in sites.find(trace.trace(side, images))}
    assert used == {"stem": True, "side": False, "top": True}
    with pytest.raises(ValueError, match="layer: got 'side', which the output does not depend on"):
        jaxcam.grad_cam(side, images, layer="side")
    _, side_acts = jaxcam.tap(side, "side")(images)  # its activations are there all the same
    np.testing.assert_allclose(side_acts, 2 * images - 1, rtol=1e-6)
