"""What the library does to any method, as rows of the protocols' table: each is its own maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from eval.protocols import faithfulness
from eval.run.runner import run
from eval.subjects import methods, smoothed
from jaxcam import maps
from jaxcam.methods import WHOLE
from tests.eval.conftest import PHOTOS, SIZE, forward
from tests.eval.test_protocols import settings, values_of

TARGETS = jnp.array([1, 3])
OPTIONS = ("grad_cam_smooth.samples=2", "dff.components=3")


@pytest.fixture
def scene(network):
    """(forward, two images)."""
    model, prepare = forward(network)
    rng = np.random.default_rng(0)
    return model, prepare(rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8))


def test_rows_are_the_librarys_maps(scene):
    model, images = scene
    rows = methods.find(list(smoothed.ROWS), OPTIONS)
    grad_cam = jaxcam.grad_cam
    expected = {
        "grad_cam_smooth": jaxcam.smooth(grad_cam, samples=2),
        "grad_cam_aug_smooth": jaxcam.aug_smooth(grad_cam),
        "grad_cam_eigen_smooth": jaxcam.eigen_smooth(grad_cam),
    }
    plain = grad_cam(model, images, TARGETS, layer="top")
    for name, method in expected.items():
        found = rows[name].function(model, images, TARGETS, layer=["stem", "top"])
        assert list(found) == ["stem", "top"]
        for layer, each in found.items():
            np.testing.assert_allclose(
                each, method(model, images, TARGETS, layer=layer), rtol=1e-4, atol=1e-6
            )
        assert np.abs(found["top"] - plain).max() > 1e-3 * plain.max()


def test_fused_is_the_mean_of_the_stages_or_of_those_named(scene):
    model, images = scene
    raw = jaxcam.grad_cam(model, images, TARGETS, layer=["stem", "top"])
    large = [maps.normalize(maps.resize(each, (SIZE, SIZE)), "positive") for each in raw.values()]
    found = smoothed.fused(model, images, TARGETS)
    np.testing.assert_allclose(found, sum(large) / 2, rtol=1e-4, atol=1e-6)
    named = smoothed.fused(model, images, TARGETS, layers=("top",), how="max")
    np.testing.assert_allclose(named, large[1], rtol=1e-4, atol=1e-6)


def test_the_concept_is_the_one_that_scores_highest(scene):
    """Whatever else is in the batch; alone, it is fed to what lies above the layer."""
    model, images = scene
    (found,) = smoothed.concept(model, images, TARGETS, layer=["top"], components=3).values()
    for image, target, mask in zip(images, TARGETS, found, strict=True):
        factors = jaxcam.deep_feature_factorization(model, image[None], layer="top", components=3)
        scores = []
        for concept in factors.concepts:
            tapped = jaxcam.tap(model, "top")
            _, activations = tapped(image[None])
            logits, _ = tapped(image[None], concept[None, None, None] - activations)
            scores.append(float(logits[0, target]))
        assert len(set(scores)) == 3
        np.testing.assert_allclose(mask, factors.masks[0, np.argmax(scores)], rtol=1e-3, atol=1e-4)
    assert found.max() == pytest.approx(1, abs=1e-5)


def test_protocols_measure_them(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, methods=tuple(smoothed.ROWS), options=OPTIONS)
    record = run(chosen, faithfulness.PROTOCOL)
    assert not record["skipped"]
    values = values_of(record, chosen)
    for name, row in smoothed.ROWS.items():
        place = "top" if row.layered else WHOLE
        drops = [value for key, value in values.items() if key.startswith(f"{name}/{place}/")]
        assert drops and all(len(each) == PHOTOS for each in drops), name
        assert np.isfinite(jnp.stack(drops)).any()
    assert jax.tree.leaves(values)
