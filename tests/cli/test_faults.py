"""Faults of a command: nothing of a user's is lost, and a line says what was not done."""

import subprocess
import sys

import numpy as np
import pytest

from jaxcam import _canvas, cli, methods, pictures
from jaxcam.cli import commands, outputs


def test_no_input_is_ever_an_output(run, photo, tmp_path):
    cat, other = photo("cat.jpg"), photo("cat_explain.png")
    before = other.read_bytes()
    code, _, errors = run("explain", cat, other)
    assert code == 2 and errors.count("\n") == 1
    assert "-o: got 'cat_explain.png', a photo itself, expected another folder or file" in errors
    (tmp_path / "link.png").symlink_to(other)
    code, _, errors = run("explain", other, "-o", "link.png")
    assert code == 2 and "a photo itself" in errors and other.read_bytes() == before
    assert run("explain", cat, other, "-o", "out")[0] == 0 and other.read_bytes() == before
    page = photo("page.png").rename(tmp_path / "explorer.html")
    code, _, errors = run("explain", page, "--html")
    assert code == 2 and "-o: got 'explorer.html', which is read" in errors


def test_class_names_that_are_read_are_not_written_over(tmp_path):
    names = tmp_path / "names.csv"
    names.write_text("name\ncat\n")
    (tmp_path / "cat_explain.png").symlink_to(names)
    place = lambda inputs: outputs.paths(["cat.png"], str(tmp_path), "_explain", None, inputs)
    with pytest.raises(ValueError, match="which is read: --model or --classes"):
        place((None, str(names)))
    assert place((None, None)) == [tmp_path / "cat_explain.png"]


def test_logits_that_are_nan_are_no_explanation(run, photo, network, monkeypatch):
    monkeypatch.setattr(network, "logits", lambda image: np.full(6, np.nan, np.float32))
    code, printed, errors = run("explain", photo())
    assert (code, printed) == (1, "")
    assert errors == (
        "jaxcam: photo 'cat.png' has no explanation: 6 of the network's 6 logits are NaN or "
        "infinite\n"
    )


def test_escape_codes_of_names_never_reach_the_terminal(run, photo):
    code, printed, errors = run("explain", photo("a\x1b[31m\nb.png"), "no\x1b[2J.png", "-o", "out")
    assert code == 1 and "\x1b" not in printed + errors
    assert printed.startswith("a\\x1b[31m b.png: ") and printed.count("\n") == 1


def test_what_cannot_be_written_is_said_and_the_rest_is_done(run, photo, tmp_path):
    (tmp_path / "out" / "cat_explain.png").mkdir(parents=True)
    code, printed, errors = run("explain", photo("cat.png"), photo("dog.png"), "-o", "out")
    assert code == 1 and printed.startswith("dog.png: ")
    assert (tmp_path / "out" / "dog_explain.png").is_file()
    assert "'out/cat_explain.png' cannot be written" in errors
    assert errors.splitlines()[-1] == "jaxcam: 1 of 2 photos failed: cat.png"


@pytest.mark.parametrize("closed", ["| head -c 1", "| true", ">&-", "2>&-", ">&- 2>&-"])
def test_a_reader_that_has_gone_is_no_fault(closed):
    """Also of a stream that is closed from the start; of any command: here of the least."""
    code = "import sys; from jaxcam.cli import outputs; c = outputs.streams(); c.__enter__(); "
    code += "[outputs.say(f'line {i}') for i in range(9999)]; outputs.say('e', error=True); "
    code += "c.__exit__(None, None, None); sys.exit(7)"
    shell = f'set -o pipefail; {sys.executable} -c "{code}" {closed}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == 7 and done.stderr in ("e\n", "")


def test_ctrl_c_is_one_line(run, photo, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_explain", interrupted)
    assert run("explain", photo()) == (130, "", "jaxcam: interrupted\n")
    assert cli.main and outputs.say


def test_the_key_of_relevance_is_true_of_negative_logits():
    """z+ shares out z_t: where it is below 0 all that supports the class has that sign."""
    raw = -np.ones((2, 2))
    assert (methods.METHODS["lrp"].evidence(raw, -3.0) == 1).all()
    assert (methods.METHODS["lrp"].evidence(-raw, 3.0) == 1).all()
    for other in ("clrp", "lime", "grad_cam"):  # whose sign is that of the evidence already
        assert methods.METHODS[other].evidence(raw, -3.0) is raw


def test_a_map_that_varies_by_rounding_alone_is_no_evidence():
    constant = np.full((4, 4), 0.3, np.float32)
    constant[1, 2] += np.spacing(np.float32(0.3))
    assert pictures.verdict(constant) == "no evidence:\nconstant map"
    assert pictures.verdict(np.eye(4) * 1e-8) is None


def test_long_names_are_drawn_at_once():
    """As much as there is room for, found by halving."""
    for text in ("x" * 3000, "tabby", "tabby cat " * 40):
        shown = _canvas.elided(text, 1.5, 8.5)
        assert shown == text or _canvas.length(shown, 8.5) <= 1.5 < _canvas.length(
            shown[:-1] + text[len(shown) - 1] + "…", 8.5
        )
