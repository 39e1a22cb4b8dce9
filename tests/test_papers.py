"""Pictures for papers: as wide as a column, fonts in the file, a legend."""

import re
import zlib

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxcam import _layouts as layouts
from jaxcam import _papers, pictures
from jaxcam._ground.errors import ArgumentError

CLASSES = ["tabby", "golden retriever", "espresso"]
KEYS = {
    "one": [("Grad-CAM", "layer4")],
    "row": [("Grad-CAM", f"layer{i}") for i in range(1, 5)],
    "grid": [(name, f"layer{i}") for name in ("Grad-CAM", "Layer-CAM") for i in (2, 3)],
    "whole": [("Grad-CAM", "layer2"), ("Grad-CAM", "layer3"), ("LRP", "")],
    "many": [(f"Method {n}", f"layer{i}") for n in range(3) for i in range(9)],
}


def explanation(keys, **changes):
    rng = np.random.default_rng(0)
    fields = {
        "name": "photo.png",
        "photo": rng.integers(0, 255, (20, 30, 3), np.uint8),
        "maps": {key: rng.normal(size=(4, 4)) for key in keys},
        "classes": CLASSES,
        "probabilities": np.array([0.7, 0.2, 0.1]),
        "target": 0,
        "size": (16, 16),
    }
    return pictures.Explanation(**(fields | changes))


def contents(file):
    """What a PDF file says, its streams unpacked."""
    raw = file.read_bytes()
    packed = re.findall(rb"stream\r?\n(.*?)endstream", raw, re.DOTALL)
    found = [raw]
    for each in packed:
        try:
            found.append(zlib.decompress(each))
        except zlib.error:
            continue
    return b"\n".join(found)


@pytest.mark.parametrize("width", [3.25, 6.9])
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_a_page_is_as_wide_as_its_column(keys, width):
    page = _papers.arrange(keys, 1.5, width, 2)
    assert page.size[0] == width
    places = [page.photo, *page.panels.values()]
    assert len(set(places)) == len(keys) + 1
    for place in places:
        assert place.left >= 0 and place.left + place.width <= width
        assert place.top >= 2 * _papers.LINE
        assert place.top + place.height < page.bars.top
        assert (place.width, place.height) == pytest.approx((page.photo.width, page.photo.height))
        assert place.width >= 0.7
        for other in places:
            apart = abs(place.left - other.left) >= place.width - 1e-6
            above = abs(place.top - other.top) >= place.height + 2 * _papers.LINE
            assert place is other or apart or above
    assert page.bars.top + page.bars.height <= page.size[1]


def test_rows_are_methods_where_there_is_room_for_the_layers():
    page = _papers.arrange(KEYS["grid"], 1.5, 3.25, 1)
    tops = {key[0]: place.top for key, place in page.panels.items()}
    assert page.photo.top == tops["Grad-CAM"] < tops["Layer-CAM"]
    lefts = {key[1]: place.left for key, place in page.panels.items()}
    assert page.photo.left < lefts["layer2"] < lefts["layer3"]
    five = _papers.arrange(KEYS["row"], 1.5, 3.25, 1)
    assert len({place.left for place in five.panels.values()}) == 3  # not four and one


@pytest.mark.parametrize("normalize", ["positive", "min_max", "max", "signed"])
def test_the_legend_says_what_the_colours_mean(normalize):
    shown = explanation(KEYS["one"])
    figure = pictures.draw(shown, pictures.Style(normalize, width="column"))
    texts = [text.get_text() for text in figure.texts]
    assert "Evidence for tabby (70.0 %)" in texts
    assert set(pictures._MEANINGS[normalize]) <= set(texts)
    assert {"Grad-CAM", "layer4"} <= set(texts)
    canvas = FigureCanvasAgg(figure)
    for text in figure.texts:
        assert text.get_size() == 7
        box = text.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width + 1
    assert figure.get_size_inches()[0] == 3.25


def test_maps_of_two_kinds_have_two_keys():
    shown = explanation(KEYS["whole"], signed=frozenset({"LRP"}))
    texts = [text.get_text() for text in pictures.draw(shown, pictures.Style(width="page")).texts]
    assert {"none", "most", "against the class", "for it"} <= set(texts)


@pytest.mark.parametrize("width", [None, "column"])
def test_pdf_files_hold_their_fonts(tmp_path, width):
    shown = explanation(KEYS["one"])
    for name in ("a.pdf", "b.pdf"):
        pictures.save(shown, tmp_path / name, pictures.Style(width=width))
    said = contents(tmp_path / "a.pdf")
    assert b"/FontFile2" in said and b"/Type3" not in said
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    if width:
        box = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+)", said)
        assert float(box[1]) == pytest.approx(3.25 * 72, abs=0.01)


def test_svg_files_need_no_fonts(tmp_path):
    for name in ("a.svg", "b.svg"):
        pictures.save(explanation(KEYS["one"]), tmp_path / name, pictures.Style(width="column"))
    text = (tmp_path / "a.svg").read_text()
    assert "<text" not in text and "font-family" not in text and text.count("<use") > 20
    assert text == (tmp_path / "b.svg").read_text()


def test_refusals(tmp_path):
    shown = explanation(KEYS["one"])
    with pytest.raises(ArgumentError, match=r"^width: .*'half'"):
        pictures.draw(shown, pictures.Style(width="half"))
    with pytest.raises(ArgumentError, match=r"^path: .*'gif'"):
        pictures.save(shown, tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_panels_for_papers_are_finer():
    page = _papers.arrange(KEYS["one"], 1.5, 3.25, 1)
    assert page.dpi == 300 > layouts.DPI == pictures.DPI
