"""How often the Python function of a model is called: once in a compiled call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam._program import trace
from jaxcam.methods import METHODS
from tests import golden
from tests.golden_xplique import squares

GIVEN = dict(np.load(golden.FILE))
IMAGES = jnp.asarray(GIVEN["images"])


class Counted:
    """A model that knows how often it was called."""

    def __init__(self, forward):
        self.forward = forward
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        return self.forward(images)


def counted(name=""):
    make = golden.transformer if name in golden.TRANSFORMERS else golden.convolutional
    return Counted(make(GIVEN))


def options(name):
    found = dict(golden.OPTIONS.get(name, {}))
    if name == "lime":
        found |= {"segments": squares(IMAGES, 6), "num_segments": 16}
    if METHODS[name].layered and name not in golden.TRANSFORMERS:
        found["layer"] = "layer3"
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_transformation_traces_the_model_once(name):
    """Also where the classes are those of the images as they are."""
    model = counted(name)
    jax.eval_shape(lambda x: METHODS[name].function(model, x, **options(name)), IMAGES)
    assert model.calls == 1


@pytest.mark.parametrize("name", ["guided_grad_cam", "occlusion"])
def test_outside_it_is_traced_once_if_the_class_is_known(name):
    model = counted()
    METHODS[name].function(model, IMAGES, 1, **options(name))
    assert model.calls == 1


@pytest.mark.parametrize("name", ["guided_grad_cam", "occlusion", "integrated_gradients"])
def test_every_call_asks_the_model_as_it_is_now(name):
    """A program is held for one call of an explainer, whatever the function is."""
    model = counted()
    explain = lambda: METHODS[name].function(model, IMAGES, 1, **options(name))
    before = explain()
    learnt = GIVEN | {"head": -2 * GIVEN["head"]}
    model.forward = golden.convolutional(learnt)
    expected = METHODS[name].function(golden.convolutional(learnt), IMAGES, 1, **options(name))
    found = explain()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found - before).max() > np.abs(found).max() / 10


def test_a_held_function_is_traced_for_each_type_and_called_as_it_is_outside():
    model = counted()
    held = trace.Held(model)
    for images in (IMAGES, IMAGES + 1):
        np.testing.assert_array_equal(held(images), model.forward(images))
    assert model.calls == 2
    for images in (IMAGES, IMAGES + 1, IMAGES[:1]):
        found = jax.jit(held)(images)
        np.testing.assert_allclose(found, model.forward(images), rtol=1e-5, atol=1e-6)
    assert model.calls == 4
    doubled = jax.vmap(held)(jnp.stack([IMAGES, 2 * IMAGES]))
    np.testing.assert_allclose(doubled[1], model.forward(2 * IMAGES), rtol=1e-5, atol=1e-6)
    assert model.calls == 4
    assert trace.trace(held, IMAGES) is held.program(IMAGES)
    with pytest.raises(TypeError, match="forward: got 3, expected a function"):
        trace.Held(3)


def test_layers_of_a_held_function_are_its_own():
    model = counted()
    assert list(jaxcam.layers(trace.Held(model), IMAGES)) == list(jaxcam.layers(model, IMAGES))
