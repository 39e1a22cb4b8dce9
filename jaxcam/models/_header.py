"""What the header of a weights file says, checked: whoever wrote it may have meant anything."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcam._ground.errors import ArgumentError, check_whole

LONGEST_NAME = 500  # characters of a class's name
LARGEST_INPUT = 4096  # pixels of a side
_LARGEST = 2**16  # of an option of an architecture
_MOST = 64  # values of an option that is a list
_DEPTHS = ("stage_sizes", "depth")  # options that say how many blocks there are


def entry(metadata: Mapping[str, str], key: str, path: Path | None) -> Any:
    """What the JSON under a key of a header says, None if there is none.

    Raises:
        ArgumentError: it is no JSON.
    """
    try:
        return json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError) as error:
        expected = f"valid JSON under {key!r} in its metadata"
        raise ArgumentError("name_or_path", path or "a file", expected) from error


def architecture(
    metadata: Mapping[str, str], path: Path | None, tensors: int
) -> tuple[str | None, dict[str, Any]]:
    """The architecture's name, if the header has one, and its options.

    Args:
        metadata: of the header.
        path: the file.
        tensors: how many it holds: no network has more blocks.

    Raises:
        ArgumentError: another type, or numbers that no network of this file can have.
    """
    found = entry(metadata, "architecture", path) or {}
    expected = 'an architecture {"name": text, "options": {name: value}} in its metadata'
    if not isinstance(found, dict):
        raise _wrong(path, found, expected)
    name = found.get("name")
    options = found.get("options", {})
    if not isinstance(name, str | None) or not isinstance(options, dict):
        raise _wrong(path, found, expected)
    for key, value in options.items():
        if not _is_option(value):
            raise _wrong(path, {key: value}, f"numbers up to {_LARGEST}, words or lists of them")
        if key in _DEPTHS and _total(value) > tensors:
            raise _wrong(path, {key: value}, f"a network of the {tensors} arrays that it holds")
    return name, options


def classes(metadata: Mapping[str, str], path: Path | None) -> list[str] | None:
    """The classes' names, if the header has them.

    Raises:
        ArgumentError: no list of names, or one that is too long to be a name.
    """
    found = entry(metadata, "classes", path)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise _wrong(path, found, "classes that are a list of names")
    return found


def preprocess(metadata: Mapping[str, str], path: Path | None) -> dict[str, Any] | None:
    """The fields of a `Preprocess`, if the header has them.

    Raises:
        ArgumentError: others, or values that no network can want.
    """
    found = entry(metadata, "preprocess", path)
    if found is None:
        return None
    known = {"size", "resize", "mean", "std"}
    if not isinstance(found, dict) or not found.keys() <= known or "size" not in found:
        raise _wrong(path, found, 'a preprocess {"size", "resize", "mean", "std"}')
    for key in ("size", "resize"):
        side = found.get(key)
        if side is None and key == "resize":
            continue
        try:
            check_whole(key, side, 1, LARGEST_INPUT)
        except ArgumentError as error:
            expected = f"a {key} of 1 to {LARGEST_INPUT} pixels"
            raise _wrong(path, {key: side}, expected) from error
    for key in ("mean", "std"):
        if key in found and not _are_channels(found[key], positive=key == "std"):
            above = " above 0" if key == "std" else ""
            raise _wrong(path, {key: found[key]}, f"a {key} of three numbers{above}")
    return found


def _wrong(path: Path | None, found: Any, expected: str) -> ArgumentError:
    said = json.dumps(found)
    if len(said) > 100:
        said = f"{said[:100]}..."
    return ArgumentError("name_or_path", f"{path or 'a file'}, whose header says {said}", expected)


def _is_option(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _MOST and all(map(_is_scalar, value))
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= _LARGEST
    if isinstance(value, str):
        return len(value) <= _MOST
    return value is None


def _total(value: Any) -> float:
    if isinstance(value, list):
        return sum(map(_total, value))
    if isinstance(value, int | float):
        return value
    return 0


def _are_channels(found: Any, positive: bool) -> bool:
    if not isinstance(found, list) or len(found) != 3:
        return False
    for value in found:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or (positive and value <= 0):
            return False
    return True
