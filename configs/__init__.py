"""Experiments: a small file each, owning every number, its command, cost and expected result."""

import ast
import dataclasses
import importlib.util
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from configs.schema import Classification as Classification
from configs.schema import Config as Config
from configs.schema import Distillation as Distillation
from configs.schema import Fostering as Fostering
from jaxcam._ground.errors import ArgumentError, ArgumentFileError, one_of


def load(path: str) -> Classification:
    """The `config` that the Python file at `path` defines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file defines no `config`.
    """
    if not Path(path).is_file():
        raise ArgumentFileError("--config", repr(path), "a Python file such as configs/tiny20.py")
    spec = importlib.util.spec_from_file_location(f"configs.{Path(path).stem}", path)
    if spec is None or spec.loader is None:  # not called .py
        raise ArgumentError("--config", repr(path), "a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = getattr(module, "config", None)
    if not isinstance(config, Classification):
        raise ArgumentError("--config", path, "a file that defines `config`, as those in configs/")
    return config


def override(config: Config, assignments: Sequence[str]) -> Config:
    """`config` with fields replaced by `key=value` texts.

    `options.KEY=value` replaces or adds one option. Values are Python literals; what is none is
    taken as text. A run in another `workdir` exports its network there, unless `export` says
    otherwise: no two runs write one file by accident.

    Raises:
        ValueError: a text without `=`, an unknown field (the nearest are named) or a value of
            another type.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ArgumentError("--set", repr(assignment), "key=value")
        changes |= _change(config, changes, key.strip(), _literal(text.strip()))
    if "workdir" in changes and "export" not in changes:
        changes["export"] = str(Path(changes["workdir"]) / Path(config.export).name)
    # at once: fields that must fit each other change together
    return dataclasses.replace(config, **changes)


def _change(
    config: Classification, earlier: Mapping[str, Any], key: str, value: Any
) -> dict[str, Any]:
    name, _, option = key.partition(".")
    fields = {field.name: field for field in dataclasses.fields(config)}
    if name not in fields or (option and not isinstance(getattr(config, name), Mapping)):
        raise ArgumentError("--set", f"the key {key!r}", one_of(name, fields, "fields"))
    old = earlier.get(name, getattr(config, name))
    if option:
        return {name: {**old, option: value}}
    return {name: _as_type_of(fields[name], old, value, key)}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as_type_of(field: dataclasses.Field, old: Any, value: Any, key: str) -> Any:
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    expected: tuple[type, ...] = (type(old),)  # as much as other annotations say
    if isinstance(field.type, types.UnionType):
        expected = get_args(field.type)  # of `str | None`, say
    if isinstance(value, expected):
        return value
    raise ArgumentError("--set", f"{key}={value!r}", f"{_names(expected)} such as {old!r}")


def _names(kinds: Sequence[type]) -> str:
    return " or ".join(kind.__name__ for kind in kinds).replace("NoneType", "None")
