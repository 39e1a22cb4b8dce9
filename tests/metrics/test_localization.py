"""Maps against boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.measure import label

from jaxcam import metrics
from jaxcam.metrics._components import components
from tests.metrics import literal

SIZE = (12, 15)
# Two, one and no boxes.
BOXES = np.array(
    [[[2, 3, 6, 8], [5, 0, 9, 4]], [[0, 0, 14, 1], [3, 3, 4, 4]], [[1, 1, 2, 2], [3, 3, 4, 4]]],
    np.float32,
)
VALID = np.array([[True, True], [True, False], [False, False]])
LISTS = [BOXES[0], BOXES[1, :1]]

# name -> (metric, literal form)
METRICS = {
    "mask_iou": (metrics.mask_iou, literal.mask_iou),
    "loc": (metrics.loc, lambda s, b: literal.loc(s, b, 0.25)),
    "pointing_game": (metrics.pointing_game, literal.pointing),
    "energy_in_box": (metrics.energy_in_box, literal.energy),
}


@pytest.mark.parametrize("name", METRICS)
def test_metric_equals_its_literal_form(name, rng):
    metric, slow = METRICS[name]
    for _ in range(4):
        saliency = rng.normal(size=(3, *SIZE))
        values = metric(saliency, BOXES, boxes_mask=VALID)
        np.testing.assert_allclose(
            values[:2], [slow(s, b) for s, b in zip(saliency[:2], LISTS, strict=True)], rtol=1e-5
        )
        assert np.isnan(values[2])  # no box: no answer


@pytest.mark.parametrize("name", METRICS)
def test_perfect_worst_and_constant_maps(name):
    inside = literal.filled(BOXES[0], *SIZE)
    share = inside.mean()
    saliency = np.stack([inside, ~inside, np.full(SIZE, 0.7), np.zeros(SIZE)]).astype(float)
    values = METRICS[name][0](saliency, np.stack([BOXES[0]] * 4))
    constant = {
        "mask_iou": (0, 0),
        "loc": (0, 0),
        "pointing_game": (share, share),
        "energy_in_box": (share, 0),
    }[name]
    np.testing.assert_allclose(values, [1, 0, *constant], rtol=1e-6)


def test_random_maps_score_chance(rng):
    saliency, boxes = rng.uniform(size=(300, 8, 8)), np.tile([[2, 2, 5, 5]], (300, 1))
    share, error = 16 / 64, 3 * np.sqrt(0.25 * 0.75 / 300)
    assert abs(metrics.pointing_game(saliency, boxes).mean() - share) < error
    assert abs(metrics.energy_in_box(saliency, boxes).mean() - share) < error
    marked = (
        saliency > saliency.mean((1, 2), keepdims=True) + saliency.std((1, 2), keepdims=True)
    ).mean()
    expected = marked * share / (marked + share - marked * share)
    assert abs(metrics.mask_iou(saliency, boxes).mean() - expected) < 0.02


def test_pointing_game_with_tolerance(rng):
    saliency, boxes = rng.normal(size=(40, *SIZE)), np.tile([[5, 4, 9, 6]], (40, 1))
    values = metrics.pointing_game(saliency, boxes, tolerance=2.0)
    np.testing.assert_array_equal(values, [literal.pointing(s, boxes[:1], 2.0) for s in saliency])
    assert values.mean() > metrics.pointing_game(saliency, boxes).mean()


def test_pointing_game_counts_tied_maxima_in_part():
    saliency = np.zeros((1, 4, 4))
    saliency[0, 0, 0] = saliency[0, 3, 3] = saliency[0, 3, 2] = saliency[0, 2, 2] = 1
    assert metrics.pointing_game(saliency, [[2, 2, 3, 3]]) == 0.75


def test_loc_is_an_iou_of_pixels_above_delta(rng):
    saliency = rng.uniform(size=(1, *SIZE))
    for delta in (0, 0.25, 0.5):
        np.testing.assert_allclose(
            metrics.loc(saliency, BOXES[:1], delta=delta),
            [literal.loc(saliency[0], BOXES[0], delta)],
            rtol=1e-6,
        )


@pytest.mark.parametrize("name", [*METRICS, "box_iou"])
@pytest.mark.parametrize("empty", [[9, 3, 4, 8], [4, 8, 9, 3]], ids=["xmax < xmin", "ymax < ymin"])
def test_a_box_that_ends_before_it_begins_is_none(name, empty, rng):
    """Alone there is no box to ask about; beside another it changes nothing."""
    given = rng.uniform(size=(1, *SIZE))
    metric = metrics.box_iou
    if name == "box_iou":
        given = np.array([[3, 2, 8, 7]])
    else:
        metric = METRICS[name][0]
    assert np.isnan(metric(given, [[empty]])).all()
    both = metric(given, [[[2, 3, 6, 8], empty]])
    assert both == metric(given, [[[2, 3, 6, 8]]])


def test_boxes_are_inclusive_and_unite():
    mask = metrics.box_mask([[[1, 2, 3, 2], [3, 2, 4, 3]]], (5, 6))
    expected = np.zeros((5, 6), bool)
    expected[2, 1:5] = expected[3, 3:5] = True
    np.testing.assert_array_equal(mask[0], expected)
    assert not metrics.box_mask([[3, 3, 2, 2]], (5, 6)).any()  # an empty box
    assert metrics.box_mask([[-5, -5, 99, 99]], (5, 6)).all()


@pytest.mark.parametrize(
    ("old", "new"), [((20, 30), (40, 45)), ((333, 500), (224, 224)), ((64, 64), (64, 64))]
)
def test_resized_boxes_cover_the_pixels_whose_centres_they_covered(old, new, rng):
    corner = np.sort(rng.integers(0, min(old), (20, 2, 2)), axis=1)
    boxes = corner.reshape(20, 4)
    masks = metrics.box_mask(metrics.resize_boxes(boxes, old, new), new)
    for box, mask in zip(boxes, np.asarray(masks), strict=True):
        y = (np.arange(new[0]) + 0.5) * old[0] / new[0]
        x = (np.arange(new[1]) + 0.5) * old[1] / new[1]
        rows, columns = (box[1] < y) & (y <= box[3] + 1), (box[0] < x) & (x <= box[2] + 1)
        if rows.any() and columns.any():
            np.testing.assert_array_equal(mask, rows[:, None] & columns)
        assert mask.any()
    sizes = np.asarray(
        metrics.resize_boxes([[0, 0, 9, 9]] * 2, np.array([[10, 20], [20, 10]]).T, (40, 40))
    )
    np.testing.assert_array_equal(sizes, [[0, 0, 19, 39], [0, 0, 39, 19]])


def test_components_are_those_of_scikit_image(rng):
    marked = rng.uniform(size=(8, 20, 23)) < np.linspace(0.2, 0.8, 8)[:, None, None]
    marked[0] = spiral(20, 23)
    labels = np.asarray(jax.jit(components)(marked))
    for ours, mask in zip(labels, marked, strict=True):
        theirs = label(mask, connectivity=2)
        pairs = set(zip(ours.ravel(), theirs.ravel(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert ((ours > 0) == mask).all()


def spiral(height, width):
    """One long winding component."""
    mask, (y, x), (v, u) = np.zeros((height, width), bool), (0, 0), (0, 1)
    mask[0, 0] = True
    for _ in range(height * width):
        far, near = (y + 2 * v, x + 2 * u), (y + v, x + u)
        beyond = 0 <= far[0] < height and 0 <= far[1] < width and mask[far]
        if not (0 <= near[0] < height and 0 <= near[1] < width) or beyond:
            v, u = u, -v
            if mask[y + v, x + u] or (
                0 <= y + 2 * v < height and 0 <= x + 2 * u < width and mask[y + 2 * v, x + 2 * u]
            ):
                break
        y, x = y + v, x + u
        mask[y, x] = True
    return mask


def test_box_from_map_equals_flood_fill(rng):
    noise = jnp.asarray(rng.normal(size=(12, 4, 5)), jnp.float32)
    saliency = np.asarray(jax.image.resize(noise, (12, *SIZE), "bilinear"))
    boxes = metrics.box_from_map(saliency, fraction=0.4)
    np.testing.assert_array_equal(boxes, [literal.box_from_map(s, 0.4) for s in saliency])


def test_box_from_map_finds_a_rectangle_and_nothing_in_an_empty_map():
    saliency = np.zeros((3, *SIZE))
    saliency[0, 2:5, 3:9] = 1
    saliency[0, 9:11, 0:2] = 5  # higher, but smaller; the rectangle is at the fraction's very end
    saliency[1] = -1
    saliency[2] = 0.5
    boxes = metrics.box_from_map(saliency, fraction=0.19)
    np.testing.assert_array_equal(boxes[0], [3, 2, 8, 4])
    assert np.isnan(boxes[1]).all()
    np.testing.assert_array_equal(boxes[2], [0, 0, 14, 11])
    # a fifth of the maximum and no less, if nobody says
    for options in ({}, {"fraction": 0.2}):
        box = metrics.box_from_map(saliency, **options)[0]
        np.testing.assert_array_equal(box, [0, 9, 1, 10])


def test_box_iou_is_that_of_the_nearest_box():
    box = np.array([[2, 3, 6, 8], [0, 0, 1, 1], [np.nan] * 4, [0, 0, 1, 1]])
    boxes = np.stack([BOXES[0]] * 3 + [BOXES[2]])
    valid = np.array([[True, True]] * 3 + [[False, False]])
    np.testing.assert_array_equal(metrics.box_iou(box, boxes, boxes_mask=valid), [1, 0, 0, np.nan])
    half = metrics.box_iou([[0, 0, 3, 1]], [[2, 0, 5, 1]])
    np.testing.assert_allclose(half, [4 / 12])


def test_bad_input_is_named():
    saliency = np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match=r"boxes: got shape \(3, 1, 4\), expected \[2, K, 4\]"):
        metrics.mask_iou(saliency, np.zeros((3, 1, 4)))
    with pytest.raises(ValueError, match=r"boxes: got shape \(2, 1, 5\)"):
        metrics.energy_in_box(saliency, np.zeros((2, 1, 5)))
    with pytest.raises(ValueError, match=r"boxes_mask: got shape \(2, 3\), expected \(2, 1\)"):
        metrics.loc(saliency, np.zeros((2, 1, 4)), boxes_mask=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"delta: got 1, expected a number in \[0, 1\)"):
        metrics.loc(saliency, np.zeros((2, 4)), delta=1)
    with pytest.raises(ValueError, match="tolerance: got -1, expected at least 0"):
        metrics.pointing_game(saliency, np.zeros((2, 4)), tolerance=-1)
    with pytest.raises(ValueError, match=r"fraction: got 1, expected a number in \[0, 1\)"):
        metrics.box_from_map(saliency, fraction=1)
    with pytest.raises(ValueError, match=r"box: got shape \(3, 4\), expected \[2, 4\]"):
        metrics.box_iou(np.zeros((3, 4)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"boxes: got shape \(2, 3\), expected \[..., 4\]"):
        metrics.resize_boxes(np.zeros((2, 3)), (4, 4), (8, 8))
    with pytest.raises(ValueError, match=r"saliency: got shape \(4, 4\), expected \[B, H, W\]"):
        metrics.mask_iou(saliency[0], np.zeros((2, 4)))
