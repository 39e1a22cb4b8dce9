"""Black boxes from the command line: the library's maps, what they cost, and how far they are."""

import io
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import cli, models, photos, scaling
from jaxcam._program import eager
from jaxcam.cli import black_boxes, checks, commands
from jaxcam.methods import METHODS, WHOLE


def test_black_boxes_give_the_maps_of_the_library(run, network, photo, tmp_path):
    path = photo()
    asked = ["--method", "rise", "lime", "mask", "--samples", "50", "--steps", "7", "--target", "1"]
    code, printed, errors = run("explain", path, *asked, "--save-maps")
    assert code == 0 and printed.count("\n") == 1
    saved = np.load(tmp_path / "cat_explain.npz")
    image = photos.prepare(photos.read(path), (32, 32))
    images = network.normalized(image)
    segments = scaling.segments(photos.read(path), (32, 32), "stretch")
    expected = {
        "rise": jaxcam.rise(network.forward, images, 1, num_masks=50),
        "lime": jaxcam.lime(network.forward, images, 1, segments=segments, num_samples=50),
        "mask": jaxcam.mask(network.forward, images, 1, variant=scaling.mask_variant((32, 32), 7)),
    }
    for method, maps in expected.items():
        found = saved[f"{method}/{WHOLE}"]
        assert found.shape == (32, 32) and np.ptp(found) > 0
        np.testing.assert_allclose(found, maps[0], atol=1e-4 * np.abs(maps).max())
    assert [line.split(",")[0] for line in errors.splitlines()] == [
        "jaxcam: rise: 50 masks", "jaxcam: lime: 50 samples", "jaxcam: mask: 7 steps",
    ]  # fmt: skip
    # 36 to begin with
    assert "57 forward passes for each photo, about 1 s; --steps N changes it" in errors


def test_black_boxes_tell_how_far_they_are(network, photo):
    path = photo()
    told = {name: [] for name in black_boxes.BLACK_BOXES}
    for name, seen in told.items():
        image = photos.prepare(photos.read(path), (32, 32))
        view = black_boxes.View(network, photos.read(path), image, "stretch", 1)
        counts = {"samples": 600, "steps": 30}
        black_boxes.explain(
            name, view, counts, lambda done, total, seen=seen: seen.append((done, total))
        )
    assert told["rise"] == told["lime"] == [(200, 600), (400, 600), (600, 600)]
    assert told["mask"] == [(10, 30), (20, 30), (30, 30)]


def test_a_bar_shows_what_is_left(capsys):
    with commands._bar("cat.png rise", "mask") as tell:
        tell(250, 1000)
        tell(1000, 1000)
    assert capsys.readouterr().err == ""  # no terminal, no bar


def test_one_program_serves_the_black_boxes_of_all_photos(run, network, photo):
    options = [
        "--method",
        "rise",
        "lime",
        "mask",
        "--samples",
        "20",
        "--steps",
        "3",
        "--target",
        "0",
    ]
    assert run("explain", photo("a.png"), *options)[0] == 0
    programs = set(eager._compiled)
    assert len(programs) >= 3
    assert run("explain", photo("b.png"), photo("c.png"), *options)[0] == 0
    # at most LIME's of a photo that has more superpixels than one program holds
    assert len(set(eager._compiled) - programs) <= 1


def test_compare_shows_black_boxes_on_request_alone(run, photo, tmp_path):
    assert checks.find_methods(["all"]) == [
        name for name, row in METHODS.items() if not row.on_request
    ]
    assert checks.find_methods(["all", "rise", "cam"])[-1] == "rise"
    options = ["--method", "cam", "rise", "--samples", "4", "--save-maps"]
    assert run("compare", photo(), *options)[0] == 0
    assert {key for key in np.load(tmp_path / "cat_compare.npz") if "/" in key} == {
        "cam/layer3",
        f"rise/{WHOLE}",
    }


def test_time_is_spoken_in_words():
    assert [black_boxes._spoken(s) for s in (0.1, 12.4, 130, 9000)] == [
        "1 s",
        "12 s",
        "2 min",
        "2.5 h",
    ]


def test_images_are_masked_as_the_network_gets_them(run, network, photo, tmp_path):
    """Where a mask is 0 there is the mean colour, not black."""
    path = photo()
    assert run("explain", path, "--method", "score_cam", "--target", "0", "--save-maps")[0] == 0
    images = network.normalized(photos.prepare(photos.read(path), (32, 32)))
    expected = jaxcam.score_cam(network.forward, images, 0, layer="layer3")[0]
    found = np.load(tmp_path / "cat_explain.npz")["score_cam/layer3"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_attention_of_a_cbam_network_is_drawn(photo, tmp_path, capsys):
    options = {
        "num_classes": 3,
        "stage_sizes": (1, 1, 1),
        "widths": (4, 6, 8),
        "strides": (1, 2, 2),
    }
    model = models.create("cbam_compact", **options)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 16, 16, 3)))
    models.save(
        tmp_path / "cbam.safetensors", "cbam_compact", options, variables, preprocess={"size": 16}
    )
    methods = ["cbam_attention", "layerwise_grad_cam", "attention_grad_cam"]
    command = [
        "explain",
        photo(),
        "--model",
        tmp_path / "cbam.safetensors",
        "--save-maps",
        "-o",
        tmp_path / "out",
    ]
    assert cli.main([str(argument) for argument in [*command, "--method", *methods]]) == 0
    assert capsys.readouterr().err == ""
    saved = np.load(tmp_path / "out" / "cat_explain.npz")
    assert {key for key in saved if "/" in key} == {f"{method}/{WHOLE}" for method in methods}


def test_a_bar_on_a_terminal_shows_the_remaining_time(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with commands._bar("cat.png rise", "mask") as tell:
        time.sleep(0.15)
        tell(250, 1000)
        time.sleep(0.15)
        tell(500, 1000)
    shown = terminal.getvalue()
    assert "cat.png rise:  50%" in shown and "500/1000 [00:00<00:0" in shown
