"""A user's own model: `FILE.py:function` is run and what it returns becomes a classifier.

Whatever is wrong with it is said in a line that names what was given: the file, the function, an
entry of `about`, or the line of the file that raised.
"""

import ast
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxcam._ground import foreign
from jaxcam._ground.errors import ArgumentError, ArgumentFileError, one_of
from jaxcam.classifier import _about
from jaxcam.classifier._classifier import Classifier

_MODEL = "model"  # what errors name
_RETURNS = "(forward, about), or what an adapter such as jaxcam.nnx(model) returns"


def is_own(name: str) -> bool:
    """Whether a name is one of code: `FILE.py:function`, perhaps without the function."""
    return name.endswith(".py") or ".py:" in name


def own_file(name: str) -> Path | None:
    """The file that a name of code means, whether it is there or not; None for other names."""
    if not is_own(name):
        return None
    file, colon, _ = name.rpartition(":")
    return Path(file if colon else name).expanduser()


def load(name: str, classes: str | None = None) -> Classifier:
    """The classifier that a function of a file returns.

    Args:
        name: `FILE.py:function`.
        classes: a file of class names, instead of those that `about` names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such function, one that raises or returns something else, outputs that do not
            fit what it says of them.
    """
    path, function = _parts(name)
    forward, about = _pair(name, _returned(name, path, function))
    facts = _about.read(about)
    if classes is not None:
        facts["classes"] = classes
    facts.setdefault("name", f"{path.stem}:{function}")
    try:
        return _about.classifier(forward, facts)
    except ArgumentError:
        raise
    except Exception as error:
        got = f"{name!r}, whose forward raised {_said(error, path)}"
        expected = "a function of normalised images [B, H, W, C] -> logits [B, N]"
        raise ArgumentError(_MODEL, got, expected) from error


# The file and the function -------------------------------------------


def _parts(name: str) -> tuple[Path, str]:
    file, colon, function = name.rpartition(":")
    if not colon:
        file = name
        function = ""
    path = Path(file).expanduser()
    if not path.is_file():
        raise ArgumentFileError(
            _MODEL, f"{name!r}, but there is no file {file}", "FILE.py:function"
        )
    if not function.isidentifier():
        known = _functions(path)
        raise ArgumentError(_MODEL, repr(name), f"{file}:FUNCTION, FUNCTION {one_of(name, known)}")
    return path, function


def _functions(path: Path) -> list[str]:
    """What a file defines that may be called, from its text."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def _returned(name: str, path: Path, function: str) -> Any:
    """What the function returns; its file's folder is looked into for other modules of the user."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        module = _module(path)
        found = getattr(module, function, None)
        if not callable(found):
            got = f"{name!r}, but {path} has no function {function!r}"
            raise ArgumentError(_MODEL, got, one_of(function, _functions(path)))
        _check_arguments(name, found)
        return found()
    except ArgumentError as error:
        if error.argument == _MODEL and error.got.startswith(repr(name)):
            raise
        raise _raised(name, path, error) from error
    except (Exception, SystemExit) as error:
        raise _raised(name, path, error) from error
    finally:
        # Behind everything else: what is imported later must not be shadowed by the user's names.
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _module(path: Path) -> ModuleType:
    title = f"_jaxcam_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(title, path.resolve())
    assert spec is not None and spec.loader is not None  # of every file that ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module  # as dataclasses of that module ask for
    spec.loader.exec_module(module)
    return module


def _check_arguments(name: str, function: Callable) -> None:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        got = f"{name!r}, which cannot be called without arguments ({error})"
        raise ArgumentError(_MODEL, got, "a function that needs none") from error


def _raised(name: str, path: Path, error: BaseException) -> ArgumentError:
    got = f"{name!r}, which raised {_said(error, path)}"
    return ArgumentError(_MODEL, got, f"a function that returns {_RETURNS}")


def _said(error: BaseException, path: Path) -> str:
    """An error in one line, with the last line of the user's file that led to it."""
    lines = str(error).strip().splitlines()
    text = type(error).__name__
    if lines:
        text = f"{text}: {lines[0]}"
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{text} at {path}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if os.path.realpath(frame.filename) == os.path.realpath(path):
            return f"{text} at {path}:{frame.lineno}"
    return text


# What it returns ------------------------------------------------------


def _pair(name: str, returned: Any) -> tuple[Callable, Any]:
    forward = returned
    about = None
    if isinstance(returned, tuple | list) and not hasattr(returned, "_fields"):
        if len(returned) != 2:
            got = f"{name!r}, which returned {len(returned)} things"
            raise ArgumentError(_MODEL, got, _RETURNS)
        forward, about = returned
    other = foreign.kind(forward)
    if other is not None:
        got = f"{name!r}, which returned {other.title} {type(forward).__name__}"
        raise ArgumentError(_MODEL, got, other.advice)
    if not callable(forward):
        got = f"{name!r}, which returned a {type(forward).__name__} for a model"
        raise ArgumentError(_MODEL, got, _RETURNS)
    return forward, about
