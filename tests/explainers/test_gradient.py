"""The gradient CAMs: against literal formulas and original implementations, and their laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam._explainers import formulas as gradient
from tests import nets
from tests.explainers import literal

STAGES = ["layer1", "layer2", "layer3"]
VARIANTS = ["paper", "official", "rcam", "jacobgil", "xplique", "torchcam"]

# name -> (formula of (A, G), the same literally)
FORMULAS = {
    "grad_cam": (gradient.grad_cam_map, literal.grad_cam),
    "grad_cam channel": (partial(gradient.grad_cam_map, relu="channel"), literal.grad_cam_channel),
    "hires_cam": (gradient.hires_cam_map, literal.hires_cam),
    "xgrad_cam": (gradient.xgrad_cam_map, literal.xgrad_cam),
    "layer_cam": (gradient.layer_cam_map, literal.layer_cam),
    "eigen_cam": (lambda a, g: gradient.eigen_cam_map(a), lambda a, g: literal.eigen_cam(a)),
    "eigen_cam center": (
        lambda a, g: gradient.eigen_cam_map(a, True),
        lambda a, g: literal.eigen_cam(a, True),
    ),
} | {
    f"grad_cam_plus_plus {v}": (
        partial(gradient.grad_cam_plus_plus_map, variant=v),
        partial(literal.grad_cam_plus_plus, variant=v),
    )
    for v in VARIANTS
}

# name -> the keywords with which the reference implementation computed its raw map
REFERENCES = {
    "grad_cam": {"relu": None},
    "hires_cam": {},
    "grad_cam_plus_plus": {"relu": None, "variant": "jacobgil"},
    "xgrad_cam": {"relu": None},
    "layer_cam": {"relu": None},
    "eigen_cam": {"center": True},
    "eigen_grad_cam": {"center": True},
}

EXPLAINERS = [
    "cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "xgrad_cam",
    "layer_cam",
    "eigen_cam",
    "eigen_grad_cam",
]


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula_equals_its_literal_form(name, rng):
    formula, slow = FORMULAS[name]
    activations = np.maximum(rng.normal(size=(3, 4, 5, 6)), 0)
    activations[0, :, :, 2] = 0  # a dead channel
    gradients = rng.normal(size=activations.shape) * 0.1
    gradients[1, :, 2] = 0
    expected = np.stack([slow(a, g) for a, g in zip(activations, gradients, strict=True)])
    with jax.enable_x64(True):
        maps = formula(jnp.asarray(activations), jnp.asarray(gradients))
        np.testing.assert_allclose(maps, expected, rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def cifar_maps(cifar):
    """All reference methods at all stages, each compiled once."""
    _, _, forward, images, targets = cifar
    methods = {
        name: partial(getattr(jaxcam, name), forward, layer=STAGES, **k)
        for name, k in REFERENCES.items()
    }
    return jax.jit(lambda x: {name: method(x, targets) for name, method in methods.items()})(images)


@pytest.mark.parametrize("layer", STAGES)
@pytest.mark.parametrize("name", REFERENCES)
def test_reference_implementation_is_reproduced(cifar, cifar_maps, name, layer):
    expected, ours = cifar[0][f"{name}/{layer}/raw"], np.asarray(cifar_maps[name][layer])
    if name.startswith("eigen"):  # the reference's sign is arbitrary
        expected = expected * np.sign((expected * ours).sum((1, 2), keepdims=True))
    assert relative(ours, expected) < 2e-5


@pytest.mark.parametrize("layer", STAGES)
def test_reference_heatmap_is_reproduced(cifar, cifar_maps, layer):
    """pytorch-grad-cam's ReLU, min-max, resize, min-max is two of our functions twice."""
    raw = jax.nn.relu(cifar_maps["grad_cam"][layer])
    big = jaxcam.maps.normalize(jaxcam.maps.resize(jaxcam.maps.normalize(raw), (32, 32)))
    np.testing.assert_allclose(big, cifar[0][f"grad_cam/{layer}/heatmap"], atol=2e-5)


@pytest.mark.alike
def test_nnx_and_plain_twins_agree_with_the_reference(cifar):
    reference, variables, _, images, targets = cifar
    twins = {"nnx": jaxcam.nnx(nets.load_nnx(variables)), "plain": nets.plain(variables)}
    for forward in twins.values():
        maps = jax.jit(
            lambda x, f=forward: jaxcam.grad_cam(f, x, targets, layer=STAGES, relu=None)
        )(images)
        for layer in STAGES:
            assert relative(maps[layer], reference[f"grad_cam/{layer}/raw"]) < 2e-5


def test_grad_cam_is_cam_on_a_pooled_linear_head(cifar):
    _, variables, forward, images, targets = cifar
    cam = jaxcam.cam(forward, images, targets, layer="layer3")
    kernel = np.asarray(variables["params"]["linear"]["kernel"], np.float64)
    acts = np.asarray(jaxcam.tap(forward, "layer3")(images)[1], np.float64)
    expected = np.stack([a @ kernel[:, t] for a, t in zip(acts, targets, strict=True)])
    assert relative(cam, expected) < 1e-6
    grad_cam = jaxcam.grad_cam(forward, images, targets, layer="layer3")
    np.testing.assert_allclose(grad_cam, np.maximum(cam, 0) / 64, rtol=1e-6, atol=1e-8)


def heads():
    """name -> (forward with a layer "a", whether CAM is defined there)."""
    weights = jnp.arange(12.0).reshape(4, 3) - 5
    tagged = lambda x: jaxcam.tag(x, "a")
    over = lambda x, size, pad: jax.lax.reduce_window(
        x, 0.0, jax.lax.add, (1, size, size, 1), (1, 1, 1, 1), ((0, 0), pad, pad, (0, 0))
    )
    window = lambda x: over(x, 6, (0, 0))
    return {
        "mean": (lambda x: tagged(x).mean((1, 2)) @ weights, None),
        "avg_pool": (lambda x: (window(tagged(x)) / 36).reshape(-1, 4) @ weights + 1.0, None),
        # several windows, all of them cut by the border
        "padded window": (
            lambda x: over(tagged(x), 6, (1, 1)).reshape(-1, 36) @ jnp.ones((36, 3)),
            "reduce_window_sum",
        ),
        "smaller window": (
            lambda x: over(tagged(x), 3, (0, 0)).reshape(-1, 64) @ jnp.ones((64, 3)),
            "reduce_window_sum",
        ),
        "divisor": (lambda x: (3.0 / tagged(x)).mean((1, 2)) @ weights, "div"),
        "divided": (lambda x: (tagged(x) / 3.0).mean((1, 2)) @ weights, None),
        "two linear layers": (
            lambda x: (2 * tagged(x)).sum((1, 2)) @ weights @ jnp.ones((3, 3)) - 2.0,
            None,
        ),
        "channels first": (lambda x: tagged(x).transpose(0, 3, 1, 2).mean((2, 3)) @ weights, None),
        "one axis at a time": (lambda x: tagged(x).mean(2).mean(1) @ weights, None),
        "positions merged": (lambda x: tagged(x).reshape(-1, 36, 4).mean(1) @ weights, None),
        "jitted": (lambda x: jax.jit(lambda x: tagged(x).mean((1, 2)) @ weights)(x), None),
        "batch merged": (
            lambda x: tagged(x).reshape(-1, 6, 4).mean(1).reshape(-1, 6, 4).mean(1) @ weights,
            "reshape",
        ),
        "channels pooled": (lambda x: jnp.repeat(tagged(x).sum((2, 3))[:, :1], 3, 1), "reduce_sum"),
        "two pools multiplied": (lambda x: (lambda p: p / (1 + p))(tagged(x).mean((1, 2))), "div"),
        "scaled by position": (
            lambda x: (tagged(x) * jnp.arange(6.0)[None, :, None, None]).mean((1, 2)) @ weights,
            "mul",
        ),
        "relu": (lambda x: jax.nn.relu(tagged(x)).mean((1, 2)) @ weights, "relu"),
        "relu after": (lambda x: jax.nn.relu(tagged(x).mean((1, 2))) @ weights, "relu"),
        "flatten": (lambda x: tagged(x).reshape(-1, 144) @ jnp.ones((144, 3)), "reshape"),
        "max": (lambda x: tagged(x).max((1, 2)) @ weights, "reduce_max"),
        "product": (lambda x: (lambda p: p * p)(tagged(x).mean((1, 2))) @ weights, "mul"),
        "softmax": (
            lambda x: jax.nn.softmax(tagged(x).mean((1, 2)) @ weights),
            "exp|reduce_max|sub",
        ),
        "unpooled": (
            lambda x: x.mean((1, 2)) @ weights + 0 * jax.lax.stop_gradient(tagged(x)).sum(),
            "reduce_sum|stop",
        ),
    }


@pytest.mark.parametrize("name", heads())
def test_cam_applies_to_a_pooled_linear_head_and_to_nothing_else(name, rng):
    forward, obstacle = heads()[name]
    images = jnp.asarray(rng.normal(size=(2, 6, 6, 4)), jnp.float32)
    if obstacle is not None:
        with pytest.raises(
            ValueError,
            match=f"layer: got 'a', above which .*({obstacle}).*, expected .* cam needs",
        ):
            jaxcam.cam(forward, images, layer="a")
    else:
        cam = jaxcam.cam(forward, images, 1, layer="a")
        np.testing.assert_allclose(
            cam.mean((1, 2)), forward(images)[:, 1] - forward(images * 0)[:, 1], rtol=1e-4
        )


def test_hires_cam_sums_to_the_logit_of_a_linear_head():
    """Completeness: sum_ij L_ij = Y - bias where the head is linear (Draelos and Carin 2020)."""
    model, variables, images = nets.tiny()
    forward = jaxcam.linen(model, variables)
    maps = jaxcam.hires_cam(forward, images, 2)
    expected = forward(images)[:, 2] - variables["params"]["head"]["bias"][2]
    np.testing.assert_allclose(maps.sum((1, 2)), expected, rtol=1e-4)


def test_plus_plus_variants_coincide_where_gradients_are_constant(rng):
    """rcam equals eq. 19 above a pooled head, where g is a number a channel (methods.md 4.1)."""
    activations = jnp.asarray(np.maximum(rng.normal(size=(2, 4, 4, 3)), 0), jnp.float32)
    gradients = jnp.broadcast_to(
        jnp.asarray(rng.normal(size=(2, 1, 1, 3)), jnp.float32), activations.shape
    )
    paper, rcam = (
        gradient.grad_cam_plus_plus_map(activations, gradients, v) for v in ("paper", "rcam")
    )
    np.testing.assert_allclose(paper, rcam, rtol=1e-5)


@pytest.fixture(scope="module")
def tiny():
    model, variables, images = nets.tiny()
    return jaxcam.linen(model, variables), images


@pytest.mark.parametrize("name", EXPLAINERS)
def test_shared_properties(tiny, name):
    """Shapes, jit = eager, batch = singles, vmap over targets = several, layers as alone."""
    forward, images = tiny
    explain, layer = getattr(jaxcam, name), "top"
    maps = explain(forward, images, [0, 1, 2], layer=layer)
    assert maps.shape == (3, 4, 4)
    assert maps.dtype == jnp.float32
    assert np.abs(maps).max((1, 2)).min() > 0  # no map is trivially equal to another
    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)
    close(
        jax.jit(lambda x, t: explain(forward, x, t, layer=layer))(images, jnp.array([0, 1, 2])),
        maps,
    )
    close(
        np.concatenate([explain(forward, images[i : i + 1], i, layer=layer) for i in range(3)]),
        maps,
    )
    both = explain(forward, images, [[0, 4], [1, 4], [2, 4]], layer=[layer])[layer]
    close(both[:, 0], maps)
    over_targets = jax.vmap(lambda t: explain(forward, images, t, layer=layer))(
        jnp.array([[0, 1, 2], [4, 4, 4]])
    )
    close(over_targets, jnp.moveaxis(both, 1, 0))


@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_zero_layer_gives_a_finite_map(tiny, name):
    forward = lambda x: (jaxcam.tag(x * 0, "a").mean((1, 2))) @ jnp.ones((3, 2))
    maps = getattr(jaxcam, name)(forward, tiny[1], layer="a")
    np.testing.assert_array_equal(maps, 0)


def test_none_explains_the_most_likely_class_at_the_last_spatial_layer(tiny):
    forward, images = tiny
    best = np.argmax(forward(images), -1)
    np.testing.assert_allclose(
        jaxcam.grad_cam(forward, images), jaxcam.grad_cam(forward, images, best, layer="top")
    )


def test_a_target_function_scores_the_logits(tiny):
    forward, images = tiny
    contrast = jaxcam.grad_cam(forward, images, lambda z: z[:, 0] - z[:, 1], relu=None)
    zero, one = (jaxcam.grad_cam(forward, images, t, relu=None) for t in (0, 1))
    np.testing.assert_allclose(contrast, zero - one, rtol=1e-4, atol=1e-6)


@pytest.mark.lenient  # Flax mixes float32 into a bfloat16 model
def test_bfloat16_models_are_explained_in_float32():
    model, variables, images = nets.tiny(dtype=jnp.bfloat16)
    exact = jaxcam.grad_cam(jaxcam.linen(nets.TinyNet(), variables), images, 0, relu=None)
    maps = jaxcam.grad_cam(jaxcam.linen(model, variables), images, 0, relu=None)
    assert maps.dtype == jnp.float32
    assert relative(maps, np.asarray(exact)) < 0.05


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("grad_cam", {"relu": "all"}),
        ("grad_cam_plus_plus", {"variant": "mine"}),
        ("layer_cam", {"relu": "mine"}),
    ],
)
def test_unknown_options_are_named(tiny, name, option):
    ((key, value),) = option.items()
    with pytest.raises(ValueError, match=f"{key}: got '{value}', expected one of"):
        getattr(jaxcam, name)(*tiny, **option)
