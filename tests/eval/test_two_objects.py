"""Real photos of two classes: each class's own boxes, of records made by hand."""

import numpy as np
import pytest

import jaxcam
from eval.protocols import class_sensitivity
from eval.protocols.class_sensitivity import ClassSettings
from eval.run.runner import run
from eval.subjects import data
from jaxcam import metrics
from jaxcam.datasets import NO_BOXES, UNKNOWN, Dataset, Record
from tests.eval.conftest import SIZE

# A dog (2) beside two persons (1), the second of them smaller, and a ball (4).
BOXES = np.array([[0, 0, 7, 7], [8, 0, 15, 5], [8, 6, 9, 7], [12, 12, 13, 13]], np.float32)
LABELS = np.array([2, 1, 1, 4])


@pytest.fixture
def dataset(rng, monkeypatch):
    """Photos of the network's size: one of three classes, one of one, one without boxes."""
    pixels = rng.integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    records = [
        Record(pixels[0], 2, BOXES, "several", LABELS),
        Record(pixels[1], 2, BOXES[:1], "one", LABELS[:1]),
        Record(pixels[2], 1, NO_BOXES, "none", np.zeros(0, int)),
    ]
    found = Dataset(records, tuple("abcde"))
    monkeypatch.setitem(data.SETS, "objects", lambda root, split: found)
    return found


def test_the_second_class_is_that_of_the_largest_other_object(dataset):
    assert [data.second_class(record) for record in dataset.records] == [1, UNKNOWN, UNKNOWN]
    photos = data.load("objects", SIZE, 3, 0)
    row = photos.ids.index("several")
    assert photos.extra["second_target"][row] == 1
    assert sorted(photos.extra["second_target"]) == [UNKNOWN, UNKNOWN, 1]
    np.testing.assert_array_equal(photos.extra["second_boxes"][row], BOXES[1:3])
    np.testing.assert_array_equal(photos.boxes[row][:1], BOXES[:1])


def test_each_class_is_measured_in_its_own_boxes(dataset, network, tmp_path):
    settings = ClassSettings(
        *(tmp_path / "run", "tiny", "objects"),
        n=3,
        batch=1,
        methods=("grad_cam",),
        layers=("top",),
        objects=True,
    )
    record = run(settings, class_sensitivity.PROTOCOL)
    assert record["photos"] == 1
    found = record["results"]["grad_cam"]["top"]
    forward = network.forward(network.params)
    images = network.prepare(dataset.records[0].image[None])
    pair = jaxcam.grad_cam(forward, images, [[2, 1]], layer="top")[0]
    first, second = np.asarray(jaxcam.maps.resize(pair, (SIZE, SIZE)))
    energy = lambda heat, boxes: float(metrics.energy_in_box(heat[None], boxes[None])[0])
    own = (energy(first, BOXES[:1]) + energy(second, BOXES[1:3])) / 2
    other = (energy(first, BOXES[1:3]) + energy(second, BOXES[:1])) / 2
    assert found["own"]["mean"] == pytest.approx(own, rel=1e-4)
    assert found["other"]["mean"] == pytest.approx(other, rel=1e-4)


def test_photos_of_one_class_are_refused(network, photos, tmp_path):
    wanted = ClassSettings(tmp_path / "run", "tiny", "tiny20", objects=True, root=photos[1])
    with pytest.raises(ValueError, match="data: got 6 photos without boxes of two classes"):
        run(wanted, class_sensitivity.PROTOCOL)
    with pytest.raises(ValueError, match="objects: got True with pairs, expected one of both"):
        class_sensitivity.settle(ClassSettings(None, pairs=True, objects=True), network)
