"""Loops whose convolutions are laid out as XLA's CPU compiler wants them: the same values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcam import loops
from jaxcam._program import trace

# of channels-last images, HWIO weights
WANTED = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def convolutions(function, *args):
    """The dimension numbers of all convolutions in a program, also in its loops."""
    found = []
    for eqn in jax.make_jaxpr(function)(*args).jaxpr.eqns:
        trace.contains(
            eqn, lambda e: e.primitive.name == "conv_general_dilated" and found.append(e)
        )
    return [e.params["dimension_numbers"] for e in found]


def network(labels, stride, groups=1):
    """Two convolutions, one behind a jit, in any layout; x is the last operand."""
    convolve = lambda x, w, **options: lax.conv_general_dilated(
        x,
        w,
        (stride,) * 2,
        [(1, 2), (0, 1)],
        dimension_numbers=labels,
        feature_group_count=groups,
        **options,
    )
    return lambda w, x: jnp.tanh(convolve(jax.jit(convolve)(x, w), w, rhs_dilation=(2, 1)))


def operands(rng, labels, groups=1):
    sides = {"N": 2, "H": 9, "W": 11, "C": 4, "O": 4, "I": 4 // groups}
    image = rng.normal(size=[sides[axis] for axis in labels[0]])
    window = rng.normal(size=[3 if axis in "HW" else sides[axis] for axis in labels[1]])
    return jnp.asarray(window, jnp.float32), jnp.asarray(image, jnp.float32)


LAYOUTS = [
    ("NHWC", "HWIO", "NHWC"),
    ("NCHW", "OIHW", "NCHW"),
    ("NHWC", "OIHW", "NCHW"),
    ("CWNH", "IWHO", "WCHN"),
]


@pytest.mark.parametrize("labels", LAYOUTS, ids=" ".join)
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 2)])
def test_values_and_gradients_are_those_of_lax(rng, labels, stride, groups):
    w, x = operands(rng, labels, groups)
    forward = network(
        labels if labels[0] == labels[2] else (*labels[:2], labels[0]), stride, groups
    )
    shifts = jnp.arange(3.0)
    body = lambda s: jax.value_and_grad(lambda w, x: (forward(w, x) ** 2).sum(), (0, 1))(w, x + s)
    expected, found = lax.map(body, shifts), loops.map(body, shifts)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
    layouts = convolutions(lambda s: loops.map(body, s), shifts)
    assert len(layouts) == 6  # two forward, and each one's two gradients
    assert set(layouts) == {WANTED}


def test_layouts_of_the_result(rng):
    labels = LAYOUTS[3]
    w, x = operands(rng, labels)
    forward = lambda x: lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=labels)
    np.testing.assert_allclose(loops.map(forward, x[None])[0], forward(x), rtol=1e-4, atol=1e-5)


def test_scan_and_while_carry_any_tree(rng):
    w, x = operands(rng, LAYOUTS[1])
    step = lambda state: {
        "x": lax.conv_general_dilated(state["x"], w, (1, 1), "SAME") / 30,
        "n": state["n"] + 1,
    }
    start = {"x": x, "n": jnp.int32(0)}
    going = lambda state: state["n"] < 4
    many = loops.while_loop(going, step, start)
    np.testing.assert_allclose(
        many["x"], lax.while_loop(going, step, start)["x"], rtol=1e-5, atol=1e-6
    )
    (end, count), sums = loops.scan(
        lambda c, i: ((step(c[0]), c[1] + i), c[0]["x"].sum()), (start, 0), jnp.arange(4)
    )
    np.testing.assert_array_equal(end["x"], many["x"])
    assert (int(count), sums.shape) == (6, (4,))
    assert set(convolutions(lambda s: loops.while_loop(going, step, s), start)) == {WANTED}


def test_bodies_stay_as_they_are_on_accelerators(rng, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    w, x = operands(rng, LAYOUTS[1])
    step = lambda x: lax.conv_general_dilated(x, w, (1, 1), "SAME")
    assert convolutions(lambda x: loops.map(step, x), x[None])[0].lhs_spec == (0, 1, 2, 3)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("until", [None, 4])
def test_fold_is_the_loop_it_says(on_host, until):
    done = None if until is None else lambda state: state[1] >= until
    step = lambda state, i: (state[0] + i * i, state[1] + 1)
    start = (jnp.int32(0), jnp.int32(0))
    total, count = loops.fold(step, start, 7, done=done, on_host=on_host)
    assert (total, count) == ((14, 4) if until else (91, 7))


def test_fold_tells_its_progress_after_each_step():
    told = []
    step = lambda state, i: state + i
    found = loops.fold(step, 0, 3, progress=lambda *said: told.append(said))
    assert found == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert loops.fold(step, 0, 3, done=lambda state: state >= 1, progress=print) == 1


def test_a_compiled_fold_keeps_types():
    with pytest.raises(TypeError):
        loops.fold(lambda state, i: jnp.float32(0.5), jnp.int32(0), 3)
