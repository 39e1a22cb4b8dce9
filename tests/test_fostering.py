"""The measures of CAM fostering: literal form, theory's values, gradients everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import fostering
from tests.metrics import literal

MEASURES = {
    fostering.cam_entropy: literal.entropy,
    fostering.cam_area: literal.area,
    fostering.cam_dispersion: literal.dispersion,
}


def one_hot(*cells, size=(6, 5)):
    maps = np.zeros((1, *size))
    for cell in cells:
        maps[(0, *cell)] = 3.0
    return jnp.asarray(maps, jnp.float32)


def gaussian(std, size=(41, 51), scale=1e-3):
    y, x = np.mgrid[: size[0], : size[1]]
    return jnp.asarray(
        scale * np.exp(-((y - 20) ** 2 + (x - 25) ** 2) / (2 * std**2)), jnp.float32
    )[None]


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.__name__)
def test_measure_equals_its_literal_form(measure, rng):
    # negative values count as 0
    maps = rng.normal(size=(4, 6, 7)) * np.array([1, 1e-4, 1e4, 1])[:, None, None]
    expected = [MEASURES[measure](m) for m in maps]
    np.testing.assert_allclose(measure(jnp.asarray(maps, jnp.float32)), expected, rtol=2e-5)


def test_entropy_of_a_constant_and_of_one_cell():
    np.testing.assert_allclose(
        fostering.cam_entropy(jnp.full((1, 6, 5), 1e-4)), [np.log(30)], rtol=1e-6
    )
    assert fostering.cam_entropy(one_hot((2, 3))) == 0
    np.testing.assert_allclose(
        fostering.cam_entropy(one_hot((2, 3), (0, 0))), [np.log(2)], rtol=1e-6
    )


def test_entropy_of_the_softmax_depends_on_scale(rng):
    maps = jnp.asarray(rng.normal(size=(1, 4, 4)), jnp.float32)
    p = np.exp(maps) / np.exp(maps).sum()
    np.testing.assert_allclose(
        fostering.cam_entropy(maps, norm="softmax"), [-(p * np.log(p)).sum()], rtol=1e-5
    )
    assert fostering.cam_entropy(10 * maps, norm="softmax") < fostering.cam_entropy(
        maps, norm="softmax"
    )
    assert fostering.cam_entropy(jnp.array([[[0.0, 1e4]]]), norm="softmax") == 0


def test_area_of_a_gaussian_a_cell_and_a_line():
    np.testing.assert_allclose(fostering.cam_area(gaussian(3.0)), [9], rtol=1e-3)
    assert fostering.cam_area(one_hot((2, 3))) == 0
    np.testing.assert_allclose(fostering.cam_area(one_hot((1, 1), (2, 2), (4, 4))), [0], atol=2e-3)
    np.testing.assert_allclose(
        fostering.cam_area(one_hot((0, 0), (0, 2), (2, 0), (2, 2))), [1], rtol=1e-6
    )


def test_dispersion_of_a_constant_and_of_one_cell():
    np.testing.assert_allclose(
        fostering.cam_dispersion(jnp.full((1, 6, 5), 1e-12)), [0], atol=1e-10
    )
    np.testing.assert_allclose(fostering.cam_dispersion(one_hot((2, 3))), [29], rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    "maps", [jnp.zeros((1, 4, 4)), -jnp.ones((1, 4, 4)), one_hot((1, 1)), one_hot((1, 1), (3, 3))]
)
def test_value_and_gradient_are_finite_where_the_formula_is_not(measure, maps):
    value, gradient = jax.value_and_grad(lambda m: measure(m).sum())(maps)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if maps.max() <= 0:
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.__name__)
def test_gradient_equals_the_difference_quotient(measure, rng):
    with jax.enable_x64(True):
        maps = jnp.asarray(rng.uniform(0.1, 1, (1, 3, 4)))
        direction = jnp.asarray(rng.normal(size=(1, 3, 4)))
        slope = (measure(maps + 1e-6 * direction) - measure(maps - 1e-6 * direction)) / 2e-6
        gradient = jax.grad(lambda m: measure(m).sum())(maps)
        np.testing.assert_allclose((gradient * direction).sum(), slope[0], rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.__name__)
def test_nan_stays_with_its_map(measure):
    values = measure(jnp.ones((2, 3, 3)).at[0, 1, 1].set(jnp.nan))
    assert np.isnan(values[0])
    assert np.isfinite(values[1])


def test_scale_and_dtype_do_not_matter(rng):
    maps = jnp.asarray(rng.uniform(0, 1, (2, 5, 5)), jnp.bfloat16)
    for measure in MEASURES:
        value = measure(maps)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(measure(maps.astype(jnp.float32) * 2**-30), value, rtol=1e-5)


def test_bad_input_is_named():
    for measure in MEASURES:
        with pytest.raises(ValueError, match=r"maps: got shape \(3, 3\), expected \[B, h, w\]"):
            measure(jnp.ones((3, 3)))
    with pytest.raises(ValueError, match="norm: got 'max', expected one of 'sum', 'softmax'"):
        fostering.cam_entropy(jnp.ones((1, 3, 3)), norm="max")
