"""What is public is listed, what is listed is there, and no name hides a module."""

import importlib
import pathlib
import pkgutil
import tomllib

import pytest

import jaxcam

ROOT = pathlib.Path(jaxcam.__file__).parent
LISTED = ("blackbox", "datasets", "loops", "maps", "metrics", "models", "photos", "pictures")


def public_modules():
    for name in LISTED:
        yield f"jaxcam.{name}"
        folder = ROOT / name
        if folder.is_dir():
            yield from (f"jaxcam.{name}.{m.name}" for m in pkgutil.iter_modules([folder]))


MODULES = [
    name for name in public_modules() if not any(part.startswith("_") for part in name.split("."))
]


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_listed(name):
    module = importlib.import_module(name)
    names = module.__all__
    assert len(set(names)) == len(names)
    for each in names:
        assert not each.startswith("_")
        assert hasattr(module, each)
        documented = getattr(module, each)
        if callable(documented) and getattr(documented, "__module__", "").startswith("jaxcam"):
            assert documented.__doc__, each


@pytest.mark.parametrize("package", ["datasets", "metrics", "models"])
def test_no_name_hides_a_module(package):
    found = importlib.import_module(f"jaxcam.{package}")
    for module in pkgutil.iter_modules([ROOT / package]):
        name = f"jaxcam.{package}.{module.name}"
        assert importlib.import_module(name) is getattr(found, module.name), name


def test_the_package_says_that_it_has_types():
    assert (ROOT / "py.typed").is_file()
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["package-data"]["jaxcam"] == ["py.typed"]
