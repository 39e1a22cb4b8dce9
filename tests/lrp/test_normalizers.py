"""Normalisation and attention: what only scales is a constant, and relevance is conserved."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxcam
from jaxcam import lrp
from jaxcam._program import trace
from jaxcam.lrp import _degrees as degrees
from jaxcam.lrp import _plan as plan

RNG = np.random.default_rng(11)
X = jnp.asarray(RNG.normal(size=(2, 6, 6, 8)), jnp.float32)


def weights(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


KERNEL = weights(3, 3, 8, 8)
DENSE = weights(8, 8)
HEAD = weights(8, 5)
SCALE = weights(8)


def conv(x, kernel=KERNEL):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def net(middle):
    return lambda x: middle(jaxcam.tag(conv(x), "stem")).mean((1, 2)) @ HEAD


def rms(x):
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def layer(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)


def response(x):
    """Global response normalisation of ConvNeXt V2."""
    size = jnp.sqrt(jnp.square(x).sum((1, 2), keepdims=True))
    return x * (size / (size.mean(-1, keepdims=True) + 1e-6)) * SCALE + x


def split_attention(x):
    """Sums over two halves, each weighed by its share of the whole."""
    first, second = jax.nn.relu(conv(x)), jax.nn.relu(x)
    pooled = (first + second).mean((1, 2), keepdims=True)
    share = pooled / (pooled.sum(-1, keepdims=True) + 1e-6)
    return first * share + second * (1 - share)


def bound(module):
    variables = module.init(jax.random.key(0), X)
    scaled = jax.tree.map(lambda p: p + 0.3 * weights(*p.shape), variables)
    return lambda x: module.apply(scaled, x)


# name: (a layer that normalises, whether its own bias is added behind)
NORMS = {
    "layer": layer,
    "rms": rms,
    "response": response,
    "l2": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "l1": lambda x: x / jnp.abs(x).sum(-1, keepdims=True),
    "instance": lambda x: jax.nn.relu(jax.nn.standardize(x, axis=(1, 2), epsilon=1e-5)),
    "group": bound(nn.GroupNorm(num_groups=4)),
    "flax_layer": bound(nn.LayerNorm()),
    "flax_layer_slow": bound(nn.LayerNorm(use_fast_variance=False)),
    "flax_rms": bound(nn.RMSNorm()),
    "flax_instance": bound(nn.InstanceNorm()),
    "nnx_layer": nnx.LayerNorm(8, rngs=nnx.Rngs(0)),
    "bfloat16": bound(nn.LayerNorm(dtype=jnp.bfloat16)),
    "batch_in_training": lambda x: nn.BatchNorm(use_running_average=False).apply(
        {"params": {"scale": SCALE, "bias": SCALE}, "batch_stats": {"mean": SCALE, "var": SCALE}},
        x,
        mutable=["batch_stats"],
    )[0],
    "twice": lambda x: layer(rms(conv(layer(x)))),
    "unbiased_blocks": lambda x: rms(x + jax.nn.relu(rms(x) @ DENSE) @ DENSE) @ DENSE,
    "queries": lambda x: rms(rms(x) @ DENSE),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisation_conserves_relevance(name):
    """LRP-0, whose only loss is what a rule without epsilon divides by 0: none here."""
    sums = lrp.conservation(net(NORMS[name]), X, 1, composite=lrp.epsilon(0.0))
    entered = np.asarray(sums.entered)
    if name == "batch_in_training":  # images share what the batch's mean takes
        entered, found = entered.sum(), np.asarray(sums.pixels).sum()
        np.testing.assert_allclose(found, entered, rtol=1e-3)
        return
    tolerance = 3e-2 if name == "bfloat16" else 1e-3
    np.testing.assert_allclose(sums.layers["stem"], entered, rtol=tolerance)
    np.testing.assert_allclose(sums.pixels, entered, rtol=tolerance)


def literal_layer_norm_relevance(x, r, eps):
    """R_i of y_i = (x_i - mean x) / sigma for relevance r of y, sigma a constant; float64 NumPy."""
    found = np.zeros_like(x)
    n = x.shape[-1]
    sigma = np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + eps)
    y = (x - x.mean(-1, keepdims=True)) / sigma
    c = r / y
    for i in range(n):
        for j in range(n):
            w = ((i == j) - 1 / n) / sigma[..., 0]
            found[..., i] += x[..., i] * w * c[..., j]
    return found


def test_layer_norm_equals_its_literal_form():
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=(2, 3, 3, 8)))
        start = RNG.normal(size=(2, 8))
        forward = lambda x: layer(x).sum((1, 2))
        found = lrp.relevance(forward, x, init=jnp.asarray(start), composite=lrp.epsilon(0.0))
        x = np.asarray(x)
        y = np.asarray(layer(jnp.asarray(x)))
    r = y * (start / y.sum((1, 2)))[:, None, None]
    np.testing.assert_allclose(found, literal_layer_norm_relevance(x, r, 1e-5), rtol=1e-8)


REFUSED = {
    "product": lambda x: x * conv(x),
    "ratio": lambda x: x / (1 + conv(x) ** 2),
    "other_norm": lambda x: x * lax.rsqrt(jnp.square(conv(jax.nn.tanh(x))).mean(-1, keepdims=True)),
    "large_epsilon": lambda x: x * lax.rsqrt(x.var(-1, keepdims=True) + 1.0),
    "softmax": jax.nn.softmax,
    "gated_unit": lambda x: jax.nn.silu(rms(x) @ DENSE) * (rms(x) @ HEAD @ HEAD.T),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_normalisation_is_refused(name):
    with pytest.raises(ValueError, match=r"forward: LRP has no rule for '(mul|div)'"):
        lrp.relevance(net(REFUSED[name]), X, 1)


def test_no_advice_for_a_norm_is_to_halve():
    """product="half" in a layer norm would lose relevance; it changes nothing there."""
    halved = lrp.relevance(net(layer), X, 1, composite=lrp.epsilon(0.0, product="half"))
    np.testing.assert_array_equal(
        halved, lrp.relevance(net(layer), X, 1, composite=lrp.epsilon(0.0))
    )


def degrees_of(function):
    program = trace.trace(function, X)
    (fact,) = plan.Planner(lrp.z_plus(), frozenset({()}), []).walk(program)
    return fact.degrees.get(())


@pytest.mark.parametrize(
    ("function", "degree"),
    [
        (lambda x: 3 * x, 1),
        (lambda x: -x[:, 1:], 1),
        (lambda x: x * x, 2),
        (lambda x: x**3, 3),
        (lambda x: jnp.sqrt(jnp.abs(x)), 0.5),
        (lambda x: x.var(-1), 2),
        (lambda x: lax.rsqrt(x.var(-1) + 1e-5), -1),
        (lambda x: jax.nn.relu(x @ DENSE), 1),
        (lambda x: jnp.maximum(x, 0.1), None),
        (lambda x: jnp.clip(x, 0, 6), None),
        (lambda x: x + SCALE, None),
        (lambda x: x - 1e-5, None),
        (lambda x: jnp.tanh(rms(x)), 0),
        (lambda x: jnp.tanh(x), None),
        (lambda x: jnp.where(x > 0, x, 0.1 * x), 1),
        (lambda x: jnp.concatenate([x, x * x]), None),
        (lambda x: jnp.concatenate([x, 2 * x]), 1),
        (lambda x: 1 / x, -1),
        (lambda x: x / x.sum(-1, keepdims=True), 0),
        (lambda x: jax.image.resize(x, (2, 3, 3, 8), "linear"), 1),
    ],
)
def test_degrees(function, degree):
    """And by trying: f(2 x) = 2^d f(x)."""
    assert degrees_of(function) == degree
    if degree is not None:
        twice = np.asarray(function(2 * X))
        np.testing.assert_allclose(twice, 2.0**degree * np.asarray(function(X)), rtol=1e-3)


def test_what_normalises_what():
    assert degrees.normalizes({"a": -1.0}, {"a": 1.0})
    assert degrees.normalizes({"a": 0.0}, {"a": 1.0})
    assert not degrees.normalizes({"a": 0.0}, {"a": 0.0})
    assert not degrees.normalizes({"a": 1.0}, {"a": 1.0})
    assert not degrees.normalizes({"b": -1.0}, {"a": 1.0})
    assert degrees.divides({"a": 1.0}, {"a": 1.0})
    assert not degrees.divides({"b": 1.0}, {"a": 1.0})


# Attention ------------------------------------------------------------

TOKENS = jnp.asarray(RNG.normal(size=(2, 6, 1, 8)), jnp.float32)
QUERY, KEY, VALUE = weights(8, 8) / 3, weights(8, 8) / 3, weights(8, 8)


def attention(x):
    x = x[:, :, 0]
    q, k, v = x @ QUERY, x @ KEY, x @ VALUE
    shares = jax.nn.softmax(q @ k.transpose(0, 2, 1) / np.sqrt(8))
    return (shares @ v).sum(1) @ HEAD


def literal_attention(x, target, how):
    """Relevance of one image's tokens `[T, c]` in float64, by the rules as they are printed."""
    w = {
        name: np.asarray(each, np.float64)
        for name, each in {"q": QUERY, "k": KEY, "v": VALUE, "h": HEAD}.items()
    }
    q, k, v = x @ w["q"], x @ w["k"], x @ w["v"]
    scores = q @ k.T / np.sqrt(8)
    s = np.exp(scores - scores.max(1, keepdims=True))
    s /= s.sum(1, keepdims=True)
    out = s @ v  # [T, c]
    total = out.sum(0)
    r_out = out * w["h"][:, target]  # LRP-0 of the head and of the sum over tokens
    assert np.isclose(r_out.sum(), total @ w["h"][:, target])
    c = r_out / out

    def dense(x, weight, r):
        """LRP-0: R_i = x_i sum_j w_ij R_j / z_j."""
        return x * ((r / (x @ weight)) @ weight.T)

    if how == "gate":
        return dense(x, w["v"], v * (s.T @ c))
    r_v = 0.5 * v * (s.T @ c)
    r_s = 0.5 * s * (c @ v.T)
    r_scores = scores * (r_s - s * r_s.sum(1, keepdims=True))
    d = r_scores / scores / np.sqrt(8)
    r_q = 0.5 * q * (d @ k)
    r_k = 0.5 * k * (d.T @ q)
    return dense(x, w["v"], r_v) + dense(x, w["q"], r_q) + dense(x, w["k"], r_k)


@pytest.mark.parametrize("how", ["gate", "attnlrp"])
def test_attention_equals_its_literal_form(how):
    with jax.enable_x64(True):
        x = jnp.asarray(TOKENS, jnp.float64)
        composite = lrp.epsilon(0.0, attention=how)
        found = np.asarray(lrp.relevance(attention, x, 2, composite=composite))
    for image in range(2):
        expected = literal_attention(np.asarray(x[image, :, 0]), 2, how)
        np.testing.assert_allclose(found[image, :, 0], expected, rtol=1e-5, atol=1e-7)


def test_the_gate_conserves_and_attnlrp_does_not():
    logits = np.asarray(attention(TOKENS))[:, 2]
    sums = {}
    for how in ("gate", "attnlrp"):
        composite = lrp.epsilon(0.0, attention=how)
        sums[how] = np.asarray(lrp.conservation(attention, TOKENS, 2, composite=composite).pixels)
    np.testing.assert_allclose(sums["gate"], logits, rtol=1e-3)
    assert np.abs(sums["attnlrp"] / logits - 1).min() > 0.05


def test_a_model_that_returns_probabilities_is_refused_by_both():
    for how in ("gate", "attnlrp"):
        with pytest.raises(ValueError, match=r"a softmax.*Return logits"):
            composite = lrp.z_plus(attention=how)
            lrp.relevance(lambda x: jax.nn.softmax(attention(x)), TOKENS, composite=composite)


class Block(nn.Module):
    """A transformer's block as Flax has it, with the fused projections of its own attention."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        return x + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(x))))


class ViT(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), (2, 2), name="patches")(x)
        x = x.reshape(x.shape[0], -1, 8) + self.param("position", nn.initializers.normal(), (9, 8))
        cls = self.param("cls", nn.initializers.normal(), (1, 1, 8))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, 8)), x], 1)
        for i in range(3):
            x = Block(name=f"block{i}")(x)
        return nn.Dense(5, name="head")(nn.LayerNorm(name="norm")(x)[:, 0])


@pytest.fixture(scope="module")
def vit():
    model = ViT()
    variables = jax.jit(model.init)(jax.random.key(1), X)
    variables = jax.tree.map(lambda p: p + 0.1 * weights(*p.shape), variables)
    return jaxcam.linen(model, variables)


def test_a_vision_transformer_conserves_at_every_cut(vit):
    """LRP-0 with the gate; the class token and the positions, parameters, pass their share."""
    with jax.enable_x64(True):
        sums = lrp.conservation(vit, X.astype(jnp.float64), 1, composite=lrp.epsilon(0.0))
    assert {"block0", "block1", "block2", "norm"} <= sums.cuts
    for name in ("block0", "block1", "block2", "norm"):
        np.testing.assert_allclose(sums.layers[name], sums.entered, rtol=1e-4)


def test_relevance_cam_at_every_block_of_a_transformer(vit):
    names = ["block0", "block1"]
    maps = jaxcam.relevance_cam(vit, X, 1, layer=names)
    for name in names:
        assert maps[name].shape == (2, 3, 3)
        assert np.isfinite(maps[name]).all() and np.abs(maps[name]).max() > 0
        alone = jaxcam.relevance_cam(vit, X, 1, layer=name)
        np.testing.assert_allclose(maps[name], alone, rtol=1e-4, atol=1e-6)
    assert jaxcam.relevance_cam(vit, X, 1).shape == (2, 3, 3)
    assert jaxcam.lrp_map(vit, X, 1).shape == (2, 6, 6)
