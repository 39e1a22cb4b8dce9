"""CAM against Grad-CAM: values equal a plain loop's, and the identity holds."""

from pathlib import Path

import numpy as np
import pytest

import jaxcam
from eval.run.runner import run
from eval.studies import cam_vs_grad_cam
from eval.studies.cam_vs_grad_cam import CamSettings
from jaxcam import maps
from tests.eval.conftest import PHOTOS, SIZE, explained
from tests.eval.test_protocols import directly, settings, values_of


def chosen_settings(photos, tmp_path, **fields):
    return settings(photos, tmp_path, CamSettings, **{"methods": ("cam",), "layers": ()} | fields)


def test_cam_vs_grad_cam(network, photos, tmp_path):
    chosen = chosen_settings(photos, tmp_path)
    record = run(chosen, cam_vs_grad_cam.PROTOCOL)
    values = {
        key.removeprefix("cam/top/"): value for key, value in values_of(record, chosen).items()
    }
    _, model, images, grad_cam, _ = directly(network, chosen)
    cam = np.asarray(jaxcam.cam(model, images, layer="top"))
    np.testing.assert_allclose(values["share_negative"], (cam < 0).mean((1, 2)))
    assert (values["identity_error"] < 1e-5).all()
    assert (values["sum_error"] < 1e-4).all()
    for i in range(PHOTOS):
        a, b = (
            np.asarray(maps.resize(each, (SIZE, SIZE)), np.float64)[i] for each in (cam, grad_cam)
        )
        masks = [m > m.mean() + m.std() for m in (a, b)]
        assert values["iou_std"][i] == pytest.approx(
            (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        )
        if grad_cam[i].max() > 0:
            correlation = np.corrcoef(cam[i].ravel(), np.ravel(grad_cam[i]))[0, 1]
            assert values["correlation"][i] == pytest.approx(correlation, abs=1e-4)
            masks = [m > 0.2 * m.max() for m in (a, b)]
            assert values["iou_max"][i] == pytest.approx(
                (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
            )
    assert "cam_vs_grad_cam" in record["command"]


def test_the_identity_is_checked_not_assumed():
    """A wrong CAM is found out; one without a positive cell is empty."""
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype(np.float32)
    forward = lambda x: jaxcam.tag(x, "top").mean((1, 2)) @ np.array([[1.0, -1.0]], np.float32)

    def measured(images, cam):
        chosen = CamSettings(Path("none"), layers=("top",))
        fields = {"forward": forward, "images": images, "settings": chosen}
        return cam_vs_grad_cam.measure(explained(cam, **fields))

    right = measured(images, images[..., 0])
    np.testing.assert_allclose(right["identity_error"], 0, atol=1e-6)
    wrong = measured(images, -images[..., 0])
    assert (wrong["identity_error"] > 0.1).all()
    assert (wrong["sum_error"] > 0.01).all()
    np.testing.assert_allclose(right["sum_error"], 0, atol=1e-6)
    assert (wrong["correlation"] < 0).all()
    empty = measured(-abs(images), -abs(images[..., 0]))
    np.testing.assert_array_equal(empty["empty"], 1)
    assert np.isnan(empty["correlation"]).all()
    assert np.isnan(empty["iou_max"]).all()


def test_bad_input_is_named(network, photos, tmp_path):
    with pytest.raises(ValueError, match=r"layers: got 'stem', expected .*a global average pool"):
        run(chosen_settings(photos, tmp_path, layers=("stem",)), cam_vs_grad_cam.PROTOCOL)
    with pytest.raises(
        ValueError, match="methods: got methods cam, noise and layers none, expected cam alone"
    ):
        run(chosen_settings(photos, tmp_path, methods=("cam", "noise")), cam_vs_grad_cam.PROTOCOL)
