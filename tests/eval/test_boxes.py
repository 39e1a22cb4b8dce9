"""What is measured against boxes: of maps and boxes small enough to count by hand."""

import jax.numpy as jnp
import numpy as np

from eval.protocols import localization
from tests.eval.conftest import explained


def test_a_box_is_found_from_an_overlap_of_one_half():
    """The map's box is rows 0 to 3, columns 0 to 3; the other box is 8, 7 of its 16 cells."""
    saliency = np.zeros((2, 8, 8))
    saliency[:, :4, :4] = 1
    boxes = jnp.array([[[0, 0, 3, 1]], [[0, 0, 6, 0]]], jnp.float32)  # 8 cells, 7 of which 4 in it
    found = localization.measure(explained(saliency, boxes=boxes))
    np.testing.assert_allclose(found["box_iou"], [8 / 16, 4 / 19])
    np.testing.assert_array_equal(found["box_hit"], [1, 0])
    np.testing.assert_allclose(found["box_share"], [8 / 64, 7 / 64])
    below = localization.measure(
        explained(saliency[:1], boxes=jnp.array([[[0, 0, 3, 1], [7, 7, 7, 7]]], jnp.float32))
    )
    assert float(below["box_iou"][0]) == 0.5 and float(below["box_hit"][0]) == 1
    wide = localization.measure(
        explained(saliency[:1], boxes=jnp.array([[[0, 0, 4, 5]]], jnp.float32))  # 16 of 30
    )
    assert float(wide["box_hit"][0]) == 1
    wider = localization.measure(
        explained(saliency[:1], boxes=jnp.array([[[0, 0, 6, 4]]], jnp.float32))  # 16 of 35
    )
    assert float(wider["box_hit"][0]) == 0


def test_mass_and_rank_accuracy_are_of_the_boxes_by_a_loop_over_pixels(rng):
    saliency = rng.normal(size=(3, 6, 8)).astype(np.float32)
    boxes = np.full((3, 2, 4), np.nan, np.float32)
    boxes[:, 0] = [[1, 1, 4, 3], [0, 0, 7, 2], [5, 2, 6, 2]]
    boxes[0, 1] = [3, 2, 6, 5]  # laps over the other: its pixels count once
    found = localization.measure(explained(saliency, boxes=jnp.asarray(boxes)))
    for i, heat in enumerate(saliency):
        pixels = []
        for y, x in np.ndindex(heat.shape):
            inside = any(a <= x <= c and b <= y <= d for a, b, c, d in boxes[i])
            pixels.append((float(heat[y, x]), inside))
        size = sum(inside for _, inside in pixels)
        mass = sum(max(value, 0) for value, inside in pixels if inside)
        whole = sum(max(value, 0) for value, _ in pixels)
        best = sorted(pixels, reverse=True)[:size]
        np.testing.assert_allclose(found["mass_accuracy"][i], mass / whole, rtol=1e-5)
        rank = sum(inside for _, inside in best) / size
        np.testing.assert_allclose(found["rank_accuracy"][i], rank, rtol=1e-5)


def test_locs_thresholds_are_grad_cam_plus_plus():
    """Of a map of 1.0, 0.4, 0.2 and 0 in equal quarters: how much is above each."""
    saliency = np.repeat([1.0, 0.4, 0.2, 0.0], 16).reshape(1, 8, 8)
    boxes = jnp.array([[[0, 0, 7, 7]]], jnp.float32)
    found = localization.measure(explained(saliency, boxes=boxes))
    assert {name for name in found if name.startswith("loc")} == {"loc_0", "loc_0.25", "loc_0.5"}
    for name, share in (("loc_0", 0.75), ("loc_0.25", 0.5), ("loc_0.5", 0.25)):
        np.testing.assert_allclose(found[name], share)


def test_maps_that_are_not_finite_have_no_box():
    found = localization.measure(
        explained(np.full((1, 8, 8), np.nan), boxes=jnp.array([[[0, 0, 7, 7]]], jnp.float32))
    )
    assert np.isnan(found["box_iou"][0]) and np.isnan(found["box_hit"][0])
