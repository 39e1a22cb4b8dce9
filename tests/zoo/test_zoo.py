"""What holds of every network in the zoo; `python -m tests.zoo` writes it as the page's table."""

import functools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import lrp
from tests.zoo import __main__ as table
from tests.zoo.networks import FAMILIES

pytestmark = pytest.mark.lenient  # other people's code promotes as it likes


@functools.cache
def network(name):
    try:
        return FAMILIES[name].make()
    except ImportError as error:
        pytest.skip(f"{FAMILIES[name].library} is not installed: {error}")


@functools.cache
def known(name):
    forward, images = network(name)
    return jaxcam.layers(forward, images)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_layer_shows_where(name):
    found = known(name)
    assert found.default == FAMILIES[name].default
    assert found.grids[found.default] == FAMILIES[name].grid
    assert found.default in found.cuts


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_cams_equal_a_network_split_by_hand(name):
    """Grad-CAM by central differences of the head alone, which knows nothing of taps or grids."""
    forward, images = network(name)
    layer = known(name).default

    @jax.jit  # op by op a network is compiled for seconds
    def found(images):
        cut = jaxcam.split(forward, images, layer)
        score = lambda a: cut.head(a)[:, 1].sum()
        acts = cut.activations
        grads = jax.grad(score)(acts)  # along which the rise stands out of float32's noise
        step = 1e-3 * jnp.abs(acts).mean() / jnp.abs(grads).mean()
        rise = (score(acts + step * grads) - score(acts - step * grads)) / (2 * step)
        return acts, grads, rise, jaxcam.grad_cam(forward, images, 1)

    acts, grads, rise, maps = map(np.asarray, found(images))
    np.testing.assert_allclose((grads * grads).sum(), rise, rtol=5e-2, atol=1e-4)
    (site,) = [s for s in _sites(forward, images) if s.name == layer]
    a, g = site.grid(acts), site.grid(grads)
    weights = g.mean((1, 2))
    expected = np.maximum(np.einsum("bhwc,bc->bhw", a, weights), 0)
    scale = max(np.abs(expected).max(), 1e-12)
    np.testing.assert_allclose(maps / scale, expected / scale, atol=1e-3)


def _sites(forward, images):
    from jaxcam._program import sites, trace

    return sites.find(trace.trace(forward, images))


@pytest.mark.parametrize("name", FAMILIES)
def test_lrp_conserves_at_every_cut(name):
    """Of what has a positive contribution z+ loses nothing; LRP's divisions are float32's."""
    forward, images = network(name)
    sums = jax.jit(lambda x: lrp.conservation(forward, x, 1))(images)
    entered = np.asarray(sums.entered)
    family = FAMILIES[name]
    cuts = [layer for layer in known(name) if layer in sums.cuts]  # in the order of execution
    if family.conserved == "last":
        cuts = [family.default, cuts[-1]]
    for layer in cuts:
        np.testing.assert_allclose(sums.layers[layer], entered, rtol=5e-2, err_msg=layer)
    if family.conserved == "pixels":
        np.testing.assert_allclose(sums.pixels, entered, rtol=5e-2)
    else:
        assert not np.isclose(sums.pixels, entered, rtol=2e-2).all()
    assert bool(family.why) == (family.conserved != "pixels")


@pytest.mark.parametrize("name", FAMILIES)
def test_relevance_cam_is_finite_and_somewhere(name):
    """Compiled alone: op by op many take half a minute, so that of one is compared below."""
    forward, images = network(name)
    found = jax.jit(lambda x: jaxcam.relevance_cam(forward, x, 1))(images)
    assert found.shape == (2, *known(name).grids[known(name).default])
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0


def test_relevance_cam_outside_jit_is_that_inside():
    forward, images = network("bridged")
    found = jax.jit(lambda x: jaxcam.relevance_cam(forward, x, 1))(images)
    expected = jaxcam.relevance_cam(forward, images, 1)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize("name", ["jax_resnet", "keras_sequential", "haiku_mobilenet", "bridged"])
def test_lrp_0_is_gradient_times_input_where_the_network_is_piecewise_linear(name):
    """With biases that absorb, of ReLU networks: from the program and from autodiff alike."""
    forward, images = network(name)
    composite = lrp.epsilon(0.0, bias="absorb")
    found = jax.jit(lambda x: lrp.relevance(forward, x, 1, composite=composite))(images)
    gradient = jax.jit(jax.grad(lambda x: forward(x)[:, 1].sum()))(images)
    expected = np.asarray(images * gradient)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=2e-3)


def test_the_page_is_as_the_command_writes_it():
    page = table.PAGE.read_text()
    assert table.written(page) == page
    assert page.count("\n| ") == len(FAMILIES) + 2


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_have_the_same_names_in_every_trace(name):
    forward, images = network(name)
    assert list(jaxcam.layers(forward, images)) == list(known(name))
