"""What relevance costs on ResNet-50, by XLA's own count of the lowered program.

Nothing is compiled, nothing is timed. A linear layer whose input is known >= 0 takes three
operations of its size: y, the denominator z, and z transposed. With f the share of the forward pass
above the layer, the z+ rule needs 1 + 2 f: 1.0, 1.40, 2.11 and 2.62 at layer4 to layer1, and 3 at
the pixels but for the stem, whose input is signed.
"""

import jax
import jax.numpy as jnp
import pytest

import jaxcam
from jaxcam import loops, models
from jaxcam._explainers import relevance

IMAGES = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


@pytest.fixture(scope="module")
def cost():
    """explain(forward, images) -> its FLOPs as a multiple of the forward pass."""
    model = models.create("resnet50")
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    forward = lambda variables: jaxcam.linen(model, variables)
    flops = lambda f: jax.jit(f).lower(variables, IMAGES).cost_analysis()["flops"]
    base = flops(lambda v, x: forward(v)(x))
    # CPUs take the ways back of convolutions over few positions as products (`_program.quick`), in
    # whose count are the zeros at the borders.
    with loops.compiling_for("tpu"):
        yield lambda explain: flops(lambda v, x: explain(forward(v), x)) / base


@pytest.mark.parametrize(
    ("layer", "bound"), [("layer4", 1.05), ("layer3", 1.45), ("layer2", 2.15), ("layer1", 2.67)]
)
def test_relevance_cam(cost, layer, bound):
    assert 1 <= cost(lambda forward, x: relevance.relevance_cam(forward, x, layer=layer)) <= bound


def test_z_plus_to_the_pixels(cost):
    assert 3 <= cost(jaxcam.lrp_map) <= 3.3


def test_through_a_vision_transformer():
    """Its dense layers' inputs are signed: y, two terms of z and both transposed, 5 of their size.

    Attention's products are no layers, and take what a gradient takes.
    """
    model = models.create("vit_base")
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    forward = lambda variables: jaxcam.linen(model, variables)
    flops = lambda f: jax.jit(f).lower(variables, IMAGES).cost_analysis()["flops"]
    base = flops(lambda v, x: forward(v)(x))
    assert 4.5 <= flops(lambda v, x: jaxcam.lrp_map(forward(v), x, 0)) / base <= 4.9
