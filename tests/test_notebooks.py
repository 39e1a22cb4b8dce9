"""Notebooks run and become pages and `.ipynb` files. The site takes what came of them here."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))


def _module():
    spec = importlib.util.spec_from_file_location("cells", DOCS / "cells.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cells = _module()


@pytest.mark.lenient
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    script = path.read_text(encoding="utf-8")
    scope = {"__name__": "notebook"}
    done = cells.run(cells.read(script), scope)
    _CLAIMS[path.stem](scope)
    cells.keep(script, done)
    assert cells.kept(script) == done
    page, pictures = cells.page(done, path.stem)
    assert page.startswith("# ")
    assert pictures
    for name, picture in pictures.items():
        assert picture.startswith(b"\x89PNG")
        assert f"]({name})" in page
    for cell in done:
        assert not cell.picture or len(cells.described(cell)) > 20
    whole = json.loads(cells.notebook(done))
    kinds = [cell["cell_type"] for cell in whole["cells"]]
    assert kinds[0] == "markdown"
    shown = sum("image/png" in str(cell.get("outputs")) for cell in whole["cells"])
    assert shown == len(pictures)


def _adds_up(scope):
    sums = scope["relevance"].sum((1, 2, 3))
    np.testing.assert_allclose(sums, scope["logits"].max(1), rtol=1e-4)
    np.testing.assert_allclose(scope["contrast"].sum((1, 2, 3)), 0, atol=1e-3)


def _is_asked_alike(scope):
    np.testing.assert_allclose(scope["same"], scope["maps"], rtol=1e-4, atol=1e-6)


def _measures_every_map(scope):
    assert set(scope["found"]) == set(scope["heats"])
    for numbers in scope["found"].values():
        assert all(np.isfinite(each).all() for each in numbers.values())


def _compares_known_maps(scope):
    assert all(np.isfinite(each).all() for each in scope["found"].values())


def _changes_nothing(scope):
    np.testing.assert_allclose(scope["own"], scope["theirs"], atol=1e-5)


def _trains(scope):
    for leaf in jax.tree.leaves(scope["params"]):
        assert np.isfinite(leaf).all()
    assert set(scope["columns"]) == {"beta 0.0", "beta 0.03", "beta 3.0"}


_CLAIMS = {
    "black_box": _is_asked_alike,
    "fostering": _trains,
    "lrp": _adds_up,
    "measuring": _measures_every_map,
    "nnx_model": _changes_nothing,
    "wrong_map": _compares_known_maps,
}


def test_cells():
    script = "# %% [markdown]\n# # A title\n#\n# text\n\n# %%\nSIDE = 4\nprint(SIDE)\nSIDE + 1\n"
    text, code = cells.run(cells.read(script), {})
    assert text == (False, "# A title\n\ntext", "", b"")
    assert code.text == "4\n5\n"
    assert cells.kept(script) is None
    with pytest.raises(ZeroDivisionError):
        cells.run(cells.read("# %%\n1 / 0\n"), {})
