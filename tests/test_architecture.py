"""The house rules a machine can check: which way imports go, what public functions raise."""

import ast
import inspect
import pathlib

import pytest

import jaxcam

ROOT = pathlib.Path(jaxcam.__file__).parent

# A module imports only from levels below its own, or from its own folder.
LEVELS = [
    {"jaxcam._version", "jaxcam._ground"},
    {"jaxcam.targets"},
    {"jaxcam._program"},
    {"jaxcam._resizing"},
    {"jaxcam._overlays"},
    {"jaxcam.loops", "jaxcam.maps"},
    {
        "jaxcam.photos",
        "jaxcam.models",
        "jaxcam.lrp",
        "jaxcam.datasets",
        "jaxcam._layouts",
    },
    {"jaxcam._explainers", "jaxcam.blackbox", "jaxcam._canvas"},
    {"jaxcam.fostering", "jaxcam._papers", "jaxcam._bars"},
    {"jaxcam.metrics", "jaxcam.pictures", "jaxcam.explorer"},
    {"jaxcam"},
    {"jaxcam.methods", "jaxcam._metric_peers", "jaxcam._agreement"},
    {"jaxcam.peers"},
    {"jaxcam.classifier", "jaxcam.scaling"},
    {"jaxcam.cli"},
    {"jaxcam.__main__"},
]
FLAX_ROOMS = ("jaxcam._program.adapters", "jaxcam.models")


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(p for p in parts if p != "__init__"), path


def room(name):
    return ".".join(name.split(".")[:2])


def level(name):
    return next(i for i, names in enumerate(LEVELS) if room(name) in names)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from jaxcam import maps` imports the module jaxcam.maps
            submodule = node.module == "jaxcam" and [f"jaxcam.{a.name}" for a in node.names]
            yield from (
                submodule if submodule and all(_is_module(n) for n in submodule) else [node.module]
            )


def _is_module(name):
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


@pytest.mark.parametrize(
    ("name", "path"), list(modules()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_imports_go_one_way(name, path):
    for imported in imports(path):
        if imported.split(".")[0] == "flax":
            assert name.startswith(FLAX_ROOMS), f"{name} imports flax"
        assert imported.split(".")[0] not in ("train", "eval", "configs", "tests"), (
            f"{name} imports {imported}"
        )
        if imported.split(".")[0] == "jaxcam" and name != "jaxcam" and room(imported) != room(name):
            assert level(imported) < level(name), f"{name} imports {imported}"


def test_models_import_nothing_of_ours_but_the_ground_and_tag():
    for path in (ROOT / "models").glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxcam"):
                names = {alias.name for alias in node.names}
                below = ("jaxcam.models", "jaxcam._ground")
                assert node.module.startswith(below) or (node.module, names) == (
                    "jaxcam._program.layers",
                    {"tag"},
                )


def test_train_and_eval_do_not_import_each_other():
    for room_, other in (("train", "eval"), ("eval", "train")):
        for path in (ROOT.parent / room_).rglob("*.py"):
            assert not any(name and name.split(".")[0] == other for name in imports(path)), path


@pytest.mark.parametrize(
    "name", [n for n, v in vars(jaxcam).items() if inspect.isfunction(v) and n[0] != "_"]
)
def test_public_functions_document_themselves(name):
    doc = inspect.getdoc(getattr(jaxcam, name))
    assert "Returns" in doc
    assert "Raises" in doc


def test_no_file_over_400_lines():
    for folder in ("jaxcam", "train", "eval", "configs"):
        for path in (ROOT.parent / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path
