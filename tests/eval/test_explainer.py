"""A student's maps measured on its teacher, methods with options, LIME and MASK on small images."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxcam
from eval.protocols import games
from eval.run.runner import run
from eval.subjects import methods, networks
from jaxcam import maps, metrics
from tests.eval.test_protocols import SIZE, directly, settings, values_of


@pytest.fixture
def student(network, monkeypatch):
    """The network "student": "tiny" with other parameters."""
    other = jax.tree.map(lambda x: x[..., ::-1] if x.ndim else x, network.params)
    made = dataclasses.replace(network, params=other)
    monkeypatch.setitem(networks.OURS, "student", lambda root: made)
    return made


def test_a_students_maps_are_played_on_the_teacher(network, student, photos, tmp_path):
    chosen = settings(photos, tmp_path, games.GameSettings, explainer="student")
    values = values_of(run(chosen, games.PROTOCOL), chosen)
    _, teacher, images, _, own = directly(network, chosen)
    targets = teacher(images).argmax(1)  # the teacher's class, also for the student's maps
    raw = jaxcam.grad_cam(lambda x: student.apply(student.params, x), images, targets, layer="top")
    saliency = maps.resize(raw, (SIZE, SIZE))
    expected = metrics.auc(metrics.deletion(teacher, images, saliency, targets, step=1 / 28))
    np.testing.assert_allclose(values["grad_cam/top/deletion"], expected, rtol=1e-4)
    assert np.abs(np.asarray(saliency - own)).max() > 1e-3


def test_a_student_of_another_input_size_is_refused(
    network, student, photos, tmp_path, monkeypatch
):
    larger = dataclasses.replace(student, size=2 * SIZE)
    monkeypatch.setitem(networks.OURS, "larger", lambda root: larger)
    chosen = settings(photos, tmp_path, games.GameSettings, explainer="larger")
    with pytest.raises(
        ValueError,
        match="explainer: got larger, which takes images of 32 x 32 pixels, expected 16 x 16, as",
    ):
        run(chosen, games.PROTOCOL)
    assert not (chosen.output / "settings.json").exists()


def test_options_reach_the_method():
    row = methods.find(["rise"], ["rise.num_masks=3", "rise.tolerance=0.5"])["rise"]
    assert row.function.keywords == {"num_masks": 3, "tolerance": 0.5}
    assert methods.find(["lime"], ["lime.num_samples=3"])["lime"].function.keywords == {
        "num_samples": 3
    }


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "rise.masks=3",
            r"options: got 'rise.masks=3', expected METHOD.OPTION=VALUE; rise has num_masks",
        ),
        ("lime.num_samples=3", r"options: got 'lime.num_samples=3', .*the methods are rise"),
        ("rise.num_masks", r"options: got 'rise.num_masks', expected METHOD"),
    ],
)
def test_options_that_are_none(option, message):
    with pytest.raises(ValueError, match=message):
        methods.find(["rise"], [option])


def test_lime_and_mask_of_small_images(network, photos, tmp_path):
    """Superpixels of the larger copy are many; the mask's cells are smaller than eight pixels."""
    _, forward, images, _, _ = directly(network, settings(photos, tmp_path, n=2))
    targets = np.zeros(2, int)
    found = methods.METHODS["lime"].function(forward, images, targets, num_samples=40)
    assert found.shape == (2, SIZE, SIZE) and all(len(np.unique(each)) > 4 for each in found)
    hidden = methods.METHODS["mask"].function(forward, images, targets, steps=2)
    assert hidden.shape == (2, SIZE, SIZE) and hidden.min() >= 0 and hidden.max() <= 1


def test_attention_by_stage_is_that_of_its_blocks():
    def forward(x):
        """Three blocks' attention, one of them alone in its stage."""
        for number, block in enumerate(("layer1.0", "layer1.1", "layer2.0"), start=1):
            x = x + jaxcam.tag(number * x * x[..., :1], f"{block}.att")
        return x.mean((1, 2))

    images = np.random.default_rng(2).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    found = methods.stage_attention(forward, images, None, layer=["layer1", "layer2.0"])
    both, one = (
        jaxcam.cbam_attention(forward, images, blocks=b)
        for b in (["layer1.0", "layer1.1"], "layer2.0")
    )
    np.testing.assert_array_equal(found["layer1"], both)
    np.testing.assert_array_equal(found["layer2.0"], one)
    with pytest.raises(ValueError, match="layer: got 'layer', which has no CBAM block inside"):
        methods.stage_attention(forward, images, None, layer=["layer"])
