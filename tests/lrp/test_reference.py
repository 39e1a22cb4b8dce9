"""Relevance as the official Relevance-CAM code gives it, on trained and on seeded networks."""

import ast
import importlib.util

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp, models
from jaxcam._explainers.relevance import relevance_cam_map
from tests import nets

CIFAR_LAYERS = ["layer3", "layer2", "layer1", "stem"]


class Stemmed(nets.CifarResNet):
    """With its stem's activation tagged: the reference has that layer too."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, name="conv1")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-5, name="bn1")(x))
        x = jaxcam.tag(x, "stem")
        for i, planes in enumerate((16, 32, 64)):
            x = nets.Stage(planes, self.blocks, 2 if i else 1, name=f"layer{i + 1}")(x)
        return nn.Dense(10, name="linear")(x.mean((1, 2)))


def error(got, want):
    return np.linalg.norm(np.asarray(got) - want) / np.linalg.norm(want)


@pytest.mark.parametrize("depth", [20, pytest.param(56, marks=pytest.mark.alike)])
def test_trained_cifar_resnets(shared, depth):
    reference = np.load(shared / f"reference/relevance_cifar10_resnet{depth}.npz")
    variables = nets.load_cifar(shared, depth)
    images, targets = nets.normalized(reference["images"]), reference["targets"]

    @jax.jit
    def explain(variables, start):
        forward = jaxcam.linen(Stemmed((depth - 2) // 6), variables)
        return lrp.propagate(forward, images, init=start, layer=CIFAR_LAYERS)

    compared = 0
    for init in ("contrastive", "one_hot"):
        start = lrp.initial(jnp.asarray(reference["logits"], jnp.float32), targets, init)
        assert error(start, reference[f"{init}/init"]) < 1e-5
        result = explain(variables, start)
        assert error(result.logits, reference["logits"]) < 1e-5
        for layer in CIFAR_LAYERS:
            rel, key = result.relevance[layer], f"{init}/{layer}"
            assert error(rel.sum((1, 2)), reference[f"{key}/weights"]) < 1e-4, key
            assert (
                error(
                    relevance_cam_map(result.activations[layer], rel),
                    reference[f"{key}/relevance_cam"],
                )
                < 1e-4
            ), key
            if f"{key}/relevance" in reference:
                assert error(rel.transpose(0, 3, 1, 2), reference[f"{key}/relevance"]) < 1e-4, key
                compared += 1
            logit = np.abs(reference["logits"]).max()
            assert np.allclose(
                rel.sum((1, 2, 3)), reference[f"{key}/weights"].sum(1), atol=1e-5 * logit
            ), key
    assert compared


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param("resnet18", "float64", marks=pytest.mark.alike),
        pytest.param("resnet50", "float64", marks=pytest.mark.alike),
        ("vgg16_bn", "float32"),
    ],
)
def test_torchvision_networks(shared, name, dtype):
    """Random weights: what is specific to a class nearly cancels in depth.

    It is 1e-5 of the relevance at resnet50's layer2. Hence float64 for the residual nets: in
    float32 the contrastive map of resnet18's layer2 is 4e-5 to 1.5e-4 off the reference, by how XLA
    orders its sums, and resnet50's 5e-4.

    In VGG the official convolution puts 2 b into the denominator, so that its sums leak 0.5 % at
    features.23; ours do not, and there that leak is as large as the contrast between classes:
    contrastive weights can be compared above it only. (The official formula with its 2 b, written
    in float64 for this, gives the reference to 2e-7.)
    """
    reference = np.load(shared / "reference/torchvision_seed0.npz")
    layers = [
        k.split("/")[2]
        for k in reference
        if k.startswith(f"{name}/one_hot/") and k.endswith("weights")
    ]
    with jax.enable_x64(dtype == "float64"):
        variables, images = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a), dtype), seeded(shared, reference, name)
        )

        @jax.jit
        def explain(variables, start):
            forward = jaxcam.linen(models.create(name), variables)
            return lrp.propagate(forward, images, init=start, layer=layers)

        starts = {init: start_of(reference, name, init) for init in ("one_hot", "contrastive")}
        results = {init: explain(variables, start) for init, start in starts.items()}
        results = jax.tree.map(np.asarray, results)
    assert layers
    for init, result in results.items():
        assert error(result.logits, reference[f"{name}/logits"]) < 1e-5
        for layer in layers:
            key, leaks = f"{name}/{init}/{layer}", layer == "features.23"
            rel, acts = result.relevance[layer], result.activations[layer]
            entered = starts[init].sum(1) if leaks else reference[f"{key}/relevance_sum"]
            assert np.allclose(rel.sum((1, 2, 3)), entered, atol=1e-5), key
            cam = np.einsum("bhwc,bc->bhw", acts, rel.sum((1, 2)))
            for got, want in ((rel.sum((1, 2)), "weights"), (cam, "relevance_cam")):
                if name != "vgg16_bn":
                    assert error(got, reference[f"{key}/{want}"]) < 1e-4, (key, want)
                elif init == "one_hot" or not leaks:
                    assert (
                        np.corrcoef(got.ravel(), reference[f"{key}/{want}"].ravel())[0, 1] > 0.999
                    ), (key, want)


def seeded(shared, reference, name):
    """(variables, images) of a torchvision network with seeded weights."""
    spec = importlib.util.spec_from_file_location(
        "seeded_weights", shared / "reference/seeded_weights.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shapes = map(ast.literal_eval, reference[f"{name}/shapes"].tolist())
    shapes = dict(zip(reference[f"{name}/keys"].tolist(), shapes, strict=True))
    variables = models.from_torchvision(name, module.seeded_state_dict(shapes, 0))
    return variables, reference["images"].transpose(0, 2, 3, 1)


def start_of(reference, name, init):
    """R at the logits, `[B, N]` float64, from the reference's own logits."""
    z, t = reference[f"{name}/logits"].astype(np.float64), reference[f"{name}/targets"]
    hot = np.eye(z.shape[1])[t]
    z_t = (hot * z).sum(1, keepdims=True)
    return hot * z_t if init == "one_hot" else z_t * (hot - (1 - hot) / (z.shape[1] - 1))


@pytest.mark.alike
@pytest.mark.lenient  # Flax divides a pool of floats by whole numbers
def test_branches_are_conserved_down_to_the_pixels():
    """Concatenation, pooling branches, and batch norms with shifts."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 16, 16, 3)), jnp.float32)
    variables = jax.jit(Inception().init)(jax.random.key(0), images)
    jitter = lambda a: (
        a + 0.05 * jnp.asarray(rng.normal(size=a.shape), a.dtype) if a.ndim == 1 else a
    )
    variables = jax.tree.map(jitter, variables)
    sums = jax.jit(lambda v, x: lrp.conservation(jaxcam.linen(Inception(), v), x))(
        variables, images
    )
    assert np.allclose(sums.pixels, sums.entered, rtol=1e-4)
    assert np.abs(sums.entered).min() > 1e-3


class Inception(nn.Module):
    """Two 4-branch blocks (1x1, 3x3, double 3x3, pooled 1x1), convolution - norm - relu each."""

    @nn.compact
    def __call__(self, x):
        def unit(x, features, size, name):
            x = nn.Conv(features, (size, size), use_bias=False, name=f"{name}_conv")(x)
            return nn.relu(
                nn.BatchNorm(use_running_average=True, epsilon=1e-3, name=f"{name}_bn")(x)
            )

        x = unit(x, 24, 3, "stem")
        for block in ("a", "b"):
            double = unit(unit(x, 16, 1, f"{block}1"), 16, 3, f"{block}2")
            pooled = unit(nn.avg_pool(x, (3, 3), (1, 1), "SAME"), 16, 1, f"{block}3")
            x = jnp.concatenate(
                [unit(x, 16, 1, f"{block}0"), double, unit(double, 16, 3, f"{block}4"), pooled], -1
            )
            x = jaxcam.tag(nn.max_pool(x, (3, 3), (2, 2)), block)
        return nn.Dense(10, name="fc")(x.mean((1, 2)))
