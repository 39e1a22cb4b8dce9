"""Pictures: where everything stands, what it is called, and the colours of maps."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxcam import _canvas, pictures
from jaxcam import _layouts as layouts
from jaxcam._program.centers import Centers

_SQUARE = np.full((40, 40, 3), 200, np.uint8)
CLASSES = ["tabby, tabby cat", "golden retriever", "espresso", "crane", "crane", "cost $5"]


def _explanation(maps, **changes):
    fields = {
        "name": "a $\\frac{ photo$.png",
        "photo": np.full((30, 45, 3), 200, np.uint8),
        "maps": maps,
        "classes": CLASSES,
        "probabilities": np.array([0.1, 0.2, 0.3, 0.25, 0.1, 0.05]),
        "target": 5,
        "size": (32, 32),
    }
    return pictures.Explanation(**(fields | changes))


def _texts(figure):
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text() for text in texts]


def test_verdict_tells_maps_from_non_maps():
    heat = np.array([[0.0, 1.0]])
    signed, plain = pictures.Style("signed"), pictures.Style()
    assert pictures.verdict(heat) is None and pictures.verdict(-heat, signed) is None
    assert "only against" in pictures.verdict(-heat, plain)
    assert "zero everywhere" in pictures.verdict(0 * heat)
    assert "constant" in pictures.verdict(0 * heat + 2)
    assert "NaN" in pictures.verdict(heat + np.nan) and "infinity" in pictures.verdict(
        heat + np.inf
    )
    assert "does not apply" in pictures.verdict(None)


@pytest.mark.parametrize("raw", [np.zeros((4, 4)), np.full((4, 4), np.nan), -np.eye(4), None])
def test_maps_that_say_nothing_are_labelled_and_not_coloured(raw):
    figure = pictures.draw(_explanation({("Grad-CAM", "layer3\n4 × 4"): raw}))
    assert pictures.verdict(raw) in _texts(figure)
    drawn = figure.axes[-1].images[0].get_array()
    np.testing.assert_allclose(drawn, drawn[..., :1] * np.ones(3), atol=1e-6)  # no colour


def test_the_heat_lies_where_the_layers_cells_do():
    raw = np.zeros((4, 4))
    raw[1, 2] = 1
    key = ("Grad-CAM", "layer3\n4 × 4")
    centers = Centers((7.0, 7.0), (8.0, 8.0), (32, 32))  # as of three SAME layers of stride 2
    bright = pictures.Style(colormap="gray")
    found = []
    for where in ({}, {key: centers}):
        figure = pictures.draw(_explanation({key: raw}, centers=where, photo=_SQUARE), bright)
        drawn = np.asarray(figure.axes[-1].images[0].get_array())[..., 0]
        row, column = np.argwhere(drawn > 0.99 * drawn.max()).mean(0)
        found.append(((row + 0.5) / len(drawn) * 32 - 0.5, (column + 0.5) / len(drawn) * 32 - 0.5))
    np.testing.assert_allclose(found[0], (11.5, 19.5), atol=0.6)
    np.testing.assert_allclose(found[1], (15, 23), atol=0.6)


def test_the_heat_lies_where_the_map_is_hot():
    raw = np.zeros((4, 4))
    raw[0, 3] = 1
    figure = pictures.draw(_explanation({("Grad-CAM", "layer3\n4 × 4"): raw}))
    drawn = figure.axes[-1].images[0].get_array()
    colour = np.ptp(drawn, axis=-1)
    row, column = np.unravel_index(colour.argmax(), colour.shape)
    assert row < colour.shape[0] / 4 and column > colour.shape[1] * 3 / 4
    assert colour[colour.shape[0] // 2 :, : colour.shape[1] // 2].max() < 0.05


def test_a_picture_names_the_class_the_file_and_the_maps():
    grid = {(m, f"layer{n}\n4 × 4"): np.eye(4) for m in ("CAM", "Grad-CAM") for n in (1, 2, 3)}
    figure = pictures.draw(_explanation(grid, network="tiny"))
    texts = _texts(figure)
    assert (
        texts[0] == "Evidence for cost $5, 5.0 %"
        and "a $\\frac{ photo$.png  ·  45 × 30  ·  tiny" in texts
    )
    assert {"layer1  4 × 4", "layer2  4 × 4", "layer3  4 × 4", "CAM", "Grad-CAM"} <= set(texts)
    shares = [text for text in texts if text.endswith(" %")]
    # the best four, and the target
    assert shares[1:] == ["30.0 %", "25.0 %", "20.0 %", "10.0 %", "5.0 %"]
    figure.savefig(io.BytesIO(), format="png")  # "$" is no mathematics


@pytest.mark.parametrize(
    "keys", [[("CAM", "a\n4 × 4"), ("CAM", "b\n4 × 4")], [("CAM", "a\n4 × 4"), ("X", "a\n4 × 4")]]
)
def test_in_a_single_row_every_map_says_its_method_and_layer(keys):
    texts = _texts(pictures.draw(_explanation({key: np.eye(4) for key in keys})))
    assert {",  ".join(key).replace("\n", "  ") for key in keys} <= set(texts)


def test_panels_are_equal_and_do_not_overlap():
    grid = {(m, f"layer{n}\n4 × 4"): np.eye(4) for m in "ABCDEF" for n in (1, 2, 3)}
    figure = pictures.draw(_explanation(grid))
    boxes = [axes.get_position() for axes in figure.axes if axes.images][1:]  # without the key
    panels = boxes[1:]  # without the photo
    assert len(panels) == 18
    assert np.ptp([b.width for b in panels]) < 1e-9 and np.ptp([b.height for b in panels]) < 1e-9
    for i, a in enumerate(boxes):
        assert 0 <= a.x0 < a.x1 <= 1 and 0 <= a.y0 < a.y1 <= 1
        assert all(
            a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0 for b in boxes[i + 1 :]
        )


def test_a_network_that_returns_nan_is_shown_as_such():
    probabilities = np.full(6, np.nan)
    raw = np.full((4, 4), np.nan)
    figure = pictures.draw(
        _explanation({("CAM", "x\n4 × 4"): raw}, probabilities=probabilities, target=0)
    )
    texts = _texts(figure)
    assert texts[0] == "Evidence for tabby, tabby cat, NaN" and texts.count("NaN") == 5


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (32, 32)])
def test_photos_of_any_shape_are_drawn(size):
    photo = np.zeros((*size, 3), np.uint8)
    for layers in (1, 3):
        grid = {(m, f"{n}\n4 × 4"): np.eye(4) for m in ("A", "B") for n in range(layers)}
        pictures.draw(_explanation(grid, photo=photo)).savefig(io.BytesIO(), format="png", dpi=30)


# Layouts -------------------------------------------------------------


def _grid(methods, layers, whole=()):
    keys = [(method, f"layer{n}\n4 × 4") for method in methods for n in range(layers)]
    return keys + [(method, "") for method in whole]


@pytest.mark.parametrize("aspect", [0.4, 1.0, 1.5, 4.0])
@pytest.mark.parametrize(
    ("methods", "layers", "whole"),
    [
        (1, 1, 0),
        (5, 1, 0),
        (13, 1, 0),
        (0, 1, 5),
        (3, 4, 0),
        (6, 4, 0),
        (12, 4, 5),
        (1, 4, 1),
        (7, 10, 2),
    ],
)
def test_nothing_overlaps_and_panels_are_equal(methods, layers, whole, aspect):
    keys = _grid([f"m{i}" for i in range(methods)], layers, [f"w{i}" for i in range(whole)])
    page = layouts.arrange(keys, aspect)
    assert list(page.panels) == keys
    panels = list(page.panels.values())
    assert len({(round(p.width, 9), round(p.height, 9)) for p in panels}) == 1
    assert panels[0].width / panels[0].height == pytest.approx(aspect)
    places = [page.photo, page.bars, *panels]
    for i, a in enumerate(places):
        assert a.left >= 0 and a.top >= 0
        assert a.left + a.width <= page.size[0] and a.top + a.height <= page.size[1]
        assert all(_apart(a, b) for b in places[i + 1 :])
    for label in page.labels:
        if "rotation" not in label.style:
            line = layouts.Rect(label.left, label.top - 0.05, label.room, 0.05)
            assert all(_apart(line, place) for place in places)


def _apart(a, b, slack=1e-9):
    across = a.left + a.width <= b.left + slack or b.left + b.width <= a.left + slack
    return across or a.top + a.height <= b.top + slack or b.top + b.height <= a.top + slack


def test_many_methods_keep_panels_that_can_be_read():
    page = layouts.arrange(_grid([f"m{i}" for i in range(12)], 4, ["LRP", "RISE"]), 1.5)
    panel = page.panels["m0", "layer0\n4 × 4"]
    assert panel.width >= 1.9 and page.size[0] <= 15
    tops = [page.panels[f"m{i}", "layer0\n4 × 4"].top for i in range(12)]
    assert tops == sorted(tops) and page.panels["RISE", ""].top > tops[-1] + panel.height
    assert {label.text for label in page.labels} >= {"m0", "m11", "layer3  4 × 4", "LRP", "RISE"}


def _drawn_texts(figure):
    """Each text with its box in inches."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [
        (text, text.get_window_extent(renderer).transformed(figure.dpi_scale_trans.inverted()))
        for text in texts
    ]


@pytest.mark.parametrize("columns", [2, 6])
def test_a_verdict_fits_its_panel(columns):
    grid = {(m, f"layer{n}\n4 × 4"): None for m in "ABCDEF"[:columns] for n in range(2)}
    figure = pictures.draw(_explanation(grid, photo=np.zeros((300, 60, 3), np.uint8)))
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        for text in axes.texts:
            inside, around = text.get_window_extent(renderer), axes.get_window_extent(renderer)
            assert around.x0 <= inside.x0 and inside.x1 <= around.x1


@pytest.mark.parametrize("size", [(500, 100), (300, 150), (150, 300)])
def test_titles_use_the_width_of_the_page(size):
    explanation = _explanation(
        {("Grad-CAM", "layer3\n4 × 4"): np.eye(4)}, photo=np.zeros((*size, 3), np.uint8), target=1
    )
    figure = pictures.draw(explanation)
    assert "Evidence for golden retriever, 20.0 %" in _texts(figure)
    long = pictures.draw(explanation._replace(classes=["W" * 300] * 6))
    (title, box), *_ = _drawn_texts(long)
    width = long.get_size_inches()[0]
    assert title.get_text().endswith("…, 20.0 %") and 0.85 * width < box.x1 < width


def test_the_keys_of_a_narrow_page_are_not_written_over():
    """A tall photo and maps of both signs: what is known of the photo goes before the keys do."""
    grid = {(m, f"layer{n}\n4 × 4"): np.eye(4) for m in "ABCDEFG" for n in range(2)}
    grid |= {("LRP", ""): np.eye(4)}
    tall = {"photo": np.zeros((96, 72, 3), np.uint8), "network": "chest:trained"}
    figure = pictures.draw(_explanation(grid, signed=frozenset({"LRP"}), **tall))
    boxes = {text.get_text(): box for text, box in _drawn_texts(figure)}
    (line,) = [text for text in boxes if text.startswith("a $")]
    assert boxes[line].x1 < min(boxes["little"].x0, boxes["against"].x0)
    assert "72 × 96" in line and "chest" not in line


def test_lines_are_as_long_as_they_are_measured():
    figure = pictures.draw(_explanation({("Grad-CAM", "layer3\n4 × 4"): np.eye(4)}))
    for text, box in _drawn_texts(figure):
        measured = _canvas.length(text.get_text(), text.get_size(), text.get_weight())
        assert measured == pytest.approx(box.width, rel=0.04, abs=0.03)


# Signed maps ---------------------------------------------------------


def test_signed_maps_of_the_pixels_are_drawn_around_zero():
    raw = np.zeros((16, 16))
    raw[:, :4], raw[:, 12:] = -1, 1
    photo = np.full((64, 64, 3), 128, np.uint8)
    heat = {("CLRP", ""): raw, ("RISE", ""): np.abs(raw)}
    figure = pictures.draw(_explanation(heat, photo=photo, signed=frozenset({"CLRP"})))
    assert {"little", "much", "against", "for"} <= set(_texts(figure))
    signed, plain = (axes.images[0].get_array() for axes in figure.axes[-2:])
    middle = signed.shape[0] // 2
    assert signed[middle, -3, 0] > signed[middle, -3, 2] + 0.4  # red
    assert signed[middle, 3, 2] > signed[middle, 3, 0] + 0.4  # blue
    assert np.ptp(signed[middle, signed.shape[1] // 2]) < 0.02  # nothing: grey
    np.testing.assert_allclose(plain[middle, 3], plain[middle, -3], atol=0.02)
    asked = pictures.draw(
        _explanation(heat, photo=photo, signed=frozenset({"CLRP"})), pictures.Style("positive")
    )
    assert "against" not in _texts(asked)


def test_one_hot_pixel_does_not_darken_a_relevance_map():
    raw = np.random.default_rng(0).random((32, 32)) / 100
    raw[5, 5] = 1.0
    photo = np.full((64, 64, 3), 128, np.uint8)
    figure = pictures.draw(_explanation({("LRP", ""): raw}, photo=photo, signed=frozenset({"LRP"})))
    drawn = figure.axes[-1].images[0].get_array()
    assert np.mean(drawn[..., 0] - drawn[..., 2] > 0.1) > 0.5  # most of it is red
