"""The package as people install it: its core alone, its public names, its page, its version."""

import importlib.util
import pathlib
import pydoc
import re
import subprocess
import sys
import tomllib

import pytest

import jaxcam
from jaxcam._ground import extras

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = (
    jaxcam,
    jaxcam.blackbox,
    jaxcam.fostering,
    jaxcam.loops,
    jaxcam.lrp,
    jaxcam.lrp.rules,
    jaxcam.maps,
    jaxcam.metrics,
    jaxcam.models,
    jaxcam.targets,
)
# Each package of an extra is made impossible to import, then a function of arrays is explained.
CORE = """
import sys
sys.modules.update(dict.fromkeys({packages}))
import jax.numpy as jnp
import jaxcam
forward = lambda x: jaxcam.tag(x * 2, "twice").mean((1, 2))
images = jnp.ones((1, 4, 4, 3))
assert jaxcam.grad_cam(forward, images, 0).shape == (1, 4, 4)
assert jaxcam.lrp.relevance(forward, images, 0).shape == images.shape
assert jaxcam.metrics.entropy(jnp.ones((1, 4, 4))).shape == (1,)
for ask in (lambda: jaxcam.models, lambda: jaxcam.maps.figure(images, images[..., 0])):
    try:
        ask()
    except ModuleNotFoundError as error:
        print(error)
from jaxcam.__main__ import main
print(main())
"""


def test_the_core_explains_and_says_what_the_rest_needs():
    program = CORE.format(packages=list(extras.EXTRAS))
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    install = r'is not installed; pip install "jaxcam-xai\[{}\]"'
    models, figure, code = ran.stdout.splitlines()
    assert re.fullmatch(r"jaxcam\.models: the package \w+ " + install.format("models"), models)
    picture = r"jaxcam\.maps: the package matplotlib " + install.format("pictures")
    assert re.fullmatch(picture, figure)
    assert code == "2"
    assert re.search(r"^jaxcam: .*jaxcam-xai\[all\]", ran.stderr, re.MULTILINE)


# What `import jaxcam` leaves for later, and still does after the help of the command.
LATER = """
import sys
later = {"flax", "huggingface_hub", "matplotlib", "optax", "safetensors", "skimage", "scipy"}
import jaxcam
print(sorted(later & set(sys.modules)))
from jaxcam.__main__ import main
sys.argv = ["jaxcam", "explain", "--help"]
try:
    main()
except SystemExit as ended:
    print(ended.code, sorted(later & set(sys.modules)))
"""


def test_packages_that_are_slow_to_import_wait_until_they_are_needed():
    ran = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=True)
    first, *helped, last = ran.stdout.splitlines()
    assert first == "[]"
    assert any("--no-cache" in line for line in helped)
    assert last == "0 []"


def test_another_missing_package_is_no_matter_of_ours():
    message = re.escape("No module named 'no_such_package'")
    with pytest.raises(ModuleNotFoundError, match=f"^{message}$"), extras.wanted("x"):
        importlib.import_module("no_such_package")


def test_every_extra_brings_what_it_is_said_to():
    named = {"PIL": "pillow", "skimage": "scikit-image"}
    for package, extra in extras.EXTRAS.items():
        required = " ".join(PROJECT["optional-dependencies"][extra])
        assert re.search(rf"\b{named.get(package, package)}\b", required)
    assert PROJECT["name"] == extras.DISTRIBUTION


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names_are_there_and_helped(module):
    page = pydoc.plain(pydoc.render_doc(module))
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)
        assert not name.startswith("_")
        assert re.search(rf"\b{name}\b", page), f"help({module.__name__}) lacks {name}"


def test_the_version_is_one():
    changes = (ROOT / "CHANGELOG.md").read_text()
    released = re.search(r"^## (\d+\.\d+\.\d+)", changes, re.MULTILINE)
    assert released is not None
    assert released[1] == jaxcam.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {jaxcam.__version__}\n" in citation


def test_links_of_the_packages_page(monkeypatch):
    monkeypatch.setenv("JAXCAM_REPOSITORY", "https://host.example/us/jaxcam/")
    pytest.importorskip("setuptools", reason="no setuptools, since Python 3.12")
    monkeypatch.setattr("setuptools.setup", lambda **given: page.update(given))
    page = {}
    spec = importlib.util.spec_from_file_location("page", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    description = page["long_description"]
    here = "https://host.example/us/jaxcam"
    assert f"]({here}/raw/HEAD/results/demo/coffee.png)" in description
    assert f"]({here}/blob/HEAD/docs/explain.md)" in description
    assert not re.search(r"\]\((?!https:)", description)
    assert page["project_urls"]["Homepage"] == here


def test_the_site_has_every_public_function():
    pages = [page.read_text() for page in (ROOT / "docs" / "api").glob("*.md")]
    shown = set(re.findall(r"^::: jaxcam\.(\w+)", "\n".join(pages), re.MULTILINE))
    assert set(jaxcam.__all__) - {"datasets"} == shown
