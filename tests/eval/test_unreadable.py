"""Photos of a protocol that cannot be read, or have no label: nothing is told that was not so."""

import json
import zipfile

import numpy as np
import pytest

from eval import programs
from eval.protocols import adcc, class_sensitivity, localization
from eval.reporting import report
from eval.run import record
from eval.run.runner import run
from eval.subjects import data
from tests.eval.conftest import PHOTOS, SIZE
from tests.eval.test_protocols import settings, values_of

BROKEN = "n2/3.png"


@pytest.fixture
def broken(photos):
    """tiny20.zip with one photo cut off in its pixels."""
    path = photos[1] / "tiny20.zip"
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    name = f"tiny20/val/{BROKEN}"
    content[name] = content[name][:700]
    with zipfile.ZipFile(path, "w") as archive:
        for each, value in content.items():
            archive.writestr(each, value)
    return photos


def test_a_broken_photo_is_left_out_and_named(network, photos, broken, tmp_path):
    found = run(settings(broken, tmp_path, adcc.AdccSettings, n=PHOTOS), adcc.PROTOCOL)
    assert found["photos"] == PHOTOS - 1
    (said,) = found["unreadable"]
    assert said.startswith(f"{BROKEN}, which ")
    assert f"left out: {said}" in record.table(found, programs.columns(found))
    values = values_of(found, settings(broken, tmp_path))
    assert BROKEN not in values["ids"] and len(values["ids"]) == PHOTOS - 1
    again = run(settings(broken, tmp_path, adcc.AdccSettings, n=PHOTOS), adcc.PROTOCOL)
    assert again["results"] == found["results"] and again["unreadable"] == found["unreadable"]


def test_the_others_values_are_those_without_it(network, photos, tmp_path, request):
    whole = settings(photos, tmp_path, n=PHOTOS, output=tmp_path / "whole")
    expected = values_of(run(whole, localization.PROTOCOL), whole)
    chosen = settings(request.getfixturevalue("broken"), tmp_path, n=PHOTOS)
    found = values_of(run(chosen, localization.PROTOCOL), chosen)
    keep = expected["ids"] != BROKEN
    for name, value in found.items():
        if name != "accuracy" and value.dtype.kind == "f":
            np.testing.assert_allclose(value, expected[name][keep], rtol=1e-5, err_msg=name)


def test_no_half_of_a_pair_is_a_broken_photo(network, broken, tmp_path):
    chosen = settings(broken, tmp_path, class_sensitivity.ClassSettings, pairs=True, n=PHOTOS)
    found = run(chosen, class_sensitivity.PROTOCOL)
    assert found["photos"] == PHOTOS - 1
    assert not any(BROKEN in name for name in values_of(found, chosen)["ids"])


def test_more_than_may_be_end_the_run(network, broken, tmp_path):
    expected = f"data: 1 of {PHOTOS} photos cannot be read, expected at most 0, .*: {BROKEN}, which"
    with pytest.raises(ValueError, match=expected):
        run(settings(broken, tmp_path, n=PHOTOS, unreadable=0), adcc.PROTOCOL)
    with pytest.raises(ValueError, match=f"data: photos that cannot be read: {BROKEN}, which"):
        data.load("tiny20", SIZE, PHOTOS, 0, broken[1])


def test_accuracy_is_of_photos_with_a_label(network, photos, tmp_path):
    """Photos in no folder of a class have none; where none has one there is no accuracy."""
    folder = str(photos[0] / "n1")
    chosen = settings(photos, tmp_path, adcc.AdccSettings, data=folder, methods=("noise",))
    found = run(chosen, adcc.PROTOCOL)
    assert found["accuracy"] is None
    assert json.loads((chosen.output / "adcc.json").read_text())["accuracy"] is None
    assert "3 photos, seed 0, no labels" in report._described(found)


@pytest.mark.parametrize(
    ("labels", "expected"), [([1, -1, 2, -1], 0.5), ([1, 2, 2, 0], 0.5), ([1, -1, -1, -1], 1.0)]
)
def test_accuracy_leaves_out_what_has_no_label(labels, expected):
    assert record.accuracy(np.array([1, -1, 0, 0]), np.array(labels)) == expected


def test_no_accuracy_is_none():
    assert record.known(record.accuracy(np.array([1]), np.array([-1]))) is None
