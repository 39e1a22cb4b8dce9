"""Which layer takes which rule."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp
from jaxcam._program import trace
from jaxcam.lrp import _plan as plan
from jaxcam.lrp import rules
from tests import nets
from tests.lrp import literal


@pytest.fixture(scope="module")
def places():
    """Conv conv dense, as the plan sees them."""
    model, variables, images = nets.tiny()
    program = trace.trace(jaxcam.linen(model, variables), images)
    return list(plan.make(program, lrp.z_plus(), {plan.PIXELS}).places.values())


def names(composite, places):
    return [getattr(composite.rule(place), "name", None) for place in places]


def test_places(places):
    assert [p.layer for p in places] == ["conv1", "conv2", "head"]
    assert [p.first for p in places] == [True, False, False]
    assert [(p.index, p.count) for p in places] == [(0, 3), (1, 3), (2, 3)]
    assert [p.primitive for p in places] == ["conv_general_dilated"] * 2 + ["dot_general"]


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"*": rules.flat}, ["flat"] * 3),
        (
            {"first": rules.flat, "last": rules.lrp_0, "*": rules.z_plus},
            ["flat", "z_plus", "lrp_0"],
        ),
        ({0: rules.flat, -1: rules.lrp_0, 1: rules.w_square}, ["flat", "w_square", "lrp_0"]),
        ({"conv[2-9]": rules.flat, "conv*": rules.z_plus}, ["z_plus", "flat", None]),
        ({"dot_general": rules.lrp_0, "*": rules.z_plus}, ["z_plus", "z_plus", "lrp_0"]),
        ({"*": rules.z_plus, "dot_general": rules.lrp_0}, ["z_plus"] * 3),  # first match wins
    ],
)
def test_keys(places, mapping, expected):
    assert names(lrp.Composite(mapping), places) == expected


def test_ready_made(places):
    expected = {
        "z_plus": ["z_plus"] * 3,
        "epsilon": ["epsilon"] * 3,
        "epsilon_plus_flat": ["flat", "z_plus", "epsilon"],
        "epsilon_gamma_box": ["z_box", "gamma", "epsilon"],
        "epsilon_alpha2_beta1": ["alpha_beta", "alpha_beta", "epsilon"],
        "mobile": ["z_plus_or_flat"] * 3,
        "attnlrp": ["z_plus"] * 3,
    }
    assert {name: names(make(), places) for name, make in lrp.COMPOSITES.items()} == expected


def test_attention_is_a_gate_but_in_attnlrp():
    ways = {name: make().attention for name, make in lrp.COMPOSITES.items()}
    assert ways.pop("attnlrp") == "attnlrp"
    assert set(ways.values()) == {"gate"}


LITERAL = {
    "z_plus": literal.z_plus,
    "flat": literal.flat,
    "epsilon": lambda x, w, R: literal.epsilon(x, w, R, 1e-6),
    "gamma": lambda x, w, R: literal.gamma(x, w, R, 0.25),
    "alpha_beta": lambda x, w, R: literal.alpha_beta(x, w, R, 2, 1),
    "z_box": lambda x, w, R: literal.z_box(x, w, R, x.min(), x.max()),
}


def on_a_matrix(rule):
    """Relevance at 6 inputs of a matrix, and x, w and R; so small that an epsilon of 1e-6 tells."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=6)
    w = 1e-6 * rng.normal(size=(6, 4))
    start = rng.normal(size=4)
    matrix = jnp.asarray(w, jnp.float32)
    images = jnp.asarray(x, jnp.float32).reshape(1, 1, 1, 6)
    init = jnp.asarray(start[None], jnp.float32)
    found = lrp.relevance(lambda x: x[:, 0, 0] @ matrix, images, composite=rule, init=init)
    return found.ravel(), (x, w, start)


@pytest.mark.parametrize("name", LITERAL)
def test_ready_made_rules_have_the_papers_numbers(places, name):
    """Gamma 1/4, epsilon 1e-6, alpha 2 and beta 1, each pixel's own bounds: in every composite."""
    checked = {}
    for make in lrp.COMPOSITES.values():
        for place in places:
            rule = make().rule(place)
            if rule.name == name:
                checked[make.__name__] = rule
    assert checked
    for rule in checked.values():
        found, case = on_a_matrix(rule)
        want = LITERAL[name](*case)
        np.testing.assert_allclose(found, want, atol=1e-4 * np.abs(want).max())


TWICE = lambda x, w, R: literal.epsilon(x, w, R, 2e-6)
OPTIONS = {
    "box": (lrp.epsilon_gamma_box(-3.0, 2.5), 0, lambda *case: literal.z_box(*case, -3, 2.5)),
    "gamma": (lrp.epsilon_gamma_box(gamma=0.7), 1, lambda *case: literal.gamma(*case, 0.7)),
    "epsilon": (lrp.epsilon(2e-6), 0, TWICE),
    "epsilon_gamma_box": (lrp.epsilon_gamma_box(epsilon=2e-6), 2, TWICE),
    "epsilon_plus_flat": (lrp.epsilon_plus_flat(2e-6), 2, TWICE),
    "epsilon_alpha2_beta1": (lrp.epsilon_alpha2_beta1(2e-6), 2, TWICE),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_ready_made_reach_their_rules(places, name):
    """Of the pixels, of a convolution, of a dense layer."""
    composite, place, expected = OPTIONS[name]
    found, case = on_a_matrix(composite.rule(places[place]))
    want = expected(*case)
    np.testing.assert_allclose(found, want, atol=1e-4 * np.abs(want).max())


def test_every_branch_at_the_pixels_is_first():
    a, b, head = jnp.ones((3, 2)), jnp.ones((3, 4)), jnp.ones((6, 2))
    forward = lambda x: jnp.concatenate([x[:, 0, 0] @ a, (x[:, 0, 0] @ b)], -1) @ head
    program = trace.trace(forward, jnp.ones((1, 1, 1, 3)))
    places = plan.make(program, lrp.z_plus(), {plan.PIXELS}).places.values()
    places = list(places)
    assert [p.first for p in places] == [True, True, False]
    assert names(lrp.epsilon_plus_flat(), places) == ["flat", "flat", "epsilon"]
    assert names(lrp.epsilon_gamma_box(), places) == ["z_box", "z_box", "epsilon"]


def test_positions_count_from_the_pixels_whatever_layer_is_explained():
    model, variables, images = nets.tiny()
    mapping = {0: rules.flat, 1: rules.lrp_0, 2: rules.z_plus}
    by_position = lrp.relevance(
        jaxcam.linen(model, variables), images, composite=mapping, layer="stem"
    )
    by_name = lrp.relevance(
        jaxcam.linen(model, variables),
        images,
        composite={"conv2": rules.lrp_0, "*": rules.z_plus},
        layer="stem",
    )
    assert jnp.array_equal(by_position, by_name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: lrp.Composite({"*": rules.z_plus}, bias="drop"),
            "bias: got 'drop', expected one of 'pass', 'absorb'",
        ),
        (
            lambda: lrp.Composite({"*": rules.z_plus}, product="x"),
            "product: got 'x', expected one of 'signal', 'half'",
        ),
        (
            lambda: lrp.Composite({"*": "z_plus"}),
            r"composite: got 'z_plus' for '\*', expected a rule",
        ),
        (
            lambda: lrp.Composite({1.5: rules.flat}),
            "composite: got the key 1.5, expected a string or an int",
        ),
        (
            lambda: lrp.transform(lambda x: x, "zplus"),
            r"composite: got 'zplus', expected .*'z_plus'",
        ),
    ],
)
def test_bad_composites(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_layer_without_a_rule_is_named():
    model, variables, images = nets.tiny()
    with pytest.raises(
        ValueError,
        match=r"got no rule for dot_general number 2 in layer 'head', expected .*keys are 'conv",
    ):
        jax.eval_shape(
            lambda x: lrp.relevance(
                jaxcam.linen(model, variables), x, composite={"conv*": rules.z_plus}
            ),
            images,
        )


# the last is a layer, but not a linear one
@pytest.mark.parametrize("key", ["cnov2", "layr4*", "top"])
def test_a_name_that_no_linear_layer_has_is_refused(key):
    model, variables, images = nets.tiny()
    composite = {"first": rules.flat, key: rules.epsilon(), "*": rules.z_plus}
    with pytest.raises(
        ValueError, match=f"composite: got the key '{re.escape(key)}', .*such as .*'conv2'"
    ):
        jax.eval_shape(
            lambda x: lrp.relevance(jaxcam.linen(model, variables), x, composite=composite), images
        )


def test_a_key_need_not_win_but_must_name_something(places):
    layers = [place.layer for place in places]
    for key in (
        "*",
        "?*",
        "first",
        "last",
        7,
        "dot_general",
        "conv_general_dilated",
        "conv1",
        "[h]ead",
    ):
        lrp.Composite({"*": rules.flat, key: rules.z_plus}).check_names(layers)
    with pytest.raises(ValueError, match=r"'layer4', .*such as \['layer4.0.conv1'"):
        lrp.Composite({"layer4": rules.flat}).check_names(["conv1", "layer4.0.conv1", "fc"])
    with pytest.raises(ValueError, match="expected one of 0 names"):
        lrp.Composite({"fc": rules.flat}).check_names([])
