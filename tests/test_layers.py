"""Tags, taps, splits: where they reach, what they leave alone, and what they say if they cannot."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests import nets


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(3, (3, 3), name="conv")(x))


class Nested(nn.Module):
    """A model with all that hides a layer: nn.jit, nn.remat, a module called twice, jax.jit."""

    @nn.compact
    def __call__(self, x):
        x = nn.jit(Inner)(name="jitted")(x)
        x = nn.remat(Inner)(name="remat")(x)
        shared = Inner(name="shared")
        x = shared(shared(x))
        x = jax.jit(lambda x: jaxcam.tag(jnp.sin(x), "plain_jit"))(x)
        return nn.Dense(2, name="head")(x.mean((1, 2)))


@pytest.fixture(scope="module")
def nested():
    model, images = Nested(), jax.random.normal(jax.random.key(1), (2, 5, 5, 3))
    return model, jax.jit(model.init)(jax.random.key(0), images), images


def test_layers_lists_every_submodule_in_execution_order(nested):
    model, variables, images = nested
    found = jaxcam.layers(jaxcam.linen(model, variables), images)
    assert list(found) == [
        "jitted.conv", "jitted", "remat.conv", "remat", "shared.conv", "shared",
        "shared.conv@2", "shared@2", "plain_jit", "head",
    ]  # fmt: skip
    assert found["remat"].shape == (2, 5, 5, 3)
    assert found["head"].shape == (2, 2)
    assert found.default == "plain_jit"
    assert str(found).splitlines()[-2:] == [
        "plain_jit      [2, 5, 5, 3]  (default)",
        "head           [2, 2]",
    ]


def test_layers_evaluates_nothing(nested):
    model, variables, images = nested
    abstract = jax.ShapeDtypeStruct(images.shape, images.dtype)
    assert jaxcam.layers(jaxcam.linen(model, variables), abstract) == jaxcam.layers(
        jaxcam.linen(model, variables), images
    )


def test_nn_jit_keeps_its_layers_after_the_model_ran_without_the_adapter(nested):
    model, variables, images = nested
    jax.jit(model.apply)(variables, images)
    model.apply(variables, images)
    assert "jitted.conv" in jaxcam.layers(jaxcam.linen(model, variables), images)
    np.testing.assert_allclose(
        jaxcam.linen(model, variables)(images), model.apply(variables, images), rtol=1e-6
    )


@pytest.mark.parametrize(
    "layer", ["jitted.conv", "remat.conv", "shared.conv", "shared.conv@2", "plain_jit"]
)
def test_tap_adds_delta_exactly_there(nested, layer):
    """The gradient of a hidden layer against the logits' central differences along a direction."""
    model, variables, images = nested
    forward = jaxcam.linen(model, variables)
    with jax.enable_x64(True):
        forward = jaxcam.linen(model, jax.tree.map(lambda v: v.astype(jnp.float64), variables))
        images = images.astype(jnp.float64)
        tapped = jaxcam.tap(forward, layer)
        logits, acts = tapped(images)
        np.testing.assert_array_equal(logits, forward(images))
        direction = jax.random.normal(jax.random.key(2), acts.shape, jnp.float64)
        _, _, gradients = jaxcam.activations_and_gradients(forward, images, 1, layer=layer)
        step = 1e-6
        plus, minus = (tapped(images, sign * step * direction)[0][:, 1] for sign in (1, -1))
        slope = (plus - minus) / (2 * step)
        np.testing.assert_allclose(
            (gradients * direction).sum((1, 2, 3)), slope, rtol=1e-5, atol=1e-9
        )


def test_a_tag_on_an_equal_tag_is_one_layer():
    forward = lambda x: jax.jit(lambda x: jaxcam.tag(jaxcam.tag(x * 2, "a"), "a"))(
        jaxcam.tag(x, "b")
    ).mean((1, 2))
    assert list(jaxcam.layers(forward, jnp.ones((1, 2, 2, 3)))) == ["b", "a"]


def test_tap_works_inside_jit_vmap_and_grad():
    model, variables, images = nets.tiny()

    def total(variables, images, target):
        forward = jaxcam.linen(model, variables)
        _, acts, grads = jaxcam.activations_and_gradients(forward, images, target, layer="stem")
        return (acts * grads).sum()

    one = total(variables, images, 1)
    np.testing.assert_allclose(jax.jit(total)(variables, images, 1), one, rtol=1e-5)
    over_targets = jax.vmap(total, (None, None, 0))(variables, images, jnp.arange(3))
    np.testing.assert_allclose(over_targets[1], one, rtol=1e-5)
    gradient = jax.jit(jax.grad(total))(variables, images, 1)
    assert float(jnp.abs(gradient["params"]["head"]["kernel"]).sum()) > 0
    assert float(jnp.abs(gradient["params"]["conv1"]["kernel"]).sum()) > 0


def test_relu_keeps_its_gradient_at_zero():
    """Inlining jax.nn.relu's body would make the gradient 1/2 where its input is 0."""
    forward = lambda x: jax.nn.relu(jaxcam.tag(x, "a")).mean((1, 2))
    _, _, gradients = jaxcam.activations_and_gradients(
        forward, jnp.zeros((1, 2, 2, 1)), 0, layer="a"
    )
    np.testing.assert_array_equal(gradients, 0)


def test_unopened_remat_blocks_stay_remat():
    block = jax.checkpoint(lambda x: jnp.sin(x))
    forward = lambda x: block(jaxcam.tag(block(x), "a")).mean((1, 2))
    run = lambda x: jaxcam.activations_and_gradients(forward, x, 0, layer="a")[2]
    assert "remat" in str(jax.make_jaxpr(run)(jnp.ones((1, 2, 2, 1))))


def test_forward_is_traced_anew_when_what_it_closes_over_changed():
    state = {"scale": 1.0}
    forward = lambda x: (jaxcam.tag(x, "a") * state["scale"]).mean((1, 2))
    images = jnp.ones((1, 2, 2, 1))
    first = jaxcam.activations_and_gradients(forward, images, 0)[0]
    state["scale"] = 3.0
    np.testing.assert_allclose(jaxcam.activations_and_gradients(forward, images, 0)[0], 3 * first)


def test_several_layers_and_targets_share_one_pass():
    model, variables, images = nets.tiny()
    forward = jaxcam.linen(model, variables)
    targets = np.array([[0, 1], [2, 3], [4, 0]])
    logits, acts, grads = jaxcam.activations_and_gradients(
        forward, images, targets, layer=["stem", "top"]
    )
    assert list(acts) == ["stem", "top"]
    assert grads["stem"].shape == (3, 2, 8, 8, 4)
    for k in range(2):
        _, _, alone = jaxcam.activations_and_gradients(forward, images, targets[:, k], layer="stem")
        np.testing.assert_allclose(grads["stem"][:, k], alone, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(logits, model.apply(variables, images), rtol=1e-5)


def test_split_runs_the_head_alone():
    model, variables, images = nets.tiny()
    forward = jaxcam.linen(model, variables)
    cut = jaxcam.split(forward, images, "top")
    np.testing.assert_allclose(cut.head(cut.activations), forward(images), rtol=1e-6)
    kernel, bias = (np.asarray(variables["params"]["head"][k]) for k in ("kernel", "bias"))
    np.testing.assert_allclose(
        cut.head(2 * cut.activations),
        2 * np.asarray(cut.activations).mean((1, 2)) @ kernel + bias,
        rtol=1e-4,
    )
    assert "conv" not in str(jax.make_jaxpr(cut.head)(cut.activations))


def test_has_aux_passes_updated_batch_statistics():
    model, variables, images = nets.tiny(train=True)
    forward = jaxcam.linen(model, variables, mutable=["batch_stats"])
    maps, aux = jaxcam.grad_cam(forward, images, 0, has_aux=True)
    _, expected = model.apply(variables, images, mutable=["batch_stats"])
    assert maps.shape == (3, 4, 4)
    np.testing.assert_allclose(
        aux["batch_stats"]["bn"]["mean"], expected["batch_stats"]["bn"]["mean"], rtol=1e-5
    )


def test_pmap_gives_what_one_device_gives():
    model, variables, images = nets.tiny(batch=8)
    explain = lambda x: jaxcam.grad_cam(jaxcam.linen(model, variables), x, layer="stem")
    parallel = jax.pmap(explain)(images.reshape(4, 2, *images.shape[1:]))
    np.testing.assert_allclose(
        np.asarray(parallel).reshape(8, 8, 8), explain(images), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["grad_cam", "hires_cam", "relevance_cam"])
def test_shard_map_gives_what_one_device_gives(name):
    """With its default check of varying values: a zero delta's gradients would be summed."""
    model, variables, images = nets.tiny(batch=4)
    explain = lambda x: getattr(jaxcam, name)(jaxcam.linen(model, variables), x, 1, layer="stem")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("d",))
    spec = jax.sharding.PartitionSpec("d")
    sharded = jax.jit(jax.shard_map(explain, mesh=mesh, in_specs=spec, out_specs=spec))(images)
    np.testing.assert_allclose(sharded, explain(images), rtol=1e-4, atol=1e-6)


def test_several_layers_come_in_the_order_asked():
    model, variables, images = nets.tiny()
    assert list(jaxcam.grad_cam(jaxcam.linen(model, variables), images, layer=["top", "stem"])) == [
        "top",
        "stem",
    ]


IMAGES = jnp.ones((4, 6, 6, 3))


def pooled(x):
    return jaxcam.tag(x, "features").mean((1, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, [1]),
            r"targets: got shape \(1,\) for 4 images, expected an int, \[4\]",
        ),
        (lambda: jaxcam.grad_cam(pooled, IMAGES, 3), r"targets: got class 3, expected 0 to 2"),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, [0, 1, 2, -1]),
            r"targets: got class -1, expected 0 to 2",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, 1.0),
            r"targets: got float\d+ values, expected integer class",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, lambda z: z),
            r"targets: got shape \(4, 3\) from the function",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES.at[0, 0, 0, 0].set(jnp.nan)),
            r"images: got NaN or infinite values",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES[0]),
            r"forward: got an output of shape \(6,\), expected logits \[6, N\]",
        ),
        (
            lambda: jaxcam.grad_cam(lambda x: (pooled(x), 1), IMAGES),
            r"forward: got a tuple.*pass has_aux=True",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, has_aux=True),
            r"with has_aux=True, expected a pair",
        ),
        (
            lambda: jaxcam.grad_cam(lambda x: x, IMAGES),
            r"forward: got an output of shape \(4, 6, 6, 3\), expected logits",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, layer="feature"),
            r"layer: got 'feature'.*\['features'\]",
        ),
        (lambda: jaxcam.grad_cam(pooled, IMAGES, layer=[]), r"layer: got no names"),
        (
            lambda: jaxcam.grad_cam(lambda x: x.mean((1, 2)), IMAGES),
            r"layer: got None for a model with no spatial extent among its 0 layers",
        ),
        (
            lambda: jaxcam.grad_cam(
                lambda x: jaxcam.tag(x.mean((1, 2)), "pool"), IMAGES, layer="pool"
            ),
            r"layer: got 'pool' of shape \(4, 3\), expected spatial extent",
        ),
        (
            lambda: jaxcam.tap(pooled, "features")(IMAGES, jnp.ones(3)),
            r"delta: got shape \(3,\), expected \(4, 6, 6, 3\)",
        ),
        (lambda: jaxcam.tag(IMAGES, "a@2"), r"name: got 'a@2'"),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, layer=3),
            r"layer: got 3, expected a name, several names or None",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, layer=[3]),
            r"layer: got 3, expected one of the model's 1 layer",
        ),
        (
            lambda: jaxcam.grad_cam(pooled, np.ones((4, 0)).tolist()),
            r"images: got a list, expected an array \[B, H, W, C\]",
        ),
        (
            lambda: jaxcam.score_cam(pooled, IMAGES.tolist()),
            r"images: got a list, expected an array \[B, H, W, C\]",
        ),
        (
            lambda: jaxcam.relevance_cam(pooled, IMAGES[:0]),
            r"images: got shape \(0, 6, 6, 3\), expected \[B, H, W, C\], of at least one image",
        ),
        (lambda: jaxcam.grad_cam(pooled, IMAGES[:0]), r"images: got shape \(0, 6, 6, 3\)"),
        (
            lambda: jaxcam.grad_cam(pooled, IMAGES, np.zeros((4, 0), int)),
            r"targets: got shape \(4, 0\) for 4 images, expected .*at least 1",
        ),
        (
            lambda: jaxcam.ablation_cam(pooled, IMAGES, [[0], [0, 1], [2], [1]]),
            r"targets: got \[\[0\], \[0, 1\], \[2\], \[1\]\], expected as many classes for each "
            r"image",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_tag_inside_a_loop_is_reported():
    def forward(x):
        double = lambda _, x: jaxcam.tag(x * 2, "inside")
        return jax.lax.fori_loop(0, x.astype(int)[0, 0, 0, 0], double, x).mean((1, 2))

    assert jaxcam.layers(forward, IMAGES) == {}
    with pytest.raises(ValueError, match="layer: got 'inside', which lies inside a while"):
        jaxcam.grad_cam(forward, IMAGES, layer="inside")


def test_a_target_out_of_range_under_jit_gives_nan_not_a_wrong_map():
    maps = jax.jit(lambda t: jaxcam.grad_cam(pooled, IMAGES, t, relu=None))(jnp.array([0, 1, 2, 3]))
    assert not np.isnan(maps[:3]).any()
    assert np.isnan(maps[3]).all()


def test_a_linen_module_without_variables_is_told_what_to_do(rng):
    model, variables, images = nets.tiny()
    heat, expected = (
        np.ones(images.shape[:3]),
        r"forward: got the Flax Linen module .*jaxcam\.linen\(model, variables\)",
    )
    for call in (
        lambda: jaxcam.grad_cam(model, images),
        lambda: jaxcam.layers(model, images),
        lambda: jaxcam.rise(model, images),
        lambda: jaxcam.metrics.confidence(model, images),
        lambda: jaxcam.metrics.confidences(model, images, heat),
        lambda: jaxcam.metrics.deletion(model, images, heat),
        lambda: jaxcam.metrics.adcc(model, images, jaxcam.grad_cam),
        lambda: jaxcam.fostering.fostering_loss(model, images, np.zeros(len(images), int)),
    ):
        with pytest.raises(TypeError, match=expected):
            call()
    bound = jax.eval_shape(lambda x: jaxcam.metrics.confidence(model.bind(variables), x), images)
    assert bound.shape == (len(images),)


def test_split_prints_shapes():
    cut = jaxcam.split(lambda x: (jaxcam.tag(x, "a").mean((1, 2)), {"n": x}), IMAGES, has_aux=True)
    assert repr(cut) == (
        "Split(logits=float32[4, 3], activations=float32[4, 6, 6, 3], aux={'n': 'float32[4, 6, 6, "
        "3]'}, head=activations -> logits)"
    )


def test_adapters_refuse_other_models():
    with pytest.raises(TypeError, match=r"model: got function, expected a flax\.linen\.Module"):
        jaxcam.linen(pooled, {})
    with pytest.raises(TypeError, match=r"model: got TinyNet, expected a flax\.nnx\.Module"):
        jaxcam.nnx(nets.TinyNet())


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("torch.nn.modules.module", r"the PyTorch module Net, expected .*from_torchvision"),
        ("onnxruntime.capi", r"the ONNX session Net, expected jaxcam\.rise\(jaxcam\.blackbox\.onn"),
        ("tensorflow.python.eager", "the TensorFlow function Net, expected a function of JAX arr"),
    ],
)
def test_models_outside_jax_are_told_what_to_do(module, advice):
    """Known by the module that their class comes from: no such library is imported."""
    base = type("Base", (), {"__module__": module, "__call__": lambda self, x: x})
    model = type("Net", (base,), {"__module__": "mine"})()
    for call in (jaxcam.grad_cam, jaxcam.layers, jaxcam.rise):
        with pytest.raises(TypeError, match=f"forward: got {advice}"):
            call(model, IMAGES)


def test_images_with_channels_first_are_told_what_to_do():
    images = jnp.moveaxis(IMAGES, -1, 1)
    forward = lambda x: pooled(x) @ jnp.ones((3, 5))
    with pytest.raises(ValueError, match=r"images: got shape .* channels last, .*moveaxis\(images"):
        jaxcam.grad_cam(forward, images, 1)
