"""The papers' tables on one command: their numbers and set-ups, and what stands in for them."""

import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from eval import programs
from eval.reporting import papers
from eval.studies import benchmark, paper
from eval.studies.setups import PAPERS, Experiment, Setup
from eval.subjects import data, methods
from jaxcam import metrics
from jaxcam.datasets import Dataset, Record
from tests.eval.conftest import SIZE, forward

# Typed by hand: drop, coherency, complexity, ADCC, increase, drop in deletion, all in percent.
SHAPLEY = {
    ("shapley_cam", "grad_cam_rest"): (13.84, 97.07, 38.42, 78.64, 40.05, 43.82),
    ("shapley_cam", "grad_cam_plus_plus_rest"): (14.27, 98.03, 41.16, 77.20, 38.19, 43.60),
    ("shapley_cam", "random_weights"): (67.35, 54.29, 19.75, 48.77, 8.24, 14.36),
    ("shapley_cam_18", "grad_cam_rest"): (18.73, 97.51, 38.84, 77.10, 33.77, 51.89),
    ("shapley_cam_vgg", "grad_cam"): (22.75, 90.08, 30.85, 77.90, 29.65, 38.23),
}
TORCHCAM = {
    "grad_cam": (0.2686, 0.2250),
    "layer_cam": (0.1712, 0.2819),
    "grad_cam_plus_plus_torchcam": (0.5271, 0.1962),
}
# Relative difference, 4:35 and 8:22 minutes; 20 % less area, dispersion + 500 %.
FOSTERING = {"beta 0": (33, 33, 4 * 60 + 35), "beta 100": (114, 114, 8 * 60 + 22, 1 - 0.2, 1 + 5)}
VAL = ("imagenet2012", "validation")


def published(source, method):
    rows = [row for row in papers.PUBLISHED if (row.source, row.method) == (source, method)]
    return {row.metric: row.value for row in rows}


def test_numbers_of_papers_that_the_sheet_does_not_hold():
    names = ("drop", "coherency", "complexity", "adcc_of_means", "increase_soft")
    for (source, method), values in SHAPLEY.items():
        found = published(source, method)
        for name, value in zip((*names, "drop_in_deletion"), values, strict=True):
            percent = 100 if name in names[1:4] else 1
            assert found[name] * percent == pytest.approx(value)
        drop, coherency, complexity, adcc = (value / 100 for value in values[:4])
        of_means = metrics.harmonic(coherency, complexity, 100 * drop)
        assert float(of_means) == pytest.approx(adcc, abs=1e-4)
    for method, shares in TORCHCAM.items():
        found = published("torchcam", method)
        assert (found["drop_soft"], found["increase_soft"]) == pytest.approx(
            tuple(100 * share for share in shares)
        )
    names = ("relative_difference", "relative_difference_to_inactive", "epoch_seconds")
    names += ("area_ratio", "dispersion_ratio")
    for method, values in FOSTERING.items():
        assert published("schoettl", method) == dict(zip(names, values, strict=False))


def test_set_ups_are_the_papers():
    found = {}
    for experiments in PAPERS.values():
        for experiment in experiments:
            found[experiment.source] = experiment.theirs
            assert len(experiment.theirs.layers) == len(experiment.layers())
            assert len(experiment.stand_in.layers) == len(experiment.layers())
    assert len(found) == 3 + 3 + 1 + 7 + 1
    expected = {
        "relevance_cam": ("resnet50.tv_in1k", *VAL, 2000, ("layer2", "layer4"), 0),
        "relevance_cam_vgg": ("vgg16_bn.tv_in1k", *VAL, 2000, ("features.23", "features.43"), 0),
        "shapley_cam": ("resnet50.tv_in1k", *VAL, 50000, ("layer4",), 224 / 256),
        "shapley_cam_18": ("resnet18.tv_in1k", *VAL, 50000, ("layer4",), 224 / 256),
        "shapley_cam_vgg": ("vgg16.tv_in1k", *VAL, 50000, ("features.30",), 224 / 256),
        "distillation": ("resnet50.tv_in1k", *VAL, 1000, ("layer4",), 0),
        "schoettl": ("resnet50.tv_in1k", "voc/2012", "validation", 5823, ("layer4",), 0),
    }
    for source, setup in expected.items():
        assert found[source][:6] == setup
    assert found["torchcam"][:3] == ("resnet18.tv_in1k", "imagenette/320px-v2", "validation")
    assert found["distillation_cars"].student == "runs/cars_distill/cars_distill.safetensors"
    assert found["distillation_variant"].options[0] == "rise.num_masks=8000"


def test_a_dry_run_prints_the_papers_commands_and_those_of_the_stand_in(tmp_path, capsys, photos):
    for name in PAPERS:
        settings = benchmark.Settings(tmp_path, name, dry_run=True, root=photos[1])
        benchmark.main(settings)
    out = capsys.readouterr().out
    lines = out.splitlines()
    (theirs, ours) = [line for line in lines if "imagenette" in line and "faithfulness" in line] + [
        line for line in lines if "torchcam/stand_in" in line
    ]
    assert " --model resnet18.tv_in1k --data imagenette/320px-v2 -n 3925 " in theirs
    assert " --split validation --crop 0.875 " in theirs
    assert " --methods grad_cam layer_cam grad_cam_plus_plus_torchcam --layers layer4" in theirs
    assert " --model tiny20 --data tiny20 -n 20 " in ours
    assert "# STAND-IN for torchcam's README: tiny20 on 20 photos of tiny20; not here: " in out
    assert "-m train.foster --config configs/voc2012_foster.py --set beta=100.0 " in out
    assert "-m train.foster --config configs/tiny20_foster.py --set beta=0.3 " in out
    games = [line for line in lines if " games " in line and "kang/" in line]
    assert len(games) == 2 * 7 and len([line for line in games if "stand_in" in line]) == 2
    assert "--methods attention_grad_cam --layers layer4" in out
    assert not list(tmp_path.glob("*/paper.md"))
    with pytest.raises(ValueError, match="paper: got kangs, expected any of relevance_cam, shap"):
        benchmark.main(benchmark.Settings(tmp_path, "kangs"))


@pytest.fixture
def here(monkeypatch, network):
    """Commands run in this process; a paper whose photos are not here, and one whose are."""

    def carry_out(words, *, skip, dry):
        if not (skip or dry):
            _, _, _, name, *rest = shlex.split(words)
            programs.carry_out(name, rest)

    monkeypatch.setattr(paper, "carry_out", carry_out)
    small = Setup("tiny", "tiny20", "", 4, ("top",), crop=1.0)
    absent = small._replace(data="imagenette/320px-v2")
    monkeypatch.setitem(PAPERS, "torchcam", (Experiment("torchcam", absent, small),))
    vgg = small._replace(layers=("stem",))
    monkeypatch.setitem(PAPERS, "shapley_cam", (Experiment("shapley_cam_vgg", small, vgg),))


def test_a_stand_in_is_named_and_its_numbers_stand_beside(here, photos, tmp_path, monkeypatch):
    text = paper.study(paper.Wanted(tmp_path, "torchcam", root=photos[1]))
    assert text == (tmp_path / "torchcam/paper.md").read_text()
    assert "Ours is a STAND-IN, whose numbers reproduce none of theirs: tiny on 4 photos of" in text
    folder = tmp_path / "torchcam/torchcam/stand_in/faithfulness"
    record = json.loads((folder / "faithfulness.json").read_text())
    mean = record["results"]["layer_cam"]["top"]["drop_soft"]["mean"]
    assert f"| Layer-CAM | last | top | Average drop, %, soft mask | 17.12 | {mean:.4g} |" in text
    assert text.count("\n| ") == 1 + 6
    monkeypatch.setattr(
        programs, "carry_out", lambda *_: pytest.fail("what is finished is not run again")
    )
    assert paper.study(paper.Wanted(tmp_path, "torchcam", root=photos[1])) == text


def test_what_is_here_is_measured_as_in_the_paper(here, photos, tmp_path, monkeypatch):
    text = paper.study(paper.Wanted(tmp_path, "shapley_cam", scale=0.5, root=photos[1]))
    assert "Ours: tiny on 2 photos of tiny20." in text and "STAND-IN" not in text
    found = json.loads((tmp_path / "shapley_cam/shapley_cam_vgg/adcc/adcc.json").read_text())
    parts = found["results"]["grad_cam"]["top"]
    drop, coherency, complexity = (
        parts[name]["mean"] for name in ("drop", "coherency", "complexity")
    )
    adcc = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop / 100))
    (line,) = [line for line in text.splitlines() if "adcc of means" in line]
    assert line.split(" | ")[4:6] == ["0.779", f"{adcc:.4g}"]


def test_without_any_photos_scikit_images_stand_in(here, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JAXCAM_DATA", raising=False)
    boxed = Experiment("relevance_cam_iou", *[Setup("tiny", "tiny20", "", 4, ("top",) * 4)] * 2)
    monkeypatch.setitem(PAPERS, "relevance_cam", (boxed,))
    text = paper.study(paper.Wanted(tmp_path, "relevance_cam"))
    assert "tiny on 2 photos of skimage." in text
    assert "# localization is left out: skimage has no boxes" in capsys.readouterr().out
    assert text.count("| - | - |") == 16


def test_one_stand_in_of_several_tables_is_measured_and_printed_once(
    here, photos, tmp_path, monkeypatch
):
    small = Setup("tiny", "tiny20", "", 4, ("top",), options=("rise.num_masks=4",))
    absent = small._replace(data="cars196", split="test")
    sources = ("distillation_birds", "distillation_cars")
    tables = tuple(Experiment(source, absent, small) for source in sources)
    monkeypatch.setitem(PAPERS, "kang", tables)
    wanted = paper.Wanted(tmp_path, "kang", ("grad_cam",), root=photos[1])
    text = paper.study(wanted)
    assert text.count("## Distillation paper, ") == 1
    assert "## Distillation paper, CUB-200-2011; Distillation paper, Stanford Cars\n" in text
    assert "tiny on 4 photos of tiny20, one run for these 2 tables; theirs in their order" in text
    assert "Of Distillation paper, Stanford Cars network or photos are not here: " in text
    assert text.count("\n| Grad-CAM | last | top | ") == 2
    assert "| 0.0805, 0.0796 | " in text
    assert len(list(tmp_path.rglob("games.json"))) == 1
    there = Experiment("distillation_cars", small, small)
    monkeypatch.setitem(PAPERS, "kang", (tables[0], there))
    assert paper.study(wanted).count("## Distillation paper, ") == 2


def test_configs_are_found_from_any_folder(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wanted = paper.Wanted(tmp_path, "schoettl", dry_run=True, root=photos[1])
    paper.study(wanted)
    words = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    found = [line[line.index("--config") + 1] for line in words if "--config" in line]
    assert len(found) == 4
    assert all(paper.Path(path).is_file() for path in found)


# Set-ups: the crop, the score, random weights ----------------------------------------------


@pytest.mark.parametrize("whole", [(30, 41), (41, 30), (20, 20)])
def test_a_crop_is_torchvisions_resize_and_centre_crop(rng, whole):
    pixels = rng.integers(0, 256, (*whole, 3), np.uint8)
    box = np.array([[0, 0, 2, 2], [10, 12, 17, 19]])
    drawn = data.Drawn(Dataset([Record(pixels, 0, box, "a")], ("a",)), np.array([0]), (14, 14), 0.7)
    short = 20  # 14 / 0.7
    height, width = (int(short * side / min(whole)) for side in whole)
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - 14) / 2), round((width - 14) / 2)
    expected = resized[top : top + 14, left : left + 14]
    np.testing.assert_array_equal(drawn.read(np.array([0]))[0], expected)
    found = drawn.photos(drawn.describe(np.array([0]))).boxes[0]
    marked = np.zeros(whole)
    marked[12:20, 10:18] = 1
    kept = found[np.isfinite(found).all(1)][-1].astype(int)
    inside = np.asarray(Image.fromarray(marked).resize((width, height), Image.Resampling.NEAREST))
    shown = np.argwhere(inside[top : top + 14, left : left + 14] > 0)
    np.testing.assert_allclose(kept, [*shown.min(0)[::-1], *shown.max(0)[::-1]], atol=1)
    assert len(found) == 1  # the other lies outside, in the corner that is cut off


def test_a_crop_that_is_no_part_is_refused(photos):
    with pytest.raises(ValueError, match=r"crop: got 1.2, expected a number in \[0, 1\]"):
        data.draw("tiny20", SIZE, 2, 0, photos[1], crop=1.2)


def test_methods_of_shapley_cams_tables(network, rng):
    model, _ = forward(network)
    images = jnp.asarray(rng.normal(size=(2, SIZE, SIZE, 3)), jnp.float32)
    classes = jnp.array([3, 1])
    rest = jax.jit(
        lambda x: methods.METHODS["grad_cam_rest"].function(model, x, classes, layer=["top"])
    )(images)["top"]
    score = lambda z: z[jnp.arange(2), classes] + jax.nn.log_softmax(z)[jnp.arange(2), classes]
    expected = jaxcam.grad_cam(model, images, score, layer="top")
    np.testing.assert_allclose(rest, expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(rest, jaxcam.grad_cam(model, images, classes, layer="top"))
    draw = methods.METHODS["random_weights"].function
    maps = np.asarray(draw(model, images, classes, layer=["top"])["top"])
    np.testing.assert_array_equal(maps, draw(model, images, 4 - classes, layer=["top"])["top"])
    _, acts, _ = jaxcam.activations_and_gradients(model, images, layer="top")
    flat = np.asarray(acts, np.float64).reshape(2, -1, acts.shape[-1])
    for one, channels in zip(maps.reshape(2, -1), flat, strict=True):
        shown = one > 0
        weights, *_ = np.linalg.lstsq(channels[shown], one[shown], rcond=None)
        np.testing.assert_allclose(channels[shown] @ weights, one[shown], rtol=1e-3, atol=1e-5)
        assert np.abs(weights).max() <= 1 + 1e-3
