"""Metrics on masks of objects: literal form, the best and the worst map, refusals."""

import numpy as np
import pytest

from jaxcam import metrics
from tests.metrics import literal

OBJECT = np.zeros((6, 8), bool)
OBJECT[1:3, 2:7] = True
OBJECT[3, 2] = True


def test_literal_forms(rng):
    saliency = rng.normal(size=(4, 6, 8))
    saliency[2] = np.round(saliency[2])
    objects = rng.random((4, 6, 8)) < 0.3
    mass = metrics.mass_accuracy(saliency, objects)
    rank = metrics.rank_accuracy(saliency, objects)
    for i, (heat, inside) in enumerate(zip(saliency, objects, strict=True)):
        positive = np.maximum(heat, 0)
        np.testing.assert_allclose(mass[i], positive[inside].sum() / positive.sum(), rtol=1e-5)
        top = literal.order(heat)[: inside.sum()]
        np.testing.assert_allclose(rank[i], inside.ravel()[top].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("saliency", "mass", "rank", "hit"),
    [
        (OBJECT, 1, 1, 1),
        (~OBJECT, 0, 0, 0),
        (OBJECT * 2.0 - 1, 1, 1, 1),
        (np.full((6, 8), 1e37), 11 / 48, None, 11 / 48),
        (np.full((6, 8), -1.0), 0, None, 11 / 48),
    ],
)
def test_the_best_the_worst_and_the_constant_map(saliency, mass, rank, hit):
    maps = np.asarray(saliency, np.float32)[None]
    np.testing.assert_allclose(metrics.mass_accuracy(maps, OBJECT[None]), mass, rtol=1e-5)
    np.testing.assert_allclose(metrics.pointing_at(maps, OBJECT[None]), hit, rtol=1e-5)
    if rank is not None:
        assert metrics.rank_accuracy(maps, OBJECT[None]) == rank


def test_a_box_is_a_mask(rng):
    """On the mask of a box they are the metrics of boxes."""
    saliency = rng.normal(size=(3, 6, 8)).astype(np.float32)
    boxes = np.array([[1, 1, 4, 3], [0, 0, 7, 5], [5, 2, 6, 2]], np.float32)
    inside = metrics.box_mask(boxes, (6, 8))
    for of_mask, of_box in (
        (metrics.mass_accuracy, metrics.energy_in_box),
        (metrics.pointing_at, metrics.pointing_game),
    ):
        np.testing.assert_allclose(of_mask(saliency, inside), of_box(saliency, boxes), rtol=1e-6)


@pytest.mark.parametrize("name", ["mass_accuracy", "rank_accuracy", "pointing_at"])
def test_unknown_and_refused(name):
    metric = getattr(metrics, name)
    assert np.isnan(metric(np.ones((1, 6, 8)), np.zeros((1, 6, 8), bool)))[0]
    with pytest.raises(ValueError, match=r"objects: got shape \(6, 8\), expected \(1, 6, 8\)"):
        metric(np.ones((1, 6, 8)), OBJECT)
    with pytest.raises(ValueError, match="objects: got dtype float32, expected bool"):
        metric(np.ones((1, 6, 8)), np.ones((1, 6, 8)))
