"""Every public function has an example in its docstring, and it runs as printed."""

import doctest
import inspect
import operator
import pathlib
import re

import jax
import numpy as np
import pytest

import jaxcam.explorer
import jaxcam.photos
import jaxcam.pictures

ROOT = pathlib.Path(__file__).parents[1]
MODULES = (
    "jaxcam",
    "jaxcam.blackbox",
    "jaxcam.explorer",
    "jaxcam.fostering",
    "jaxcam.loops",
    "jaxcam.lrp",
    "jaxcam.lrp.rules",
    "jaxcam.maps",
    "jaxcam.metrics",
    "jaxcam.models",
    "jaxcam.photos",
    "jaxcam.pictures",
    "jaxcam.targets",
)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def functions() -> dict:
    """Every public function by name, once."""
    found = {}
    for module in MODULES:
        room = operator.attrgetter(f"{module}.__all__"[len("jaxcam.") :])(jaxcam)
        for name in room:
            each = operator.attrgetter(f"{module}.{name}"[len("jaxcam.") :])(jaxcam)
            if inspect.isroutine(each):
                found.setdefault(each, f"{module}.{name}")
    return {name: each for each, name in found.items()}


FUNCTIONS = functions()


@pytest.fixture(scope="module")
def known():
    """What the page of the API says that examples know."""
    page = (ROOT / "docs" / "api" / "index.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    scope = {"__name__": "examples"}
    exec(compile(block, "index.md", "exec"), scope)
    return scope


def test_there_are_functions():
    assert len(FUNCTIONS) > 150


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_an_example(name):
    section = inspect.getdoc(FUNCTIONS[name]).partition("\nExample:\n")[2]
    examples = doctest.DocTestParser().get_examples(section)
    assert len(examples) > 0
    assert len(section.splitlines()) <= 14
    called = name.rpartition(".")[2]
    assert any(re.search(rf"\b{called}\b", each.source) for each in examples)


@pytest.mark.lenient
@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # an example sets it
    runner = doctest.DocTestRunner(optionflags=_FLAGS)
    finder = doctest.DocTestFinder(recurse=False)
    with np.printoptions(precision=2, suppress=True), jax.default_device(jax.devices()[0]):
        for name, each in FUNCTIONS.items():
            if name.rpartition(".")[0] == module:
                for example in finder.find(each, name, globs=dict(known)):
                    runner.run(example)
    assert runner.tries > 0
    assert runner.failures == 0
