"""What explanations cost, by XLA's count of the lowered program: nothing is compiled or timed."""

import jax
import jax.numpy as jnp
import pytest

import jaxcam
from jaxcam import models

IMAGES = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


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
