"""Relevance-CAM's figures: what their panels are made of, and the files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from eval.reporting import panels
from eval.studies import figures
from jaxcam import maps
from tests.eval.conftest import SIZE


@pytest.fixture
def scene(network, photos, rng):
    settings = figures.FigureSettings(model="tiny", data="tiny20", root=photos[1])
    shown = rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    return figures.Scene(settings, network, shown, np.repeat(np.repeat(shown, 2, 1), 2, 2))


def test_channels_are_those_of_the_largest_weights(scene):
    rows = figures.channels(scene)
    assert [row[0].title for row in rows] == ["Grad-CAM, top", "Relevance-CAM, top"] * 2
    images = scene.network.prepare(jnp.asarray(scene.photos))
    forward = lambda x: scene.network.apply(scene.network.params, x)
    weights = np.asarray(jax.jit(lambda x: jaxcam.channel_weights(forward, x, layer="top"))(images))
    top = np.argsort(-weights[1], kind="stable")[:3]
    assert [panel.title for panel in rows[3][2:]] == [f"channel {k}" for k in top]
    acts = scene.computed("weights", None, scene.photos, scene.predicted(scene.photos))[0]
    first = figures.heat(acts[1, ..., top[0]], scene.fine[1])
    np.testing.assert_array_equal(rows[3][2].shown, first)


def test_masks_leave_what_lies_above_mean_and_deviation(scene):
    raw = np.arange(16.0).reshape(4, 4)
    photo = scene.photos[0]
    mask = np.asarray(maps.segmentation_mask(raw[None], (SIZE, SIZE)))[0]
    assert 0 < mask.mean() < 0.5
    left = figures.masked(raw, photo)
    np.testing.assert_array_equal(left[mask], photo[mask] / 255)
    assert (left[~mask] == 0).all()


def test_a_map_without_evidence_says_so(scene):
    empty = figures.mapped("top", np.zeros((4, 4)), scene.fine[0])
    assert empty.note == "no evidence:\nzero everywhere" and empty.shown.min() >= 0.75
    assert not figures.mapped("top", np.eye(4), scene.fine[0]).note


def test_two_classes_are_explained_on_one_photo_by_layer(scene):
    rows, key = figures.FIGURES["7"](scene)
    assert key == [figures._BLACK]
    assert len(rows) == 2 * 2
    assert [panel.title for panel in rows[0][1:]] == ["stem", "top"]
    both = rows[0][0].shown
    # two equal columns of the finer photo are one of the half
    np.testing.assert_array_equal(both[:, :SIZE], np.repeat(scene.photos[0], 2, 0) / 255)
    halves = scene.photos.astype(float)
    left = np.round((halves[0, :, ::2] + halves[0, :, 1::2]) / 2)
    np.testing.assert_array_equal(figures.side_by_side(scene.photos)[:, : SIZE // 2], left)
    seen = [f"Grad-CAM: class {target}" for target in scene.predicted(scene.photos)]
    assert [row[0].title for row in rows[:2]] == seen


def test_files_are_written_and_the_cascade_goes_from_the_logits_down(scene, tmp_path, monkeypatch):
    row = figures.cascade(scene)[0]
    titles = [panel.title for panel in row]
    assert titles[:2] == ["Grad-CAM, top", "trained"] and len(titles) > 3
    settings = figures.FigureSettings(
        *(tmp_path / "out", "5"), model="tiny", data="tiny20", root=scene.settings.root, crop=0.5
    )
    assert list(figures.figures(settings)) == [tmp_path / "out/figure_5.png"]
    assert (tmp_path / "out/figure_5.png").stat().st_size > 1000


def test_a_sheet_has_a_key_and_long_rows_go_on_below():
    photo = np.zeros((20, 30, 3))
    rows = [[panels.Panel("a" * 90, photo)] * 19, [panels.Panel("bars", lambda axes: None)]]
    key = [panels.Scale("inferno", ("least", "most")), "black: the rest"]
    figure = panels.drawn(panels.Sheet(rows, key))
    assert len(figure.axes) == 20 + 1  # and the scale
    assert len({round(axes.get_position().y0, 3) for axes in figure.axes}) == 3 + 1 + 1
    texts = [text.get_text() for text in figure.texts]
    assert texts[-3:] == ["least", "most", "black: the rest"]
    assert texts[0].endswith("…")
    corners = [axes.get_position() for axes in figure.axes]
    assert all(0 <= each.x0 < each.x1 <= 1 and 0 <= each.y0 < each.y1 <= 1 for each in corners)
