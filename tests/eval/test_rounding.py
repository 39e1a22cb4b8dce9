"""What float32 does to maps: how it is measured."""

import jax.numpy as jnp
import numpy as np

from eval.costs import rounding

SMALL = rounding.RoundingSettings("resnet18", 32, 2, methods=("edge",))


def test_differences_are_parts_of_each_photos_largest_value(monkeypatch):
    def edge(forward, images, classes):
        """1, and 1 + 2^-30, which float32 does not hold; of the second photo half as much."""
        del forward, classes
        size = jnp.asarray([1, 0.5], images.dtype)[:, None, None]
        more = jnp.asarray([0, 2.0**-30], images.dtype)
        return size * (1 + more)[None, None]

    monkeypatch.setitem(rounding.MAPS, "edge", edge)
    found = rounding.differences(SMALL, "edge")
    np.testing.assert_allclose(found, [2.0**-30] * 2, rtol=1e-6)


def test_the_table(monkeypatch, capsys):
    found = np.array([1e-6, 3e-2, 2e-6])
    monkeypatch.setattr(rounding, "differences", lambda settings, method: found)
    rounding.main(SMALL)
    assert capsys.readouterr().out.splitlines()[-1] == "| edge | 3.0e-02 | 2.0e-06 |"
