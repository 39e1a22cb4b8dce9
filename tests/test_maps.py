"""maps: against literal float64 NumPy references, and the laws that they keep."""

import inspect

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from jaxcam import maps


def _tent(t):
    return np.maximum(1 - np.abs(t), 0)


def _cubic(t, a=-0.75):
    t = np.abs(t)
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _resize_reference(image, size, kernel, reach):
    """One pixel at a time: half-pixel centres, clamped at the border (align_corners=False)."""
    (h, w), (H, W) = image.shape, size
    out = np.zeros(size)
    for y in range(H):
        for x in range(W):
            v, u = (y + 0.5) * h / H - 0.5, (x + 0.5) * w / W - 0.5
            if reach == 1:  # bilinear clamps the coordinate, bicubic only the index
                v, u = max(v, 0), max(u, 0)
            for i in range(int(np.floor(v)) - reach + 1, int(np.floor(v)) + reach + 1):
                for j in range(int(np.floor(u)) - reach + 1, int(np.floor(u)) + reach + 1):
                    value = image[min(max(i, 0), h - 1), min(max(j, 0), w - 1)]
                    out[y, x] += kernel(v - i) * kernel(u - j) * value
    return out


@pytest.mark.parametrize("size", [(14, 15), (7, 5), (3, 2), (1, 1), (20, 3)])
def test_resize_equals_the_literal_sum(rng, size):
    low = rng.normal(size=(7, 5))
    for method, kernel, reach in (("bilinear", _tent, 1), ("bicubic", _cubic, 2)):
        expected = _resize_reference(low, size, kernel, reach)
        np.testing.assert_allclose(maps.resize(low, size, method), expected, atol=5e-6)


def test_resize_nearest_repeats_cells():
    low = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(
        maps.resize(low, (4, 9), "nearest"), np.kron(low, np.ones((2, 3)))
    )


def test_resize_keeps_leading_axes_constants_and_the_mean_of_whole_multiples(rng):
    low = rng.normal(size=(2, 3, 4, 4)).astype(np.float32)
    big = maps.resize(low, (8, 12))
    assert big.shape == (2, 3, 8, 12) and big.dtype == jnp.float32
    np.testing.assert_allclose(big[1, 2], maps.resize(low[1, 2], (8, 12)), atol=1e-6)
    np.testing.assert_allclose(big.mean((-2, -1)), low.mean((-2, -1)), atol=1e-5)
    np.testing.assert_allclose(maps.resize(np.full((3, 3), 0.3), (7, 8)), 0.3, rtol=1e-6)


def test_resize_of_half_precision_is_float32():
    assert maps.resize(jnp.ones((2, 2), jnp.bfloat16), (4, 4)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: maps.resize(np.ones(3), (4, 4)),
            r"maps: got shape \(3,\), expected \[\.\.\., h, w\]",
        ),
        (lambda: maps.resize(np.ones((0, 3)), (4, 4)), r"maps: got shape \(0, 3\)"),
        (lambda: maps.resize(np.ones((3, 3)), 4), r"size: got 4, expected \(height, width\)"),
        (lambda: maps.resize(np.ones((3, 3)), (4, 0)), r"size: got \(4, 0\)"),
        (lambda: maps.resize(np.ones((3, 3)), (4.5, 4)), r"size: got \(4\.5, 4\)"),
        (
            lambda: maps.resize(np.ones((3, 3)), (4, 4), "cubic"),
            r"method: got 'cubic', expected one of 'bilinear', 'bicubic'",
        ),
        (
            lambda: maps.normalize(np.ones((3, 3)), "minmax"),
            r"method: got 'minmax', expected one of 'min_max', 'positive'",
        ),
        (lambda: maps.normalize(np.ones(3)), r"maps: got shape \(3,\)"),
        (
            lambda: maps.normalize(np.ones((3, 3)), "max", percentile=0),
            r"percentile: got 0, expected a number in \(0, 100\]",
        ),
        (lambda: maps.threshold(np.ones(3)), r"maps: got"),
        (
            lambda: maps.threshold_of_max(np.ones((3, 3)), fraction=1.5),
            r"fraction: got 1\.5, expected a number in \[0, 1\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


NORMALIZE_REFERENCES = {
    "min_max": lambda m: (m - m.min()) / (m.max() - m.min()),
    "positive": lambda m: (np.maximum(m, 0) - max(m.min(), 0)) / (m.max() - max(m.min(), 0)),
    "max": lambda m: np.maximum(m, 0) / m.max(),
    "signed": lambda m: m / np.abs(m).max(),
}


@pytest.mark.parametrize("method", NORMALIZE_REFERENCES)
def test_normalize_equals_the_formula_map_by_map(rng, method):
    raw = rng.normal(size=(2, 3, 5, 4)) * 1e-4
    out = np.asarray(maps.normalize(raw, method))
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(out[index], NORMALIZE_REFERENCES[method](raw[index]), atol=1e-6)
    np.testing.assert_allclose(
        jax.jit(maps.normalize, static_argnums=1)(raw, method), out, atol=1e-6
    )
    # the scale cancels
    np.testing.assert_allclose(maps.normalize(1e3 * raw, method), out, atol=1e-5)


@pytest.mark.parametrize("method", NORMALIZE_REFERENCES)
def test_normalize_gives_zero_for_maps_that_say_nothing(method):
    nothing = {"min_max": 0.1, "positive": 0.1, "max": -0.1, "signed": 0.0}[method]
    flat = jnp.full((1, 3, 3), nothing, jnp.float32)
    np.testing.assert_array_equal(maps.normalize(flat, method), 0.0)
    gradient = jax.grad(lambda m: maps.normalize(m, method)[0, 1, 1])(flat)
    np.testing.assert_array_equal(gradient, 0.0)


def test_normalize_positive_drops_negative_evidence_and_a_common_offset():
    np.testing.assert_allclose(
        maps.normalize([[-8.0, 0.0, 1.0, 2.0]], "positive"), [[0, 0, 0.5, 1]]
    )
    np.testing.assert_allclose(maps.normalize([[6.0, 7.0, 8.0]], "positive"), [[0, 0.5, 1]])
    np.testing.assert_array_equal(maps.normalize([[-3.0, -2.0, -1.0]], "positive"), 0.0)


@pytest.mark.parametrize("method", NORMALIZE_REFERENCES)
def test_normalize_does_not_hide_nan_and_keeps_it_to_its_map(rng, method):
    raw = rng.normal(size=(2, 4, 4)).astype(np.float32)
    raw[0, 1, 2] = np.nan
    out = np.asarray(maps.normalize(raw, method))
    assert np.isnan(out[0]).all() and np.isfinite(out[1]).all()
    assert np.isnan(np.asarray(maps.resize(raw, (8, 8)))[0]).all()


@pytest.mark.parametrize("method", NORMALIZE_REFERENCES)
def test_normalize_gradient_equals_finite_differences(rng, method):
    raw, weights, step = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), 1e-6

    def loss(m):
        return (weights * NORMALIZE_REFERENCES[method](m)).sum()

    expected = np.array(
        [(loss(raw + step * e) - loss(raw - step * e)) / (2 * step) for e in _units(raw.shape)]
    )
    gradient = jax.grad(lambda m: (weights * maps.normalize(m, method)).sum())(jnp.asarray(raw))
    np.testing.assert_allclose(gradient.ravel(), expected, atol=1e-4)


def _units(shape):
    return np.eye(int(np.prod(shape))).reshape(-1, *shape)


@pytest.mark.parametrize("method", NORMALIZE_REFERENCES)
def test_normalize_to_a_percentile_cuts_outliers_first(rng, method):
    raw = rng.normal(size=(2, 9, 8))
    raw[0, 3, 3], raw[1, 2, 2] = 40, -30
    for percentile in (80, 90.0):
        out = np.asarray(maps.normalize(raw, method, percentile=percentile))
        for found, one in zip(out, raw, strict=True):
            limit = np.percentile(np.abs(one), percentile)
            cut = np.minimum(np.maximum(one, -limit), limit)
            np.testing.assert_allclose(found, NORMALIZE_REFERENCES[method](cut), atol=1e-6)
        assert np.abs(out - np.asarray(maps.normalize(raw, method))).max() > 0.1
    np.testing.assert_array_equal(
        maps.normalize(raw, method, percentile=100), maps.normalize(raw, method)
    )


def test_normalize_to_a_percentile_keeps_maps_that_are_zero_nearly_everywhere():
    sparse = np.zeros((1, 10, 10))
    sparse[0, 4, 4] = 2
    np.testing.assert_array_equal(maps.normalize(sparse, "signed", percentile=90), sparse / 2)
    assert np.isfinite(
        jax.grad(lambda m: maps.normalize(m, "signed", percentile=90).sum())(jnp.asarray(sparse))
    ).all()


@pytest.mark.parametrize("k", [0.0, 1.0, 2.0])
def test_threshold_is_mean_plus_k_population_deviations(rng, k):
    raw = rng.gamma(1.0, size=(3, 6, 5))
    expected = np.stack([m > m.mean() + k * np.sqrt(((m - m.mean()) ** 2).mean()) for m in raw])
    got = maps.threshold(raw, k=k)
    assert got.dtype == jnp.bool_ and 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(got, expected)
    # affine maps change nothing
    np.testing.assert_array_equal(maps.threshold(5 * raw - 2, k=k), expected)
    # mean 1/4, deviation sqrt(3)/4 = 0.433, of a sample 1/2
    spike = np.array([[0.0, 0.0, 0.0, 1.0]])
    assert maps.threshold(spike, k=1.7).any() and not maps.threshold(spike, k=1.75).any()


def test_threshold_of_max_is_cams_rule(rng):
    raw = rng.normal(size=(3, 6, 5))
    expected = np.stack([m > 0.2 * m.max() for m in raw])
    np.testing.assert_array_equal(maps.threshold_of_max(raw), expected)
    assert maps.threshold_of_max(raw, fraction=0.9).sum() < expected.sum()


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, np.nan])
def test_thresholds_are_empty_for_constant_maps(value):
    flat = np.full((1, 7, 7), value)
    assert not maps.threshold(flat, k=0.0).any()
    assert not maps.threshold_of_max(-np.abs(flat)).any()


def test_overlay_blends_the_colormap(rng):
    images, heat = rng.random((2, 4, 5, 3)), rng.random((2, 4, 5))
    colours = matplotlib.colormaps["viridis"](heat)[..., :3]
    got = maps.overlay(images, heat, colormap="viridis", alpha=0.3)
    np.testing.assert_allclose(got, 0.7 * images + 0.3 * colours, atol=1e-6)
    np.testing.assert_allclose(
        maps.overlay(images[0], heat[0], colormap="viridis", alpha=0.3), got[0]
    )
    np.testing.assert_allclose(maps.overlay(images, heat, alpha=0.0), images, atol=1e-7)
    varied = maps.overlay(images, heat, colormap="viridis", alpha=heat)
    np.testing.assert_allclose(varied, images + heat[..., None] * (colours - images), atol=1e-6)


def test_overlay_of_signed_maps_has_its_neutral_colour_at_zero():
    image = np.zeros((1, 3, 3))
    got = maps.overlay(image, np.array([[-1.0, 0.0, 1.0]]), alpha=1.0, signed=True)
    np.testing.assert_allclose(
        got[0], matplotlib.colormaps["coolwarm"]([0.0, 0.5, 1.0])[:, :3], atol=1e-6
    )


def test_overlay_shows_nan_as_dark_grey_not_as_cold():
    image, heat = np.full((1, 2, 3), [0.9, 0.6, 0.3]), np.array([[0.0, np.nan]])
    got = maps.overlay(image, heat)
    np.testing.assert_allclose(got[0, 1], 0.4 * 0.6, atol=1e-6)
    assert not np.allclose(got[0, 0], got[0, 1])


ONES, ZEROS = np.ones((1, 2, 2, 3)), np.zeros((1, 2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: maps.overlay(ONES, np.zeros((1, 3, 2))),
            r"heatmaps: got shape \(1, 3, 2\) for images \(1, 2, 2, 3\), expected images \[B",
        ),
        (
            lambda: maps.overlay(255 * ONES, ZEROS),
            r"images: got values 255 to 255, expected \[0, 1\] \(divide",
        ),
        (
            lambda: maps.overlay(ONES, ZEROS - 0.5),
            r"heatmaps: got values -0\.5 to -0\.5, expected \[0, 1\]",
        ),
        (
            lambda: maps.overlay(ONES, ZEROS - 2, signed=True),
            r"heatmaps: got values -2 to -2, expected \[-1, 1\]",
        ),
        (
            lambda: maps.overlay(ONES, ZEROS, alpha=2),
            r"alpha: got values 2 to 2, expected \[0, 1\]",
        ),
        (
            lambda: maps.overlay(ONES, ZEROS, alpha=np.ones(2)),
            r"alpha: got shape \(2,\), expected a number or",
        ),
        (
            lambda: maps.overlay(ONES, ZEROS, colormap="infrno"),
            r"colormap: got 'infrno', expected one of",
        ),
        (
            lambda: maps.figure(ONES[0], ZEROS),
            r"images: got shape \(2, 2, 3\), expected \[B, H, W, 3\]",
        ),
        (
            lambda: maps.figure(ONES, {"x": ZEROS[0]}),
            r"heatmaps: got shape \(2, 2\) for 'x', expected \[1, h, w\]",
        ),
        (
            lambda: maps.figure(ONES, {"x": ZEROS + 2}),
            r"heatmaps 'x': got values 2 to 2, expected \[0, 1\] .*normalize",
        ),
        (
            lambda: maps.figure(ONES, {"x": ZEROS - 1}),
            r"heatmaps 'x': got values -1 to -1, expected \[0, 1\]",
        ),
        (
            lambda: maps.figure(ONES, ZEROS + 1e-6),
            r"heatmaps: got values of at most 1e-06 .*maps\.normalize",
        ),
        (
            lambda: maps.figure(ONES, ZEROS - 0.4, signed=True),
            r"at most 0\.4 .* which span \[-1, 1\]",
        ),
        (
            lambda: maps.figure(ONES, ZEROS, ["a", "b"]),
            r"titles: got 2, expected one for each of 1 image",
        ),
    ],
)
def test_bad_pictures_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_figure_draws_every_heatmap_without_pyplot(rng, tmp_path):
    images, heat = rng.random((2, 8, 12, 3)), rng.random((2, 2, 3))
    before = matplotlib.get_backend(auto_select=False)
    made = maps.figure(images, {"grad_cam": heat, "cost $5": 1 - heat}, ["a cat", "$a$"])
    made.savefig(tmp_path / "figure.png")
    assert matplotlib.get_backend(auto_select=False) == before
    *pictures, key = made.axes
    axes = np.array(pictures).reshape(2, 3)
    assert key.images
    assert [a.get_title() for a in axes[0]] == ["", "grad_cam", "cost $5"]
    assert [a.get_ylabel() for a in axes[:, 0]] == ["a cat", "$a$"]
    np.testing.assert_allclose(axes[1, 0].images[0].get_array(), images[1], atol=1e-6)
    expected = maps.overlay(images, np.asarray(maps.resize(heat, (8, 12))))
    np.testing.assert_allclose(axes[1, 1].images[0].get_array(), expected[1], atol=1e-6)


@pytest.mark.parametrize(("width", "inches"), [("column", 3.25), ("page", 6.9)])
def test_a_figure_for_a_paper_is_as_wide_as_its_column(rng, width, inches):
    images = rng.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    heat = maps.normalize(rng.uniform(size=(2, 4, 4)).astype(np.float32))
    figure = maps.figure(images, {"a": heat, "b": heat}, width=width)
    assert figure.get_size_inches()[0] == pytest.approx(inches)
    assert figure.axes[1].title.get_fontsize() == 7
    with pytest.raises(ValueError, match="width: got 'colum'"):
        maps.figure(images, heat, width="colum")


@pytest.mark.parametrize("width", [None, "column", "page"])
@pytest.mark.parametrize(
    ("signed", "colormap", "ends"),
    [(False, "inferno", ["little", "much"]), (True, "coolwarm", ["against", "for"])],
)
def test_a_figure_says_what_its_colours_mean(rng, width, signed, colormap, ends):
    """In the words of the command line's pictures, below all else and within the figure."""
    images = rng.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    heat = maps.normalize(rng.normal(size=(2, 4, 4)), "signed" if signed else "min_max")
    made = maps.figure(images, {"a": heat, "b": heat}, ["x", "y"], signed=signed, width=width)
    assert [text.get_text() for text in made.texts] == ends
    assert made.axes[-1].images[0].get_cmap().name == colormap
    made.draw_without_rendering()
    key = [each.get_window_extent() for each in (*made.texts, made.axes[-1])]
    pictures = [axes.get_tightbbox() for axes in made.axes[:-1]]
    lowest = min(box.y0 for box in pictures)
    for box in key:
        assert 0 <= box.x0 < box.x1 <= made.bbox.x1
        assert 0 <= box.y0 < box.y1 <= lowest
    low, much, bar = key
    assert low.x1 < bar.x0 < bar.x1 < much.x0


def test_the_key_shows_the_colours_that_were_asked_for(rng):
    images, heat = np.ones((1, 4, 4, 3)), np.eye(4)[None]
    made = maps.figure(images, heat, colormap="viridis", signed=True)
    assert made.axes[-1].images[0].get_cmap().name == "viridis"


def test_figure_takes_what_normalize_gives(rng):
    """A common scale leaves one of several columns faint; nothing positive is 0; unknown is NaN."""
    images, heat = np.ones((1, 4, 4, 3)), rng.random((1, 4, 4))
    maps.figure(images, {"much": maps.normalize(heat), "little": 0.01 * heat, "nothing": 0 * heat})
    maps.figure(images, maps.normalize(0 * heat))
    maps.figure(images, np.full((1, 4, 4), np.nan))
    maps.figure(images, maps.normalize(heat - 0.5, "signed"), signed=True)


def test_segmentation_mask_is_the_threshold_of_the_resized_map(rng):
    raw = rng.normal(size=(3, 4, 5)).astype(np.float32)
    for k in (1.0, 0.5):
        large = np.asarray(maps.resize(raw, (16, 12)))
        deviations = (large - large.mean((1, 2), keepdims=True)) / large.std((1, 2), keepdims=True)
        mask = maps.segmentation_mask(raw, (16, 12), k=k)
        np.testing.assert_array_equal(mask, deviations > k)
    np.testing.assert_array_equal(
        maps.segmentation_mask(raw, (16, 12)), maps.segmentation_mask(raw, (16, 12), k=1.0)
    )


def test_numbers_are_given_by_name():
    for name in maps.__all__:
        value = getattr(maps, name)
        if inspect.isfunction(value):
            for parameter in inspect.signature(value).parameters.values():
                if isinstance(parameter.default, int | float):
                    assert parameter.kind is parameter.KEYWORD_ONLY, (name, parameter.name)
