"""Galleries draw explain runs' maps beside the right photos; unpublishable ones stay apart."""

import re

import numpy as np
import pytest
from PIL import Image

from eval.protocols import explain
from eval.reporting import gallery, report
from eval.run.runner import run
from jaxcam import pictures
from jaxcam.methods import WHOLE
from tests.eval.test_protocols import settings


@pytest.fixture
def runs(network, photos, tmp_path):
    """Two runs of the same photos of tiny20 with one method each, and one of scikit-image's."""
    made = []
    for name, fields in {
        "a": {"methods": ("cam", "noise"), "layers": ()},
        "b": {"methods": ("lrp",)},
        "c": {"methods": ("noise",), "data": "skimage"},
    }.items():
        chosen = settings(photos, tmp_path, output=tmp_path / name, **fields)
        run(chosen, explain.PROTOCOL)
        made.append(chosen.output)
    return made


def test_runs_of_the_same_photos_make_one_gallery(runs):
    first, second = gallery.find(runs)
    assert (first.free, second.free) == (False, True)
    methods = [key for key in first.values if key.endswith("/maps")]
    assert methods == ["cam/top/maps", "noise/stem/maps", "noise/top/maps", f"lrp/{WHOLE}/maps"]
    assert first.skipped == {"cam/stem"}


def test_runs_of_other_crops_or_other_maps_are_galleries_of_their_own():
    """Maps of a crop were drawn over whole photos, and one option's in place of another's."""
    maps = {"ids": np.array(["a.png"]), "lrp//maps": np.ones((1, 2, 2))}
    shown = gallery.Shown({"model": "tiny", "crop": 0.0, "options": []}, maps)
    other = {**maps, "lrp//maps": np.zeros((1, 2, 2))}
    assert gallery._go_together(shown, gallery.Shown({"model": "tiny", "options": ["x"]}, maps))
    assert not gallery._go_together(shown, gallery.Shown({**shown.settings, "crop": 1.0}, maps))
    assert not gallery._go_together(shown, gallery.Shown(shown.settings, other))


def test_pictures_show_each_photo_with_its_maps(runs, photos, tmp_path, monkeypatch):
    drawn, draw = [], pictures.draw
    monkeypatch.setattr(
        pictures, "draw", lambda explanation: drawn.append(explanation) or draw(explanation)
    )
    shown = gallery.find(runs)[0]
    paths = list(gallery.draw(shown, tmp_path / "out", 2))
    assert len(paths) == len(drawn) == 2
    for row, (path, each) in enumerate(zip(paths, drawn, strict=True)):
        assert Image.open(path).format == "JPEG"
        np.testing.assert_array_equal(each.photo, np.asarray(Image.open(photos[0] / each.name)))
        assert each.name == shown.values["ids"][row]
        assert path.name == f"tiny_tiny20_{each.name.replace('/', '_')[:-4]}.jpg"
        np.testing.assert_array_equal(
            each.maps["noise (control)", "top\n8 × 8"], shown.values["noise/top/maps"][row]
        )
        np.testing.assert_array_equal(each.maps["LRP", ""], shown.values[f"lrp/{WHOLE}/maps"][row])
        assert each.maps["CAM", "stem\n16 × 16"] is None
        assert each.target == shown.values["targets"][row] == np.argmax(each.probabilities)
        assert list(dict.fromkeys(layer for _, layer in each.maps)) == [
            "stem\n16 × 16",
            "top\n8 × 8",
            "",
        ]
    (again,) = gallery.draw(shown, tmp_path / "out", 1, {path.name for path in paths})
    assert again.name == f"{paths[0].stem}-2.jpg"  # as of 1.png and 1.jpg


def test_a_report_shows_free_photos_only(runs, tmp_path):
    page = report.report(
        report.Settings(tuple(runs), tmp_path / "out", tmp_path / "gallery", photos=1)
    )
    (free,) = (tmp_path / "out").glob("*.jpg")
    (apart,) = (tmp_path / "gallery").glob("*.jpg")
    assert free.name.startswith("tiny_skimage_")
    assert apart.name.startswith("tiny_tiny20_")
    assert len(re.findall("data:image/jpeg", page.read_text())) == 1
    assert free.name in (tmp_path / "out/report.md").read_text()
    assert "gallery: tiny_tiny20" in (tmp_path / "gallery/gallery.html").read_text()
