"""Rollout, LeGrad and feature factorisation: against literal forms, and where attention is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import jaxcam
from jaxcam import models
from jaxcam._explainers import attended, factors
from jaxcam._program import trace
from tests.explainers import literal
from tests.models.test_vit import OPTIONS, dense, norm

CLASSES = [1, 2]


@pytest.fixture(scope="module", params=["token", pytest.param("avg", marks=pytest.mark.alike)])
def vit(request):
    """(forward, its parameters, images, whether there is a class token), in float64."""
    rng = np.random.default_rng(7)
    model = models.create("vit_compact", num_classes=3, pool=request.param, **OPTIONS)
    images = rng.normal(size=(2, 8, 8, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images, jnp.float32))
    with jax.enable_x64(True):
        variables = jax.tree.map(
            lambda a: jnp.asarray(0.5 * rng.normal(size=a.shape), jnp.float64), shapes
        )
        yield jaxcam.linen(model, variables), variables["params"], images, request.param == "token"


def shares_of(x, p):
    """Attention weights of one image's tokens, `[heads, T, T]`."""
    q, k, _ = np.split(dense(x, p["qkv"]), 3, axis=-1)
    found = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        found.append(np.stack([literal.softmax(row) for row in q[:, part] @ k[:, part].T / 2]))
    return np.stack(found)


def after(x, shares, p):
    """A block's tokens, given its attention weights."""
    value = dense(norm(x, p["norm1"]), p["attn"]["qkv"])[:, 16:]
    heads = [shares[h] @ value[:, 4 * h : 4 * h + 4] for h in range(2)]
    x = x + dense(np.concatenate(heads, -1), p["attn"]["proj"])
    hidden = dense(norm(x, p["norm2"]), p["mlp"]["fc1"])
    return x + dense(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, p["mlp"]["fc2"])


def embedded(image, p, token):
    patches = image.reshape(2, 4, 2, 4, 3).transpose(0, 2, 1, 3, 4).reshape(4, -1)
    x = patches @ p["patch_embed.proj"]["kernel"].reshape(-1, 8) + p["patch_embed.proj"]["bias"]
    if token:
        x = np.concatenate([p["cls_token"][0], x])
    return np.asarray(x + p["pos_embed"][0])


def blocks(image, p, token):
    """Each block's input, its attention and its parameters, of one image."""
    p = jax.tree.map(np.asarray, p)
    x = embedded(image, p, token)
    for i in range(2):
        block = p[f"blocks.{i}"]
        shares = shares_of(norm(x, block["norm1"]), block["attn"])
        yield x, shares, block
        x = after(x, shares, block)


@pytest.mark.lenient  # Flax's norms promote float64
def test_rollout_equals_its_literal_form(vit):
    forward, p, images, token = vit
    for heads, residual in (("mean", 0.5), ("max", 0.25), ("min", 0.0)):
        found = jaxcam.attention_rollout(forward, images, heads=heads, residual=residual)
        for i in range(2):
            product = np.eye(5 if token else 4)
            for _, shares, _ in blocks(images[i], p, token):
                fused = {"mean": shares.mean(0), "max": shares.max(0), "min": shares.min(0)}[heads]
                fused = fused / fused.sum(1, keepdims=True)
                product = (residual * np.eye(len(fused)) + (1 - residual) * fused) @ product
            row = product[0, 1:] if token else product.mean(0)
            expected = literal.bilinear(row.reshape(2, 2), 8, 8)
            np.testing.assert_allclose(found[i], expected, rtol=1e-8)


@pytest.mark.lenient  # Flax's norms promote float64
def test_legrad_equals_its_literal_form(vit):
    """The score of each block's tokens, differentiated with respect to its attention."""
    forward, p, images, token = vit
    found = jaxcam.legrad(forward, images, CLASSES)
    p = jax.tree.map(np.asarray, p)

    def score(shares, x, block, target):
        tokens = norm(after(x, shares, block), p["norm"])
        pooled = tokens[0] if token else tokens.mean(0)
        return dense(pooled, p["head"])[target]

    for i, target in enumerate(CLASSES):
        total = np.zeros(5 if token else 4)
        for x, shares, block in blocks(images[i], p, token):
            slope = np.zeros_like(shares)
            for place in np.ndindex(*shares.shape):  # by differences: the score is smooth
                step = np.zeros_like(shares)
                step[place] = 1e-6
                high = score(shares + step, x, block, target)
                low = score(shares - step, x, block, target)
                slope[place] = (high - low) / 2e-6
            total += literal.relu(slope).mean((0, 1)) / 2
        expected = literal.bilinear(total[-4:].reshape(2, 2), 8, 8)
        assert expected.max() > 0
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-9)
    named = jaxcam.legrad(forward, images, CLASSES, layers=["blocks.0", "blocks.1"])
    np.testing.assert_allclose(named, found, rtol=1e-12)


def attending(form):
    """Attention over 4 tokens of 2 heads, in one of the ways in which people write it."""

    def forward(x):
        tokens = x.reshape(len(x), 4, -1)
        heads = tokens.reshape(len(x), 4, 2, -1)
        return jaxcam.tag(tokens + form(heads).reshape(tokens.shape), "a").mean(1)

    return forward


def with_softmax(softmax):
    def form(x):
        return jnp.einsum("bhqk,bkhc->bqhc", softmax(jnp.einsum("bqhc,bkhc->bhqk", x, x)), x)

    return form


def by_hand(z):
    terms = jnp.exp(z - z.max(-1, keepdims=True))
    return terms / terms.sum(-1, keepdims=True)


FORMS = {
    "jax.nn.softmax": with_softmax(jax.nn.softmax),
    "by hand": with_softmax(by_hand),
    "jitted": with_softmax(jax.jit(jax.nn.softmax)),
    "dropout": with_softmax(lambda z: jax.nn.softmax(z) * jnp.full((1, 1, 4, 4), 1.0)),
    "masked": with_softmax(lambda z: jax.nn.softmax(jnp.where(jnp.eye(4)[None, None], z, z))),
    "half": with_softmax(
        lambda z: jax.nn.softmax(z.astype(jnp.float32)).astype(jnp.bfloat16).astype(z.dtype)
    ),
    "jax.nn": lambda x: jax.nn.dot_product_attention(x, x, x, scale=1.0),
    "vmap": lambda x: jax.vmap(lambda one: with_softmax(jax.nn.softmax)(one[None])[0])(x),
    "remat": jax.checkpoint(with_softmax(jax.nn.softmax)),
}


@pytest.mark.parametrize("name", FORMS)
def test_attention_is_found_however_it_is_written(name, rng):
    images = jnp.asarray(rng.normal(size=(3, 2, 2, 6)), jnp.float32)
    forward = attending(FORMS[name])
    program = trace.trace(forward, images)
    (place,) = attended.find(program, 3)
    outputs, (weights,) = attended.run(program, images, [place])(attended.zeros([place], images))
    heads = np.asarray(images).reshape(3, 4, 2, 3)
    expected = np.einsum("bqhc,bkhc->bhqk", heads, heads)
    expected = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    np.testing.assert_allclose(place.view(weights), expected, rtol=0.01, atol=1e-3)
    np.testing.assert_allclose(outputs[0], forward(images), rtol=1e-5, atol=1e-6)


def rectified(x):
    """A bias and a ReLU, then attention."""
    return attending(FORMS["jax.nn.softmax"])(jax.nn.relu(x - 0.1))


SHARED = ["attention_rollout", "legrad", "fullgrad", "integrated_gradients", "guided_backprop"]


@pytest.mark.parametrize("name", [*SHARED, "shapley_cam", "finer_cam"])
def test_shard_map_gives_what_one_device_gives(name, rng):
    """Gradients with respect to what is equal on all devices would be summed over them."""
    images = jnp.asarray(rng.normal(size=(4, 2, 2, 6)), jnp.float32)
    explain = lambda x: getattr(jaxcam, name)(rectified, x, 1)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("d",))
    spec = jax.sharding.PartitionSpec("d")
    sharded = jax.jit(jax.shard_map(explain, mesh=mesh, in_specs=spec, out_specs=spec))(images)
    np.testing.assert_allclose(sharded, explain(images), rtol=1e-4, atol=1e-6)


def test_what_has_no_attention_is_refused(rng):
    images = jnp.asarray(rng.normal(size=(2, 4, 4, 3)), jnp.float32)
    six = images[:, :2, :2].repeat(2, -1)
    plain = lambda x: jaxcam.tag(jax.nn.relu(x), "a").mean((1, 2))
    with pytest.raises(ValueError, match=r"layer: got 'a' of shape .*, expected tokens"):
        jaxcam.attention_rollout(plain, images)
    mixed = lambda x: jaxcam.tag(x.reshape(len(x), 16, 3) * 2, "a").mean(1)
    with pytest.raises(ValueError, match="forward: got a model with no attention among the 16 tok"):
        jaxcam.legrad(mixed, images)

    def scanned(x):
        heads = x.reshape(len(x), 4, 2, 3)
        twice, _ = jax.lax.scan(lambda y, _: (FORMS["by hand"](y), None), heads, None, length=2)
        return jaxcam.tag(twice.reshape(len(x), 4, 6), "a").mean(1)

    with pytest.raises(
        ValueError, match="forward: got a model with exp and products of arrays ins"
    ):
        jaxcam.attention_rollout(scanned, six, layer="a", layout=(2, 2))

    def windows(x):
        """All tokens, then the halves of them."""
        x = with_softmax(jax.nn.softmax)(x)
        halves = x.reshape(2 * len(x), 2, *x.shape[2:])
        return with_softmax(jax.nn.softmax)(halves).reshape(x.shape)

    with pytest.raises(
        ValueError, match="forward: got a model with 1 attention among the 4 tokens"
    ):
        jaxcam.attention_rollout(attending(windows), six)
    with pytest.raises(ValueError, match="heads: got 'sum', expected one of 'mean', 'max', 'min'"):
        jaxcam.attention_rollout(mixed, images, heads="sum")
    twice = lambda x: attending(FORMS["by hand"])(x)
    with pytest.raises(ValueError, match=r"layers: got \['a', 'a'\] for 1 attentions, expected"):
        jaxcam.legrad(twice, images[:, :2, :2].repeat(2, -1), layers=["a", "a"])


# Factorisation -------------------------------------------------------


def test_factors_take_apart_what_was_put_together(rng):
    """Disjoint parts are found, in any order; the error only falls; masks are at most 1."""
    parts = np.zeros((2, 6, 6, 2))
    parts[:, :3, :, 0] = rng.uniform(0.5, 1, size=(2, 3, 6))
    parts[:, 3:, :, 1] = rng.uniform(0.5, 1, size=(2, 3, 6))
    concepts = np.array([[1.0, 0, 2, 0], [0, 3, 0, 1]])
    images = jnp.asarray(parts @ concepts, jnp.float32)
    forward = lambda x: jaxcam.tag(x * 1.0, "a").mean((1, 2))
    options = {"components": 2, "layer": "a"}
    found = jaxcam.deep_feature_factorization(forward, images, head=lambda c: c @ c.T, **options)
    assert found.masks.shape == (2, 2, 6, 6) and found.error < 1e-3
    scale = (parts.max((0, 1, 2))[:, None] * concepts)[::-1]  # the second explains more
    np.testing.assert_allclose(found.concepts, scale, rtol=1e-2, atol=1e-2)
    masks = np.moveaxis(parts / parts.max((0, 1, 2)), -1, 1)[:, ::-1]
    np.testing.assert_allclose(found.masks, masks, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(found.scores, found.concepts @ found.concepts.T, rtol=1e-5)
    errors = []
    for steps in (1, 5, 25):
        each = jaxcam.deep_feature_factorization(forward, images, steps=steps, **options)
        errors.append(float(each.error))
    assert errors == sorted(errors, reverse=True)


def test_updates_equal_their_literal_form(rng):
    matrix = np.abs(rng.normal(size=(7, 5)))
    with jax.enable_x64(True):
        key = jax.random.key(2)
        found = factors.factorized(jnp.asarray(matrix), 3, 4, key)
        scale = np.sqrt(matrix.mean() / 3)
        first, second = jax.random.split(key)
        w = np.asarray(jax.random.uniform(first, (7, 3), jnp.float64, 0.1, 1.0)) * scale
        h = np.asarray(jax.random.uniform(second, (3, 5), jnp.float64, 0.1, 1.0)) * scale
        for _ in range(4):
            h = h * (w.T @ matrix) / (w.T @ w @ h)
            w = w * (matrix @ h.T) / (w @ h @ h.T)
        np.testing.assert_allclose(found[0] @ found[1], w @ h, rtol=1e-8)
    np.testing.assert_allclose(found[0].max(0), 1, rtol=1e-6)


def test_negative_activations_are_offset_and_options_checked(rng):
    images = jnp.asarray(rng.normal(size=(2, 4, 4, 3)), jnp.float32)
    forward = lambda x: jaxcam.tag(x * 1.0, "a").mean((1, 2))
    whole = jaxcam.deep_feature_factorization(forward, images, components=3, layer="a", steps=500)
    offset = np.minimum(np.asarray(images).min((0, 1, 2)), 0)
    built = np.einsum("bnhw,nc->bhwc", whole.masks, np.asarray(whole.concepts) - offset) + offset
    np.testing.assert_allclose(built, images, atol=0.5)
    assert np.linalg.norm(built - images) < 0.3 * np.linalg.norm(np.asarray(images) - offset)
    with pytest.raises(ValueError, match="components: got 4, expected 1 to 3, the channels of lay"):
        jaxcam.deep_feature_factorization(forward, images, components=4, layer="a")
    with pytest.raises(ValueError, match=r"layer: got \['a'\], expected one name or None"):
        jaxcam.deep_feature_factorization(forward, images, layer=["a"])
    both = lambda x: (forward(x), x.mean((1, 2, 3)))
    _, aux = jaxcam.deep_feature_factorization(both, images, components=1, steps=1, has_aux=True)
    np.testing.assert_allclose(aux, images.mean((1, 2, 3)), rtol=1e-6)
