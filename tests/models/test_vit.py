"""Vision transformers against a literal NumPy form, and their state dicts under timm's names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from jaxcam import models
from jaxcam.models.convert import from_torchvision, to_torchvision

OPTIONS = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "size": 8}


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def attend(x, p):
    """One image's tokens `[T, c]`, head by head."""
    q, k, v = np.split(dense(x, p["qkv"]), 3, axis=-1)
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        scores = q[:, part] @ k[:, part].T / 2
        shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        heads.append(shares @ v[:, part])
    return dense(np.concatenate(heads, -1), p["proj"])


def literal(image, p, pool):
    patches = image.reshape(2, 4, 2, 4, 3).transpose(0, 2, 1, 3, 4).reshape(4, -1)
    x = patches @ p["patch_embed.proj"]["kernel"].reshape(-1, 8) + p["patch_embed.proj"]["bias"]
    if pool == "token":
        x = np.concatenate([p["cls_token"][0], x])
    x = x + p["pos_embed"][0]
    for i in range(2):
        block = p[f"blocks.{i}"]
        x = x + attend(norm(x, block["norm1"]), block["attn"])
        hidden = dense(norm(x, block["norm2"]), block["mlp"]["fc1"])
        x = x + dense(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, block["mlp"]["fc2"])
    x = norm(x, p["norm"])
    return dense(x[0] if pool == "token" else x.mean(0), p["head"])


@pytest.mark.lenient  # Flax mixes float32 into a float64 model
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_logits_equal_their_literal_form(pool, rng):
    model = models.create("vit_compact", num_classes=3, pool=pool, **OPTIONS)
    images = rng.normal(size=(2, 8, 8, 3))
    with jax.enable_x64(True):
        variables = jax.jit(model.init)(jax.random.key(0), jnp.asarray(images))
        variables = jax.tree.map(
            lambda a: jnp.asarray(a + 0.1 * rng.normal(size=a.shape), jnp.float64), variables
        )
        logits = np.asarray(model.apply(variables, jnp.asarray(images)))
    params = jax.tree.map(np.asarray, variables["params"])
    for image, found in zip(images, logits, strict=True):
        np.testing.assert_allclose(found, literal(image, params, pool), rtol=1e-7)


def test_state_dicts_bear_timms_names_and_come_back(rng):
    model = models.create("vit_compact", num_classes=3, **OPTIONS)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    state = to_torchvision(variables)
    assert state["blocks.1.attn.qkv.weight"].shape == (24, 8)
    assert state["patch_embed.proj.weight"].shape == (8, 3, 4, 4)
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias"} <= set(state)
    again = from_torchvision("vit_compact", state, **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, again, jax.tree.map(np.asarray, variables))


def test_other_sizes_and_pools_are_refused():
    model = models.create("vit_compact", num_classes=3, **OPTIONS)
    with pytest.raises(ValueError, match="images: got 10 tokens, expected 5"):
        model.init(jax.random.key(0), jnp.zeros((1, 12, 12, 3)))
    wrong = models.create("vit_compact", num_classes=3, **{**OPTIONS, "pool": "max"})
    with pytest.raises(ValueError, match="pool: got 'max', expected one of 'token', 'avg'"):
        wrong.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_parameters_of_the_published_sizes():
    """ViT-Ti, S and B at 224 pixels: 5.7, 22.1 and 86.6 million (Touvron et al. 2021, table 1)."""
    for name, millions in (("vit_tiny", 5.7), ("vit_small", 22.1), ("vit_base", 86.6)):
        model = models.create(name)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
        count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        assert round(count / 1e6, 1) == millions
