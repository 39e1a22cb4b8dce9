"""What networks are made of: relevance is conserved, or the error says what has no rule, where."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam import lrp

RNG = np.random.default_rng(7)
X = jnp.asarray(RNG.normal(size=(2, 6, 6, 4)), jnp.float32)


def weights(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


K, HEAD, DOWN, UP, KS = (
    weights(3, 3, 4, 4),
    weights(4, 5),
    weights(4, 2),
    weights(2, 4),
    weights(3, 3, 2, 1),
)


def conv(x, kernel=K, **options):
    options = {"window_strides": (1, 1), "padding": "SAME", **options}
    return lax.conv_general_dilated(
        x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def along(channels):
    """`[c]` -> `[1, 1, 1, c]`."""
    return channels[None, None, None]


def net(middle):
    """relu(conv) -> middle -> pool -> head; the first convolution's output is the layer "stem"."""
    return lambda x: middle(jaxcam.tag(conv(x), "stem")).mean((1, 2)) @ HEAD


def squeeze_excite(x):
    x = jax.nn.relu(x)
    gate = jax.nn.sigmoid(jax.nn.relu(x.mean((1, 2)) @ DOWN) @ UP)
    return x * gate[:, None, None, :]


def cbam(x):
    x, mlp = jax.nn.relu(x), lambda v: jax.nn.relu(v @ DOWN) @ UP
    x = x * jax.nn.sigmoid(mlp(x.mean((1, 2))) + mlp(x.max((1, 2))))[:, None, None]
    pooled = jnp.concatenate([x.max(-1, keepdims=True), x.mean(-1, keepdims=True)], -1)
    return x * jax.nn.sigmoid(conv(pooled, KS))


def pool(x, kind, **options):
    return kind(jax.nn.relu(x), (3, 3), (2, 2), [(1, 1), (1, 1)], **options)


CONSERVING = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "silu_written_out": lambda x: x * jax.nn.sigmoid(x),
    "mish": jax.nn.mish,
    "hard_swish": jax.nn.hard_swish,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "prelu": lambda x: jnp.where(x > 0, x, along(HEAD[:, 0]) * x),
    "bias": lambda x: jax.nn.relu(x + along(HEAD[:, 1])),
    "batch_norm_after_relu": lambda x: (
        (jax.nn.relu(x) - along(HEAD[:, 1])) * along(HEAD[:, 2]) + along(HEAD[:, 3])
    ),
    "residual": lambda x: jax.nn.relu(x + conv(jax.nn.relu(x))),
    "difference": lambda x: jax.nn.relu(x - conv(jax.nn.relu(x))),
    "maxout": lambda x: jnp.maximum(x, conv(x)),
    "concatenation": lambda x: conv(
        jnp.concatenate([jax.nn.relu(x), conv(x)], -1), jnp.concatenate([K, -K], 2)
    ),
    "max_pool": lambda x: conv(pool(x, nn.max_pool)),
    "avg_pool": lambda x: conv(pool(x, nn.avg_pool)),
    "avg_pool_of_inside": lambda x: conv(pool(x, nn.avg_pool, count_include_pad=False)),
    "global_max": lambda x: jax.nn.relu(x).max((1, 2), keepdims=True),
    "flatten": lambda x: (
        (jax.nn.relu(x).transpose(0, 3, 1, 2).reshape(2, -1) @ jnp.tile(UP.T, (36, 1)))[
            :, None, None
        ]
        @ UP
    ),
    "dropout_off": lambda x: nn.Dropout(0.5, deterministic=True).apply({}, jax.nn.relu(x)),
    "pad": lambda x: conv(
        jnp.pad(jax.nn.relu(x), ((0, 0), (2, 0), (0, 1), (0, 0))), padding="VALID"
    ),
    "crop": lambda x: jax.nn.relu(x)[:, 1:5, ::2],
    "resize": lambda x: jax.image.resize(jax.nn.relu(x), (2, 9, 4, 4), "bilinear"),
    "resize_cubic_of_signed": lambda x: jax.image.resize(x, (2, 12, 12, 4), "cubic"),
    "resize_nearest": lambda x: jax.image.resize(jax.nn.relu(x), (2, 12, 3, 4), "nearest"),
    "dilated_groups": lambda x: conv(
        jax.nn.relu(x), K[:, :, :2], rhs_dilation=(2, 2), feature_group_count=2
    ),
    "transposed": lambda x: conv(jax.nn.relu(x), lhs_dilation=(2, 2), padding=((2, 1), (2, 1))),
    "einsum": lambda x: jnp.einsum("bijc,cd->bdij", jax.nn.relu(x), HEAD[:, :4]).transpose(
        0, 2, 3, 1
    ),
    "squeeze_excite": squeeze_excite,
    "tanh_gate": lambda x: x * jnp.tanh(conv(x)),
    "two_gates": lambda x: jnp.tanh(x) * jax.nn.sigmoid(conv(x)),  # of a gated linear unit
    "hard_gate": lambda x: x * jax.nn.hard_sigmoid(conv(x)),
    "attention_branch": lambda x: (
        jax.nn.relu(x) * (1 + jax.nn.sigmoid(conv(x).mean(-1, keepdims=True)))
    ),
    "cbam": cbam,
    "remat": jax.checkpoint(lambda x: jax.nn.relu(conv(x))),
    "jitted": jax.jit(lambda x: jax.nn.relu(conv(x))),
    "mask": lambda x: x * (conv(x) > 0).astype(jnp.float32),
    "mask_of_two": lambda x: jnp.where(x > conv(x), x, 0.1 * x),
    "winner": lambda x: x * jax.nn.one_hot(x.argmax(-1), 4),
    "stopped_norm": lambda x: x / lax.stop_gradient(jnp.sqrt((x**2).sum(-1, keepdims=True))),
    "gem_pool": lambda x: ((jax.nn.relu(x) + 1e-3) ** 3).mean((1, 2), keepdims=True) ** (1 / 3),
}


LENIENT = {"avg_pool"}  # Flax divides floats by whole numbers
NAMES = []
for each in CONSERVING:
    NAMES.append(pytest.param(each, marks=[pytest.mark.lenient] * (each in LENIENT)))


@pytest.mark.parametrize("name", NAMES)
def test_relevance_is_conserved(name):
    """Rules whose terms are x_i w_ij with sum y conserve, whatever lies between.

    LRP-0 never drops a zero column.
    """
    forward = net(CONSERVING[name])
    explain = jax.jit(
        lambda x: (lrp.conservation(forward, x, 1, composite=lrp.epsilon(0.0)), forward(x))
    )
    sums, logits = explain(X)
    assert np.allclose(sums.entered, logits[:, 1], rtol=1e-5)
    scale = np.abs(logits[:, 1]).max()
    assert np.allclose(sums.layers["stem"], sums.entered, atol=3e-4 * scale)
    assert np.allclose(sums.pixels, sums.entered, atol=3e-4 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_kept(name):
    forward = net(CONSERVING[name])
    values, expected = jax.jit(lambda x: (lrp.transform(forward)(x), forward(x)))(X)
    assert np.allclose(values, expected, rtol=1e-4, atol=1e-4)


def softmax_attention(x):
    tokens = x.reshape(2, -1, 4)
    return (jax.nn.softmax(tokens @ tokens.transpose(0, 2, 1)) @ tokens).reshape(x.shape)


def scan(x):
    return lax.scan(lambda carry, _: (jax.nn.relu(carry), None), x, None, length=129)[0]


REFUSED = {
    "bilinear": (
        net(lambda x: x @ x.swapaxes(2, 3) @ x),
        "'dot_general' above the last layer: both operands depend on the images and neither is",
    ),
    "gated": (net(lambda x: x * conv(x)), "'mul' above the last layer: neither factor is a gate"),
    "scan": (net(scan), "'scan' above the last layer: unroll it"),
    "while": (
        net(lambda x: lax.fori_loop(0, x.astype(int)[0, 0, 0, 0], lambda i, x: x * 0.5, x)),
        "'while' .*unroll it",
    ),
    "cond": (
        net(lambda x: lax.cond(x[0, 0, 0, 0] > 0, jnp.abs, jnp.negative, x)),
        "'cond' .*unroll it",
    ),
    "cumprod": (
        net(lambda x: jnp.cumprod(x, 1)),
        "'cumprod' above the last layer: it mixes activations non-linearly",
    ),
    "ratio": (net(lambda x: x / (1 + conv(x) ** 2)), "'div' above the last layer"),
    "comparison": (net(lambda x: jnp.where(x > conv(x), 1.0, 0.0)), "'gt' above the last layer"),
    "arg_max": (
        net(lambda x: jax.nn.one_hot(x.argmax(-1), 4)),
        "'eq' above the last layer: it mixes",
    ),
    "log_sum_exp": (
        net(lambda x: jnp.log(jnp.exp(x).sum(-1, keepdims=True) + 1e-6) + x),
        "'log' above .*a log-softmax",
    ),
    "softmax": (
        lambda x: jax.nn.softmax(net(jax.nn.relu)(x)),
        "'div' above the last layer: a softmax.*Return logits",
    ),
    "log_softmax": (
        lambda x: jax.nn.log_softmax(net(jax.nn.relu)(x)),
        "'log' above .*a log-softmax.*Return logits",
    ),
    "dynamic_filter": (
        net(lambda x: conv(x, x[0, :3, :3, :, None] * jnp.ones((1, 1, 1, 4)))),
        "'conv_general_dilated' .*both operands",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_rule_no_silence(name):
    forward, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"forward: LRP has no rule for {message}"):
        lrp.relevance(forward, X)


def test_the_error_names_the_layer():
    square = lambda x: x * conv(x)
    forward = lambda x: jaxcam.tag(square(jaxcam.tag(conv(x), "below")), "gate").mean((1, 2)) @ HEAD
    with pytest.raises(ValueError, match="no rule for 'mul' in layer 'gate'"):
        lrp.relevance(forward, X, layer="below")


def attended(x):
    """Two layers with products of activations, which have no rule, between them."""
    low = jaxcam.tag(conv(x), "low")
    high = jaxcam.tag(conv(jax.nn.relu(low * conv(low))), "high")
    return jax.nn.relu(high).mean((1, 2)) @ HEAD


@pytest.mark.parametrize("layers", ["low", ["low"], ["low", "high"], ["high", "low"]])
def test_a_refusal_does_not_vanish_behind_another_layer(layers):
    for explain in (lrp.relevance, jaxcam.relevance_cam):
        with pytest.raises(
            ValueError, match="no rule for 'mul' in layer 'high': neither factor is a gate"
        ):
            explain(attended, X, layer=layers)


def test_conservation_refuses_what_relevance_refuses():
    with pytest.raises(
        ValueError, match="no rule for 'mul' in layer 'high': neither factor is a gate"
    ):
        lrp.relevance(attended, X)
    with pytest.raises(
        ValueError, match="no rule for 'mul' in layer 'high': neither factor is a gate"
    ):
        lrp.conservation(attended, X)


def test_the_layer_above_a_refusal_is_explained_alone():
    alone = lrp.relevance(attended, X, layer="high")
    cut = lambda high: jax.nn.relu(high).mean((1, 2)) @ HEAD
    split = jaxcam.split(attended, X, "high")
    below = lrp.relevance(lambda x: cut(jaxcam.tag(x, "high")), split.activations, layer="high")
    assert np.allclose(alone, below, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", ["side", ["stem", "side"], ["side", "stem"]])
def test_a_layer_without_a_way_to_the_logits_is_refused_beside_others_too(layers):
    forward = lambda x: (net(jax.nn.relu)(x), jaxcam.tag(conv(x), "side"))[0]
    with pytest.raises(ValueError, match="layer: got 'side', which the output does not depend on"):
        lrp.relevance(forward, X, layer=layers)


def test_a_layer_that_only_sets_a_gate_is_refused_not_zero():
    def forward(x):
        gate = jaxcam.tag(jax.nn.sigmoid(conv(x, -K)), "gate")
        return (conv(x) * gate).mean((1, 2)) @ HEAD

    with pytest.raises(
        ValueError, match=r"layer: got 'gate', which no relevance can reach, .* only through gates"
    ):
        lrp.relevance(forward, X, layer="gate")
    halved = lrp.relevance(forward, X, layer="gate", composite=lrp.z_plus(product="half"))
    assert np.abs(halved).max() > 0


def test_what_lies_below_the_layer_needs_no_rule():
    forward = lambda x: (
        jax.nn.relu(conv(jaxcam.tag(softmax_attention(x), "attended"))).mean((1, 2)) @ HEAD
    )
    assert lrp.relevance(forward, X, layer="attended").shape == X.shape


def test_what_the_logits_do_not_depend_on_needs_no_rule():
    forward = lambda x: (net(jax.nn.relu)(x), jax.nn.softmax(net(jax.nn.relu)(x)))
    result = lrp.propagate(forward, X, layer="stem", has_aux=True)
    assert np.allclose(result.aux.sum(-1), 1, atol=1e-5)
    assert np.array_equal(
        result.relevance["stem"], lrp.relevance(net(jax.nn.relu), X, layer="stem")
    )


def test_a_layer_that_the_logits_do_not_depend_on():
    forward = lambda x: (x.mean((1, 2)) @ HEAD, jaxcam.tag(conv(x), "side"))[0]
    with pytest.raises(ValueError, match="layer: got 'side', which the output does not depend on"):
        lrp.relevance(forward, X, layer="side")


@pytest.mark.parametrize("product", ["signal", "half"])
def test_a_gate_gets_nothing_or_half(product):
    def forward(x):
        signal, gate = (
            jaxcam.tag(conv(x), "signal"),
            jaxcam.tag(jax.nn.sigmoid(conv(x, -K)), "gate"),
        )
        return (signal * gate).mean((1, 2)) @ HEAD

    sums = lrp.conservation(forward, X, composite=lrp.epsilon(0.0, product=product))
    share = {"signal": 1.0, "half": 0.5}[product]
    assert np.allclose(sums.layers["signal"], share * sums.entered, rtol=1e-3)
    assert np.allclose(sums.layers["gate"], (1 - share) * sums.entered, rtol=1e-3, atol=1e-6)
    # the gate takes its part also where nobody asks for it
    composite = lrp.epsilon(0.0, product=product)
    alone = lrp.relevance(forward, X, layer="signal", composite=composite)
    assert np.allclose(alone.sum((1, 2, 3)), share * sums.entered, rtol=1e-3)


def test_two_gates_take_half_each():
    def forward(x):
        first = jaxcam.tag(jnp.tanh(conv(x)), "first")
        second = jaxcam.tag(jax.nn.sigmoid(conv(x, -K)), "second")
        return (first * second).mean((1, 2)) @ HEAD

    sums = lrp.conservation(forward, X, composite=lrp.epsilon(0.0))
    for name in ("first", "second"):
        assert np.allclose(sums.layers[name], sums.entered / 2, rtol=1e-3)
    assert sums.cuts == set()  # no layer that all relevance passes


def test_half_and_half_is_the_way_out_for_two_signals():
    sums = lrp.conservation(
        net(lambda x: x * conv(x)), X, composite=lrp.epsilon(0.0, product="half")
    )
    assert np.allclose(sums.layers["stem"], sums.entered, rtol=1e-3)


def test_bias_passes_or_absorbs():
    """Absorbing, LRP-0 of a ReLU net is gradient times input; passing, it is conserved."""

    def middle(x):
        return jax.nn.relu((x - along(HEAD[:, 1])) * along(HEAD[:, 2]) + along(HEAD[:, 3]))

    forward = lambda x: net(middle)(x) + 0.3 * HEAD[:1]
    absorb = lrp.relevance(forward, X, 2, composite=lrp.epsilon(0.0, bias="absorb"))
    gradient = jax.grad(lambda x: forward(x)[:, 2].sum())(X)
    assert np.allclose(absorb, X * gradient, atol=1e-5)
    passing = lrp.relevance(forward, X, 2, composite=lrp.epsilon(0.0))
    logits = forward(X)[:, 2]
    assert np.allclose(passing.sum((1, 2, 3)), logits, rtol=1e-3)
    assert not np.allclose(absorb.sum((1, 2, 3)), logits, rtol=1e-2)


def test_gelu_needs_no_absorbing_inside():
    """The 1 of 1 + erf is a number, not a bias: relevance passes whole in either treatment."""
    forward = lambda x: jax.nn.gelu(conv(x)).mean((1, 2)) @ HEAD
    absorb, passing = (
        lrp.relevance(forward, X, composite=lrp.z_plus(bias=b)) for b in ("absorb", "pass")
    )
    assert np.array_equal(absorb, passing)


def test_black_pixels_keep_the_relevance_that_flat_gives_them():
    images = X.at[0, 2:4].set(0)
    forward = net(jax.nn.relu)
    for prepare in (
        lambda x: x,
        lambda x: jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
        lambda x: x * 2.0,
    ):
        sums = lrp.relevance(lambda x: forward(prepare(x)), images, composite="epsilon_plus_flat")
        assert np.abs(sums[0, 2:4]).max() > 0


def test_normalisation_inside_the_model_passes_black_pixels_too():
    images = jnp.zeros_like(X)
    forward = lambda x: net(jax.nn.relu)((x - along(HEAD[:, 0])) / along(HEAD[:, 1]))
    got = lrp.relevance(forward, images, 1, composite=lrp.epsilon(0.0))
    assert np.allclose(got.sum((1, 2, 3)), forward(images)[:, 1], rtol=1e-4)
