import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import models
from jaxcam.models.convert import expected_shapes
from tests.explainers import literal

SMALL = {
    "stage_sizes": (1, 1, 2, 1),
    "widths": (4, 5, 6, 8),
    "strides": (1, 2, 2, 1),
    "stem": "small",
}
BLOCKS = ("layer1.0", "layer2.0", "layer3.0", "layer3.1", "layer4.0")
STAGES = ("layer2", "layer3", "layer4")
SIZE = (12, 10)
METHODS = (jaxcam.cbam_attention, jaxcam.layerwise_grad_cam, jaxcam.attention_grad_cam)


@pytest.fixture(scope="module")
def network():
    """(model, variables with everything away from its initial value, images)."""
    rng, model = np.random.default_rng(3), models.create("cbam_resnet18", num_classes=5, **SMALL)
    images = jnp.asarray(rng.normal(size=(2, *SIZE, 3)), jnp.float32)
    state = {
        key: rng.uniform(0.2, 0.8, shape)
        if key.endswith("var")
        else rng.normal(size=shape) * 0.4 + ("bn" in key) * 0.5
        for key, shape in expected_shapes(model).items()
    }
    return model, models.from_torchvision("cbam_resnet18", state, **SMALL), images


@pytest.fixture(scope="module")
def forward(network):
    model, variables, _ = network
    return lambda x: model.apply(variables, x)


def planted(attention):
    """A network: a 4x4 layer of ones with spatial gate `attention [4, 4]`, a pooled linear head."""

    def forward(images):
        inputs = jnp.ones((len(images), 4, 4, 2)) + 0 * images.sum()
        outputs = inputs * jnp.asarray(attention)[None, :, :, None]
        jaxcam.tag(outputs - inputs, "mine.att")
        jaxcam.tag(
            jnp.asarray(attention)[None, :, :, None] + 0 * images[:, :1, :1, :1],
            "mine.spatial_gate",
        )
        return jaxcam.tag(outputs, "layer1").mean((1, 2)) @ jnp.array([[1.0, -1.0], [2.0, 0.5]])

    return forward


# The formulas ------------------------------------------------------------


def min_max(x):
    return (x - x.min()) / (x.max() - x.min())


def literal_sum(maps, normalize):
    big = [literal.bilinear(each, *SIZE) for each in maps]
    total = np.zeros(SIZE)
    for each in big:
        total += min_max(each) if normalize == "each" else each
    return total if normalize is None else min_max(total)


REDUCTIONS = {
    "mean": lambda a: sum(a[:, :, k] for k in range(a.shape[2])) / a.shape[2],
    "sum": lambda a: sum(a[:, :, k] for k in range(a.shape[2])),
    "abs_mean": lambda a: sum(abs(a[:, :, k]) for k in range(a.shape[2])) / a.shape[2],
    "abs_sum": lambda a: sum(abs(a[:, :, k]) for k in range(a.shape[2])),
}


@pytest.fixture(scope="module")
def wide(network):
    """(forward, images, blocks' F_i, F_o, Ms, stages' A and G for class 1), all in float64."""
    model, variables, images = network
    with jax.enable_x64(True):
        doubled = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        forward, images = jaxcam.linen(model, doubled), images.astype(jnp.float64)
        names = [f"{block}.{what}" for block in BLOCKS for what in ("bn2", "cbam", "spatial_gate")]
        explain = lambda x: jaxcam.activations_and_gradients(forward, x, 1, layer=[*names, *STAGES])
        _, acts, grads = jax.tree.map(np.asarray, jax.jit(explain)(images))
    return forward, images, acts, grads


alike = functools.partial(pytest.param, marks=pytest.mark.alike)
OPTIONS = [
    {"normalize": "sum"},
    alike({"normalize": "each", "reduction": "sum"}),
    alike({"reduction": "abs_mean", "normalize": None}),
    alike(
        {
            "reduction": "abs_sum",
            "normalize": None,
            "blocks": ["layer3.1", "layer2.0"],
            "layers": ["layer3"],
        }
    ),
    alike({"source": "spatial_gate", "layers": "layer4", "blocks": "layer3.0", "normalize": "sum"}),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_maps_equal_their_literal_form(wide, options):
    forward, images, acts, grads = wide
    chosen = {
        "blocks": BLOCKS,
        "layers": STAGES,
        "source": "att",
        "reduction": "mean",
        "normalize": "sum",
        **options,
    }
    listed = {key: [v] if isinstance(v := chosen[key], str) else v for key in ("blocks", "layers")}
    with jax.enable_x64(True):
        only = lambda *keys: {key: value for key, value in options.items() if key in keys}

        @jax.jit
        def explain(x):
            matt = jaxcam.cbam_attention(
                forward, x, **only("blocks", "source", "reduction", "normalize")
            )
            ml = jaxcam.layerwise_grad_cam(forward, x, 1, **only("layers", "normalize"))
            mal = jaxcam.attention_grad_cam(forward, x, 1, **options)
            return matt, ml, mal, jaxcam.attention_grad_cam(forward, x, 1, softmax=True, **options)

        matt, ml, mal, shares = map(np.asarray, explain(images))
    for b in range(2):
        if chosen["source"] == "att":
            att = [acts[f"{block}.cbam"][b] - acts[f"{block}.bn2"][b] for block in listed["blocks"]]
        else:
            att = [acts[f"{block}.spatial_gate"][b] for block in listed["blocks"]]
        expected = literal_sum(
            [REDUCTIONS[chosen["reduction"]](a) for a in att], chosen["normalize"]
        )
        cams = [literal.grad_cam(acts[name][b], grads[name][b]) for name in listed["layers"]]
        evidence = literal_sum(cams, chosen["normalize"])
        np.testing.assert_allclose(matt[b], expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ml[b], evidence, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mal[b], expected * evidence, rtol=1e-9, atol=1e-12)
        product = np.exp(expected * evidence - (expected * evidence).max())
        np.testing.assert_allclose(shares[b], product / product.sum(), rtol=1e-9)
    assert min(np.std(expected), np.std(evidence)) > 1e-6


# Laws ------------------------------------------------------------


def test_high_attention_is_a_high_value(rng):
    attention = rng.uniform(0.05, 0.95, (4, 4)).astype(np.float32)
    images = jnp.zeros((1, 4, 4, 3))
    by = lambda **options: np.asarray(jaxcam.cbam_attention(planted(attention), images, **options))[
        0
    ]
    np.testing.assert_allclose(by(normalize="sum"), min_max(attention), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by(source="spatial_gate", normalize=None), attention, rtol=1e-6)
    # -F_i (1 - Ms), the sign of -F_i
    np.testing.assert_allclose(by(), attention - 1, rtol=1e-5)
    magnitude = by(reduction="abs_mean", normalize="sum")
    np.testing.assert_allclose(magnitude, 1 - min_max(attention), rtol=1e-4, atol=1e-6)
    assert by().argmax() == attention.argmax()
    assert magnitude.argmin() == attention.argmax()


def test_layerwise_grad_cam_is_the_sum_of_grad_cams(network, forward):
    images = network[2]
    layerwise = lambda x, layers: jaxcam.layerwise_grad_cam(
        forward, x, layers=layers, normalize=None
    )
    every, one = jax.jit(lambda x: (layerwise(x, None), layerwise(x, "layer4")))(images)
    cams = jax.jit(lambda x: jaxcam.grad_cam(forward, x, layer=STAGES))(images)
    cams = [jaxcam.maps.resize(cams[name], SIZE) for name in STAGES]
    np.testing.assert_allclose(every, sum(cams), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one, cams[2], rtol=1e-4, atol=1e-6)


def test_softmax_sums_to_one_and_keeps_the_ranks(network, forward):
    images = network[2]
    both = jax.jit(
        lambda x: [
            jaxcam.attention_grad_cam(forward, x, softmax=softmax) for softmax in (False, True)
        ]
    )
    maps, shares = map(np.asarray, both(images))
    np.testing.assert_allclose(shares.sum((1, 2)), 1, rtol=1e-5)
    for raw, share in zip(maps.reshape(2, -1), shares.reshape(2, -1), strict=True):
        assert (np.diff(share[np.argsort(raw)]) >= 0).all() and share.argmax() == raw.argmax()
    assert maps.min() >= 0 and maps.max() <= 1


def test_attention_knows_no_class(network, forward):
    images = network[2]
    explain = lambda x: [
        jaxcam.cbam_attention(forward, x, t) for t in (None, 3, [[0, 1, 2], [3, 4, 0]])
    ]
    maps, third, several = jax.jit(explain)(images)
    np.testing.assert_array_equal(maps, third)
    np.testing.assert_array_equal(several, np.broadcast_to(maps[:, None], (2, 3, *SIZE)))


# As every explainer ------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_map_for_each_of_several_targets(network, forward, method):
    images, targets = network[2], np.array([[0, 4], [2, 1]])
    several = jax.jit(lambda x, t: method(forward, x, t))(images, targets)
    assert several.shape == (2, 2, *SIZE) and several.dtype == jnp.float32
    for k in range(2):
        one = jax.jit(lambda x, t: method(forward, x, t))(images, targets[:, k])
        np.testing.assert_allclose(several[:, k], one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_jit_and_vmap_give_the_same(network, forward, method):
    images = network[2]
    maps = method(jax.jit(forward), images, 1)
    assert (
        maps.shape == (2, *SIZE)
        and maps.dtype == jnp.float32
        and np.ptp(maps, axis=(1, 2)).min() > 0.1
    )
    np.testing.assert_allclose(
        jax.jit(lambda x: method(forward, x, 1))(images), maps, rtol=1e-3, atol=1e-5
    )
    each = jax.jit(jax.vmap(lambda x: method(forward, x[None], 1)[0]))(images)
    np.testing.assert_allclose(each, maps, rtol=1e-3, atol=1e-5)


def test_gradients_go_through(wide):
    """Against a central difference along one direction, in float64."""
    forward, images, *_ = wide
    with jax.enable_x64(True):
        weights = jnp.asarray(np.random.default_rng(5).normal(size=(2, *SIZE)))
        along = jnp.asarray(np.random.default_rng(6).normal(size=images.shape))
        loss = jax.jit(
            lambda t: (weights * jaxcam.attention_grad_cam(forward, images + t * along, 1)).sum()
        )
        expected = (loss(1e-6) - loss(-1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(loss)(0.0), expected, rtol=1e-4)
    assert abs(expected) > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_has_aux_passes_through(network, method):
    model, variables, images = network
    stateful = lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])
    maps, aux = jax.jit(lambda x: method(stateful, x, 1, has_aux=True))(images)
    expected = jax.jit(lambda x: stateful(x)[1])(images)
    assert maps.shape == (2, *SIZE)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), aux, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_is_traced_once(method):
    calls = []

    def forward(images):
        calls.append(images)
        return planted(np.full((4, 4), 0.5, np.float32))(images)

    jax.eval_shape(lambda x: method(forward, x, 1), jnp.zeros((1, 4, 4, 3)))
    assert len(calls) == 1


@pytest.mark.lenient  # Flax mixes float32 into a bfloat16 model
def test_bfloat16_networks_give_float32_maps(network):
    _, variables, images = network
    model = models.create("cbam_resnet18", num_classes=5, dtype="bfloat16", **SMALL)
    maps = jax.jit(lambda x: jaxcam.attention_grad_cam(lambda y: model.apply(variables, y), x, 1))(
        images
    )
    assert maps.dtype == jnp.float32 and np.isfinite(maps).all()


def test_a_network_without_evidence_gives_zeros():
    """All Grad-CAMs are 0 after the ReLU: class 0 of a head that only takes away."""

    def forward(images):
        acts = jaxcam.tag(jnp.abs(images), "layer1")
        jaxcam.tag(-0.5 * acts, "att")
        return -acts.mean((1, 2))

    images = jnp.arange(48.0).reshape(1, 4, 4, 3)
    assert not np.any(jaxcam.attention_grad_cam(forward, images, 0))
    assert np.any(jaxcam.cbam_attention(forward, images))


def test_a_block_called_twice_counts_twice():
    def forward(images):
        for _ in range(2):
            jaxcam.tag(-0.5 * images, "shared.att")
        return jaxcam.tag(images, "layer1").mean((1, 2))

    images = jnp.arange(48.0).reshape(1, 4, 4, 3)
    maps = jaxcam.cbam_attention(forward, images, normalize=None)
    np.testing.assert_allclose(maps, -images.mean(-1), rtol=1e-6)


def test_it_costs_a_forward_pass_and_the_backward_pass_above_the_shallowest_stage():
    model, images = models.create("cbam_resnet50"), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def flops(explain):
        function = lambda v, x: explain(lambda y: model.apply(v, y), x)
        return jax.jit(function).lower(variables, images).cost_analysis()["flops"]

    base = flops(lambda f, x: f(x))
    assert flops(jaxcam.cbam_attention) <= 1.02 * base
    gradients = flops(lambda f, x: jaxcam.grad_cam(f, x, layer=STAGES))
    assert flops(jaxcam.attention_grad_cam) <= gradients + 0.02 * base
    assert gradients <= 1.7 * base


# Errors ------------------------------------------------------------


@pytest.mark.parametrize("method", [jaxcam.cbam_attention, jaxcam.attention_grad_cam])
@pytest.mark.parametrize("source", ["att", "spatial_gate"])
def test_a_network_without_cbam_is_named_as_such(method, source):
    forward = lambda x: jaxcam.tag(x, "layer1").mean((1, 2))
    message = (
        r"forward: got a network without CBAM blocks among its 1 layer, expected some named "
        rf"'<block>.{source}'"
    )
    with pytest.raises(ValueError, match=message):
        method(forward, jnp.zeros((1, 4, 4, 3)), source=source)


def test_unknown_blocks_and_layers_name_the_nearest(network, forward):
    images = network[2]
    with pytest.raises(ValueError, match=r"blocks: got 'layer3.2.att', expected one of .*'layer3"):
        jaxcam.cbam_attention(forward, images, blocks=["layer3.2"])
    with pytest.raises(ValueError, match=r"layers: got 'layer9', expected one of .*'layer"):
        jaxcam.layerwise_grad_cam(forward, images, layers=["layer9"])


def test_no_stages_by_name_asks_for_names():
    message = (
        r"layers: got None where no layer is named layer1, layer2, ..., expected names, such as "
        r".*stage"
    )
    forward = lambda x: jaxcam.tag(-jaxcam.tag(x, "stage"), "b.att").mean((1, 2))
    with pytest.raises(ValueError, match=message):
        jaxcam.attention_grad_cam(forward, jnp.ones((1, 4, 4, 3)))


def test_a_layer_without_spatial_extent_is_refused():
    forward = lambda x: jaxcam.tag(jaxcam.tag(x, "layer1").mean((1, 2)), "a.att")
    images = jnp.ones((1, 4, 4, 3))
    with pytest.raises(
        ValueError, match=r"layers.*: got 'a.att' of shape \(1, 3\), expected spatial extent"
    ):
        jaxcam.attention_grad_cam(forward, images)
    with pytest.raises(
        ValueError, match=r"layers.*: got 'a.att' of shape \(1, 3\), expected spatial extent"
    ):
        jaxcam.layerwise_grad_cam(forward, images, layers="a.att")


MESSAGES = {
    "source": ("channel_gate", "source: got 'channel_gate', expected one of 'att', 'spatial_gate'"),
    "reduction": (
        "max",
        "reduction: got 'max', expected one of 'mean', 'sum', 'abs_mean', 'abs_sum'",
    ),
    "normalize": ("min_max", "normalize: got 'min_max', expected one of 'sum', 'each', None"),
    "blocks": ([], "blocks: got no names, expected at least one"),
    "layers": ([], "layers: got no names, expected at least one"),
    "blocks ": (7, "blocks: got 7, expected a name, several names or None"),
    "targets": ([0, 1, 2], r"targets: got shape \(3,\) for 2 images"),
    "has_aux": (True, "forward: got .* with has_aux=True"),
}


@pytest.mark.parametrize(
    ("method", "option"),
    [
        (m, option)
        for m in METHODS
        for option in MESSAGES
        if option == "targets" or option.strip() in m.__kwdefaults__
    ],
    ids=lambda v: v if isinstance(v, str) else v.__name__,
)
def test_bad_options_are_named(network, forward, method, option):
    value, message = MESSAGES[option]
    with pytest.raises(ValueError, match=message):
        method(forward, network[2], **{option.strip(): value})


@pytest.mark.parametrize("method", METHODS)
def test_a_class_out_of_range_is_named(network, forward, method):
    with pytest.raises(ValueError, match="targets: got class 5, expected 0 to 4"):
        method(forward, network[2], 5)


@pytest.mark.parametrize("method", METHODS)
def test_images_must_be_a_batch(forward, method):
    with pytest.raises(
        ValueError, match=r"images: got shape \(4, 4, 3\), .*expected \[B, H, W, C\]"
    ):
        method(forward, jnp.zeros((4, 4, 3)))
