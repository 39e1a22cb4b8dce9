"""The command line: pictures and raw maps."""

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam import cli, models, photos
from jaxcam._ground.files import replacing
from jaxcam.cli import outputs
from jaxcam.methods import METHODS, WHOLE, Method
from tests.cli.conftest import CLASSES, OPTIONS, files


def test_explain_writes_the_picture_and_the_maps_that_the_library_gives(
    weights, photo, tmp_path, capsys
):
    path = photo()
    command = [
        "explain",
        str(path),
        "--model",
        weights,
        "-o",
        str(tmp_path / "new" / "out"),
        "--save-maps",
    ]
    assert cli.main(command) == 0
    printed, errors = capsys.readouterr()
    assert (
        files(tmp_path / "new") == ["out/cat_explain.npz", "out/cat_explain.png"] and errors == ""
    )
    saved = np.load(tmp_path / "new/out/cat_explain.npz")
    model, variables = models.load(weights)
    forward = jaxcam.linen(model, variables)
    pixels = photos.prepare(photos.read(path), (32, 32))
    images = models.describe(weights).preprocess(pixels[None].astype(np.float32) / 255)
    np.testing.assert_allclose(saved["logits"], forward(images)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        saved["grad_cam/layer3"], jaxcam.grad_cam(forward, images)[0], rtol=1e-3, atol=1e-6
    )
    share = jax.nn.softmax(saved["logits"])[saved["target"]]
    assert saved["target"] == saved["logits"].argmax()
    assert (
        printed == f"cat.png: {CLASSES[saved['target']]} {share:.1%} -> "
        f"{tmp_path}/new/out/cat_explain.png\n"
    )
    picture = Image.open(tmp_path / "new/out/cat_explain.png")
    assert picture.format == "PNG" and picture.width > 1200


def test_a_network_trained_with_a_sigmoid_is_shown_with_one(
    network, weights, photo, tmp_path, capsys
):
    """What the file's header says of its loss reaches the printed line, and Score-CAM."""
    path, sigmoid = photo(), tmp_path / "sigmoid.safetensors"
    note = {"config": {"loss": "sigmoid"}}
    models.save(
        sigmoid,
        "resnet_compact",
        OPTIONS,
        network.about.params,
        CLASSES,
        {"size": 32},
        extra_metadata=note,
    )
    assert models.describe(sigmoid).activation == "sigmoid"
    assert models.describe(weights).activation is None
    options = [
        "--model",
        str(sigmoid),
        "--method",
        "score_cam",
        "--save-maps",
        "-o",
        str(tmp_path / "out.png"),
    ]
    assert cli.main(["explain", str(path), *options]) == 0
    saved = np.load(tmp_path / "out.npz")
    share = 1 / (1 + np.exp(-saved["logits"].max()))
    assert f"{CLASSES[saved['target']]} {share:.1%} ->" in capsys.readouterr().out
    images = network.normalized(photos.prepare(photos.read(path), (32, 32)))
    expected = jaxcam.score_cam(network.forward, images, activation="sigmoid")[0]
    np.testing.assert_allclose(saved["score_cam/layer3"], expected, rtol=1e-3, atol=1e-6)
    assert not np.allclose(expected, jaxcam.score_cam(network.forward, images)[0], rtol=1e-2)


@pytest.mark.parametrize("target", ["golden retriever", "Golden_Retriever", "1"])
def test_explain_takes_targets_methods_and_layers(run, photo, tmp_path, target):
    chosen = [
        "--method",
        "grad_cam",
        "layer_cam",
        "--layer",
        "layer2",
        "layer3",
        "--target",
        target,
    ]
    assert run("explain", photo(), *chosen, "--save-maps", "-o", tmp_path / "one.png")[0] == 0
    saved = np.load(tmp_path / "one.npz")
    assert saved["target"] == 1
    shapes = {key: saved[key].shape for key in saved if "/" in key}
    assert shapes == {
        f"{m}/layer{n}": (8 >> n - 2,) * 2 for m in ("grad_cam", "layer_cam") for n in (2, 3)
    }


@pytest.mark.parametrize(
    "name", ["kätze 猫.png", b"\xff\xfe.png".decode("utf-8", "surrogateescape"), "a$b$.png"]
)
def test_any_file_name_will_do(run, photo, tmp_path, name):
    code, _, errors = run("explain", photo(name), "-o", "out")
    assert (code, errors) == (0, "") and len(files(tmp_path / "out")) == 1
    code, _, errors = run("explain", photo(name), photo("other.png"), "-o", "out")
    assert (code, errors) == (0, "jaxcam: 1 picture of an earlier run replaced\n")


def test_one_bad_photo_does_not_lose_the_others(run, photo, tmp_path):
    good, late = photo("good.png"), photo("late.png", (7, 90))
    broken, text, gone = photo("broken.jpg", (64, 64)), tmp_path / "text.png", tmp_path / "gone.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    text.write_text("no photo")
    code, printed, errors = run("explain", good, broken, text, gone, late, "-o", "out")
    assert code == 1
    assert files(tmp_path / "out") == ["good_explain.png", "late_explain.png"]
    assert [line.split(":")[0] for line in printed.splitlines()] == ["good.png", "late.png"]
    lines = errors.splitlines()
    assert len(lines) == 4 and all(line.startswith("jaxcam: ") for line in lines)
    assert f"photo '{broken}' cannot be decoded, it is truncated or damaged" in lines[0]
    assert (
        f"photo '{text}' is not an image" in lines[1]
        and f"photo '{gone}' does not exist" in lines[2]
    )
    assert lines[3] == "jaxcam: 3 of 5 photos failed: broken.jpg, text.png, gone.png"


def test_photos_that_share_a_name_get_their_own_pictures(run, photo, tmp_path):
    paths = [photo("a/cat.png"), photo("b/cat.png"), photo("cat.jpg"), photo("CAT.png")]
    code, printed, _ = run("explain", *paths, paths[0], "-o", "out")
    called = [line.split(": ")[0] for line in printed.splitlines()]
    assert (code, called) == (0, ["a/cat.png", "b/cat.png", "cat.jpg", "CAT.png"])
    expected = ["CAT_explain-4.png", "cat_explain-2.png", "cat_explain-3.png", "cat_explain.png"]
    assert files(tmp_path / "out") == expected
    assert len({(tmp_path / "out" / name).read_bytes() for name in expected}) == 4


def test_photos_are_called_by_as_many_folders_as_tell_them_apart():
    sources = ["a/x/cat.png", "b/x/cat.png", "b/y/cat.png", "./dog.png", "cat.png", "/cat.png"]
    assert outputs.names(sources) == [*sources[:2], "y/cat.png", "dog.png", "cat.png", "/cat.png"]
    assert outputs.names(["cat.png", "./cat.png"]) == ["cat.png", "cat.png"]
    many = [f"{number}/cat.png" for number in range(20_000)]
    assert outputs.names(many) == many


def test_a_failing_write_leaves_the_old_picture_and_no_partial_file(
    run, photo, tmp_path, monkeypatch
):
    path = photo()
    (tmp_path / "cat_explain.png").write_bytes(b"old")

    def full(self, file, **options):
        file.write(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    code, printed, errors = run("explain", path)
    assert (code, printed) == (1, "")
    assert errors == "jaxcam: 'cat_explain.png' cannot be written: No space left on device\n"
    assert files(tmp_path) == ["cat.png", "cat_explain.png"]
    assert (tmp_path / "cat_explain.png").read_bytes() == b"old"


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "x.png") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert files(tmp_path) == []


def test_compare_shows_all_methods_by_all_stages(run, photo, tmp_path):
    code, _, errors = run("compare", photo(), "--save-maps")
    assert code == 0
    assert errors.startswith("jaxcam: left out, as they do not apply to tiny: cbam_attention, ")
    assert errors.endswith(" (jaxcam explain --method NAME says why)\n") and errors.count("\n") == 1
    keys = {key for key in np.load(tmp_path / "cat_compare.npz") if "/" in key}
    usual = {method: row for method, row in METHODS.items() if not row.on_request}
    every = {
        f"{method}/layer{n}" for method, row in usual.items() if row.layered for n in (1, 2, 3)
    }
    every |= {f"{method}/{WHOLE}" for method, row in usual.items() if not row.layered}
    # not of this network
    attention = {f"{method}/{WHOLE}" for method in ("cbam_attention", "attention_grad_cam")}
    # CAM is defined at the last layer alone
    assert keys == every - {"cam/layer1", "cam/layer2"} - attention


def test_layers_lists_names_shapes_default_and_stages(run):
    code, printed, _ = run("layers")
    lines = printed.splitlines()
    assert code == 0 and lines[0] == "tiny: resnet_compact, 6 classes, input 32 x 32"
    (last,) = (line.split() for line in lines if line.split()[0] == "layer3")
    assert last == ["layer3", "4", "x", "4", "x", "8", "stage,", "default"]
    assert [line.split()[0] for line in lines[1:-2] if "stage" in line] == [
        "layer1",
        "layer2",
        "layer3",
    ]


def test_layers_names_the_classes(run):
    _, printed, _ = run("layers")
    assert printed.splitlines()[-1] == (
        "classes: tabby, tabby cat; golden retriever; espresso; crane; crane; ... (6: "
        "--list-classes)"
    )
    _, printed, _ = run("layers", "--list-classes")
    assert [line.split(maxsplit=1) for line in printed.splitlines()[-6:]] == [
        [str(i), c] for i, c in enumerate(CLASSES)
    ]


def test_demo_explains_the_cat_and_the_coffee(run, tmp_path):
    code, printed, errors = run("demo", "--method", "layer_cam")
    assert (code, errors) == (0, "")
    assert files(tmp_path) == ["jaxcam-demo/cat.png", "jaxcam-demo/coffee.png"]
    assert [line.split(":")[0] for line in printed.splitlines()] == ["cat", "coffee"]


@pytest.mark.parametrize("fit", ["crop", "pad", "aspect"])
def test_every_fit_makes_a_picture(run, photo, tmp_path, fit):
    assert run("explain", photo(), "--fit", fit)[0] == 0
    assert (tmp_path / "cat_explain.png").is_file()


def test_one_program_serves_all_photos_and_layers(run, photo, monkeypatch):
    traced = []

    def counted(forward, images, targets, *, layer):
        traced.append(layer)
        return jaxcam.grad_cam(forward, images, targets, layer=layer)

    monkeypatch.setitem(METHODS, "counted", Method("Counted", counted, "a test"))
    paths = [photo(f"{n}.png", (20 + n, 30)) for n in range(3)]
    assert run("explain", *paths, "--method", "counted", "--layer", "layer2", "layer3")[0] == 0
    assert traced == [["layer2", "layer3"]]


@pytest.mark.parametrize("jit", [True, False])
def test_a_method_without_layers_is_one_row_of_the_table(run, photo, tmp_path, monkeypatch, jit):
    def occlude(forward, images, targets):
        images = images if jit else np.asarray(images)  # a host function must not be traced
        return images.mean(-1) * forward(images)[0, targets][0]

    monkeypatch.setitem(
        METHODS, "occlude", Method("Occlude", occlude, "a test", layered=False, jit=jit)
    )
    assert run("explain", photo(), "--method", "occlude", "grad_cam", "--save-maps")[0] == 0
    saved = np.load(tmp_path / "cat_explain.npz")
    assert saved["occlude/whole network"].shape == (32, 32) and saved["grad_cam/layer3"].shape == (
        4,
        4,
    )
