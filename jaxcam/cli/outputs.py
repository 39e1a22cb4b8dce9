"""Where pictures go, and what is printed: no input is ever an output, no reader is needed."""

import collections
import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.files import unused
from jaxcam._ground.text import printable
from jaxcam.pictures import FORMATS

# else `out` is a folder
_FILES = {".png", ".jpg", ".jpeg", ".pdf", ".svg", ".gif", ".webp", ".tif", ".npz"}


def paths(
    sources: Sequence[str],
    out: str,
    suffix: str = "",
    kind: str | None = None,
    inputs: Sequence[str | None] = (),
) -> list[Path]:
    """Where each photo's picture goes: `out/STEM` + `suffix` + `.png`, or `out` if it is a picture.

    Photos that share a stem get different names, told apart by -2, -3, ...

    Args:
        sources: the photos.
        out: a folder or a file.
        suffix: what comes after the photo's stem.
        kind: of the files in a folder, one of `jaxcam.pictures.FORMATS`; None: png.
        inputs: what else is read, if it is a file: a network, its class names.

    Raises:
        ValueError: `out` is one file for several photos, a file of another type, or a picture (or
            the raw maps beside it) would overwrite one of the photos or inputs.
    """
    found = _places(sources, out, suffix, kind)
    written = [each for path in found for each in (path, path.with_suffix(".npz"))]
    check_not_read(written, sources, "a photo itself")
    check_not_read(written, inputs, "which is read: --model or --classes")
    return found


def check_not_read(
    written: Iterable[Path], read: Iterable[str | None], what: str = "which is read"
) -> None:
    """No input is ever an output, by whatever name.

    Raises:
        ValueError: one is.
    """
    known = {file for name in read if name and (file := _file(name))}
    for path in written:
        if _file(path) in known:
            raise ArgumentError("out", f"{str(path)!r}, {what}", "another folder or file")


def _file(name: str | Path) -> tuple[int, int] | None:
    """Which file a name leads to, if to any."""
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _places(sources: Sequence[str], out: str, suffix: str, kind: str | None) -> list[Path]:
    path = Path(out)
    ending = path.suffix.lower()
    if path.is_dir() or ending not in _FILES:
        taken: set[str] = set()
        names = []
        for source in sources:
            names.append(path / unused(Path(source).stem + suffix, kind or FORMATS[0], taken))
        return names
    if ending.lstrip(".") not in FORMATS:
        expected = "a folder or a file that ends in .png, .pdf or .svg"
        raise ArgumentError("out", repr(out), expected)
    if kind not in (None, ending.lstrip(".")):
        raise ArgumentError("out", repr(out), f"a folder or a file that ends in .{kind}, as asked")
    if len(sources) != 1:
        raise ArgumentError("out", f"one file, {out!r}, for {len(sources)} photos", "a folder")
    return [path]


def names(sources: Sequence[str]) -> list[str]:
    """What to call each photo: its file's name, after as many of its folders as tell it apart."""
    parts = [Path(source).parts for source in sources]
    found = [""] * len(parts)
    unnamed = list(range(len(parts)))
    depth = 1
    while unnamed:
        tails = {index: parts[index][-depth:] for index in unnamed}
        shared = collections.Counter(tails.values())
        for index, tail in tails.items():
            found[index] = str(Path(*tail))
        unnamed = [
            index
            for index, tail in tails.items()
            if shared[tail] > 1 and len(tail) < len(parts[index])
        ]
        depth += 1
    return found


# What is printed ------------------------------------------------------


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Standard output and error in the block, whoever closed them, before or in the middle."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (for as long as the process)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                _discard(stream)


def say(text: str, *, error: bool = False) -> None:
    """Prints a line, above a bar of progress if there is one.

    A reader that has gone away, as `head` does, is no fault of the command: the rest is done.
    """
    stream = sys.stderr if error else sys.stdout
    try:
        tqdm.write(re.sub(r"\s", " ", printable(text)), file=stream)
        stream.flush()
    except (OSError, ValueError):
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Lets all that is still printed to a closed pipe go nowhere, in silence."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
