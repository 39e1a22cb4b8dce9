"""The command line: pictures, raw maps, exit codes and messages."""

import pathlib
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import jaxcam
from jaxcam import cli, models, photos, pictures
from jaxcam.cli import checks
from jaxcam.methods import METHODS, WHOLE, Method
from tests.cli.conftest import CLASSES, OPTIONS, files

# Commands ------------------------------------------------------------


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
        network.variables,
        CLASSES,
        {"size": 32},
        extra_metadata=note,
    )
    assert (
        models.describe(sigmoid).activation == "sigmoid"
        and models.describe(weights).activation is None
    )
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
    assert lines[3] == "jaxcam: 3 of 5 photos failed"


def test_photos_that_share_a_name_get_their_own_pictures(run, photo, tmp_path):
    paths = [photo("a/cat.png"), photo("b/cat.png"), photo("cat.jpg"), photo("CAT.png")]
    assert run("explain", *paths, paths[0], "-o", "out")[0] == 0
    expected = ["CAT_explain-4.png", "cat_explain-2.png", "cat_explain-3.png", "cat_explain.png"]
    assert files(tmp_path / "out") == expected
    assert len({(tmp_path / "out" / name).read_bytes() for name in expected}) == 4


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
    with pytest.raises(KeyboardInterrupt), pictures.atomically(tmp_path / "x.png") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert files(tmp_path) == []


def test_compare_shows_all_methods_by_all_stages(run, photo, tmp_path):
    code, _, errors = run("compare", photo(), "--save-maps")
    assert (code, errors) == (0, "")
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
    assert traced == [("layer2", "layer3")]


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


# What a user can get wrong -------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain"], "no PHOTO given"),
        (
            ["explain", "--layer", "layer3", "cat.png"],
            "no PHOTO given; put cat.png before the options",
        ),
        (
            ["explain", "cat.png", "--method", "gradcam"],
            "--method: there is no method 'gradcam'; nearest: grad_cam",
        ),
        (
            ["explain", "cat.png", "--layer", "lyer3"],
            "--layer: there is no layer 'lyer3'; nearest: layer3",
        ),
        (
            ["explain", "cat.png", "--layer", "fc"],
            "--layer: 'fc' has no spatial extent, its activations are (6,)",
        ),
        (
            ["explain", "cat.png", "--target", "tabbi"],
            "there is no class 'tabbi'; nearest: tabby, tabby cat",
        ),
        (
            ["explain", "cat.png", "--target", "zzz"],
            "there is no class 'zzz'; there are: tabby, tabby cat; golden",
        ),
        (
            ["explain", "cat.png", "--target", "crane"],
            "2 classes are called 'crane'; give one's index, of [3, 4]",
        ),
        (["explain", "cat.png", "--target", "6"], "--target: got class 6, expected 0 to 5"),
        (
            ["explain", "cat.png", "--colormap", "infrno"],
            "there is no colormap 'infrno'; nearest: inferno",
        ),
        (["explain", "cat.png", "--method", "cam", "--layer", "layer1"], "--method cam: "),
        (
            ["explain", "cat.png", "dog.png", "-o", "x.png"],
            "-o: got one file, 'x.png', for 2 photos",
        ),
        (
            ["explain", "cat.png", "-o", "x.jpg"],
            "-o: got 'x.jpg', expected a folder or a file that ends in .png",
        ),
        (["explain", "cat.png", "-o", "cat.png"], "-o: got 'cat.png', the photo itself"),
        (
            ["explain", "cat.png", "-o", "cat.png/out"],
            "-o: got 'cat.png/out', but the folder 'cat.png/out' cannot be made",
        ),
        (
            ["explain", "cat.png", "-o", "/proc/nope"],
            "-o: got '/proc/nope', but the folder '/proc/nope' cannot be made",
        ),
        (
            ["explain", "cat.png", "--method", "rise", "--samples", "0"],
            "--samples: got 0, expected at least 1",
        ),
        (
            ["explain", "cat.png", "--steps", "9"],
            "--steps: got 9 without --method mask, which alone take it",
        ),
        (["explain", "cat.png", "--method", "cbam_attention"], "--method cbam_attention: "),
        (
            ["compare", "cat.png", "--method", "cam", "--layer", "layer1"],
            "none of cam applies to layer1",
        ),
        (["demo", "--method", "cama"], "--method: there is no method 'cama'; nearest: cam"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(run, photo, tmp_path, arguments, message):
    photo()
    code, printed, errors = run(*arguments)
    assert (code, printed) == (2, "")
    assert errors.startswith("jaxcam: ") and errors.count("\n") == 1 and message in errors
    assert files(tmp_path) == ["cat.png"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gone.safetensors", "jaxcam: --model: there is no file gone.safetensors"),
        (
            "resnet5",
            "jaxcam: --model: got 'resnet5', neither a file nor a known network; nearest: resnet50",
        ),
        (
            "net.onnx",
            "jaxcam: --model: got 'net.onnx', but the command line explains networks of "
            "jaxcam.models; an ONNX",
        ),
        ("other.safetensors", "jaxcam: --model: other.safetensors does not say its architecture"),
        ("text.safetensors", "jaxcam: --model: text.safetensors is no complete safetensors file"),
    ],
)
def test_a_network_that_cannot_be_had_is_a_usage_error(
    photo, tmp_path, monkeypatch, capsys, model, message
):
    monkeypatch.chdir(tmp_path)
    photo()
    pathlib.Path("text.safetensors").write_text("no network")
    safetensors.numpy.save_file({"x": np.ones(2)}, "other.safetensors")
    assert cli.main(["explain", "cat.png", "--model", model]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(message) and errors.count("\n") == 1
    assert "architecture=" not in errors
    assert ("give --architecture" in errors) == (model == "other.safetensors")


def test_the_package_runs_as_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxcam", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("jaxcam", run_name="__main__")
    assert capsys.readouterr().out == f"jaxcam {jaxcam.__version__}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "gone.txt"], "jaxcam: --classes: there is no file gone.txt"),
        (
            ["--classes", "two.txt"],
            "jaxcam: --classes: got 2 names, expected one for each of the 6 logits",
        ),
        (
            ["--architecture", "vgg"],
            "jaxcam: --architecture: got 'vgg', which is no architecture; nearest: vgg",
        ),
        (["--architecture", "vgg11"], "jaxcam: --model: state_dict: does not fit vgg11 (from "),
    ],
)
def test_each_part_of_a_network_is_blamed_on_its_option(
    weights, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("two.txt").write_text("cat\ndog\n")
    assert cli.main(["layers", "--model", weights, *options]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(message) and errors.count("\n") == 1


def test_an_interrupt_is_no_traceback(run, photo, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(photos, "read", interrupt)
    code, _, errors = run("explain", photo())
    assert (code, errors) == (130, "jaxcam: interrupted\n")


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["compare", "--help"]])
def test_help_teaches(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "examples:" in printed and "exit codes: 0" in printed
    assert all(name in printed and row.about in printed for name, row in METHODS.items())


@pytest.mark.parametrize("arguments", [[], ["explian"], ["explain", "x.png", "--fit", "squash"]])
def test_argparse_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and "jaxcam" in capsys.readouterr().err


def test_find_class_knows_names_synonyms_and_indices():
    assert [
        checks.find_class(CLASSES, text) for text in ("Tabby", "tabby cat", "tabby, tabby cat")
    ] == [0, 0, 0]
    assert checks.find_class(CLASSES, "4") == 4 and checks.find_class(["7", "9"], "9") == 1


def _shapes(**layers):
    return {
        name.replace("_", "."): jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        for name, shape in layers.items()
    }


def test_stages_are_the_ends_of_the_last_resolutions():
    stages = {f"layer{n}": (s, s, 64 << n) for n, s in ((1, 56), (2, 28), (3, 14), (4, 7))}
    resnet = _shapes(
        conv1=(112, 112, 64), maxpool=(56, 56, 64), layer1_0=(56, 56, 8), **stages, fc=(1000,)
    )
    assert cli.stages(resnet) == ("layer1", "layer2", "layer3", "layer4")
    same = {f"layer{n}": (s, s, 8 * n) for n, s in ((1, 32), (2, 16), (3, 8), (4, 8))}
    assert cli.stages(_shapes(conv1=(32, 32, 8), **same)) == (
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    )
    nested = _shapes(a_b=(8, 8, 2), a_c=(8, 8, 2), a_d_e=(8, 8, 3), a_f=(4, 4, 2), g=(1, 1, 2))
    assert cli.stages(nested) == ("a.c", "a.f")
    assert cli.stages({}) == ()
