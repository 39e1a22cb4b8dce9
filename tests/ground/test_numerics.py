"""Filters, interpolation and order statistics against SciPy, skimage, PyTorch's rules and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.transform

from jaxcam._ground import filters, interpolation, order


def test_gaussian_is_scipys():
    impulse = np.zeros(41)
    impulse[20] = 1
    expected = scipy.ndimage.gaussian_filter1d(impulse, 3.0, truncate=4.0)
    np.testing.assert_allclose(filters.gaussian(3.0, 12), expected[8:33], rtol=1e-12)


@pytest.mark.parametrize(
    ("border", "scipys"), [("edge", "nearest"), ("symmetric", "reflect"), ("constant", "constant")]
)
def test_smoothing_is_scipys(rng, border, scipys):
    x = rng.normal(size=(30, 4))
    expected = scipy.ndimage.gaussian_filter1d(x, 2.5, axis=0, mode=scipys)
    np.testing.assert_allclose(filters.smoothing(30, 2.5, border) @ x, expected, atol=1e-12)


def test_folded_is_the_filter_of_a_reflected_impulse():
    impulse = np.zeros(11)
    impulse[5] = 1
    expected = scipy.ndimage.gaussian_filter1d(impulse, 5.0, mode="reflect")
    np.testing.assert_allclose(filters.folded(filters.gaussian(5.0, 20), 11), expected, atol=1e-12)


@pytest.mark.parametrize("axis", [1, 2])
def test_correlate_is_scipys(rng, axis):
    x = rng.normal(size=(2, 9, 8, 3)).astype(np.float32)
    taps = np.array([0.2, 0.5, 0.1, 0.7, -0.3])
    expected = scipy.ndimage.correlate1d(x, taps, axis, mode="constant")
    padded = filters.correlate(jnp.asarray(x), taps, axis, pad=True)
    np.testing.assert_allclose(padded, expected, atol=1e-6)
    inside = [slice(None)] * 4
    inside[axis] = slice(2, -2)
    valid = filters.correlate(jnp.asarray(x), taps, axis, pad=False)
    np.testing.assert_allclose(valid, expected[tuple(inside)], atol=1e-6)


@pytest.mark.parametrize(("cells", "pixels"), [(3, 8), (7, 20), (8, 3), (1, 5), (5, 5)])
def test_centres_are_jaxs_bilinear_resize(rng, cells, pixels):
    x = rng.normal(size=cells).astype(np.float32)
    matrix = interpolation.linear(interpolation.centres(pixels, cells), cells)
    expected = jax.image.resize(x, (pixels,), "bilinear", antialias=False)
    np.testing.assert_allclose(matrix @ x, expected, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize(("cells", "pixels"), [(3, 8), (7, 20), (8, 3), (1, 5), (2, 2)])
def test_aligned_corners_lie_on_corners(rng, cells, pixels):
    x = rng.normal(size=cells)
    matrix = interpolation.linear(interpolation.aligned(pixels, cells), cells)
    places = np.arange(pixels) * (cells - 1) / max(pixels - 1, 1)
    np.testing.assert_allclose(matrix @ x, np.interp(places, np.arange(cells), x), atol=1e-12)


def test_mirrored_borders_are_skimages(rng):
    x = rng.normal(size=7)
    matrix = interpolation.linear(interpolation.centres(40, 7), 7, "mirror")
    expected = skimage.transform.resize(
        np.repeat(x[:, None], 2, 1), (40, 2), order=1, mode="reflect", anti_aliasing=False
    )
    np.testing.assert_allclose(matrix @ x, expected[:, 0], atol=1e-12)


def test_whole_positions_take_the_nearest_cell():
    matrix = interpolation.linear(np.array([0, 0, 1, 2, 2]), 3)
    np.testing.assert_array_equal(matrix, np.eye(3)[[0, 0, 1, 2, 2]])


@pytest.mark.parametrize("axis", [0, 1])
def test_separable(rng, axis):
    x = rng.normal(size=(4, 4, 4)).astype(np.float32)
    rows, columns = rng.normal(size=(5, 4)), rng.normal(size=(6, 4))
    names = {0: "Hh,hwc,Ww->HWc", 1: "Hh,bhw,Ww->bHW"}[axis]
    expected = np.einsum(names, rows, x, columns)
    found = interpolation.separable(jnp.asarray(x), rows, columns, axis=axis)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_keys_keep_the_order_and_come_back(dtype):
    values = jnp.array([-jnp.inf, -3.5, -1e-3, -0.0, 0.0, 1e-3, 2.0, jnp.inf]).astype(dtype)
    keys = order.to_keys(values)
    assert (np.diff(np.asarray(keys, np.float64)) > 0).all()
    np.testing.assert_array_equal(order.from_keys(keys, values.dtype), values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("k", [1, 7, 50])
def test_kth_largest_is_that_of_a_sort(rng, dtype, k):
    rows = jnp.asarray(rng.normal(size=(3, 50)), dtype).at[:, :9].set(0.5)
    found = jax.jit(order.kth_largest, static_argnums=1)(rows, k)
    assert found.dtype == rows.dtype
    np.testing.assert_array_equal(found, np.sort(np.asarray(rows, np.float32), 1)[:, -k])


@pytest.mark.parametrize("k", [1, 7, 50, 100])
def test_kth_largest_equals_a_sort(k, rng):
    values = rng.normal(size=(5, 100)).astype(np.float32)
    values[1] = np.round(values[1])  # ties
    values[2] = -np.abs(values[2]) * 1e-40  # denormal
    values[3] *= np.float32(1e37)
    values[4, ::2] = 0.0
    values[4, 1::4] = -0.0
    expected = np.sort(values, axis=1)[:, -k]
    with jax.enable_x64(True):
        doubles = order.kth_largest(jnp.asarray(values, jnp.float64), k)
    found = np.asarray(order.kth_largest(jnp.asarray(values), k))
    np.testing.assert_array_equal(doubles, expected)
    np.testing.assert_array_equal(found[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])
    np.testing.assert_allclose(found[2], expected[2], atol=1e-38)


@pytest.mark.parametrize("side", [3, 5])
def test_window_median_is_scipys(rng, side):
    images = rng.normal(size=(2, 7, 6, 2)).astype(np.float32)
    expected = scipy.ndimage.median_filter(images, (1, side, side, 1), mode="nearest")
    np.testing.assert_array_equal(order.window_median(jnp.asarray(images), side), expected)
