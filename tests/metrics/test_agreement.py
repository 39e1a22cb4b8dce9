"""Sim N."""

import numpy as np
import pytest

from jaxcam import metrics
from tests.metrics import literal


def test_sim_equals_its_literal_form(rng):
    teacher = rng.normal(size=(200, 6))
    student = teacher + 0.3 * rng.normal(size=teacher.shape)
    values = np.asarray(metrics.sim(teacher, student, n=6))
    expected = [
        [literal.sim(a, b, n) for n in range(1, 7)] for a, b in zip(teacher, student, strict=True)
    ]
    np.testing.assert_array_equal(values, expected)
    assert (np.diff(values, axis=1) <= 0).all()
    np.testing.assert_array_equal(values[:, 0], teacher.argmax(1) == student.argmax(1))
    assert 0 < values[:, -1].mean() < values[:, 0].mean() < 1


def test_the_papers_example():
    cat, fish, dog = range(3)
    teacher, student = np.zeros((1, 3)), np.zeros((1, 3))
    teacher[0, [cat, fish, dog]] = student[0, [cat, dog, fish]] = 3, 2, 1
    np.testing.assert_array_equal(metrics.sim(teacher, student, n=2), [[1, 0]])


def test_ties_go_to_the_lower_class_and_nan_stays():
    logits = np.array([[1.0, 1, 1], [1, np.nan, 0], [0, 1, 2]])
    other = np.array([[3.0, 2, 1], [1, 2, 0], [0, 1, 2]])
    values = metrics.sim(logits, other, n=3, mask=[True, True, False])
    np.testing.assert_array_equal(values, [[1, 1, 1], [np.nan] * 3, [np.nan] * 3])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"other: got shape \(2, 3\) beside logits \(2, 4\)"):
        metrics.sim(np.ones((2, 4)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="n: got 5, expected 1 to 4, the number of classes"):
        metrics.sim(np.ones((2, 4)), np.ones((2, 4)))
