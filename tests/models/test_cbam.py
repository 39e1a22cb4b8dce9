import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp, models
from jaxcam.models import cbam
from jaxcam.models.convert import expected_shapes

SMALL = {"stage_sizes": (1, 1), "widths": (16, 32), "strides": (1, 2), "stem": "small"}
IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")


def draw(name, rng, **options):
    """(model, variables with everything away from its initial value, images)."""
    model = models.create(name, num_classes=5, **{**SMALL, **options})
    images = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    state = {
        key: rng.uniform(0.2, 0.8, shape)
        if key.endswith("var")
        else rng.normal(size=shape) * 0.3 + ("bn" in key) * 0.5
        for key, shape in expected_shapes(model).items()
    }
    return model, models.from_torchvision(name, state, **{**SMALL, **options}), images


@pytest.fixture
def network(rng):
    return draw("cbam_resnet18", rng)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def literal_cbam(F, p):
    """One image's F_i `[h, w, c]` -> (Mc, Ms, F_o), from a state dict, in float64, with loops."""
    h, w, _ = F.shape
    mlp = lambda v: (
        p["mlp.3.weight"] @ np.maximum(p["mlp.1.weight"] @ v + p["mlp.1.bias"], 0) + p["mlp.3.bias"]
    )
    Mc = sigmoid(mlp(F.mean((0, 1))) + mlp(F.max((0, 1))))
    inner = F * Mc
    padded = np.zeros((2, h + 6, w + 6))
    padded[0, 3:-3, 3:-3], padded[1, 3:-3, 3:-3] = inner.max(2), inner.mean(2)
    z = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            z[i, j] = (padded[:, i : i + 7, j : j + 7] * p["conv.weight"][0]).sum()
    z = (z - p["bn.running_mean"]) / np.sqrt(p["bn.running_var"] + 1e-5) * p["bn.weight"] + p[
        "bn.bias"
    ]
    Ms = sigmoid(z)
    return Mc, Ms, inner * Ms[:, :, None]


def block_state(state, block):
    prefixes = (f"{block}.cbam.ChannelGate.", f"{block}.cbam.SpatialGate.spatial.")
    return {
        key.removeprefix(p): np.float64(v)
        for key, v in state.items()
        for p in prefixes
        if key.startswith(p)
    }


# The block ------------------------------------------------------------


@pytest.mark.parametrize("block", ["layer1.0", "layer2.0"])
def test_a_block_equals_its_literal_form(network, block):
    """Gates, ATT and F_o of F_i = the last norm's output; F_o + shortcut goes through the ReLU."""
    model, variables, images = network
    state = models.to_torchvision(variables)
    names = [f"{block}.{n}" for n in ("bn2", "channel_gate", "spatial_gate", "att", "cbam")]
    shortcut = "relu" if block == "layer1.0" else f"{block}.downsample.1"
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        found = jaxcam.tap(jaxcam.linen(model, wide), [*names, shortcut, block])(
            images.astype(jnp.float64)
        )[1]
        found = {name: np.asarray(value) for name, value in found.items()}
    inputs, channel, spatial, att, outputs = (found[name] for name in names)
    for b in range(2):
        Mc, Ms, F_o = literal_cbam(inputs[b], block_state(state, block))
        np.testing.assert_allclose(channel[b, 0, 0], Mc, rtol=1e-10)
        np.testing.assert_allclose(spatial[b, :, :, 0], Ms, rtol=1e-10)
        np.testing.assert_allclose(outputs[b], F_o, rtol=1e-10)
        np.testing.assert_allclose(att[b], F_o - inputs[b], rtol=1e-10)
    np.testing.assert_allclose(found[block], np.maximum(outputs + found[shortcut], 0), rtol=1e-10)
    assert channel.std() > 0.01 and spatial.std() > 0.01


def test_the_block_of_pytorch_gives_the_same(network):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Gate(nn.Module):  # written from the paper, under the names of the authors' code
        def __init__(self, channels):
            super().__init__()
            self.ChannelGate, self.SpatialGate = nn.Module(), nn.Module()
            hidden = max(channels // 16, 4)
            layers = (
                nn.Flatten(),
                nn.Linear(channels, hidden),
                nn.ReLU(),
                nn.Linear(hidden, channels),
            )
            self.ChannelGate.mlp = nn.Sequential(*layers)
            self.SpatialGate.spatial = nn.Module()
            self.SpatialGate.spatial.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
            self.SpatialGate.spatial.bn = nn.BatchNorm2d(1, momentum=0.01)

        def forward(self, x):
            mlp, spatial = self.ChannelGate.mlp, self.SpatialGate.spatial
            x = x * torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))[:, :, None, None]
            planes = torch.stack([x.amax(1), x.mean(1)], 1)
            return x * torch.sigmoid(spatial.bn(spatial.conv(planes)))

    model, variables, images = network
    state, prefix = models.to_torchvision(variables), "layer2.0.cbam."
    gate = Gate(32).eval()
    theirs = {
        key.removeprefix(prefix): torch.tensor(v)
        for key, v in state.items()
        if key.startswith(prefix)
    }
    gate.load_state_dict(theirs)  # strict: names and shapes are the same
    found = jaxcam.tap(jaxcam.linen(model, variables), ["layer2.0.bn2", "layer2.0.cbam"])(images)[1]
    with torch.no_grad():
        expected = gate(
            torch.tensor(np.asarray(found["layer2.0.bn2"])).permute(0, 3, 1, 2)
        ).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found["layer2.0.cbam"], expected.numpy(), rtol=1e-4, atol=1e-6)


def test_initial_gates_are_one_half_in_space_and_near_it_in_channels():
    model = models.create("cbam_resnet18", num_classes=5, **SMALL)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    forward = lambda x: model.apply(variables, x)
    found = jaxcam.tap(forward, ["layer1.0.spatial_gate", "layer2.0.spatial_gate"])(images)[1]
    assert all((gate == 0.5).all() for gate in found.values())
    state = models.to_torchvision(variables)
    assert not state["layer1.0.cbam.ChannelGate.mlp.3.bias"].any()
    assert 0.8 < np.abs(state["layer2.0.cbam.ChannelGate.mlp.1.weight"]).max() * 32**0.5 <= 1


def test_the_spatial_gates_norm_averages_slowly_and_is_shared_across_devices(network):
    """PyTorch's momentum 0.01 is 0.99 here; the mapped axis reaches the gates' norms."""
    _, variables, _ = network
    images = jax.random.normal(jax.random.key(0), (2, 3, 8, 8, 3))
    model = models.create("cbam_resnet18", num_classes=5, axis_name="devices", **SMALL)
    step = lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])[1][
        "batch_stats"
    ]
    stats = jax.jit(jax.vmap(step, axis_name="devices"))(images)
    old, new = (
        s["layer1.0"]["cbam"]["SpatialGate"]["spatial.bn"]["var"]
        for s in (variables["batch_stats"], stats)
    )
    assert np.ptp(np.asarray(new)) == 0

    def planes(x):
        name = "layer1.0.cbam.SpatialGate.spatial.conv"
        one = models.create("cbam_resnet18", num_classes=5, **SMALL)
        forward = jaxcam.linen(one, variables, train=True, mutable=["batch_stats"])
        return jaxcam.tap(forward, name)(x.reshape(-1, 8, 8, 3))[1]

    np.testing.assert_allclose(new[0], 0.99 * old + 0.01 * jax.jit(planes)(images).var(), rtol=1e-4)


@pytest.mark.lenient  # flax normalises bfloat16 by float32 means
def test_bfloat16_computes_the_gates_in_bfloat16(network):
    _, variables, images = network
    model = models.create("cbam_resnet18", num_classes=5, dtype="bfloat16", **SMALL)
    found = jaxcam.layers(lambda x: model.apply(variables, x), images)
    assert {a.dtype for name, a in found.items() if name.startswith("layer2")} == {
        jnp.dtype("bfloat16")
    }
    fresh = jax.eval_shape(model.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    logits, expected = (
        jax.jit(model.apply)(variables, images),
        jax.jit(network[0].apply)(variables, images),
    )
    assert (
        logits.dtype == jnp.float32
        and 0 < np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()
    )


def test_the_gradient_of_the_largest_goes_to_the_first_of_them():
    x = jnp.array([[1.0, 3.0, 3.0], [2.0, 0.0, -1.0]])
    np.testing.assert_array_equal(cbam.largest(x, 1), [3, 2])
    gradient = jax.grad(lambda x: (cbam.largest(x, 1) * jnp.array([2.0, 5.0])).sum())(x)
    np.testing.assert_array_equal(gradient, [[0, 2, 0], [5, 0, 0]])
    np.testing.assert_array_equal(
        jax.jvp(lambda x: cbam.largest(x, 0), (x,), (x + 10,))[1], [12, 13, 13]
    )
    hessian = jax.hessian(lambda x: (cbam.largest(x, 0) ** 2).sum())(x)
    assert np.trace(np.asarray(hessian).reshape(6, 6)) == 6 and np.abs(hessian).sum() == 6


def test_compiled_gradients_of_the_largest_are_those_of_the_interpreter(rng):
    """With JAX's own rule some are NaN: XLA rounds twice; no value then equals the maximum."""
    x, weights = (
        rng.normal(size=(4, 6, 5, 8)).astype(np.float32),
        rng.normal(size=(1, 1, 1, 8)).astype(np.float32),
    )

    def loss(x):
        y = (x - 0.3) * weights * 1.7 + 0.1
        gate = nn.sigmoid(cbam.largest(y.reshape(4, -1, 8), 1) + y.mean((1, 2)))[:, None, None]
        return nn.sigmoid(cbam.largest(gate * y, 3)).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(loss))(x), jax.grad(loss)(x), rtol=1e-4, atol=1e-6)


# The networks ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cbam_resnet18", 11_779_392),
        ("cbam_resnet34", None),
        ("cbam_resnet50", 28_089_624),
        ("cbam_resnet101", None),
    ],
)
def test_parameters_are_those_of_the_residual_net_and_of_a_gate_in_every_block(name, count):
    size = lambda n: sum(
        np.prod(shape)
        for key, shape in expected_shapes(models.create(n)).items()
        if "run" not in key
    )
    model = models.create(name)
    gates, expansion = 0, 4 if model.block == "bottleneck" else 1
    for blocks, width in zip(model.stage_sizes, model.widths, strict=True):
        c = width * expansion
        gates += blocks * (2 * c * (c // 16) + c // 16 + c + 2 * 49 + 2)
    assert size(name) == size(name.removeprefix("cbam_")) + gates
    assert count is None or size(name) == count


def test_narrow_blocks_keep_four_hidden_units():
    shapes = expected_shapes(models.create("cbam_compact", num_classes=20))
    hidden = [shapes[f"layer{n}.0.cbam.ChannelGate.mlp.1.weight"] for n in (1, 2, 3, 4)]
    assert hidden == [(4, 32), (4, 64), (8, 128), (12, 192)]


def test_layers_of_cbam_resnet50():
    model = models.create("cbam_resnet50")
    state = jax.tree.map(
        lambda s: jnp.zeros(s.shape), jax.eval_shape(model.init, jax.random.key(0), IMAGE)
    )
    forward = lambda x: model.apply(state, x)
    found = jaxcam.layers(forward, jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
    assert sum(name.endswith(".att") for name in found) == 16
    assert found["layer3.5.att"].shape == (1, 14, 14, 1024) and found[
        "layer4.2.spatial_gate"
    ].shape == (1, 7, 7, 1)
    assert found["layer2.0.channel_gate"].shape == (1, 1, 1, 512)
    assert found.default == "layer4"


def test_att_costs_a_forward_pass_nothing_and_is_found_inside_jit_and_remat(network):
    """The compiled program subtracts in its norms only: one subtraction a reciprocal root."""
    model, variables, images = network
    forward = lambda x: model.apply(variables, x)
    program = jax.jit(forward).lower(images).as_text()
    assert program.count("stablehlo.subtract") == program.count("stablehlo.rsqrt") == 8
    expected = jaxcam.tap(forward, "layer1.0.att")(images)[1]
    for wrapped in (jax.jit(forward), jax.checkpoint(forward)):
        assert "layer1.0.att" in jaxcam.layers(wrapped, images)
        np.testing.assert_allclose(
            jaxcam.tap(wrapped, "layer1.0.att")(images)[1], expected, rtol=1e-5, atol=1e-6
        )


def test_names_carry_the_path_of_an_outer_module(network):
    class Outer(nn.Module):
        student: nn.Module

        def __call__(self, x):
            return self.student(x)

    model, variables, images = network
    nested = {collection: {"student": tree} for collection, tree in variables.items()}
    assert "student.layer1.0.att" in jaxcam.layers(lambda x: Outer(model).apply(nested, x), images)


def test_relevance_passes_the_gates_whole(network):
    model, variables, images = network
    forward = lambda x: model.apply(variables, x)
    explain = lambda x: (
        lrp.conservation(forward, x, composite="epsilon"),
        jaxcam.relevance_cam(forward, x, layer="layer1"),
    )
    sums, maps = jax.jit(explain)(images)
    for layer in ("layer2", "layer1", "relu"):
        np.testing.assert_allclose(sums.layers[layer], sums.entered, rtol=1e-3)
    np.testing.assert_allclose(sums.pixels, sums.entered, rtol=1e-3)
    assert not np.any(sums.layers["layer2.0.channel_gate"]) and np.abs(sums.entered).min() > 0.1
    assert maps.shape == (2, 8, 8) and np.abs(maps).max() > 0


@pytest.mark.parametrize("attention", ["se", "", True])
def test_an_unknown_attention_names_the_known(attention):
    with pytest.raises(
        ValueError, match=f"attention: got {attention!r}, expected one of None, 'cbam'"
    ):
        models.create("resnet18", attention=attention)


# Weights ------------------------------------------------------------

GATE_KEYS = [
    *(f"ChannelGate.mlp.{index}.{leaf}" for index in (1, 3) for leaf in ("weight", "bias")),
    "SpatialGate.spatial.conv.weight",
    *(
        f"SpatialGate.spatial.bn.{leaf}"
        for leaf in ("weight", "bias", "running_mean", "running_var")
    ),
]


def test_keys_are_those_of_the_authors_code():
    cbam, plain = (
        set(expected_shapes(models.create(name, num_classes=5)))
        for name in ("cbam_resnet50", "resnet50")
    )
    blocks = [
        f"layer{n}.{i}" for n, count in enumerate((3, 4, 6, 3), start=1) for i in range(count)
    ]
    assert cbam - plain == {f"{block}.cbam.{key}" for block in blocks for key in GATE_KEYS}
    assert plain < cbam


@pytest.mark.parametrize("prefix", ["", "module."])
def test_there_and_back_is_the_identity(network, prefix):
    _, variables, _ = network
    state = models.to_torchvision(variables)
    saved = {prefix + key: value for key, value in state.items()}
    saved[f"{prefix}layer1.0.cbam.SpatialGate.spatial.bn.num_batches_tracked"] = np.int64(7)
    back = models.to_torchvision(models.from_torchvision("cbam_resnet18", saved, **SMALL))
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_what_does_not_fit_is_named(network):
    state = models.to_torchvision(network[1])
    del state["layer1.0.cbam.ChannelGate.mlp.1.bias"]
    state["layer2.0.cbam.SpatialGate.spatial.conv.weight"] = np.zeros((1, 2, 3, 3))
    message = (
        r"1 missing: layer1.0.cbam.ChannelGate.mlp.1.bias; 1 misshapen: layer2.0.cbam.Spatial.* "
        r"\(1, 2, 7, 7\)"
    )
    with pytest.raises(ValueError, match=message):
        models.from_torchvision("cbam_resnet18", state, **SMALL)


def test_a_file_keeps_the_network(network, tmp_path):
    _, variables, images = network
    models.save(tmp_path / "student.safetensors", "cbam_resnet18", SMALL, variables)
    model, loaded = models.load(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(model.apply(loaded, images), network[0].apply(variables, images))


def test_published_names_are_torchvisions_only():
    assert "resnet101.tv_in1k" in models.available() and "vgg19_bn.tv_in1k" in models.available()
    published = [name for name in models.available() if "." in name]  # the others are bundled
    assert not [name for name in published if "cbam" in name or "abn" in name or "compact" in name]
