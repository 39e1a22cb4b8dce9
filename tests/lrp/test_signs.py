"""The bounds contain the values: on random programs, and where a wrong bound costs correctness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcam._program import trace
from jaxcam.lrp import _plan as plan
from jaxcam.lrp import _signs as signs
from jaxcam.lrp.composites import z_plus


def bounds_of(function, *args):
    """The output's bounds and values, the arguments being unknown."""
    program = trace.trace(function, *args)

    def visit(path, eqn, operands):
        return [signs.of_result(eqn, operands, i) for i in range(len(eqn.outvars))]

    (out,) = trace.evaluate(
        program.closed,
        [signs.ANY] * len(args),
        visit,
        opens=lambda path, eqn: True,
        lift=signs.of_constant,
    )
    return out, np.asarray(function(*args))


X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 3)) * 3, jnp.float32)
POOL = dict(window_dimensions=(1, 2, 2, 1), window_strides=(1, 2, 2, 1), padding="SAME")

NON_NEGATIVE = {
    "relu": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "relu6": jax.nn.relu6,
    "where": lambda x: jnp.where(x > 0, jnp.exp(x), 0.5),
    "clip": lambda x: jnp.clip(x, 0, 2),
    "max_pool": lambda x: lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, **POOL),
    "avg_pool": lambda x: lax.reduce_window(jax.nn.relu(x), 0.0, lax.add, **POOL) / 4,
    "mean": lambda x: jax.nn.relu(x).mean((1, 2)),
    "abs": jnp.abs,
    "square": lambda x: x * x,
    "power": lambda x: x**2 + x**4,
    "norm": lambda x: jnp.sqrt((x**2).sum(-1)),
    "sigmoid": jax.nn.sigmoid,
    "residual": lambda x: jax.nn.relu(x) + jax.nn.relu(-x),
    "concatenate": lambda x: jnp.concatenate([jax.nn.relu(x), jnp.zeros_like(x)], -1),
    "pad": lambda x: jnp.pad(jax.nn.relu(x), ((0, 0), (1, 1), (1, 1), (0, 0))),
    "reshape": lambda x: jax.nn.relu(x).transpose(0, 3, 1, 2).reshape(2, -1)[:, ::2],
    "convolution": lambda x: jnp.tensordot(jax.nn.relu(x), jnp.abs(X[0, 0, :3]), 1),
    "gate": lambda x: jax.nn.relu(x) * jax.nn.sigmoid(x.mean((1, 2), keepdims=True)),
    "one_plus_gate": lambda x: 1 + jax.nn.sigmoid(x),
    "tanh_of_relu": lambda x: jnp.tanh(jax.nn.relu(x)),
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "bfloat16": lambda x: jax.nn.relu(x.astype(jnp.bfloat16)).astype(jnp.float32),
}
SIGNED = {
    "identity": lambda x: x,
    "leaky": jax.nn.leaky_relu,
    "gelu": jax.nn.gelu,
    "difference": lambda x: jax.nn.relu(x) - 0.1,
    "difference_of_sigmoids": lambda x: jax.nn.sigmoid(x) - jax.nn.sigmoid(-x),
    "product": lambda x: jax.nn.relu(x) * x[:, ::-1],
    "convolution": lambda x: jnp.tensordot(jax.nn.relu(x), X[0, 0, :3], 1),
    "concatenate": lambda x: jnp.concatenate([jax.nn.relu(x), x], -1),
    "pad": lambda x: jnp.pad(jax.nn.relu(x), 1, constant_values=-1),
    "where": lambda x: jnp.where(x > 1, jax.nn.relu(x), x),
    "cube": lambda x: x**3,
    "clip": lambda x: jnp.clip(x, -1, 2),
    "min": lambda x: jnp.minimum(jax.nn.relu(x), x),
    "constant_times": lambda x: jax.nn.relu(x) * X[:1, :1],
    "tanh": jnp.tanh,
}


@pytest.mark.parametrize("name", NON_NEGATIVE)
def test_known_to_be_non_negative(name):
    bounds, values = bounds_of(NON_NEGATIVE[name], X)
    assert bounds.low >= 0
    assert values.min() >= bounds.low
    assert values.max() <= bounds.high


@pytest.mark.parametrize("name", SIGNED)
def test_never_claimed_of_a_signed_value(name):
    bounds, values = bounds_of(SIGNED[name], X)
    assert values.min() < 0
    assert values.min() >= bounds.low
    assert values.max() <= bounds.high


def test_random_programs_stay_within_their_bounds():
    unary = [jnp.abs, jnp.negative, jax.nn.relu, jnp.tanh, jax.nn.sigmoid, jnp.floor,
             lambda a: a**2, lambda a: a**3, lambda a: jnp.clip(a, -0.5, 1.5),
             lambda a: a * 0.3 - 0.1, lambda a: a / 1.7, lambda a: a.sum(-1, keepdims=True) + 0 * a,
             lambda a: lax.rev(a, (0,)), jnp.expm1, lambda a: jnp.sqrt(jnp.abs(a)),
             lambda a: 2.0 - a]  # fmt: skip
    binary = [
        jnp.add,
        jnp.subtract,
        jnp.multiply,
        jnp.maximum,
        jnp.minimum,
        lambda a, b: jnp.where(a > b, a, b * 0.5),
    ]
    rng, known = np.random.default_rng(1), 0
    for _ in range(60):
        picks = rng.integers(0, 1 << 16, size=(7, 3))

        def program(x, picks=picks):
            values = [x, jnp.tanh(x), jax.nn.relu(x)]
            for a, b, c in picks:
                p, q = values[a % len(values)], values[b % len(values)]
                values.append(unary[c % len(unary)](p) if c % 2 else binary[c % len(binary)](p, q))
            return values[-1]

        bounds, values = bounds_of(program, jnp.asarray(rng.normal(size=(3, 4)) * 2, jnp.float32))
        values = values[np.isfinite(values)]
        assert (values >= bounds.low).all()
        assert (values <= bounds.high).all()
        known += bounds != signs.ANY
    assert known > 20


def test_a_traced_constant_is_unknown_and_a_concrete_one_is_read():
    seen = []

    def outer(w):
        seen.append(signs.of_constant(w))
        return w

    jax.jit(outer)(jnp.ones(3))
    assert seen == [signs.ANY]
    assert signs.of_constant(jnp.array([1.0, 3.0])) == (1, 3)
    assert signs.of_constant(jnp.array([1.0, jnp.nan])) == signs.ANY
    assert signs.of_constant(jnp.ones(1 << 15)) == signs.ANY  # too large to look at


def test_the_plan_spares_the_second_convolution_only_where_it_may():
    w = jnp.eye(3) - 0.5

    def forward(x):
        x = x[:, 0, 0] @ w
        x = jax.nn.relu(x) @ w
        return jax.nn.gelu(x) @ w

    program = trace.trace(forward, X)
    steps = plan.make(program, z_plus(), {plan.PIXELS}).steps.values()
    assert [s.nonnegative for s in steps if s.kind == "linear"] == [False, True, False]
