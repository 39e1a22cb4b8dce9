"""Files that are written whole or not at all, and read only if they are files."""

import contextlib
import errno
import json
import os
import stat
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike, mode: str = "wb", **options: Any) -> Iterator[IO]:
    """A file that becomes `path` when the block ends, or nothing at all if it fails.

    Whoever reads `path` meanwhile reads what was there before. A link is followed, and a file that
    is replaced keeps its permissions. Nothing is left behind, whatever ends the block.

    Args:
        path: the file; its folder must be there.
        mode: "wb" or "w".
        **options: as of `open`: `newline`, `encoding`.

    Yields:
        The open file.

    Raises:
        OSError: The file cannot be written; the message names it.
    """
    target = Path(os.path.realpath(path))
    # Whole names may be as long as the file system lets them be.
    part = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex[:12]}.part")
    try:
        with open(part, mode, **options) as file:
            yield file
        if target.exists():
            part.chmod(target.stat().st_mode & 0o7777)
        os.replace(part, target)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{os.fspath(path)!r} cannot be written: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def unused(stem: str, kind: str, taken: set[str]) -> str:
    """A file name `STEM.KIND`, `STEM-2.KIND`, ... that is not among those taken, and now is.

    Neither case nor how accents are written tells files apart everywhere.
    """
    name = f"{stem}.{kind}"
    number = 1
    while (plain := unicodedata.normalize("NFC", name.casefold())) in taken:
        number += 1
        name = f"{stem}-{number}.{kind}"
    taken.add(plain)
    return name


def homed(words: Iterable[str]) -> list[str]:
    """Words of a command line, `~` being the home where a shell leaves it: `--out=~/pictures`.

    A folder of that name is `./~`.
    """
    found = []
    for word in words:
        name, equals, value = word.rpartition("=")
        if value.startswith("~"):
            word = f"{name}{equals}{os.path.expanduser(value)}"
        found.append(word)
    return found


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a file of UTF-8 text as `replacing` does, line ends as they are."""
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def regular(path: str | os.PathLike) -> os.stat_result:
    """What the system says of a file; a pipe or device, which might never end, is refused.

    Raises:
        FileNotFoundError: there is none.
        IsADirectoryError: a folder.
        OSError: neither file nor folder, or a name that leads nowhere.
    """
    try:
        found = os.stat(path)
    except ValueError as error:  # a name with a zero byte
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", os.fspath(path))
    return found


def read_bytes(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes.

    Raises:
        OSError: as `regular`, or a file that is larger.
    """
    if regular(path).st_size > limit:
        raise OSError(errno.EFBIG, f"a file of more than {limit >> 20} MiB", os.fspath(path))
    with open(path, "rb") as file:
        return file.read(limit)


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged; the message names it.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged: no JSON ({error})") from error
