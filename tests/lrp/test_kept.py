"""Units to which no input contributes: who gets their relevance, and who is told if nobody."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam import lrp
from jaxcam.cli import commands
from jaxcam.lrp import _kept, rules
from tests.lrp import literal


def dead_case(rng):
    """Depthwise: a channel of zeros, one of inhibition alone, and two as usual."""
    x = np.abs(rng.normal(size=(5, 5, 4)))
    x[..., 0] = 0
    kernel = rng.normal(size=(3, 3, 1, 4))
    kernel[..., 1] = -np.abs(kernel[..., 1])
    return x, kernel, rng.uniform(1, 2, size=4)


def proportions(name, x, w):
    p = x[:, None] * w
    if name == "z_plus":
        return literal.plus(p)
    more = np.where(p.sum(0) > 0, literal.plus(p), literal.minus(p))
    return p + 0.4 * more


@pytest.mark.parametrize(("name", "rule"), [("z_plus", rules.z_plus), ("gamma", rules.gamma(0.4))])
def test_flat_where_a_rule_has_no_denominator(rng, name, rule):
    """Two layers, active through their biases; all of it in float64 by the formula."""
    x, kernel, bias = dead_case(rng)
    matrix, (height, width, channels) = literal.conv_matrix(x.shape, kernel, padding=1, groups=4)
    top = np.abs(rng.normal(size=(height * width * channels, 3)))
    hidden = np.maximum((x.ravel() @ matrix).reshape(height, width, channels) + bias, 0).ravel()
    start = np.array([1.0, -2.0, 0.5])
    middle = literal.or_flat(proportions(name, hidden, top), top, start)
    # the receptive field, padding aside, whatever the kernel's values are
    field = literal.conv_matrix(x.shape, np.ones_like(kernel), padding=1, groups=4)[0]
    wanted = literal.or_flat(proportions(name, x.ravel(), matrix), field, middle)

    def forward(x):
        y = lax.conv_general_dilated(
            x, jnp.asarray(kernel, x.dtype), (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4,
        )  # fmt: skip
        y = jaxcam.tag(jax.nn.relu(y + jnp.asarray(bias, x.dtype).reshape(1, 1, 1, 4)), "hidden")
        return y.reshape(1, -1) @ jnp.asarray(top, x.dtype)

    images = jnp.asarray(x[None], jnp.float32)
    options = {"composite": rules.or_flat(rule), "init": jnp.asarray(start[None], jnp.float32)}
    got = lrp.relevance(forward, images, **options)[0]
    np.testing.assert_allclose(got, wanted.reshape(x.shape), atol=2e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(got.sum(), start.sum(), rtol=1e-4)
    # a layer read on the way takes nothing from the layers below it
    both = lrp.relevance(forward, images, layer=["hidden", "pixels"], **options)
    np.testing.assert_allclose(both["pixels"][0], got, atol=1e-5)


def test_or_flat_reaches_zeros_beside_a_class_token(rng):
    """A patch's unit of 0 that was joined with a token hands on what flat gives it."""

    def forward(images):
        hidden = jax.nn.relu(images @ jnp.array([[1.0, -1.0]])).reshape(2, 16, 2)
        tokens = jnp.concatenate([jnp.ones((2, 1, 2)), hidden], 1)
        units = jax.nn.relu(9 - tokens @ jnp.array([[1.0], [2.0]]))  # active by the bias alone
        return units[:, 1:].mean(1) @ jnp.ones((1, 2))

    images = jnp.asarray(rng.uniform(1, 2, size=(2, 4, 4, 1)), jnp.float32)
    found = lrp.relevance(forward, images, 1, composite="mobile")
    # half to (x, 0) each, and from there all to the pixel: by z+, and by flat
    np.testing.assert_allclose(found, (9 - images) / 16, rtol=1e-5)


def test_or_flat_needs_denominators():
    with pytest.raises(ValueError, match="rule: got 'pass', expected one with denominators"):
        rules.or_flat(rules.pass_whole)


# Who is told ---------------------------------------------------------------------


def mostly_bias(images):
    """One unit of three has an input that contributes: z+ keeps a third."""
    kernel = jnp.array([[1.0, -1.0, -1.0]])
    y = jaxcam.tag(jax.nn.relu(images @ kernel + jnp.array([[[[0.0, 2.0, 2.0]]]])), "hidden")
    return y.mean((1, 2)) @ jnp.ones((3, 2))


ONES = jnp.ones((2, 4, 4, 1))


def test_a_map_with_little_of_what_entered_warns():
    with pytest.warns(UserWarning, match=r"'pixels' sums to 33 % of what entered.*'mobile'"):
        jaxcam.lrp_map(mostly_bias, ONES, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(lambda x: jaxcam.lrp_map(mostly_bias, x, 1))(ONES)  # no values to compare
        jaxcam.lrp_map(mostly_bias, ONES, 1, layer="hidden")
        jaxcam.lrp_map(mostly_bias, ONES, 1, composite=lrp.z_plus(bias="absorb"))
        jaxcam.clrp_map(mostly_bias, ONES, 1)  # what enters sums to 0
        jaxcam.lrp_map(mostly_bias, ONES, 1, composite="mobile")


def test_conservation_names_the_layers_with_little():
    sums = jax.jit(lambda x: lrp.conservation(mostly_bias, x, [0, 1]))(ONES)
    np.testing.assert_allclose(sums.kept["pixels"], [1 / 3, 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(sums.kept["hidden"], [1, 1], rtol=1e-5)
    assert sums.little == ("pixels",)
    assert str(sums).endswith("little of what entered: pixels")
    contrastive = lrp.conservation(mostly_bias, ONES, 1, init="contrastive")
    assert np.isnan(contrastive.kept["pixels"]).all()
    assert contrastive.little == ()


def test_the_median_image_decides():
    assert _kept.is_little(np.array([0.1, -0.2, 0.9]))
    assert not _kept.is_little(np.array([0.1, 0.6, -0.9, np.nan]))
    assert not _kept.is_little(np.array([np.nan]))


def test_the_command_line_says_it():
    raw = {("lrp", commands.WHOLE): np.full((2, 2), 0.25), ("grad_cam", "top"): np.ones((2, 2))}
    (line,) = commands._little(raw, 20.0)
    assert "'pixels' sums to 5 % of what entered" in line
    assert commands._little(raw, 1.5) == []
    assert commands._little({("grad_cam", "top"): np.ones((2, 2))}, 20.0) == []
