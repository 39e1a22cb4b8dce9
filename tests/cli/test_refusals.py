"""What a user can get wrong on the command line: one line, and an exit code."""

import pathlib
import runpy
import sys

import numpy as np
import pytest
import safetensors.numpy

import jaxcam
from jaxcam import cli, photos
from jaxcam.cli import checks
from jaxcam.methods import METHODS
from tests.cli.conftest import CLASSES, files


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
        (["explain", "cat.png", "-o", "cat.png"], "-o: got 'cat.png', a photo itself"),
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
        ("gone.safetensors", "jaxcam: --model: got gone.safetensors, which is not there"),
        (
            "resnet5",
            "jaxcam: --model: got 'resnet5', expected a file or one of ",
        ),
        (
            "efficientnet_lite0",
            "jaxcam: --model: got 'efficientnet_lite0', which comes without weights, expected a "
            "weights file with --architecture efficientnet_lite0, and --classes FILE.csv",
        ),
        (
            "net.onnx",
            "jaxcam: --model: got 'net.onnx', but the command line explains networks of "
            "jaxcam.models; an ONNX",
        ),
        (
            "other.safetensors",
            "jaxcam: --model: got other.safetensors, which does not say what",
        ),
        (
            "text.safetensors",
            "jaxcam: --model: got text.safetensors, 10 bytes whose header",
        ),
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
    assert ("give the architecture" in errors) == (model == "other.safetensors")


def test_the_package_runs_as_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxcam", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("jaxcam", run_name="__main__")
    assert capsys.readouterr().out == f"jaxcam {jaxcam.__version__}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "gone.txt"], "jaxcam: --classes: got gone.txt, which is not there"),
        (
            ["--classes", "two.txt"],
            "jaxcam: --classes: got 2 names, expected one for each of the 6 logits",
        ),
        (
            ["--architecture", "vgg"],
            "jaxcam: --architecture: got 'vgg', expected one of ",
        ),
        (["--architecture", "vgg11"], "jaxcam: --model: state_dict: got "),
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


def test_a_network_without_a_map_cannot_be_explained_layer_by_layer(
    run, network, photo, monkeypatch
):
    monkeypatch.setattr(network, "layers", type(network.layers)())
    code, _, errors = run("explain", photo())
    assert (code, errors) == (2, "jaxcam: --layer: tiny has no layer with spatial extent\n")


def test_find_class_knows_names_synonyms_and_indices():
    assert [
        checks.find_class(CLASSES, text) for text in ("Tabby", "tabby cat", "tabby, tabby cat")
    ] == [0, 0, 0]
    assert checks.find_class(CLASSES, "4") == 4 and checks.find_class(["7", "9"], "9") == 1
