"""RISE: masks against the original recipe in float64, maps against the literal sum and theory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.transform

import jaxcam
from jaxcam._explainers import rise as module
from jaxcam._explainers.rise import rise


@pytest.fixture(scope="module")
def tiny():
    """A perceptron, which compiles in no time, and two images."""
    rng = np.random.default_rng(4)
    first, last = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((192, 16), (16, 5))
    )
    forward = lambda x: jnp.tanh(x.reshape(len(x), -1) @ first / 6) @ last
    return forward, jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)


def drawn(count, grid=7, keep=0.5, size=(8, 8), key=0):
    return module.masks(*module.draw(jax.random.key(key), count, grid, keep, size), size)


def literal_mask(grid, shift, size):
    """The original generator in float64, for a given grid and shift."""
    cells = np.ceil(np.array(size) / len(grid)).astype(int)
    up = skimage.transform.resize(
        grid.astype(np.float64),
        (len(grid) + 1) * cells,
        order=1,
        mode="reflect",
        anti_aliasing=False,
    )
    return up[shift[0] : shift[0] + size[0], shift[1] : shift[1] + size[1]]


@pytest.mark.parametrize(
    ("size", "cells"), [((32, 32), 7), ((24, 30), 4), ((8, 8), 8), ((5, 9), 2)]
)
def test_masks_equal_the_original_generators(rng, size, cells):
    limits = -(-np.array(size) // cells)
    shifts = np.concatenate([[[0, 0], limits - 1], rng.integers(0, limits, (4, 2))])
    grids = rng.random((6, cells, cells)) < 0.5
    expected = np.stack([literal_mask(g, s, size) for g, s in zip(grids, shifts, strict=True)])
    np.testing.assert_allclose(
        module.masks(jnp.asarray(grids), jnp.asarray(shifts), size), expected, atol=1e-6
    )
    rows, cols = (module.magnifier(side, cells) for side in size)
    exact = [
        (rows @ g @ cols.T)[x : x + size[0], y : y + size[1]]
        for g, (x, y) in zip(grids, shifts, strict=True)
    ]
    np.testing.assert_allclose(exact, expected, rtol=0, atol=2e-15)


def test_borders_are_mirrored_not_repeated():
    """Half a cell beyond the first one, its neighbour shines in again."""
    first, second = module.magnifier(16, 4)[:2, :2].sum(0), module.magnifier(16, 4)[:2, 1]
    assert (second > 0).all()
    np.testing.assert_allclose(first.sum(), 2)


@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_the_mean_mask_is_the_probability_to_keep_a_cell(keep):
    masks = np.asarray(drawn(3000, grid=4, keep=keep, size=(12, 12)))
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    # 3.5 standard errors of a grid's cell
    np.testing.assert_allclose(masks.mean(0), keep, atol=0.035)
    np.testing.assert_allclose(masks.mean(), keep, atol=0.01)


def test_a_mask_depends_on_its_index_and_key_alone():
    few, many, others = (np.asarray(drawn(*args)) for args in ((3,), (5,), (5, 7, 0.5, (8, 8), 1)))
    np.testing.assert_array_equal(few, many[:3])
    assert np.abs(many - others).mean() > 0.1
    assert np.abs(many[0] - many[1:]).mean((1, 2)).min() > 0.1


def test_rise_equals_the_literal_sum(tiny):
    """Softmax probabilities, not logits; divided by N p."""
    forward, images = tiny
    masks, x = np.asarray(drawn(11, grid=3, keep=0.4), np.float64), np.asarray(images, np.float64)
    maps = jax.jit(lambda i: rise(forward, i, [1, 2], num_masks=11, grid=3, keep=0.4, chunk=4))(
        images
    )
    logits = np.asarray(
        forward(jnp.asarray((masks[:, None, :, :, None] * x).reshape(-1, 8, 8, 3), jnp.float32))
    )
    odds = np.exp(logits.reshape(11, 2, -1).astype(np.float64))
    shares = (odds / odds.sum(-1, keepdims=True))[:, [0, 1], [1, 2]]
    expected = np.einsum("nb,nhw->bhw", shares, masks) / (11 * 0.4)
    assert maps.dtype == jnp.float32
    np.testing.assert_allclose(maps, expected, rtol=2e-5)


def test_rise_of_a_linear_model_is_what_theory_says():
    """S = p sum_j a_j + (1 - p) sum_j K_ij a_j for y = sum_j a_j M_j.

    a = w x, smoothed by K = cov(M) / (p (1 - p)).
    """
    cells, keep, count = 4, 0.5, 6000
    y, x = np.mgrid[:8, :8]
    wanted = np.exp(-((y - 2) ** 2 + (x - 5) ** 2) / 8)
    images = jnp.asarray(np.stack([np.full((8, 8), 2.0), 1 + y / 8])[..., None], jnp.float32)
    weights = wanted / np.asarray(images[0, ..., 0])
    forward = lambda i: (i[..., 0] * jnp.asarray(weights, jnp.float32)[None]).sum((1, 2))[:, None]
    maps = jax.jit(
        partial(
            rise, forward, num_masks=count, grid=cells, keep=keep, chunk=500, activation="identity"
        )
    )(images, 0)
    rows = module.magnifier(8, cells)
    lines = [rows[s : s + 8] @ rows[s : s + 8].T for s in range(2)]
    smooth = np.mean([np.einsum("ab,cd->acbd", k, q) for k in lines for q in lines], 0)
    for i in range(2):
        evidence = weights * np.asarray(images[i, ..., 0], np.float64)
        expected = keep * evidence.sum() + (1 - keep) * np.einsum("acbd,bd->ac", smooth, evidence)
        # The noise of a mean of y M / p, y M having a standard deviation of less than 6 here: 4 of
        # them.
        np.testing.assert_allclose(maps[i], expected, atol=4 * 6 / keep / np.sqrt(count))
        assert np.corrcoef(np.ravel(maps[i]), evidence.ravel())[0, 1] > 0.9
        assert np.corrcoef(np.ravel(maps[i]), expected.ravel())[0, 1] > 0.98


def test_shared_properties(tiny):
    """The chunk does not matter, batch = singles, targets = one by one, a function = its class."""
    forward, images = tiny
    explain = partial(rise, forward, num_masks=12, grid=3)
    maps = explain(images, [0, 1], chunk=4)
    assert np.ptp(maps, (1, 2)).min() > 0.05
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(explain(images, [0, 1], chunk=100), maps)
    several = explain(images[1:], np.array([[2, 1]]))
    assert several.shape == (1, 2, 8, 8)
    close(several[0, 1], maps[1])
    close(explain(images, lambda logits: jax.nn.softmax(logits)[:, 1])[1], maps[1])
    given = rise(
        lambda x: jax.nn.softmax(forward(x)),
        images,
        [0, 1],
        num_masks=12,
        grid=3,
        activation="identity",
    )
    close(given, maps)
    chosen = np.argmax(forward(images), -1)
    close(explain(images), explain(images, chosen))
    close(jax.vmap(lambda i: explain(i[None], 1)[0])(images)[1], maps[1])


def test_a_model_outside_jax_gives_the_same_map_and_progress_is_told(tiny):
    forward, images = tiny
    compiled, asked, told = jax.jit(forward), [], []

    def outside(x):
        assert type(x) is np.ndarray
        asked.append(len(x))
        return np.asarray(compiled(x))

    options = {"num_masks": 10, "grid": 3, "chunk": 4}
    maps = rise(forward, images, 1, **options)
    tell = lambda done, total: told.append((done, total))
    found = rise(outside, images, 1, host=True, progress=tell, **options)
    np.testing.assert_allclose(found, maps, rtol=1e-5)
    assert told == [(4, 10), (8, 10), (10, 10)]
    assert asked == [8, 8, 8]  # 2 images, 3 chunks of 4 masks, all of one shape
    told.clear()
    np.testing.assert_allclose(rise(compiled, images, 1, progress=tell, **options), maps, rtol=1e-5)
    assert told[-1] == (10, 10)
    asked.clear()
    rise(outside, images, host=True, num_masks=100, grid=3, chunk=32)
    assert sum(asked) == 2 * (1 + 100)  # no pass is wasted on filling the last chunk


def test_a_settled_map_stops_early():
    """With the noise asked for, and the map of the masks taken; what does not settle takes all."""
    images, taken = jnp.ones((2, 8, 8, 1)).at[1].mul(0.5), []
    forward = lambda x: x[:, 1:4, 2:5].mean((1, 2))  # the evidence is in one corner
    options = {"grid": 3, "chunk": 20, "activation": "identity"}
    tell = lambda done, total: taken.append(done)
    maps = rise(forward, images, 0, num_masks=3000, tolerance=0.2, progress=tell, **options)
    assert 80 <= taken[-1] <= 1500
    assert taken[-1] % 40 == 0
    np.testing.assert_allclose(
        rise(forward, images, 0, num_masks=3000, tolerance=0.2, **options), maps, rtol=1e-4
    )
    np.testing.assert_allclose(
        rise(forward, images, 0, num_masks=taken[-1], **options), maps, rtol=1e-4
    )
    centre = lambda m: np.asarray(m) - np.mean(m, (1, 2), keepdims=True)
    full = rise(forward, images, 0, num_masks=3000, **options, key=jax.random.key(1))
    error = np.linalg.norm(centre(maps) - centre(full), axis=(1, 2)) / np.linalg.norm(
        centre(full), axis=(1, 2)
    )
    assert 0.05 < error.max() < 0.4
    blind = lambda x: jnp.abs(jnp.sin(1e4 * x.sum((1, 2, 3))))[:, None]
    rise(
        blind, images, 0, num_masks=3000, tolerance=0.01, progress=tell, **{**options, "chunk": 300}
    )
    assert taken[-1] == 3000


def test_one_compiled_loop_whose_memory_is_set_by_the_chunk():
    forward = lambda x: x.mean((1, 2))
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)

    def sizes(jaxpr):
        for eqn in jaxpr.eqns:
            yield from (np.prod(v.aval.shape) for v in eqn.outvars)
            for sub in jax.extend.core.jaxprs_in_params(eqn.params):
                yield from sizes(sub)

    def largest(chunk):
        program = jax.make_jaxpr(lambda x: rise(forward, x, 0, num_masks=640, chunk=chunk))(images)
        assert str(program).count("scan[") == 1
        return max(sizes(program.jaxpr))

    assert largest(64) == 64 * 2 * 16 * 16 * 3
    assert largest(32) == 32 * 2 * 16 * 16 * 3


def test_integer_images_are_masked_as_numbers(tiny):
    forward, _ = tiny
    photos = np.random.default_rng(0).integers(0, 255, (1, 8, 8, 3), np.uint8)
    options = {"num_masks": 4, "grid": 3}
    np.testing.assert_allclose(
        rise(forward, photos, 0, **options), rise(forward, photos * 1.0, 0, **options)
    )


@pytest.mark.parametrize("options", [{}, {"targets": 0}, {"targets": 0, "progress": print}])
def test_a_function_of_numpy_arrays_is_told_to_say_host(tiny, options):
    forward, images = tiny
    box = lambda x: np.asarray(forward(np.asarray(x)))
    with pytest.raises(
        TypeError, match=r"forward: got a function of NumPy arrays, .*host=True"
    ) as caught:
        rise(box, images, num_masks=2, **options)
    assert isinstance(caught.value.__cause__, jax.errors.TracerArrayConversionError)
    with pytest.raises(TypeError, match="host=True"):
        jaxcam.lime(box, images, segments=np.zeros(images.shape[:3], int), num_samples=2, **options)


def test_bad_input_is_named(tiny):
    forward, images = tiny
    with pytest.raises(ValueError, match="num_masks: got 0, expected a whole number, at least 1"):
        rise(forward, images, num_masks=0)
    with pytest.raises(ValueError, match="grid: got 1, expected a whole number, at least 2"):
        rise(forward, images, grid=1)
    with pytest.raises(ValueError, match=r"keep: got 0\.0, expected a number in \(0, 1\]"):
        rise(forward, images, keep=0.0)
    with pytest.raises(ValueError, match="chunk: got 0, expected at least 1"):
        rise(forward, images, chunk=0)
    with pytest.raises(ValueError, match="tolerance: got 0, expected a number above 0"):
        rise(forward, images, tolerance=0)
    with pytest.raises(
        ValueError, match=r"images: got shape \(8, 8, 3\), .*expected \[B, H, W, C\]"
    ):
        rise(forward, images[0])
    with pytest.raises(ValueError, match=r"targets: got shape \(1,\) for 2 images"):
        rise(forward, images, [0])
    with pytest.raises(ValueError, match="targets: got class 5, expected 0 to 4"):
        rise(forward, images, 5)
    with pytest.raises(ValueError, match="targets: got class 5, expected 0 to 4"):
        rise(lambda x: np.asarray(forward(x)), images, 5, host=True)
    with pytest.raises(
        ValueError, match=r"forward: got an output of shape \(2, 8, 8, 3\) for 2 images, expected"
    ):
        rise(lambda x: x, images)
    with pytest.raises(ValueError, match=r"forward: got a tuple for 2 images, expected \[2, N\]"):
        rise(lambda x: (forward(x), None), images, 0)
    with pytest.raises(ValueError, match="host: got True inside a transformation"):
        jax.jit(lambda i: rise(forward, i, 0, host=True))(images)
