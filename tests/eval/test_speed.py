"""What a fostering step costs on ResNet-50, by XLA's count of the program; the table of costs."""

import jax
import jax.numpy as jnp
import pytest

from eval.costs import speed
from jaxcam import models


@pytest.fixture(scope="module")
def flops():
    model, images = models.create("resnet50"), jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def count(name):
        run = jax.jit(lambda v, x: speed.METHODS[name].run(model, v, x))
        return run.lower(variables, images).cost_analysis()["flops"]

    return count


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("fostering/layer4", 1.02),
        ("fostering_area/layer4", 1.02),
        ("fostering/layer3", 1.25),
        ("fostering/layer2", 1.6),
    ],
)
def test_fostering_costs_the_head_once_more(flops, name, bound):
    assert 1 <= flops(name) / flops("training") <= bound


def test_measures_and_prints_a_row_for_each_method():
    costs = speed.measure(["forward", "grad_cam/layer4"], "resnet18", image_size=32, rounds=1)
    lines = speed.table(costs).splitlines()
    assert [line.split(" |")[0] for line in lines[2:]] == ["| forward", "| grad_cam/layer4"]
    assert all(cost.seconds > 0 and cost.compile_seconds > 0 for cost in costs.values())
    assert len({cost.seconds for cost in costs.values()}) == 2


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="methods: got nothing, expected any of forward"):
        speed.measure(["nothing"])


def test_costs_are_shown_as_multiples_of_their_base():
    costs = {"forward": speed.Cost(4.0, 0.5, 1.0), "grad_cam/layer4": speed.Cost(6.0, 1.0, 2.25)}
    line = speed.table(costs).splitlines()[-1]
    assert line == "| grad_cam/layer4 | forward | x1.50 | x2.00 | 1000.0 | 2.2 |"
