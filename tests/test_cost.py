"""What explanations cost, by XLA's count of the lowered program: nothing is compiled or timed."""

import jax
import jax.numpy as jnp
import pytest

import jaxcam
from jaxcam import loops, models
from jaxcam.targets import residual_softmax

IMAGES = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


@pytest.fixture(scope="module", autouse=True)
def without_borders():
    """On CPUs some ways back are products (`_program.quick`), of whose count are borders' zeros."""
    with loops.compiling_for("tpu"):
        yield


def flops(function, *args):
    return jax.jit(function).lower(*args).cost_analysis()["flops"]


@pytest.fixture(scope="module")
def resnet50():
    model = models.create("resnet50")
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    forward = lambda variables: lambda images: model.apply(variables, images)
    return forward, variables, flops(lambda v, x: forward(v)(x), variables, IMAGES)


def cost_of_grad_cam(resnet50, layer):
    forward, variables, base = resnet50
    return flops(lambda v, x: jaxcam.grad_cam(forward(v), x, layer=layer), variables, IMAGES) / base


def test_grad_cam_at_the_last_stage_costs_a_forward_pass(resnet50):
    assert cost_of_grad_cam(resnet50, "layer4") <= 1.02


def test_grad_cam_costs_a_forward_pass_and_the_backward_pass_above_the_layer(resnet50):
    forward, variables, base = resnet50
    shape = jax.eval_shape(lambda v, x: jaxcam.tap(forward(v), "layer2")(x)[1], variables, IMAGES)

    def head_gradient(v, x, activations):
        cut = jaxcam.split(forward(v), x, "layer2")
        return jax.grad(lambda a: cut.head(a)[:, 0].sum())(activations)

    trunk = flops(lambda v, x: jaxcam.tap(forward(v), "layer2")(x)[1], variables, IMAGES)
    both = flops(head_gradient, variables, IMAGES, shape)
    head = flops(
        lambda v, x, a: jaxcam.split(forward(v), x, "layer2").head(a), variables, IMAGES, shape
    )
    assert trunk > 0.4 * base
    assert cost_of_grad_cam(resnet50, "layer2") <= 1 + 1.01 * (both - head) / base


@pytest.fixture(scope="module")
def resnet18():
    """(variables -> forward, variables, its cost, that of a gradient at the pixels)."""
    model = models.create("resnet18")
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    forward = lambda variables: lambda images: model.apply(variables, images)
    base = flops(lambda v, x: forward(v)(x), variables, IMAGES)
    gradient = lambda v, x: jax.grad(lambda x: forward(v)(x)[:, 0].sum())(x)
    return forward, variables, base, flops(gradient, variables, IMAGES) / base


# (method, its options, the most it costs in forward passes)
COSTS = [
    ("shapley_cam", {"layer": "layer4"}, 1.02),
    ("finer_cam", {"layer": "layer4"}, 1.02),
    ("fem", {"layer": "layer4"}, 1.02),
    ("shapley_cam", {"layer": "layer3"}, 1.22),  # without curvature: Grad-CAM's
    ("shapley_cam", {"layer": "layer3", "targets": residual_softmax(0)}, 1.65),
    ("gradient", {}, 2.1),
    ("gradient_input", {}, 2.1),
    ("guided_backprop", {}, 2.1),
    ("deconvnet", {}, 2.1),
    ("guided_grad_cam", {"layer": "layer4"}, 3.1),
    ("fullgrad", {}, 2.2),
    ("refine_cam", {"layers": ["layer3", "layer4"]}, 1.35),
]


@pytest.mark.parametrize(("name", "options", "most"), COSTS)
def test_kin_cost_what_the_page_of_methods_says(resnet18, name, options, most):
    forward, variables, base, _ = resnet18
    explain = lambda v, x: getattr(jaxcam, name)(forward(v), x, **{"targets": 0, **options})
    assert flops(explain, variables, IMAGES) <= most * base


def test_a_gradient_at_the_pixels_is_what_those_of_pixels_cost(resnet18):
    assert resnet18[3] == pytest.approx(2, rel=0.05)
