"""Numbers that papers give, each once: against what is published, and where they are used."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from eval.protocols import (
    class_sensitivity,
    explain,
    faithfulness,
    games,
    interpretability,
    localization,
    perturbation,
    sanity,
)
from eval.protocols.class_sensitivity import ClassSettings
from eval.protocols.games import VARIANTS, GameSettings
from eval.reporting import papers
from eval.run import parts, record
from eval.run.runner import run
from eval.run.settings import Settings
from eval.studies import cam_vs_grad_cam
from eval.subjects import networks
from jaxcam import maps, metrics
from tests.eval.conftest import SIZE, explained
from tests.eval.test_protocols import directly, settings, values_of


def as_printed(value):
    """The forms in which a number may stand in a table, a share also as percent."""
    forms = {
        f"{value:g}",
        f"{value:.1f}",
        f"{value:.2f}",
        f"{value:.3f}",
        f"{value:.4f}",
        f"{100 * value:.1f}",
    }
    return forms | {form.removeprefix("0") for form in forms if form.startswith("0.")}


def test_published_numbers_are_those_of_the_papers(shared):
    sheet = (shared / "methods.md").read_text()
    known = set(re.findall(r"(?<![\w.])\d*\.?\d+(?![\w.]*\d)", sheet))
    elsewhere = ("shapley_cam", "shapley_cam_18", "shapley_cam_vgg", "torchcam", "schoettl")
    rows = [row for row in papers.PUBLISHED if row.source not in elsewhere]  # tests of papers
    for row in rows:
        assert as_printed(row.value) & known, row
    # Relevance-CAM's tables and figure, Score-CAM's, Grad-CAM++'s, RISE's, the distillation paper's
    assert len(rows) == (32 + 16) + (10 + 6 + 5) + (16 + 6) + 2 + (48 + 5)


@pytest.mark.parametrize(
    ("protocol", "source", "method", "layer", "metric", "value"),
    [
        ("faithfulness", "relevance_cam", "grad_cam", "layer2", "drop_half", 74.91),
        ("faithfulness", "relevance_cam", "relevance_cam", "layer4", "increase_half", 25.7),
        ("faithfulness", "relevance_cam_vgg", "score_cam", "features.43", "drop_half", 21.22),
        ("faithfulness", "score_cam", "mask", "whole network", "increase_half", 5.29),
        ("faithfulness", "grad_cam_plus_plus_voc", "grad_cam", "last", "drop_soft", 20.86),
        ("games", "score_cam_games", "grad_cam_plus_plus", "last", "insertion", 0.346),
        ("games", "rise", "rise", "whole network", "deletion", 0.10483),
        ("games", "distillation_cars", "attention_grad_cam", "whole network", "deletion", 0.0698),
        ("games", "distillation_family", "grad_cam", "last", "insertion", 0.7480),
        ("localization", "grad_cam_plus_plus_loc", "grad_cam", "last", "loc_0.5", 0.16),
        ("localization", "relevance_cam_iou", "relevance_cam", "layer1", "mask_iou", 0.30),
        ("localization", "score_cam_energy", "rise", "whole network", "energy_in_box", 0.363),
        ("agreement", "distillation_sim", "*", "*", "sim_4", 0.574),
    ],
)
def test_a_published_number_is_of_its_method_layer_and_metric(
    protocol, source, method, layer, metric, value
):
    assert papers.Published(protocol, method, layer, metric, value, source) in papers.PUBLISHED


# Games ----------------------------------------------------------------


def test_the_games_are_played_as_published():
    """RISE: 28 steps for many photos, one row of 224 at a time for one; Score-CAM: 1 %, to zero.

    The coarse one is nobody's: for many methods on few cores.
    """
    assert VARIANTS == {
        "rise": {"deletion": {"step": 1 / 28}, "insertion": {"step": 1 / 28}},
        "rise_fine": {"deletion": {"step": 1 / 224}, "insertion": {"step": 1 / 224}},
        "rise_coarse": {"deletion": {"step": 0.1}, "insertion": {"step": 0.1}},
        "score_cam": {
            "deletion": {"step": 0.01, "baseline": 0.0},
            "insertion": {"step": 0.01, "baseline": 0.0},
        },
    }


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("rise", {"step": 1 / 28}),
        ("rise_fine", {"step": 1 / 224}),
        ("score_cam", {"step": 0.01, "baseline": 0.0}),
    ],
)
def test_a_variants_options_are_those_of_both_games(network, photos, tmp_path, variant, options):
    chosen = settings(photos, tmp_path, GameSettings, variant=variant, n=2, chunk=32)
    values = values_of(run(chosen, games.PROTOCOL), chosen)
    _, model, images, _, saliency = directly(network, chosen)
    for name in ("deletion", "insertion"):
        curve = getattr(metrics, name)(model, images, saliency, **options)
        found = values[f"grad_cam/top/{name}_curve"]
        assert found.shape == curve.shape
        np.testing.assert_allclose(found, curve, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            values[f"grad_cam/top/{name}"], metrics.auc(curve), rtol=1e-4, atol=1e-5
        )


def test_chunk_is_how_many_steps_are_asked_at_once(network, photos, tmp_path, monkeypatch):
    asked = []
    deletion = metrics.deletion
    monkeypatch.setattr(
        metrics, "deletion", lambda *a, **o: asked.append(o["chunk"]) or deletion(*a, **o)
    )
    chosen = settings(photos, tmp_path, GameSettings, n=2, chunk=7)
    run(chosen, games.PROTOCOL)
    assert set(asked) == {7}


def test_the_games_are_played_in_bfloat16_on_request(network, photos, tmp_path):
    found = {}
    for dtype in ("own", "bfloat16"):
        chosen = settings(photos, tmp_path / dtype, GameSettings, dtype=dtype, n=2, chunk=32)
        found[dtype] = values_of(run(chosen, games.PROTOCOL), chosen)
    for curve in ("grad_cam/top/deletion_curve", "grad_cam/top/insertion_curve"):
        change = np.abs(found["bfloat16"][curve] - found["own"][curve])
        assert 1e-5 < change.max() < 0.02


def test_perturbations_are_the_metrics_with_the_settings(network, photos, tmp_path):
    options = {"n": 2, "chunk": 16, "samples": 3, "side": 4, "steps": 5}
    options |= {"sets": 6, "grid": 3}
    chosen = settings(photos, tmp_path, perturbation.PerturbationSettings, **options)
    values = values_of(run(chosen, perturbation.PROTOCOL), chosen)
    _, model, images, _, saliency = directly(network, chosen)
    call = (model, images, saliency)
    road = metrics.road(*call, chunk=16)
    curve = metrics.region_perturbation(*call, side=4, steps=5)
    expected = {
        "road": road.combined,
        "road_morf": road.morf.mean(1),
        "road_lerf": road.lerf.mean(1),
        "aopc": metrics.aopc(curve),
        "infidelity": metrics.infidelity(*call, num_samples=3),
        "infidelity_share": metrics.infidelity(*call, num_samples=3)
        / metrics.infidelity(model, images, jnp.zeros_like(saliency), num_samples=3),
        "faithfulness_correlation": metrics.faithfulness_correlation(*call, grid=3, num_samples=6),
        "gain_soft": metrics.average_gain(*call),
        "drop_in_deletion": metrics.drop_in_deletion(*call),
        "aopc_curve": curve,
    }
    for name, value in expected.items():
        found = values[f"grad_cam/top/{name}"]
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-5)
        assert np.isfinite(found).all()


# Faithfulness ---------------------------------------------------------


def test_half_of_the_pixels_are_kept(network, photos, tmp_path):
    """Score-CAM and Relevance-CAM mute 50 % of the pixels; Grad-CAM++ multiplies by the map."""
    made = settings(photos, tmp_path, methods=("noise",), output=tmp_path / "maps")
    raw = values_of(run(made, explain.PROTOCOL), made)["noise/top/maps"]
    chosen = dataclasses.replace(made, maps=made.output, output=tmp_path / "run")
    values = values_of(run(chosen, faithfulness.PROTOCOL), chosen)
    _, model, images, _, _ = directly(network, chosen)
    saliency = np.asarray(maps.resize(raw, (SIZE, SIZE)))
    targets = np.argmax(model(images), 1)
    order = np.sort(saliency.reshape(len(saliency), -1), 1)[:, ::-1]
    # Strictly above the value of the pixel in the middle, as in the published re-evaluation.
    kept = saliency > order[:, SIZE * SIZE // 2 - 1, None, None]
    assert 0.49 < kept.mean() < 0.5
    share = lambda x: np.asarray(jax.nn.softmax(model(jnp.asarray(x))))[np.arange(len(x)), targets]
    full, half = share(images), share(np.asarray(images) * kept[..., None])
    soft = share(np.asarray(images) * np.asarray(maps.normalize(saliency))[..., None])
    for name, masked in (("half", half), ("soft", soft)):
        drop = 100 * np.maximum(full - masked, 0) / full
        np.testing.assert_allclose(values[f"noise/top/drop_{name}"], drop, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(
            values[f"noise/top/confidence_{name}"], masked, rtol=1e-3, atol=1e-5
        )
        increase = 100.0 * (masked > full)
        np.testing.assert_array_equal(values[f"noise/top/increase_{name}"], increase)
    np.testing.assert_allclose(values["noise/top/confidence"], full, rtol=1e-3, atol=1e-5)


def test_a_masked_photo_that_loses_nothing_is_an_increase_only_where_ties_count():
    uniform = lambda x: jnp.zeros((len(x), 4))
    uniform.activation = None
    found = faithfulness.measure(explained(np.ones((1, 4, 4)), forward=uniform))
    assert float(found["increase_half"][0]) == 0
    assert float(found["increase_half_ties"][0]) == 100


def test_win_rates_are_of_the_soft_masks_drop():
    values = {
        "a/top/drop_soft": np.array([1.0, 5.0, 2.0, 2.0]),
        "b/top/drop_soft": np.array([2.0, 4.0, 3.0, 2.0]),
        "a/top/drop_half": np.array([9.0, 9.0, 9.0, 9.0]),
        "b/low/drop_soft": np.array([1.0, 1.0, 1.0, 1.0]),
    }
    rates = faithfulness.finish(values)["win_rate"]
    assert rates == {"top": {"a": {"b": 62.5}, "b": {"a": 37.5}}, "low": {"b": {}}}


# Classes and sanity ---------------------------------------------------


def test_own_share_is_the_own_boxs_part_of_both():
    """3 of the 4 in the own box for the first class, 1 of 4 for the second."""
    first, second = np.zeros((2, 1, 4, 4))
    first[0, 0, :4] = [1, 2, 0, 1]
    second[0, 0, :4] = [3, 0, 1, 0]
    boxes = {"own": [[[0, 0, 1, 3]]], "other": [[[2, 0, 3, 3]]]}
    found = class_sensitivity.measure(
        explained(
            first,
            again=jnp.asarray(second, jnp.float32),
            boxes=jnp.array(boxes["own"], jnp.float32),
            extra={"second_boxes": jnp.array(boxes["other"], jnp.float32)},
            settings=ClassSettings(None, pairs=True),
        )
    )
    own = (3 / 4 + 1 / 4) / 2
    other = (1 / 4 + 3 / 4) / 2
    np.testing.assert_allclose(found["own"], own)
    np.testing.assert_allclose(found["other"], other)
    np.testing.assert_allclose(found["own_share"], own / (own + other))
    alone = class_sensitivity.measure(
        explained(
            first,
            again=jnp.asarray(first[:, :, ::-1].copy(), jnp.float32),
            boxes=jnp.array([[[0, 0, 0, 3]]], jnp.float32),
            extra={"second_boxes": jnp.array([[[1, 0, 1, 3]]], jnp.float32)},
            settings=ClassSettings(None, pairs=True),
        )
    )
    share = alone["own"] / (alone["own"] + alone["other"])
    np.testing.assert_allclose(alone["own_share"], share)
    assert abs(float(share[0]) - 0.5) > 0.05


def test_the_sanity_check_is_adebayos(rng):
    """200 photos; HOG of 16 x 16 pixels a cell, of maps that have three cells a side."""
    assert sanity.SanitySettings(None).n == 200
    first, second = rng.normal(size=(2, 2, 48, 48)).astype(np.float32)
    found = sanity.measure(explained(first, again=jnp.asarray(second)))
    expected = metrics.hog_similarity(jnp.asarray(first), jnp.asarray(second), cell=16)
    np.testing.assert_allclose(found["hog"], expected, rtol=1e-5)
    absolute = metrics.spearman(jnp.asarray(first), jnp.asarray(second), absolute=True)
    np.testing.assert_allclose(found["spearman_abs"], absolute, rtol=1e-5)
    assert "hog" not in sanity.measure(explained(first[:, :47], again=jnp.asarray(second[:, :47])))


# Records --------------------------------------------------------------


def test_intervals_are_of_95_percent_and_2000_resamples(rng):
    values = rng.normal(size=30)
    counts = np.random.default_rng(4).multinomial(30, np.full(30, 1 / 30), 2000)
    means = [(count * values).sum() / 30 for count in counts]
    np.testing.assert_allclose(record.interval(values, 4), np.percentile(means, [2.5, 97.5]))
    assert parts.GROUP == 64


def test_the_papers_run_is_the_usual_one():
    usual = Settings(None)
    assert (usual.n, usual.seed, usual.target, usual.batch) == (1000, 0, "predicted", 16)
    assert usual.methods == ("grad_cam", "grad_cam_plus_plus", "relevance_cam", "noise", "centre")
    assert GameSettings(None).variant == "rise"


def test_published_variants_of_methods_are_the_librarys(network, photos, tmp_path):
    """Relevance-CAM's code: ReLU channel by channel, its own Grad-CAM++, and torchcam's."""
    from eval.subjects.methods import METHODS

    _, model, images, _, _ = directly(network, settings(photos, tmp_path))
    for name, expected in {
        "grad_cam_channel": jaxcam.grad_cam(model, images, layer=["stem"], relu="channel"),
        "grad_cam_plus_plus_rcam": jaxcam.grad_cam_plus_plus(
            model, images, layer=["stem"], variant="rcam"
        ),
        "grad_cam_plus_plus_torchcam": jaxcam.grad_cam_plus_plus(
            model, images, layer=["stem"], variant="torchcam"
        ),
    }.items():
        found = METHODS[name].function(model, images, None, layer=["stem"])
        np.testing.assert_allclose(found["stem"], expected["stem"], rtol=1e-5)
    usual = jaxcam.grad_cam(model, images, layer=["stem"])["stem"]
    assert not np.allclose(METHODS["grad_cam_channel"].function(
        model, images, None, layer=["stem"])["stem"], usual)  # fmt: skip


def test_an_empty_map_has_no_positive_cell():
    maps_ = np.stack([np.zeros((4, 4)), -np.ones((4, 4)), np.eye(4)])
    found = interpretability.measure(explained(maps_))
    np.testing.assert_array_equal(found["empty"], [1, 1, 0])


def test_published_networks_have_their_stages(shared):
    squeezenet = networks.load("squeezenet", shared / "data")
    assert squeezenet.stages == ("fire4", "fire8", "fire9")
    assert (squeezenet.size, squeezenet.num_logits, len(squeezenet.classes)) == (224, 1000, 1000)
    cifar = networks.load("cifar10_resnet20", shared / "data")
    assert cifar.stages == ("layer1", "layer2", "layer3")
    assert (cifar.size, cifar.num_logits, cifar.classes[8]) == (32, 10, "ship")


def test_a_records_intervals_are_drawn_by_its_seed(rng):
    values = {"cam/top/x": rng.normal(size=20)}
    about = {"ids": np.arange(20), "accuracy": np.array(1.0)}
    for seed in (0, 5):
        made = record.record({"protocol": "games", "seed": seed}, values, about, 0.0)
        found = made["results"]["cam"]["top"]["x"]
        assert (found["low"], found["high"]) == record.interval(values["cam/top/x"], seed)
    assert record.interval(values["cam/top/x"], 0) != record.interval(values["cam/top/x"], 5)


def test_photos_of_unknown_class_cannot_be_classified_correctly(network, photos, tmp_path):
    boxless = settings(photos, tmp_path, data=str(photos[0] / "n1"))
    any_photo = dataclasses.replace(localization.PROTOCOL, boxes=False)
    with pytest.raises(ValueError, match="has photos without a class"):
        run(boxless, any_photo)


def test_the_identitys_error_is_relative(rng):
    """Of Grad-CAM = ReLU(CAM) / (h w): the same whatever the scale of the maps."""
    images = rng.normal(size=(1, 4, 4, 1)).astype(np.float32)
    forward = lambda x: jaxcam.tag(x, "top").mean((1, 2)) @ np.array([[1.0, -1.0]], np.float32)
    chosen = cam_vs_grad_cam.CamSettings(None, layers=("top",))
    cam = images[..., 0] + np.eye(4, dtype=np.float32)
    fields = {"forward": forward, "images": jnp.asarray(images), "settings": chosen}
    found = cam_vs_grad_cam.measure(explained(cam, **fields))
    apart = np.abs(np.maximum(images[..., 0], 0) - np.maximum(cam, 0)).max()
    np.testing.assert_allclose(found["identity_error"], apart / np.abs(cam).max(), rtol=1e-5)
