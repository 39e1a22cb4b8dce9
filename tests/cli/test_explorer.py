"""`--html`: the page beside the pictures."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxcam import cli


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    rng = np.random.default_rng(1)
    names = []
    for name in ("one", "two"):
        names.append(str(folder / f"{name}.png"))
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(names[-1])
    code = cli.main(["explain", *names, "-o", str(folder / "out"), "--html", "--html-classes", "2"])
    assert code == 0
    return folder / "out"


def test_the_page_holds_every_photo_and_the_likeliest_classes(out):
    page = (out / "explorer.html").read_text()
    (text,) = re.findall(
        r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    found = json.loads(text)
    assert [photo["name"] for photo in found["photos"]] == ["one.png", "two.png"]
    for photo in found["photos"]:
        likeliest = [index for index, _, _ in photo["classes"][:2]]
        assert photo["target"] == likeliest[0]
        assert [heat["target"] for heat in photo["heats"]] == likeliest
        assert {heat["layer"] for heat in photo["heats"]} == {"layer4"}
        assert photo["heats"][0]["centers"]["size"] == [64, 64]
        assert set(photo["heats"][0]["metrics"]) == {"entropy", "area", "dispersion"}


def test_a_page_that_cannot_be_written_is_one_line(out, tmp_path, capsys):
    photo = next(out.parent.glob("one.png"))
    (tmp_path / "explorer.html").mkdir()
    assert cli.main(["explain", str(photo), "-o", str(tmp_path), "--html"]) == 1
    captured = capsys.readouterr()
    assert "explorer.html" in captured.err
    assert (tmp_path / "one_explain.png").exists()
