"""Files that are written whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
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


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a file of UTF-8 text as `replacing` does, line ends as they are."""
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
