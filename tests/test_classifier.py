"""One notion of a classifier: its stages, photos and probabilities, and methods carried out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import classifier, models
from jaxcam.classifier import Classifier
from jaxcam.methods import METHODS, WHOLE


def _shapes(**layers):
    return {
        name.replace("_", "."): jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        for name, shape in layers.items()
    }


def test_stages_are_the_ends_of_the_last_resolutions():
    stages = {f"layer{n}": (s, s, 64 << n) for n, s in ((1, 56), (2, 28), (3, 14), (4, 7))}
    resnet = _shapes(
        conv1=(112, 112, 64), maxpool=(56, 56, 64), layer1_0=(56, 56, 8), **stages, fc=(1000,)
    )
    assert classifier.stages(resnet) == ("layer1", "layer2", "layer3", "layer4")
    same = {f"layer{n}": (s, s, 8 * n) for n, s in ((1, 32), (2, 16), (3, 8), (4, 8))}
    assert classifier.stages(_shapes(conv1=(32, 32, 8), **same)) == (
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    )
    nested = _shapes(a_b=(8, 8, 2), a_c=(8, 8, 2), a_d_e=(8, 8, 3), a_f=(4, 4, 2), g=(1, 1, 2))
    assert classifier.stages(nested) == ("a.c", "a.f")
    assert classifier.stages({}) == ()


@pytest.mark.parametrize(
    ("pool", "depth", "expected"),
    [
        ("token", 3, ("blocks.0", "blocks.1")),
        ("token", 9, ("blocks.1", "blocks.3", "blocks.5", "blocks.7")),
        ("avg", 7, ("blocks.1", "blocks.3", "blocks.5", "norm")),
    ],
)
def test_stages_of_a_transformer_are_blocks_up_to_the_default_layer(pool, depth, expected):
    sizes = {"size": 8, "patch": 4, "width": 4, "depth": depth, "heads": 1}
    model = models.create("vit_compact", num_classes=2, pool=pool, **sizes)
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    found = jaxcam.layers(jaxcam.linen(model, variables), image)
    assert classifier.stages(found) == expected
    assert expected[-1] == found.default


def test_stages_of_tokens_in_several_grids_are_the_last_of_each():
    """As a hierarchy of transformers has them, patches being merged on the way."""

    def forward(x):
        for stage in range(3):
            batch, height, width, channels = x.shape
            for _ in range(2):
                tokens = jaxcam.tag(jnp.tanh(x.reshape(batch, -1, channels)), f"stage{stage}")
                x = tokens.reshape(x.shape)
            halves = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
            merged = jnp.moveaxis(halves, 2, 3).reshape(batch, height // 2, width // 2, -1)
            x = merged @ jnp.ones((4 * channels, 2))
        return x.mean((1, 2))

    found = jaxcam.layers(forward, jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32))
    assert classifier.stages(found) == ("stage0@2", "stage1@2", "stage2@2")


@pytest.fixture(scope="module")
def bundled():
    return classifier.load("tiny20")


def test_a_loaded_classifier_is_the_librarys(bundled, rng):
    model, variables = models.load("tiny20")
    about = models.describe("tiny20")
    photos = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    images = bundled.prepare(photos)
    expected = about.preprocess(photos.astype(np.float32) / 255)
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-6)
    expected = jaxcam.linen(model, variables)(images)
    np.testing.assert_allclose(bundled.forward()(images), expected, rtol=1e-4, atol=1e-4)
    assert (bundled.size, bundled.name) == (64, "tiny20")
    assert bundled.architecture == about.architecture
    assert bundled.classes == tuple(about.classes)
    assert bundled.num_logits == len(about.classes) == 20
    assert bundled.stages == ("layer1", "layer2", "layer3", "layer4")
    assert set(bundled.stages) < set(bundled.layers)


def test_other_parameters_are_other_answers(bundled):
    images = jnp.ones((1, 64, 64, 3))
    zeros = jax.tree.map(jnp.zeros_like, bundled.params)
    np.testing.assert_array_equal(bundled.forward(zeros)(images), jnp.zeros((1, 20)))
    assert np.ptp(bundled.forward()(images)) > 0


def test_initialisers_make_untrained_parameters(bundled):
    fresh = bundled.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, bundled.params)
    kernel = ("params", "conv1", "kernel")
    made, trained = (tree[kernel[0]][kernel[1]][kernel[2]] for tree in (fresh, bundled.params))
    assert not np.allclose(made, trained)


def test_probabilities_are_those_of_the_activation():
    linear = Classifier((), lambda _, x: x.mean((1, 2)), lambda x: x, 4, activation="sigmoid")
    logits = np.array([0.0, 2.0, -1.0])
    np.testing.assert_allclose(linear.probabilities(logits), 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert linear.forward().activation == "sigmoid"


def test_methods_are_carried_out_with_the_networks_activation(bundled):
    """Rows with layers, without, and one that asks for probabilities."""
    images = bundled.prepare(np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)))
    forward, classes = bundled.forward(), np.array([3])
    found = classifier.explain(METHODS["grad_cam"], forward, images, classes, ["layer4"])
    expected = jaxcam.grad_cam(forward, images, classes, layer="layer4")
    np.testing.assert_allclose(found["layer4"], expected, rtol=1e-5)
    asked = []
    row = METHODS["rise"]._replace(function=lambda *_, activation: asked.append(activation) or 7)
    sigmoid = Classifier(bundled.params, bundled.apply, lambda x: x, 64, activation="sigmoid")
    assert classifier.explain(row, sigmoid.forward(), images, classes, ["any"]) == {WHOLE: 7}
    assert classifier.explain(row, lambda x: x, images, classes, []) == {WHOLE: 7}
    assert asked == ["sigmoid", None]


def test_files_are_called_by_their_stem():
    assert classifier.short_name("a/b/net.safetensors") == "net"
    assert classifier.short_name("resnet50.tv_in1k") == "resnet50.tv_in1k"
