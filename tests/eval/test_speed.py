"""What a fostering step costs on ResNet-50, by XLA's count of the program; the table of costs."""

import functools
import json
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.costs import laws, narrow, speed
from jaxcam import loops, models
from jaxcam.methods import METHODS


@pytest.fixture(scope="module")
def flops():
    model, images = models.create("resnet50"), jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    @functools.cache
    def count(name):
        run = jax.jit(lambda v, x: speed.METHODS[name].run(model, v, x))
        # On CPUs some ways back are products, in whose count are the zeros at the borders.
        with loops.compiling_for("tpu"):
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


def test_the_example_in_the_help_names_methods():
    (line,) = [line for line in speed.__doc__.splitlines() if "--methods" in line]
    names = line.partition("--methods")[2].split()
    assert names
    assert set(names) <= set(speed.METHODS)


def test_costs_are_shown_as_multiples_of_their_base():
    costs = {"forward": speed.Cost(4.0, 0.5, 1.0), "grad_cam/layer4": speed.Cost(6.0, 1.0, 2.25)}
    line = speed.table(costs).splitlines()[-1]
    assert line == "| grad_cam/layer4 | forward | x1.50 | x2.00 | 1000.0 | 2.2 |"


def test_laws_are_fitted():
    """A product of matrices has exponent 3; what is taken off it is a product of 8 x 8."""

    def make(side):
        return laws.Call(lambda x: x @ x, (jnp.ones((side, side)),))

    law = laws.Law("side", "product", (16, 32, 64), make, 3)
    found = laws.measured(law, rounds=1)
    assert found.flops == (2 * 16**3, 2 * 32**3, 2 * 64**3)
    assert found.flops_exponent == pytest.approx(3)
    assert found.seconds is not None
    assert len(found.seconds) == 3
    less = laws.measured(law._replace(less=lambda _: make(8), timed=False), rounds=1)
    assert less.flops == tuple(flops - 2 * 8**3 for flops in found.flops)
    assert (less.seconds, less.seconds_exponent) == (None, None)
    line = laws.table([less]).splitlines()[-1]
    assert line.startswith("| side | product | 16, 32, 64 | 3 | 3.0")
    assert laws.exponent((1, 2, 4), (5, 20, 80)) == pytest.approx(2)
    assert laws.exponent((1, 2), (0, 1)) != laws.exponent((1, 2), (0, 1))  # NaN
    with pytest.raises(ValueError, match="methods: got 'colour', expected any of batch, image"):
        list(laws.measure(["colour"]))


def test_operations_are_proportional_to_the_batch():
    law = laws.LAWS[0]
    flops = []
    for size in (2, 4):
        call = law.make(size)
        lowered: Any = jax.jit(call.function).lower(*call.arguments)
        flops.append(lowered.cost_analysis()["flops"])
    assert laws.exponent((2, 4), flops) == pytest.approx(law.expected, abs=0.02)


def test_changes_of_maps_are_shown():
    """The least correlation over photos, and the largest difference of maps in [-1, 1]."""
    usual = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    images = jnp.zeros((2, 2, 2, 3))
    model: Any = types.SimpleNamespace(params=(), forward=lambda params: None)
    scene = narrow.Scene(model, images, jnp.zeros(2, int), np.zeros((2, 2, 2), int))
    apart = np.zeros((2, 2, 2), np.float32)
    apart[1, 1, 1] = -0.7

    def ask(forward, scene, dtype=None):
        return scene.images[..., 0] + usual + (0.0 if dtype is None else apart)

    change = narrow._change(ask, scene)
    assert change.correlation == pytest.approx(np.corrcoef([4, 5, 6, 7], [4, 5, 6, 6.3])[0, 1])
    assert change.difference == pytest.approx(6 / 6.3 - 6 / 7, rel=1e-5)
    line = narrow.table({"rise": narrow.Change(0.5, 0.25, 1.0, 2.0)}).splitlines()[-1]
    assert line == "| rise | 0.50000 | 0.2500 | 1.00 | 2.00 |"


def test_methods_of_the_librarys_table_have_rows_that_are_asked_for():
    assert {"finer_cam/layer4", "finer_cam/layer1", "fullgrad", "occlusion"} <= set(speed.OF_TABLE)
    assert "cam/layer1" not in speed.METHODS
    unlisted = {name for name in METHODS if name not in speed.METHODS}
    rows = {name.partition("/")[0] for name in speed.METHODS}
    assert unlisted - rows == {"attention_rollout", "legrad", "lime"}


@pytest.mark.parametrize("flag", ["", "narrow"])
def test_what_is_printed_is_written_too(tmp_path, capsys, flag):
    fields: dict[str, Any] = {"methods": ("fem/layer4",), "model": "resnet18", "image_size": 32}
    if flag:
        fields = {"methods": ("rise",), flag: True}
    output = tmp_path / "new" / "costs.json"
    speed.main(speed.Settings(rounds=1, output=output, **fields))
    shown = capsys.readouterr().out
    assert output.with_suffix(".md").read_text().endswith(f"\n\n{shown}")
    (*_, (name, row)) = json.loads(output.read_text())["rows"].items()
    assert name == fields["methods"][0]
    assert row["seconds"] > 0
