"""What float32 does to maps: how it is measured."""

import jax.numpy as jnp
import numpy as np
import pytest

from eval.costs import rounding
from eval.costs.peers import cases, ours

SMALL = rounding.RoundingSettings("resnet18", 32, 2, methods=("gradient",))


def test_differences_are_parts_of_each_photos_largest_value(monkeypatch):
    def edge(forward, given, at):
        """1, and 1 + 2^-30, which float32 does not hold; of the second photo half as much."""
        del forward, at
        size = jnp.asarray([1, 0.5], given.images.dtype)[:, None, None]
        more = jnp.asarray([0, 2.0**-30], given.images.dtype)
        return size * (1 + more)[None, None]

    monkeypatch.setitem(ours.EXPLAINERS, "gradient", edge)
    found = rounding.differences(SMALL, cases.Case("gradient"))
    np.testing.assert_allclose(found, [2.0**-30] * 2, rtol=1e-6)


def test_a_step_of_training_is_one_number():
    larger = rounding.RoundingSettings("resnet18", 64, 4)  # a batch norm needs a few values
    found = rounding.differences(larger, cases.Case("training"))
    assert found.shape == (1,)
    assert 0 < found[0] < 1e-2


def test_the_table(monkeypatch, capsys):
    found = np.array([1e-6, 3e-2, 2e-6])
    monkeypatch.setattr(rounding, "differences", lambda settings, method: found)
    rounding.main(SMALL)
    assert capsys.readouterr().out.splitlines()[-1] == "| gradient | 3.0e-02 | 2.0e-06 |"
    with pytest.raises(ValueError, match="methods: got 'edge', expected "):
        rounding.main(SMALL.__class__(methods=("edge",)))
