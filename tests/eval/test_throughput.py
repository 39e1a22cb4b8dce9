"""The table of costs: every metric runs, and is compared with as many passes as it makes."""

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from eval.costs import rows, throughput
from eval.costs.throughput import METRICS, Settings
from jaxcam import _metric_peers, metrics


def test_a_row_for_each_metric(network, capsys):
    names = ("average_drop, half", "energy_in_box", "ssim")
    throughput.main(Settings("tiny", names, batch=2, rounds=1))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == list(names)
    cost = throughput.measure(Settings("tiny", names[:1], batch=2, rounds=2))[names[0]]
    assert cost.passes == 2
    assert cost.seconds > 0
    assert 0.1 < cost.multiple < 100


def test_every_metric_of_the_library_has_a_row():
    """Of its table; and those for chips have the same."""
    wanted = {name for name, *_ in _metric_peers.METRICS}
    measured = set(map(rows.of_metric, METRICS))
    assert wanted <= measured | set(throughput.WITHOUT)
    assert not measured & set(throughput.WITHOUT)
    assert measured <= set(metrics.__all__)
    assert set(map(rows.of_metric, rows.measures())) == measured


def test_perturbation_methods_have_rows_and_memory():
    cost = throughput.measure(Settings("tiny20", ("rise, 64 masks",), batch=1, rounds=1))[
        "rise, 64 masks"
    ]
    assert cost.passes == 64
    assert 0.1 < cost.multiple < 100
    assert cost.memory > 4 * 4 * 64 * 64 * 3  # four masked photos at once


@pytest.mark.parametrize(
    "name", [name for name, metric in METRICS.items() if metric.passes and " of " not in name]
)
def test_metrics_make_the_passes_that_they_are_said_to_need(name):
    """Images that enter the network, as rows of its only product."""
    weights = np.ones((64 * 64 * 3, 8), np.float32)
    forward = lambda x: x.reshape(len(x), -1) @ weights
    measure = lambda batch: METRICS[name].measure(forward, batch)
    program = jax.make_jaxpr(measure)(throughput._batch((64, 64, 3), 2))
    assert _rows(program.jaxpr, weights.shape) == 2 * METRICS[name].passes


def _rows(program, shape):
    """Rows that are multiplied with a matrix of this shape; a loop's, once for each round."""
    found = 0
    for equation in program.eqns:
        inside = 0
        for each in jaxprs_in_params(equation.params):
            inside += _rows(each, shape)
        found += equation.params.get("length", 1) * inside
        if equation.primitive.name == "dot_general" and equation.invars[1].aval.shape == shape:
            found += equation.outvars[0].aval.size // shape[1]
    return found


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="metrics: got speed, expected any of average_drop"):
        throughput.measure(Settings(metrics=("speed",)))


def test_a_metric_is_compared_with_as_many_passes():
    assert throughput._base(throughput.ROWS["deletion, 28 steps"]) == (29, False)
    assert throughput._base(throughput.ROWS["ssim"]) == (1, False)
    assert throughput._base(throughput.ROWS["mask, 20 steps"]) == (20, True)
    cost = throughput._cost(throughput.ROWS["ssim"], [2.0, 6.0, 9.0], [1.0, 2.0, 9.0], 5)
    assert cost == throughput.Cost(0, 2.0, 6.0, 5)
