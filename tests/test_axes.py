"""The grid of a layer, found in the program: tokens, windows, channels first, one to three axes."""

import functools
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam._program import axes, grids, trace

RNG = np.random.default_rng(5)
IMAGES = jnp.asarray(RNG.normal(size=(2, 8, 12, 3)), jnp.float32)
PATCH = jnp.asarray(RNG.normal(size=(4, 4, 3, 6)), jnp.float32)
HEAD = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)
MIX = jnp.asarray(RNG.normal(size=(6, 6)), jnp.float32)


def patches(images):
    """`[B, 2, 3, 6]`."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, PATCH, (4, 4), "VALID", dimension_numbers=numbers)


def with_tokens(grid):
    """A class token before and two registers behind the tokens of a grid `[B, h, w, c]`."""
    batch, channels = grid.shape[0], grid.shape[-1]
    tokens = grid.reshape(batch, -1, channels)
    first = jnp.ones((batch, 1, channels))
    last = jnp.zeros((batch, 2, channels))
    return jnp.concatenate([first, tokens, last], 1)


def attend(tokens):
    """Attention of two heads, written with reshapes and transpositions."""
    batch, count, channels = tokens.shape
    heads = (tokens @ MIX).reshape(batch, count, 2, channels // 2).transpose(0, 2, 1, 3)
    mixed = jax.nn.softmax(heads @ heads.transpose(0, 1, 3, 2)) @ heads
    return mixed.transpose(0, 2, 1, 3).reshape(batch, count, channels)


def windows(grid):
    """`[B, 2, 3, 6]` to 3 windows of 2 x 1 and back: the first axis is no batch there."""
    batch, height, width, channels = grid.shape
    split = grid.reshape(batch, 1, height, width, 1, channels).transpose(0, 1, 3, 2, 4, 5)
    inside = jaxcam.tag(split.reshape(-1, height, channels) * 2, "window")
    joined = inside.reshape(batch, 1, width, height, 1, channels).transpose(0, 1, 3, 2, 4, 5)
    return joined.reshape(batch, height, width, channels)


# name: what lies between the patches and the layer, which is what it must be as [B, 2, 3, 6]
SAME = {
    "grid": lambda grid: (grid, grid),
    "tokens": lambda grid: (grid.reshape(2, -1, 6), grid),
    "class_tokens": lambda grid: (with_tokens(grid), grid),
    "class_tokens_left_out": lambda grid: (with_tokens(grid)[:, 1:-2], grid),
    "registers_left_out": lambda grid: (with_tokens(grid)[:, :-2], grid),
    "split_off": lambda grid: (jnp.split(with_tokens(grid), [1, 7], 1)[1], grid),
    # What `q, k, v = x` is since JAX 0.12.
    "unstacked": lambda grid: (
        jnp.unstack(with_tokens(grid).reshape(2, 9, 2, 3), axis=2)[1],
        grid[..., 3:],
    ),
    "stacked": lambda grid: (jnp.stack([grid, 2 * grid], -1).reshape(2, 2, 3, 12)[..., ::2], grid),
    "channels_first": lambda grid: (jnp.moveaxis(grid, -1, 1), grid),
    "tokens_last": lambda grid: (grid.reshape(2, -1, 6).swapaxes(1, 2), grid),
    "transposed": lambda grid: (grid.swapaxes(1, 2), grid),
    "windows": lambda grid: (
        grid.reshape(2, 1, 2, 3, 1, 6).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 2, 6),
        grid,
    ),
    "heads": lambda grid: (grid.reshape(2, -1, 2, 3).transpose(0, 2, 1, 3), grid),
    "batch_in_the_middle": lambda grid: (grid.transpose(1, 2, 0, 3), grid),
    "elementwise": lambda grid: (jnp.tanh(grid) + 1, jnp.tanh(grid) + 1),
    "normed": lambda grid: (
        jax.nn.standardize(with_tokens(grid), axis=-1),
        jax.nn.standardize(grid, axis=-1),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_view_is_the_grid(name):
    def forward(images):
        layer, _ = SAME[name](patches(images))
        layer = jaxcam.tag(layer, "layer")
        return jnp.tanh(layer).reshape(-1, 6)[:2] @ HEAD

    expected = np.asarray(SAME[name](patches(IMAGES))[1])
    found = jaxcam.layers(forward, IMAGES)
    assert found.grids["layer"] == (2, 3)
    (site,) = [s for s in jaxcam._program.sites.find(trace.trace(forward, IMAGES))]
    value = SAME[name](patches(IMAGES))[0]
    view = np.asarray(site.grid(value))
    if name == "heads":  # heads come before their channels in the program, and in the view
        expected = expected.reshape(2, 2, 3, 2, 3).reshape(2, 2, 3, 6)
    np.testing.assert_allclose(view, expected, rtol=1e-6)


def test_gradient_cams_of_tokens_are_those_of_their_grid():
    """A class token and registers in the layer change nothing: the map is that of the patches."""

    def net(images, tokens):
        grid = jax.nn.relu(patches(images))
        if tokens:
            layer = jaxcam.tag(with_tokens(grid), "layer")
            grid = layer[:, 1:-2].reshape(grid.shape)
        else:
            grid = jaxcam.tag(grid, "layer")
        return jnp.tanh(grid).mean((1, 2)) @ HEAD

    methods = (
        jaxcam.grad_cam,
        jaxcam.grad_cam_plus_plus,
        jaxcam.hires_cam,
        jaxcam.xgrad_cam,
        jaxcam.layer_cam,
        jaxcam.eigen_cam,
        jaxcam.score_cam,
        jaxcam.ablation_cam,
        jaxcam.relevance_cam,
    )

    @functools.partial(jax.jit, static_argnums=1)
    def found(images, tokens):
        model = lambda x: net(x, tokens)
        return [explain(model, images, [[0, 3], [1, 2]], layer="layer") for explain in methods]

    for of_tokens, of_grid in zip(found(IMAGES, True), found(IMAGES, False), strict=True):
        assert of_tokens.shape == (2, 2, 2, 3)
        np.testing.assert_allclose(of_tokens, of_grid, rtol=1e-4, atol=1e-5)


class ViT(nn.Module):
    """Patches, a class token, blocks of attention; the head reads that token or the mean."""

    pool: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (4, 4), (4, 4), name="patches")(x)
        x = x.reshape(x.shape[0], -1, 6)
        if not self.pool:
            cls = self.param("cls", nn.initializers.normal(), (1, 1, 6))
            x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, 6)), x], 1)
        for i in range(2):
            x = jaxcam.tag(x, f"block{i}")
            x = x + nn.MultiHeadDotProductAttention(2, name=f"attention{i}")(nn.LayerNorm()(x))
            x = x + nn.Dense(6, name=f"mlp{i}")(nn.gelu(x))
        x = jaxcam.tag(x, "after")
        x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(5, name="head")(x.mean(1) if self.pool else x[:, 0])


@pytest.mark.parametrize(("pool", "default"), [(False, "block1"), (True, "norm")])
def test_the_default_layer_is_where_patches_still_matter(pool, default):
    """Behind the last attention of a network that reads its class token alone they do not."""
    model = ViT(pool)
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    forward = jaxcam.linen(model, variables)
    found = jaxcam.layers(forward, IMAGES)
    assert found.default == default
    assert found.grids["after"] == (2, 3)
    assert "positions 2 x 3  (default)" in str(found)
    explain = lambda x, **options: jaxcam.grad_cam(forward, x, 1, relu=None, **options)
    maps, behind = jax.jit(lambda x: (explain(x), explain(x, layer="after")))(IMAGES)
    assert maps.shape == (2, 2, 3)
    assert np.abs(maps).min() > 0
    assert (np.abs(behind).max() > 0) == pool


def test_windows_of_attention_are_no_batch():
    forward = lambda images: windows(patches(images)).mean((1, 2)) @ HEAD
    maps = jaxcam.grad_cam(forward, IMAGES, 0, layer="window", relu=None)
    plain = lambda images: jaxcam.tag(patches(images) * 2, "grid").mean((1, 2)) @ HEAD
    expected = jaxcam.grad_cam(plain, IMAGES, 0, layer="grid", relu=None)
    np.testing.assert_allclose(maps, expected, rtol=1e-5)


def test_images_of_one_and_three_dimensions():
    for rank in (1, 3):
        sizes = (6, 4, 8)[:rank]
        images = jnp.asarray(RNG.normal(size=(2, *sizes, 3)), jnp.float32)
        kernel = jnp.asarray(RNG.normal(size=(*[2] * rank, 3, 6)), jnp.float32)
        letters = "DHW"[-rank:]
        numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        conv = lambda x: jax.lax.conv_general_dilated(
            x, kernel, [2] * rank, "VALID", dimension_numbers=numbers
        )
        space = tuple(range(1, rank + 1))
        forward = lambda x: jaxcam.tag(jax.nn.relu(conv(x)), "conv").mean(space) @ HEAD
        half = tuple(n // 2 for n in sizes)
        methods = (jaxcam.grad_cam, jaxcam.relevance_cam, jaxcam.score_cam, jaxcam.cam)
        answers = lambda x: [explain(forward, x, 1) for explain in (*methods, jaxcam.lrp_map)]
        *maps, at_pixels = jax.jit(answers)(images)
        assert [each.shape for each in maps] == 4 * [(2, *half)]
        assert at_pixels.shape == (2, *sizes)
        acts = np.asarray(jax.nn.relu(conv(images)))
        weights = np.asarray(HEAD)[:, 1] / np.prod(half)
        expected = np.maximum((acts * weights).sum(-1), 0)
        np.testing.assert_allclose(maps[0], expected, rtol=1e-4)


def test_pooled_features_are_no_default_and_channels_first_is_no_grid_of_channels():
    """As in Hugging Face's FlaxResNet: NCHW inside, a last layer [B, C, 1, 1]."""

    def forward(images):
        grid = jaxcam.tag(jnp.moveaxis(patches(images), -1, 1), "stage")
        pooled = jaxcam.tag(grid.mean((2, 3), keepdims=True), "pooled")
        return pooled[:, :, 0, 0] @ HEAD

    found = jaxcam.layers(forward, IMAGES)
    assert found.default == "stage"
    assert found.grids["stage"] == (2, 3)
    assert jaxcam.grad_cam(forward, IMAGES, 0).shape == (2, 2, 3)


def lost(images):
    """Tokens of whose positions the program knows nothing: they went through a table."""
    tokens = patches(images).reshape(2, -1, 6)
    order = jnp.arange(6)[::-1] + 0 * images[0, 0, 0, 0].astype(int)
    return jaxcam.tag(jnp.take(tokens, order, axis=1), "lost").mean(1) @ HEAD


def test_what_cannot_be_found_is_asked_for():
    with pytest.raises(ValueError, match=r"layer: got 'lost' of shape \(2, 6, 6\), of which the "):
        jaxcam.grad_cam(lost, IMAGES, 0, layer="lost")
    maps = jaxcam.grad_cam(lost, IMAGES, 0, layer="lost", layout=(2, 3), relu=None)
    tokens = np.asarray(patches(IMAGES)).reshape(2, -1, 6)[:, ::-1]
    expected = (tokens @ np.asarray(HEAD)[:, 0] / 6).reshape(2, 2, 3)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    registers = jaxcam.Tokens((1, 4), before=1)
    part = jaxcam.grad_cam(lost, IMAGES, 0, layer="lost", layout=registers, relu=None)
    np.testing.assert_allclose(part[:, 0], expected.reshape(2, 6)[:, 1:5], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("NCHW", "layout: got 'NCHW', expected 'channels_last', 'channels_first', .h, w. or"),
        (3, "layout: got 3, expected 'channels_last'"),
        ((3, 3), r"layout: got \(\(3, 3\), None\) for layer 'lost' of shape \(2, 6, 6\), expected"),
        (jaxcam.Tokens((2, 2), 3), r"expected the grid of \[B, T, c\] tokens"),
    ],
)
def test_layouts_that_do_not_fit(layout, message):
    with pytest.raises(ValueError, match=message):
        jaxcam.grad_cam(lost, IMAGES, 0, layer="lost", layout=layout)


def test_declared_layouts():
    shape = (2, 6, 4, 5)
    first = grids.declared("channels_first", shape, 2, "x")
    value = RNG.normal(size=(3, *shape))
    np.testing.assert_array_equal(first(value), np.moveaxis(value, 2, -1))
    last = grids.declared("channels_last", shape, 2, "x")
    assert last.plain and last(value) is value


def test_what_is_merged_with_something_else_is_not_guessed():
    """Two images side by side: their rows are known, what stands across is not."""
    grid = axes.of_images((2, 4, 4, 3))
    assert grids.find(axes.unknown((2, 7, 5)), 2, 4) is None
    assert grids.find(axes.unknown((2, 4, 4, 3)), 2, 4).spatial == (4, 4)
    assert grids.find((grid[0], grid[2], axes.Axis(4), grid[3]), 2, 4) is None
    assert grids.find((grid[0], grid[1], grid[1], grid[3]), 2, 4) is None


def test_a_model_that_joins_its_batch_is_warned_of_by_name():
    """A forgotten `model.eval()`: the map of an image depends on its batch mates."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Conv(4, (3, 3), name="conv")(x)
            x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
            return nn.Dense(5)(nn.relu(x).mean((1, 2)))

    model = Net()
    variables = jax.jit(model.init, static_argnames="train")(jax.random.key(0), IMAGES, train=False)
    training = lambda x: jaxcam.linen(model, variables, train=True, mutable=["batch_stats"])(x)[0]
    with pytest.warns(UserWarning, match=r"batch are joined at 'norm'.*model.eval\(\)"):
        jax.eval_shape(lambda x: jaxcam.grad_cam(training, x, 0), IMAGES)
    with pytest.warns(UserWarning, match="batch are joined at 'norm'"):
        jax.eval_shape(lambda x: jaxcam.lrp_map(training, x, 0), IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_used = jaxcam.linen(model, variables, train=False)
        jax.eval_shape(lambda x: jaxcam.grad_cam(as_used, x, 0), IMAGES)
        loss = lambda x: jaxcam.fostering.fostering_loss(training, x, [0, 0], layer="conv")
        jax.eval_shape(loss, IMAGES)
