"""Text of others: what reaches a terminal, and pictures in a style of their own."""

import os
import subprocess
import sys

import numpy as np
import pytest

from jaxcam import maps
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted, in_line, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("k\xe4tze \u732b", "k\xe4tze \u732b"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\u202eb", "a\\u202eb"),
        ("\udcff", "?"),
        ("a\nb\tc", "a\nb\tc"),
        ("\x9b0m", "\\x9b0m"),
    ],
)
def test_control_characters_are_written_out(text, expected):
    assert printable(text) == expected


def test_errors_and_lines_are_printable():
    assert str(ArgumentError("name", "\x1b[2J", "a name")) == (
        "name: got \\x1b[2J, expected a name"
    )
    assert in_line(" a\n\x00 b ") == "a \\x00 b"


CODE = """
import io, sys, numpy as np, jaxcam
from jaxcam import pictures
rng = np.random.default_rng(0)
photo = rng.integers(0, 256, (20, 30, 3), np.uint8)
raw = {("Grad-CAM", "l"): rng.random((4, 5))}
shown = pictures.Explanation("a_b$^", photo, raw, ["x$"], np.ones(1), 0, (8, 8))
pictures.save(shown, sys.argv[1])
figure = jaxcam.maps.figure(photo[None] / 255, rng.random((1, 4, 5)), ["t"])
assert figure.axes[0].images[0].origin == "upper"
"""


def test_a_users_matplotlibrc_changes_no_picture(tmp_path):
    """Images upside down, TeX for every text, a backend that is not there."""
    rc = "image.origin: lower\ntext.usetex: True\nfont.size: 40\nsavefig.dpi: 17\n"
    (tmp_path / "matplotlibrc").write_text(rc)
    content = []
    for number, extra in enumerate(({}, {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "nosuch"})):
        path = tmp_path / f"{number}.png"
        command = [sys.executable, "-c", CODE, str(path)]
        done = subprocess.run(command, env=os.environ | extra, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        content.append(path.read_bytes())
    assert content[0] == content[1]


def test_figures_are_made_within_the_style(monkeypatch):
    import matplotlib

    with matplotlib.rc_context({"image.origin": "lower"}):
        made = maps.figure(np.zeros((1, 4, 4, 3)), np.eye(4)[None])
        assert matplotlib.rcParams["image.origin"] == "lower"
    assert made.axes[1].images[0].origin == "upper"


def test_one_is_not_counted_as_many():
    found = [counted(0, "photo"), counted(1, "photo"), counted(2, "class"), counted(3, "box")]
    assert found == ["0 photos", "1 photo", "2 classes", "3 boxes"]
