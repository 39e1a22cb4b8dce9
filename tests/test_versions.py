"""Versions of a batch: `jax.vmap`'s values, and every device its own photos alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxcam
from eval.costs.compiled import facts
from jaxcam import metrics
from jaxcam._program.versions import over_versions

LAYOUTS = [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("HWNC", "OIHW", "CNHW")]
N, B = 3, 4


def convolved(x, w, labels=LAYOUTS[0], **options):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=labels, **options)


def close(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), found, expected
    )


@pytest.mark.parametrize("labels", LAYOUTS, ids=" ".join)
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_of_any_layout_are_those_of_vmap(rng, labels, groups):
    sides = {"N": B, "H": 5, "W": 6, "C": 4, "O": 4, "I": 4 // groups}
    w = jnp.asarray(rng.normal(size=[3 if c in "HW" else sides[c] for c in labels[1]]), "float32")
    x = jnp.asarray(rng.normal(size=[N, *(sides[c] for c in labels[0])]), jnp.float32)
    one = lambda x: jnp.tanh(jax.jit(convolved, static_argnums=2)(x, w, labels))
    if groups > 1:
        one = lambda x: convolved(x, w, labels, feature_group_count=groups)
    close(over_versions(one)(x), jax.vmap(one)(x))
    close(jax.jit(over_versions(one))(x), jax.vmap(one)(x))
    slope = lambda of: jax.grad(lambda x: (of(x) ** 2).sum())(x)
    close(slope(over_versions(one)), slope(jax.vmap(one)))


def various(x, share):
    """What a network may do with a batch, and with a number beside it."""
    flat = x.reshape(B, -1)
    rows = x.reshape(-1, x.shape[-1])
    both = jnp.concatenate([x, share * x], -1)
    pairs = jnp.concatenate([x, 2 * x], 0)
    means = jax.lax.scan(lambda carry, each: (carry + each.mean(), each.sum()), share, x)
    ranked = jnp.sort(flat, axis=0)
    kernels = jnp.broadcast_to(share, (1, 1, x.shape[-1], 2))
    return {
        "rows": rows,
        "sum": both.sum((1, 2)),
        "pairs": pairs.T,
        "scan": means,
        "ranked": ranked,
        "share": share**2,
        "own kernels": convolved(x, kernels),
        "the same of all": jnp.arange(3),
        "a number": 7.0,
        "relu": jax.nn.relu(flat @ jnp.ones((flat.shape[1], 2)) - 1),
    }


def test_whatever_a_network_does_is_as_by_vmap(rng):
    x = jnp.asarray(rng.normal(size=(N, B, 4, 5, 2)), jnp.float32)
    shares = jnp.asarray([0.1, 0.5, 2.0])
    close(over_versions(various)(x, shares), jax.vmap(various)(x, shares))
    close(jax.jit(over_versions(various))(x, shares), jax.vmap(various)(x, shares))


def test_a_model_that_closes_over_the_batch_is_asked_as_ever(rng):
    """Not of n versions of B photos, which would be N B."""
    own = jnp.asarray(rng.normal(size=(B, 2)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(3, 3, 2, 2)), jnp.float32)
    sizes = []

    def forward(x):
        sizes.append(len(x))
        return convolved(x, w).mean((1, 2)) * own

    x = jnp.asarray(rng.normal(size=(N, B, 4, 5, 2)), jnp.float32)
    found = over_versions(forward)(x)
    assert set(sizes) == {B}
    close(found, jax.vmap(forward)(x))


# On several devices ---------------------------------------------------

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype("float32")
HEAD = np.random.default_rng(1).normal(size=(8, 5)).astype("float32")
DEVICES = 4


def network(x):
    x = jaxcam.tag(jax.nn.relu(convolved(x, WEIGHTS)), "features")
    x = jax.nn.relu(convolved(x, np.concatenate([WEIGHTS] * 3, 2)[:, :, :8]))
    return x.mean((1, 2)) @ HEAD


CALLS = {
    "rise": lambda x, s: jaxcam.rise(network, x, 0, num_masks=16, chunk=8, grid=4),
    "lime": lambda x, s: jaxcam.lime(
        network,
        x,
        0,
        segments=jnp.zeros(x.shape[:3], int).at[:, 8:].set(1),
        num_segments=2,
        num_samples=16,
        chunk=8,
    ),
    "score_cam": lambda x, s: jaxcam.score_cam(network, x, 0, layer="features", chunk=8),
    "ablation_cam": lambda x, s: jaxcam.ablation_cam(network, x, 0, layer="features", chunk=8),
    "integrated": lambda x, s: jaxcam.integrated_gradients(network, x, 0, steps=8, chunk=4),
    "occlusion": lambda x, s: jaxcam.occlusion(network, x, 0, window=8, stride=8, chunk=4),
    "classes": lambda x, s: jaxcam.grad_cam(
        network, x, jnp.tile(jnp.arange(3), (len(x), 1)), layer="features"
    ),
    "classes of LRP": lambda x, s: jaxcam.lrp_map(network, x, jnp.tile(jnp.arange(3), (len(x), 1))),
    "deletion": lambda x, s: metrics.deletion(network, x, s, 0, step=1 / 8),
    "road": lambda x, s: metrics.road(network, x, s, 0, percent=(20, 50), chunk=4),
    "infidelity": lambda x, s: metrics.infidelity(network, x, s, 0, square=4, num_samples=8),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_device_has_its_own_photos_alone(name):
    """Of a batch in shares, under `jax.jit`: a share of the work, and no photo is sent."""
    if jax.device_count() < DEVICES:
        pytest.skip(f"needs {DEVICES} devices")
    images = jnp.asarray(np.random.default_rng(2).normal(size=(8, 16, 16, 3)), jnp.float32)
    saliency = images.sum(-1)
    found = {}
    for count in (1, DEVICES):
        mesh = Mesh(np.array(jax.devices()[:count]), ("photos",))
        place = lambda x, mesh=mesh: jax.device_put(x, NamedSharding(mesh, PartitionSpec("photos")))
        arrays = (place(images), place(saliency))
        traced = jax.jit(CALLS[name]).trace(*arrays)
        found[count] = facts(traced.lower(), traced.jaxpr), jax.jit(CALLS[name])(*arrays)
    (alone, values), (shared, together) = found[1], found[DEVICES]
    close(together, values)
    assert shared.flops < 1.05 * alone.flops / DEVICES
    assert sum(shared.collectives.values()) <= 16  # bytes: whether any photo goes on
