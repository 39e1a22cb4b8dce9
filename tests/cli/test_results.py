"""`--json`, and pictures in other formats."""

import json

import numpy as np
import pytest

from jaxcam import cli
from jaxcam.cli import results
from tests.cli.conftest import CLASSES


def test_a_line_for_each_photo(run, photo, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no photo")
    options = ("--method", "grad_cam", "lrp", "--layer", "layer2", "--json", "--save-maps")
    code, printed, errors = run("explain", photo(), bad, *options)
    assert code == 1 and "1 of 2 photos failed" in errors
    first, second = map(json.loads, printed.splitlines())
    saved = np.load(tmp_path / "cat_explain.npz")
    target = first["target"]
    assert target["index"] == saved["target"] and target["name"] == CLASSES[target["index"]]
    assert target["logit"] == pytest.approx(saved["logits"].max(), rel=1e-5)
    assert first["likeliest"][0] == target and len(first["likeliest"]) == 5
    assert first["picture"] == "cat_explain.png" and first["photo"] == "cat.png"
    grad, lrp = first["maps"]
    raw = saved["grad_cam/layer2"]
    assert (grad["method"], grad["layer"], grad["shape"]) == ("grad_cam", "layer2", [8, 8])
    assert grad["most"] == pytest.approx(raw.max(), rel=1e-5)
    if raw.max() > 0:
        share = raw / raw.sum()
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        assert grad["entropy"] == pytest.approx(entropy, rel=1e-4)
    else:
        assert "zero everywhere" in grad["note"]
    assert (lrp["method"], lrp["layer"], lrp["shape"]) == ("lrp", None, [32, 32])
    assert second["photo"] == "bad.png" and "bad.png" in second["error"]


def test_what_has_no_number_is_null_and_no_map_has_a_note(network):
    logits = np.zeros(len(CLASSES))
    raw = {("grad_cam", "layer2"): None, ("grad_cam", "layer3"): np.full((2, 2), np.nan)}
    found = json.loads(results.photo("a", "a.png", network, logits, 1, raw))
    none, nan = found["maps"]
    assert none == {"method": "grad_cam", "layer": "layer2", "note": "does not apply"}
    assert nan["least"] is None and nan["most"] is None and "NaN" in nan["note"]


def test_layers(run):
    code, printed, _ = run("layers", "--json")
    found = json.loads(printed)
    assert code == 0 and found["classes"] == CLASSES and found["input"] == [32, 32]
    rows = {row["name"]: row for row in found["layers"]}
    assert rows["layer3"] == {
        "name": "layer3",
        "shape": [4, 4, 8],
        "stage": True,
        "default": True,
    }
    assert not rows["layer1"]["default"]


def test_formats(run, photo, tmp_path):
    photo()
    assert run("explain", "cat.png", "--format", "svg", "--width", "column", "-o", "out")[0] == 0
    assert (tmp_path / "out/cat_explain.svg").read_text().startswith("<?xml")
    assert run("explain", "cat.png", "-o", "CAT.PDF", "--width", "page")[0] == 0
    assert (tmp_path / "CAT.PDF").read_bytes().startswith(b"%PDF")
    code, _, errors = run("explain", "cat.png", "-o", "cat.pdf", "--format", "svg")
    assert (
        code == 2 and "-o: got 'cat.pdf', expected a folder or a file that ends in .svg" in errors
    )
    code, _, errors = run("explain", "cat.png", "-o", "cat.gif")
    assert code == 2 and "expected a folder or a file that ends in .png, .pdf or .svg" in errors


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_has_examples_of_the_command(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    shown = capsys.readouterr().out.partition("examples:")[2]
    lines = [line for line in shown.splitlines() if line.startswith("  jaxcam ")]
    assert len(lines) >= 2
    for line in lines:
        assert line.startswith(f"  jaxcam {command}")
    assert "exit codes" in shown
