"""Convolutions and max pools with derivatives of our own on CPUs: values and slopes are lax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxcam import loops
from jaxcam._explainers import formulas
from jaxcam._ground import platforms
from jaxcam._program import quick, trace


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    """Small convolutions and pools have derivatives of their own too."""
    monkeypatch.setattr(quick, "_WEIGHTS", 1)
    monkeypatch.setattr(quick, "_POSITIONS", 10**6)
    monkeypatch.setattr(quick, "_LEAST", 1)
    monkeypatch.setattr(quick, "_POOLED", 1)


def conv(images, kernel, strides=(1, 1), padding=((1, 1), (1, 1)), groups=1, dilation=(1, 1)):
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def pool(images, window=(3, 2), strides=(2, 1), padding=((1, 1), (0, 1))):
    borders = ((0, 0), *padding, (0, 0))
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), borders)


def network(w, x):
    """What a ResNet begins with: of odd sides, strides that do not divide them, uneven borders."""
    x = jax.jit(lambda x: conv(x, w["stem"], (2, 1), ((2, 1), (0, 1))))(x)
    x = pool(jax.nn.relu(x))
    return jnp.tanh(conv(x, w["point"], (2, 2), ((0, 0), (0, 0)))).sum((1, 2))


@pytest.fixture
def operands(rng):
    shapes = {"stem": (3, 2, 3, 4), "point": (1, 1, 4, 5)}
    w = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (w, rng.normal(size=(2, 9, 6, 3))))


def close(found, expected, **tolerance):
    check = lambda a, b: np.testing.assert_allclose(
        a, b, **{"rtol": 1e-5, "atol": 1e-5, **tolerance}
    )
    jax.tree.map(check, found, expected)


def equation(function, *args):
    (eqn,) = trace.trace(function, *args).closed.jaxpr.eqns
    return eqn


def literal(images, kernel, strides, padding):
    """y_ijo = sum_abc x_(s i + a)(t j + b)c w_abco, in float64."""
    x = np.pad(images.astype(np.float64), ((0, 0), *padding, (0, 0)))
    size = [(x.shape[k + 1] - kernel.shape[k]) // strides[k] + 1 for k in (0, 1)]
    found = np.zeros((len(x), *size, kernel.shape[-1]))
    for i, j in np.ndindex(*size):
        top, left = i * strides[0], j * strides[1]
        seen = x[:, top : top + kernel.shape[0], left : left + kernel.shape[1]]
        found[:, i, j] = np.einsum("nabc,abco->no", seen, kernel.astype(np.float64))
    return found


GEOMETRIES = [
    ((3, 2), (1, 1), ((1, 1), (1, 1))),
    ((3, 2), (2, 1), ((0, 1), (2, 0))),
    ((2, 3), (3, 2), ((0, 0), (1, 1))),
    ((1, 1), (2, 3), ((0, 0), (0, 0))),
    ((1, 1), (1, 1), ((0, 2), (1, 0))),
]


@pytest.mark.parametrize(("kernel", "strides", "padding"), GEOMETRIES)
def test_convolutions(rng, kernel, strides, padding):
    images = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    weights = rng.normal(size=(*kernel, 3, 4)).astype(np.float32)
    usual = lambda x, w: conv(x, w, strides, padding)
    eqn = equation(usual, images, weights)
    ours = lambda x, w: quick.bind(eqn, (x, w))[0]
    expected = literal(images, weights, strides, padding)
    np.testing.assert_allclose(quick.product(eqn, images, weights), expected, rtol=1e-5, atol=1e-5)
    value, back = jax.vjp(ours, images, weights)
    assert (value == usual(images, weights)).all()
    seed = rng.normal(size=expected.shape).astype(np.float32)
    # the gradient of sum(seed * y), which is linear in x and in w, is what a step of 1 changes
    for found, index in zip(back(seed), (0, 1), strict=True):
        operands = [images, weights]
        shape = operands[index].shape
        for place in [tuple(rng.integers(0, shape)) for _ in range(8)]:
            operands[index] = np.zeros(shape, np.float32)
            operands[index][place] = 1
            slope = (seed * literal(operands[0], operands[1], strides, padding)).sum()
            np.testing.assert_allclose(found[place], slope, rtol=1e-4, atol=1e-5)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(back)(seed))


def test_max_pools_give_to_the_first_of_equals(rng):
    # rounded, so that windows have equal values; a border of -inf is never the largest
    images = np.round(rng.normal(size=(2, 7, 5, 3))).astype(np.float32)
    ours = quick.rewritten(pool)
    seed = rng.normal(size=pool(images).shape).astype(np.float32)
    value, back = jax.vjp(ours, images)
    expected, usual = jax.vjp(pool, images)
    assert (value == expected).all()
    close(back(seed), usual(seed), rtol=1e-6, atol=1e-6)
    padded = np.pad(images, ((0, 0), (1, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    literal = np.zeros(padded.shape)
    for n, i, j, c in np.ndindex(*seed.shape):
        window = padded[n, 2 * i : 2 * i + 3, j : j + 2, c]
        a, b = np.unravel_index(window.argmax(), window.shape)  # the first
        literal[n, 2 * i + a, j + b, c] += seed[n, i, j, c]
    np.testing.assert_allclose(back(seed)[0], literal[:, 1:-1, :-1], rtol=1e-5, atol=1e-6)
    assert "select_and_scatter" not in str(jax.make_jaxpr(back)(seed))


def test_nan_stays_nan():
    images = jnp.ones((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    square = lambda x: (quick.rewritten(pool)(x) ** 2).sum()
    assert jnp.isnan(jax.jit(jax.grad(square))(images)).any()


def test_of_a_network_by_weights_and_images(operands):
    ours = quick.rewritten(network)
    assert (jax.jit(ours)(*operands) == jax.jit(network)(*operands)).all()
    total = lambda function: jax.jit(jax.grad(lambda w, x: (function(w, x) ** 2).sum(), (0, 1)))
    close(total(ours)(*operands), total(network)(*operands))
    program = str(jax.make_jaxpr(total(ours))(*operands))
    assert program.count("conv_general_dilated") == str(jax.make_jaxpr(network)(*operands)).count(
        "conv_general_dilated"
    )


def test_forward_twice_and_batched(operands):
    w, x = operands

    def derivatives(function):
        scores = lambda w, x: function(w, x).sum()
        slope = lambda w, x: (jax.grad(scores, 1)(w, x) ** 2).sum()
        nested = jax.grad(slope)(w, x)  # as in fostering
        curve = jax.jvp(lambda x: jax.grad(scores, 1)(w, x), (x,), (0.1 * x,))[
            1
        ]  # as in ShapleyCAM
        each = jax.vmap(lambda k: jax.grad(lambda x: function(w, x)[:, k].sum())(x))(jnp.arange(3))
        many = jax.vmap(lambda x: jax.grad(scores, (0, 1))(w, x[None]))(x)
        return nested, curve, each, many

    found = jax.jit(lambda: derivatives(quick.rewritten(network)))()
    close(found, jax.jit(lambda: derivatives(network))(), atol=2e-5)


def test_in_loops_and_on_a_mesh(operands):
    w, x = operands
    slope = lambda function, x: jax.grad(lambda x: function(w, x).sum())(x)
    ours = lambda x: slope(quick.rewritten(network), x)
    expected = jax.jit(lambda x: slope(network, x))(x)
    looped = jax.jit(lambda x: loops.map(lambda each: ours(each[None])[0], x))
    close(looped(x), expected)
    spec = PartitionSpec("d")
    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    close(jax.jit(jax.shard_map(ours, mesh=mesh, in_specs=spec, out_specs=spec))(x), expected)


def test_in_float64(operands):
    with jax.enable_x64(True):
        w, x = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), operands)
        slope = lambda function: jax.jit(jax.grad(lambda x: function(w, x).sum()))(x)
        found = slope(quick.rewritten(network))
        assert found.dtype == jnp.float64
        close(found, slope(network), rtol=1e-12, atol=1e-12)


def changed(function, *args):
    """Whether a program of one equation gets a derivative of its own."""
    ours = jax.make_jaxpr(quick.rewritten(function))(*args)
    return any(eqn.primitive.name == "custom_jvp_call" for eqn in ours.jaxpr.eqns)


def test_what_keeps_its_derivative(monkeypatch):
    monkeypatch.undo()
    shape = jax.ShapeDtypeStruct
    images = shape((1, 3, 3, 256), jnp.float32)
    kernel = shape((3, 3, 256, 64), jnp.float32)
    point = shape((1, 1, 256, 16), jnp.float32)
    photos = shape((1, 40, 40, 64), jnp.float32)
    assert changed(conv, images, kernel)
    assert changed(
        lambda x, w: conv(x, w, padding="VALID"), shape((9, 99, 99, 256), "float32"), point
    )
    assert changed(pool, photos)
    with platforms.compiling_for("tpu"):
        assert not changed(conv, images, kernel)
        assert not changed(pool, photos)
    narrow = lambda each: shape(each.shape, jnp.bfloat16)
    assert not changed(conv, narrow(images), narrow(kernel))
    assert not changed(pool, narrow(photos))
    few = shape((1, 1, 256, 2), jnp.float32)
    assert not changed(lambda x, w: conv(x, w, padding="VALID"), images, few)
    assert not changed(conv, shape((100, 3, 3, 256), jnp.float32), kernel)  # many positions
    assert not changed(conv, images, shape((3, 3, 256, 2), jnp.float32))  # few weights
    assert not changed(lambda x, w: conv(x, w, dilation=(2, 1)), images, kernel)
    half = shape((3, 3, 128, 64), jnp.float32)
    assert not changed(lambda x, w: conv(x, w, groups=2), images, half)
    assert not changed(lambda x: pool(x, (4, 4)), photos)


def test_what_lrp_takes_as_products():
    shape = jax.ShapeDtypeStruct
    images = shape((1, 3, 3, 256), jnp.float32)
    kernel = shape((3, 3, 256, 64), jnp.float32)
    assert quick.is_few(equation(conv, images, kernel))
    assert not quick.is_few(equation(conv, shape((100, 3, 3, 256), jnp.float32), kernel))
    with platforms.compiling_for("tpu"):
        assert not quick.is_few(equation(conv, images, kernel))


def mean(x):
    return x.mean((1, 2)) if x.ndim == 4 else x.sum(1)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 6, 3)])
def test_sums_of_maps_are_products_with_ones(rng, shape, monkeypatch):
    monkeypatch.setattr(quick, "_SUMMED", 1)
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    ours = quick.rewritten(mean)
    value, back = jax.vjp(ours, images)
    axes = tuple(range(1, len(shape) - 1))
    exact = np.asarray(images, np.float64).sum(axes) / (20 if len(shape) == 4 else 1)
    np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)
    close(back(value), jax.vjp(mean, images)[1](value))
    assert "reduce_sum" not in str(jax.make_jaxpr(ours)(images))
    in_a_loop = jax.jit(lambda x: loops.map(mean, x[None])[0])
    np.testing.assert_allclose(in_a_loop(images), exact, rtol=1e-5, atol=1e-6)
    broken = images.at[0, 1, 0].set(jnp.nan)
    assert (jnp.isnan(jax.jit(ours)(broken)) == jnp.isnan(mean(broken))).all()


def test_which_sums_stay(rng):
    images = jax.ShapeDtypeStruct((1, 8, 8, 64), jnp.float32)
    is_product = lambda f, x: "reduce_sum" not in str(jax.make_jaxpr(quick.rewritten(f))(x))
    assert is_product(lambda x: x.sum((1, 2)), images)
    assert not is_product(lambda x: x.sum(3), images)  # not of positions
    assert not is_product(lambda x: x.sum(1), images)  # of some
    assert not is_product(lambda x: x.sum((0, 1, 2)), images)  # of the batch too
    assert not is_product(lambda x: x.sum((1, 2)), jax.ShapeDtypeStruct((1, 4, 4, 64), "float32"))
    assert not is_product(lambda x: x.sum((1, 2)), jax.ShapeDtypeStruct(images.shape, "int32"))
    with platforms.compiling_for("tpu"):
        assert not is_product(lambda x: x.sum((1, 2)), images)


def test_sums_over_channels_are_products_with_ones(rng):
    terms = jnp.asarray(rng.normal(size=(2, 5, 4, 30)), jnp.float32)
    sums = formulas.over_channels
    np.testing.assert_allclose(sums(terms), np.asarray(terms, np.float64).sum(-1), atol=1e-5)
    is_product = lambda x: "reduce_sum" not in str(jax.make_jaxpr(sums)(x))
    assert is_product(terms)
    assert not is_product(terms.astype(jnp.bfloat16))  # whose sums are of float32
    with platforms.compiling_for("tpu"):
        assert not is_product(terms)


def test_a_function_that_was_traced_is_traced_anew_for_another_platform():
    program = jax.jit(formulas.over_channels)
    images = jax.ShapeDtypeStruct((1, 5, 4, 30), jnp.float32)
    assert "reduce_sum" not in str(program.trace(images).jaxpr)
    with loops.compiling_for("tpu"):
        assert "reduce_sum" in str(program.trace(images).jaxpr)
    assert "reduce_sum" not in str(program.trace(images).jaxpr)


@pytest.mark.parametrize("window", [(2, 2), (3, 3)])
def test_pools_are_their_places_to_the_bit(rng, window, monkeypatch):
    monkeypatch.setattr(quick, "_POOLED", 2**14)
    images = rng.normal(size=(2, 7, 6, 5)).astype(np.float32)
    images[0, 2, 3] = np.nan
    images[1, :, :3] = -np.inf
    by_places = lambda x: pool(x, window)
    ours = quick.rewritten(by_places)
    assert "reduce_window" not in str(jax.make_jaxpr(ours)(images))
    found = np.asarray(jax.jit(ours)(images))
    whole = jax.jit(by_places)(np.nan_to_num(images, neginf=-np.inf))
    np.testing.assert_array_equal(found[1], np.asarray(whole)[1])
    missing = jax.jit(by_places)(np.isnan(images).astype(np.float32)) > 0
    np.testing.assert_array_equal(np.isnan(found), missing)


def test_large_pools_of_many_places_are_xlas(monkeypatch):
    monkeypatch.undo()
    photos = jax.ShapeDtypeStruct((1, 40, 40, 64), jnp.float32)
    is_pool = lambda f: "reduce_window" in str(jax.make_jaxpr(quick.rewritten(f))(photos))
    assert is_pool(lambda x: pool(x, (3, 3)))
    assert not is_pool(lambda x: pool(x, (2, 2)))


def test_constants_of_large_products_stand_behind_a_barrier(rng, monkeypatch):
    monkeypatch.setattr(quick, "_FOLDED", 30)
    rows = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(5, 6)), jnp.float32)
    closed = lambda x: jax.jit(jnp.matmul)(x, weights)
    program = lambda f, *args: str(jax.make_jaxpr(quick.rewritten(f))(*args))
    assert program(closed, rows).count("optimization_barrier") == 1
    assert "optimization_barrier" not in program(jnp.matmul, rows, weights)
    assert "optimization_barrier" not in program(lambda x: x @ weights[:, :5], rows)
    value, back = jax.vjp(quick.rewritten(closed), rows)
    close(value, closed(rows))
    close(back(value), jax.vjp(closed, rows)[1](value))
    with platforms.compiling_for("tpu"):
        assert "optimization_barrier" not in program(closed, rows)
