import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp, models
from jaxcam.models.convert import expected_shapes

SMALL = {"stage_sizes": (1, 1), "widths": (16, 32), "strides": (1, 2), "stem": "small"}
BOTH = ["batch_stats", "auxiliary"]


@pytest.fixture
def network(rng):
    """(model, variables with everything away from its initial value, images)."""
    model = models.create("abn_compact", num_classes=5, **SMALL)
    images = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    state = {
        key: rng.uniform(0.2, 0.8, shape)
        if key.endswith("var")
        else rng.normal(size=shape) * 0.3 + ("bn" in key) * 0.5
        for key, shape in expected_shapes(model).items()
    }
    return model, models.from_torchvision("abn_compact", state, **SMALL), images


def literal_branch(y, p):
    """A stage's output `[h, w, c]` -> (attention [h, w], auxiliary logits [N]), float64 loops."""

    def norm(x, name):
        mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
        return (x - mean) / np.sqrt(var + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    h, w, _ = y.shape
    classes = norm(y, "bn_att") @ p["att_conv.weight"][:, :, 0, 0].T
    classes = np.maximum(norm(classes, "bn_att2"), 0)
    padded = np.pad(classes, ((1, 1), (1, 1), (0, 0)))
    plane = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            window = padded[i : i + 3, j : j + 3].transpose(2, 0, 1)
            plane[i, j] = (window * p["att_conv3.weight"][0]).sum()
    attention = 1 / (1 + np.exp(-norm(plane, "bn_att3")))
    return attention, (classes @ p["att_conv2.weight"][:, :, 0, 0].T).mean((0, 1))


def test_the_branch_equals_its_literal_form(network):
    model, variables, images = network
    state = {key: np.float64(value) for key, value in models.to_torchvision(variables).items()}
    names = ["att_layer2.0", "layer1", "attention", "attended"]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        forward = jaxcam.linen(model, wide, mutable=["auxiliary"])
        (_, collections), found = jaxcam.tap(forward, names)(images.astype(jnp.float64))
        found = {name: np.asarray(value) for name, value in found.items()}
    for b in range(2):
        attention, logits = literal_branch(found["att_layer2.0"][b], state)
        np.testing.assert_allclose(found["attention"][b, :, :, 0], attention, rtol=1e-10)
        np.testing.assert_allclose(
            found["attended"][b], found["layer1"][b] * (1 + attention[:, :, None]), rtol=1e-10
        )
        np.testing.assert_allclose(collections["auxiliary"]["logits"][b], logits, rtol=1e-10)
    assert found["attention"].std() > 0.01


def test_the_last_stage_sees_what_the_attention_lets_through(network):
    """Attention held at 0 leaves the residual net itself; the branch's stage has stride 1."""
    model, variables, images = network
    state = models.to_torchvision(variables)
    state["bn_att3.weight"], state["bn_att3.bias"] = np.zeros(1), np.full(1, -200.0)
    logits = model.apply(models.from_torchvision("abn_compact", state, **SMALL), images)
    plain = {
        key: state[key]
        for key in expected_shapes(models.create("resnet_compact", num_classes=5, **SMALL))
    }
    expected = models.create("resnet_compact", num_classes=5, **SMALL).apply(
        models.from_torchvision("resnet_compact", plain, **SMALL), images
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    assert np.abs(model.apply(variables, images) - expected).max() > 1e-2


def test_auxiliary_logits_are_given_to_those_who_ask(network):
    model, variables, images = network
    assert set(jax.eval_shape(model.init, jax.random.key(0), images)) == {"params", "batch_stats"}
    logits = model.apply(variables, images)
    again, updated = model.apply(variables, images, train=False, mutable=BOTH)
    np.testing.assert_array_equal(logits, again)
    assert updated["auxiliary"]["logits"].shape == logits.shape == (2, 5)
    _, only = model.apply(variables, images, train=True, mutable=["batch_stats"])
    assert set(only) == {"batch_stats"}
    _, updated = model.apply({**variables, **updated}, images, train=False, mutable=BOTH)
    # replaced, not gathered, when passed in again
    assert updated["auxiliary"]["logits"].shape == (2, 5)


def test_a_plain_forward_pass_leaves_the_auxiliary_logits_out(network):
    model, variables, images = network
    convolutions = lambda f: jax.jit(f).lower(images).as_text().count("stablehlo.convolution")
    plain = convolutions(lambda x: model.apply(variables, x))
    assert convolutions(lambda x: model.apply(variables, x, mutable=["auxiliary"])) == plain + 1


def test_both_losses_train_the_branch(network):
    model, variables, images = network

    def losses(params):
        logits, updated = model.apply(
            {**variables, "params": params}, images, train=True, mutable=BOTH
        )
        return -jnp.stack(
            [jax.nn.log_softmax(z)[:, 0].mean() for z in (logits, updated["auxiliary"]["logits"])]
        )

    gradients = jax.jit(jax.jacrev(losses))(variables["params"])
    moved = lambda loss, name: any(
        np.abs(leaf[loss]).max() > 1e-6 for leaf in jax.tree.leaves(gradients[name])
    )
    assert moved(0, "att_conv3") and moved(0, "att_layer2.0") and not moved(0, "att_conv2")
    assert moved(1, "att_conv2") and moved(1, "conv1") and not moved(1, "fc")


@pytest.mark.lenient  # flax normalises bfloat16 by float32 means
def test_bfloat16_returns_both_logits_in_float32(network):
    _, variables, images = network
    model = models.create("abn_compact", num_classes=5, dtype="bfloat16", **SMALL)
    logits, updated = model.apply(variables, images, mutable=["auxiliary"])
    assert logits.dtype == updated["auxiliary"]["logits"].dtype == jnp.float32
    found = jaxcam.layers(lambda x: model.apply(variables, x), images)
    assert {found[name].dtype for name in ("attention", "attended", "layer2")} == {
        jnp.dtype("bfloat16")
    }


def test_parameters_of_abn_resnet50():
    """torchvision's ResNet-50, layer4 again, and the paper's additions, for 1000 classes."""
    layer4 = 1024 * 2048 + 2 * 2048  # the shortcut
    for inputs in (1024, 2048, 2048):
        layer4 += inputs * 512 + 9 * 512 * 512 + 512 * 2048 + 2 * (512 + 512 + 2048)
    branch = 2 * 2048 + 2048 * 1000 + 2 * 1000 + 9 * 1000 + 2 * 1 + 1000 * 1000
    shapes = expected_shapes(models.create("abn_resnet50"))
    assert (
        sum(np.prod(s) for key, s in shapes.items() if "running" not in key)
        == 25_557_032 + layer4 + branch
    )


def test_keys_are_those_of_the_authors_code():
    abn, plain = (
        expected_shapes(models.create(name, num_classes=7)) for name in ("abn_resnet50", "resnet50")
    )
    norms = {
        f"bn_att{n}.{leaf}"
        for n in ("", 2, 3)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    }
    stage = {f"att_{key}" for key in plain if key.startswith("layer4")}
    assert set(abn) - set(plain) == norms | stage | {f"att_conv{n}.weight" for n in ("", 2, 3)}
    assert abn["att_conv.weight"] == (7, 2048, 1, 1) and abn["att_conv2.weight"] == (7, 7, 1, 1)
    assert abn["att_conv3.weight"] == (1, 7, 3, 3)


def test_layers_of_abn_resnet50_at_224_pixels():
    model = models.create("abn_resnet50")
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    state = jax.tree.map(
        lambda s: jnp.zeros(s.shape), jax.eval_shape(model.init, jax.random.key(0), images)
    )
    found = jaxcam.layers(lambda x: model.apply(state, x), images)
    shapes = {name: aval.shape[1:] for name, aval in found.items()}
    assert shapes["attention"] == (14, 14, 1) and shapes["attended"] == shapes["layer3"] == (
        14,
        14,
        1024,
    )
    assert shapes["layer4"] == (7, 7, 2048) and found.default == "layer4"


def test_relevance_passes_the_attention_whole(network):
    model, variables, images = network
    forward = lambda x: model.apply(variables, x)
    explain = lambda x: (
        lrp.conservation(forward, x, composite="epsilon"),
        jaxcam.relevance_cam(forward, x, layer="attended"),
    )
    sums, maps = jax.jit(explain)(images)
    for layer in ("layer2", "attended", "layer1", "relu"):
        np.testing.assert_allclose(sums.layers[layer], sums.entered, rtol=1e-3)
    assert not np.any(sums.layers["attention"]) and np.abs(sums.entered).min() > 0.1
    assert maps.shape == (2, 8, 8) and np.abs(maps).max() > 0


def test_a_single_stage_has_no_place_for_a_branch():
    with pytest.raises(ValueError, match=r"stage_sizes: got \(2,\), expected two stages at least"):
        models.create("abn_resnet50", stage_sizes=(2,), widths=(8,), strides=(1,))
