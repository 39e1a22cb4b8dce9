"""Score-CAM and Ablation-CAM: against formulas, pytorch-grad-cam's outputs, and their laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests import nets
from tests.explainers import literal


@pytest.fixture(scope="module")
def tiny():
    model, variables, images = nets.tiny(batch=2)
    return jaxcam.linen(model, variables), images


def relative(a, b):
    return np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b)


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_reference_implementation_is_reproduced(cifar, name):
    reference, _, forward, images, targets = cifar
    explain, layers = getattr(jaxcam, name), ["layer1", "layer3"]
    run = lambda x, t: explain(forward, x, t, layer=layers, variant="jacobgil", relu=None, chunk=8)
    maps = jax.jit(run)(images[:4], targets[:4])
    for layer in layers:
        assert relative(maps[layer], reference[f"{name}/{layer}/raw"][:4]) < 2e-5


@pytest.mark.parametrize("variant", ["official", "paper", "jacobgil"])
def test_score_cam_equals_its_literal_form(tiny, variant):
    forward, images = tiny
    answer = jax.jit(forward)
    model = lambda image: np.asarray(answer(jnp.asarray(image[None], jnp.float32))[0], np.float64)
    acts = np.array(jaxcam.tap(forward, "top")(images)[1], np.float64)
    maps = jaxcam.score_cam(forward, images, [1, 2], layer="top", variant=variant, chunk=4)
    for i, target in enumerate((1, 2)):
        expected = literal.score_cam(
            acts[i], np.asarray(images[i], np.float64), model, target, variant
        )
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(maps[i], expected, rtol=1e-4, atol=1e-6)


def test_ablation_cam_equals_its_literal_form(tiny):
    forward, images = tiny
    head = jaxcam.split(forward, images[:1], "top").head
    slow_head = lambda a: np.asarray(head(jnp.asarray(a[None], jnp.float32))[0], np.float64)
    acts = np.array(jaxcam.tap(forward, "top")(images)[1], np.float64)
    maps = jaxcam.ablation_cam(forward, images, [1, 2], layer="top")
    for i, target in enumerate((1, 2)):
        expected = literal.ablation_cam(acts[i], slow_head, target)
        np.testing.assert_allclose(maps[i], expected, rtol=1e-3, atol=1e-5)


def test_ablation_cam_is_cam_over_the_logit_on_a_pooled_linear_head(tiny):
    """Y - Y_k = W_k mean(A_k) there: a closed form."""
    forward, images = tiny
    logits, acts, grads = jaxcam.activations_and_gradients(forward, images, 1, layer="top")
    weights = (acts.mean((1, 2)) * grads.sum((1, 2))) / jnp.abs(logits[:, 1:2])
    expected = np.maximum(np.einsum("bhwc,bc->bhw", acts, weights), 0)
    np.testing.assert_allclose(
        jaxcam.ablation_cam(forward, images, 1, layer="top"), expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_shared_properties(tiny, name):
    """The chunk does not matter, jit = eager, batch = singles, targets and layers = one by one."""
    forward, images = tiny
    explain = partial(getattr(jaxcam, name), relu=None)
    maps = explain(forward, images, [0, 1], layer="top", chunk=4)
    assert maps.shape == (2, 4, 4)
    assert maps.dtype == jnp.float32
    assert np.abs(maps).max((1, 2)).min() > 0
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    close(explain(forward, images, [0, 1], layer="top", chunk=100), maps)
    close(
        jax.jit(lambda x, t: explain(forward, x, t, layer="top", chunk=1))(
            images, jnp.array([0, 1])
        ),
        maps,
    )
    close(explain(forward, images[1:], 1, layer="top"), maps[1:])
    both = explain(forward, images, [[0, 3], [1, 3]], layer=["top", "stem"])
    close(both["top"][:, 0], maps)
    assert both["stem"].shape == (2, 2, 8, 8)


def test_paper_weights_are_a_softmax_that_a_constant_cannot_move(tiny):
    """A constant added to every logit changes nothing: the baseline cancels (methods.md 4.2)."""
    forward, images = tiny
    explain = lambda f: jaxcam.score_cam(f, images, 1, layer="top", variant="paper", relu=None)
    np.testing.assert_allclose(
        explain(lambda x: forward(x) + 7.0), explain(forward), rtol=1e-4, atol=1e-6
    )
    constant = lambda x: (
        jaxcam.tag(jnp.ones_like(x) * x[:, :1, :1] ** 0, "a").mean((1, 2)) + forward(x)[:, :3]
    )
    maps = jaxcam.score_cam(constant, images, 1, layer="a", variant="paper")
    np.testing.assert_allclose(maps, 1.0, rtol=1e-5)  # weights sum to 1 and every activation is 1
    # official: no mask, no weight
    np.testing.assert_array_equal(jaxcam.score_cam(constant, images, 1, layer="a"), 0)


def test_score_cam_masks_integer_images_as_it_masks_floats(tiny):
    forward, images = tiny
    photos = jnp.clip(128 + 50 * images, 0, 255).astype(jnp.uint8)
    from_photos = lambda x: forward((x.astype(jnp.float32) - 128) / 50)
    maps = jaxcam.score_cam(from_photos, photos, 1, layer="top")
    expected = jaxcam.score_cam(from_photos, photos.astype(jnp.float32), 1, layer="top")
    assert relative(maps, np.asarray(expected)) < 0.05  # rounded to whole values


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_one_compiled_loop_whose_memory_is_set_by_the_chunk(name):
    """The program of 64 channels holds one loop and no array beyond a few chunks of images."""
    forward = lambda x: jax.nn.relu(
        jnp.repeat(jaxcam.tag(jnp.tile(x, (1, 1, 1, 32)), "a"), 2, 1)
    ).mean((1, 2))
    images = jax.ShapeDtypeStruct((1, 16, 16, 2), jnp.float32)

    def sizes(jaxpr):
        for eqn in jaxpr.eqns:
            yield from (np.prod(v.aval.shape) for v in eqn.outvars)
            for sub in jax.extend.core.jaxprs_in_params(eqn.params):
                yield from sizes(sub)

    def largest(chunk):
        run = lambda x: getattr(jaxcam, name)(forward, x, 0, layer="a", chunk=chunk)
        program = jax.make_jaxpr(run)(images)
        assert str(program).count("scan[") == 1
        return max(sizes(program.jaxpr))

    small, big = largest(2), largest(32)
    assert big == 16 * small


def test_ablation_cam_runs_the_trunk_once(tiny):
    """No convolution stands inside the loop: its cost is one head per channel."""
    forward, images = tiny
    program = jax.make_jaxpr(lambda x: jaxcam.ablation_cam(forward, x, 0, layer="top"))(images)
    (loop,) = [e for e in program.jaxpr.eqns if e.primitive.name == "scan"]
    assert "conv_general_dilated" in str(program)
    assert "conv_general_dilated" not in str(loop.params["jaxpr"])


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_float64_stays_float64(name):
    """And is exact to it: rounding a logit to float32 on the way would leave errors of 1e-7."""
    model, variables, images = nets.tiny(batch=2)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda v: np.asarray(v, np.float64), variables)
        forward, images = (
            jaxcam.linen(model.clone(dtype=jnp.float64), wide),
            jnp.asarray(images, jnp.float64),
        )
        maps = getattr(jaxcam, name)(forward, images, 1, layer="top", relu=None)
        assert maps.dtype == jnp.float64
        if name == "ablation_cam":  # its closed form on a pooled linear head
            logits, acts, grads = jaxcam.activations_and_gradients(forward, images, 1, layer="top")
            weights = (acts.mean((1, 2)) * grads.sum((1, 2))) / jnp.abs(logits[:, 1:2])
            np.testing.assert_allclose(
                maps, np.einsum("bhwc,bc->bhw", acts, weights), rtol=1e-9, atol=1e-12
            )


def test_has_aux_returns_what_the_model_adds(tiny):
    forward, images = tiny
    with_aux = lambda x: (forward(x), {"note": x.sum()})
    for name in ("score_cam", "ablation_cam"):
        maps, aux = getattr(jaxcam, name)(with_aux, images, 1, layer="top", has_aux=True)
        np.testing.assert_allclose(
            maps, getattr(jaxcam, name)(forward, images, 1, layer="top"), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(aux["note"], images.sum(), rtol=1e-5)


@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_bad_input_is_named(tiny, name):
    forward, images = tiny
    explain = getattr(jaxcam, name)
    with pytest.raises(ValueError, match="variant: got 'mine', expected one of"):
        explain(forward, images, variant="mine")
    with pytest.raises(ValueError, match="chunk: got 0, expected at least 1"):
        explain(forward, images, chunk=0)
    with pytest.raises(ValueError, match=r"layer: got 'head' of shape .*, expected spatial extent"):
        explain(forward, images, layer="head")
    with pytest.raises(ValueError, match=r"targets: got shape \(1,\) for 2 images"):
        explain(forward, images, [0])
