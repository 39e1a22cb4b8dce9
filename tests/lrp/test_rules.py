"""Every rule on one linear layer against its literal float64 form, for any shape of convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcam
from jaxcam import lrp
from jaxcam.lrp import rules
from tests.lrp import literal

RULES = {
    "lrp_0": (rules.lrp_0, literal.lrp_0),
    "epsilon": (rules.epsilon(0.3), lambda x, w, R: literal.epsilon(x, w, R, 0.3)),
    "z_plus": (rules.z_plus, literal.z_plus),
    "alpha2_beta1": (rules.alpha_beta(2, 1), lambda x, w, R: literal.alpha_beta(x, w, R, 2, 1)),
    "alpha1_beta0": (rules.alpha_beta(1, 0), literal.z_plus),
    "gamma": (rules.gamma(0.4), lambda x, w, R: literal.gamma(x, w, R, 0.4)),
    "flat": (rules.flat, literal.flat),
    "w_square": (rules.w_square, literal.w_square),
    "z_box": (rules.z_box(-3.0, 2.5), lambda x, w, R: literal.z_box(x, w, R, -3.0, 2.5)),
    "z_box_own": (rules.z_box(), lambda x, w, R: literal.z_box(x, w, R, x.min(), x.max())),
}
CONVOLUTIONS = {
    "plain": {},
    "stride_padding": {"stride": 2, "padding": 1},
    "dilation": {"dilation": 2, "padding": 1},
    "depthwise": {"groups": 4, "padding": 1},
}


def case(rng, non_negative, groups=1):
    x = rng.normal(size=(2, 5, 5, 4))
    x = np.abs(x) if non_negative else x
    x[0, 2, 2] = 0  # a black pixel: flat, w^2 and z^B give it relevance too
    return x.astype(np.float32), rng.normal(size=(3, 3, 4 // groups, 4)).astype(np.float32)


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_convolution(rng, name, non_negative):
    rule, expected = RULES[name]
    x, kernel = case(rng, non_negative)
    check_convolution(rng, rule, expected, x, kernel, non_negative, {"stride": 2, "padding": 1})


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution_of_any_shape(rng, options):
    x, kernel = case(rng, False, options.get("groups", 1))
    check_convolution(rng, *RULES["alpha2_beta1"], x, kernel, False, options)


def check_convolution(rng, rule, expected, x, kernel, non_negative, options):
    stride, padding = options.get("stride", 1), options.get("padding", 0)
    dilation, groups = options.get("dilation", 1), options.get("groups", 1)
    matrix, shape = literal.conv_matrix(x.shape[1:], kernel.astype(np.float64), **options)

    def forward(x):
        x = jnp.abs(x) if non_negative else x  # known >= 0 from the program
        y = lax.conv_general_dilated(
            x, kernel, (stride, stride), [(padding, padding)] * 2,
            rhs_dilation=(dilation, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip
        return y.reshape(len(y), -1)

    assert np.allclose(forward(x)[0], x[0].astype(np.float64).ravel() @ matrix, atol=1e-4)
    start = rng.normal(size=(2, np.prod(shape))).astype(np.float32)
    got = jax.jit(lambda x: lrp.relevance(forward, x, composite=rule, init=start))(x)
    for b in range(2):
        want = expected(x[b].astype(np.float64).ravel(), matrix, start[b]).reshape(x.shape[1:])
        scale = np.abs(want).max()
        assert np.allclose(got[b], want, atol=2e-4 * scale), np.abs(got[b] - want).max() / scale


@pytest.mark.parametrize("name", RULES)
def test_dense(rng, name):
    rule, expected = RULES[name]
    x = rng.normal(size=(2, 1, 1, 6)).astype(np.float32)
    x[1, ..., 3] = 0
    w = rng.normal(size=(6, 3)).astype(np.float32)
    start = rng.normal(size=(2, 3)).astype(np.float32)
    # a constant on the left is a layer too
    forwards = [lambda x: x[:, 0, 0] @ w, lambda x: (w.T @ x[:, 0, 0].T).T]
    # whose own bounds need the images on the first axis
    for forward in forwards[: 1 if name == "z_box_own" else 2]:
        got = lrp.relevance(forward, jnp.asarray(x), composite=rule, init=start)
        for b in range(2):
            want = expected(x[b].astype(np.float64).ravel(), w.astype(np.float64), start[b])
            assert np.allclose(got[b].ravel(), want, atol=2e-4 * np.abs(want).max())


@pytest.mark.parametrize("name", [n for n in RULES if n not in ("epsilon", "alpha2_beta1")])
def test_conserves_relevance(rng, name):
    x, kernel = case(rng, False)
    forward = lambda x: lax.conv(
        x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1), (1, 1), "VALID"
    ).reshape(2, -1)
    start = rng.normal(size=(2, 36)).astype(np.float32)
    got = lrp.relevance(forward, x, composite=RULES[name][0], init=start)
    assert np.allclose(got.sum((1, 2, 3)), start.sum(1), atol=1e-3)


def test_divide_is_safe():
    a, z = jnp.array([1.0, 1.0, 1.0, 0.0]), jnp.array([0.0, 1e-38, -2.0, 0.0])
    assert np.array_equal(rules.divide(a, z), [0, 0, -0.5, 0])
    assert np.allclose(rules.divide(a, z, 0.5), [0, 0, -0.4, 0])
    assert np.isfinite(jax.grad(lambda z: rules.divide(a, z).sum())(z)).all()


def test_redistribute_is_linear_in_relevance_and_gives_y_nothing():
    y, z = jnp.array([2.0, 3.0]), jnp.array([4.0, -1.0])
    value, pull = jax.vjp(lambda y, z: rules.redistribute(0.0, y, (y,), (z,)), y, z)
    assert np.array_equal(value, y)
    to_y, to_z = pull(jnp.array([1.0, 10.0]))
    assert np.array_equal(to_y, [0, 0])
    assert np.array_equal(to_z, [0.5, -30.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: rules.alpha_beta(2, 2),
            "alpha and beta: got 2 and 2, expected beta >= 0 and alpha - beta = 1",
        ),
        (lambda: rules.epsilon(-1), "epsilon: got -1, expected at least 0"),
        (lambda: rules.gamma(-1), "gamma: got -1, expected at least 0"),
        (lambda: rules.z_box(1, [0, 2]), "low and high: got 1 and .*expected low <= high"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pass_needs_equal_shapes(rng):
    x = jnp.ones((1, 1, 1, 3))
    square, wide = jnp.ones((3, 3)), jnp.ones((3, 2))
    start = jnp.array([[1.0, 2.0, 3.0]])
    got = lrp.relevance(lambda x: x[:, 0, 0] @ square, x, composite=rules.pass_whole, init=start)
    assert np.array_equal(got.ravel(), [1, 2, 3])
    with pytest.raises(
        ValueError,
        match=r"got the rule 'pass' for \(1, 3\) -> \(1, 2\), expected it where both",
    ):
        lrp.relevance(lambda x: x[:, 0, 0] @ wide, x, composite=rules.pass_whole)


def test_the_rest_goes_where_nothing_else_took_it():
    """z+ loses an output without a positive contribution; a group of the rest shares it out."""
    x = np.array([[1.0, 2.0]])
    w = np.array([[1.0, -1.0], [1.0, -3.0]])  # the second output has nothing but inhibition
    exciting = rules.z_plus.groups[0]
    inhibiting = (rules.Term(rules.positive, rules.negative),)
    whole = rules.Rule("whole", (exciting, rules.Group(inhibiting, rest=True)))
    start = jnp.array([[3.0, 7.0]])
    forward = lambda images: images.mean((1, 2)) @ jnp.asarray(w, jnp.float32)
    images = jnp.asarray(x, jnp.float32)[:, None, None]
    found = jaxcam.lrp.relevance(forward, images, init=start, composite=whole)[0, 0, 0]
    expected = np.array([3 * 1 / 3 + 7 * 1 / 7, 3 * 2 / 3 + 7 * 6 / 7])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    lost = jaxcam.lrp.relevance(forward, images, init=start, composite=rules.z_plus)[0, 0, 0]
    np.testing.assert_allclose(lost, [1, 2], rtol=1e-5)
