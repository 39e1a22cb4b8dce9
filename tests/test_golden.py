"""Formulas against kept numbers, also in a clone that has no reference data beside it."""

import numpy as np
import pytest

from jaxcam.methods import METHODS
from tests import golden

KEPT = dict(np.load(golden.FILE))
NUMBERS = dict(golden.numbers(KEPT))


def test_the_set_is_whole():
    assert golden.digest(KEPT) == str(KEPT["digest"])
    assert golden.FILE.stat().st_size < 300_000
    assert set(KEPT) - set(NUMBERS) == {"digest", "images", *golden._SHAPES}
    assert {f"map {name}" for name in METHODS} <= set(NUMBERS)
    for name in NUMBERS:
        assert KEPT[name].any(), f"{name} says nothing"


@pytest.mark.lenient
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_as_it_was(name):
    assert golden.far(NUMBERS[name](), KEPT[name]) < 1e-4


def test_far():
    kept = np.array([1.0, -4.0, np.nan])
    assert golden.far([1.0, -4.4, np.nan], kept) == pytest.approx(0.1)
    assert golden.far([1.0, -4.0, 0.0], kept) == float("inf")
    assert golden.far([1.0], kept) == float("inf")
