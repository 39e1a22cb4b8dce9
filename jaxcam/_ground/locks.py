"""A folder that one run holds while it lives: an advisory lock, which ends with the process."""

import contextlib
import errno
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxcam._ground.errors import ArgumentError

try:
    import fcntl
except ModuleNotFoundError:  # no POSIX: two runs in one folder are not told apart
    fcntl = None

FILE = ".lock"
# Whoever holds a lock has written its name a moment later.
_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}


@contextlib.contextmanager
def held(folder: str | os.PathLike, argument: str) -> Iterator[None]:
    """The folder is this process's until the block ends, or the process does, however it ends.

    The file `.lock` in it, which is there meanwhile, says who holds it.

    Args:
        folder: made if it is not there.
        argument: what the caller's user knows it by.

    Raises:
        ValueError: a living process holds it.
        OSError: it cannot be written; the message names it.
    """
    path = Path(folder) / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _taken(path, argument)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{argument}: {folder} cannot be written: {reason}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # still held: nobody can have taken it meanwhile
        file.close()


def check(folder: str | os.PathLike, argument: str) -> None:
    """Whether no living process holds a folder; changes nothing.

    Raises:
        ValueError: one does.
    """
    path = Path(folder) / FILE
    if fcntl is None or not path.is_file():
        return
    with path.open() as file:
        _lock(file, path, argument)


def _taken(path: Path, argument: str) -> IO[str]:
    """The locked file, which says who holds it."""
    while True:
        file = path.open("a+")
        try:
            _lock(file, path, argument)
            if _is_at(file, path):
                _sign(file, path)
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # whoever held it has just removed it


def _sign(file: IO[str], path: Path) -> None:
    """Writes down who holds the file; one for which there is no room goes."""
    try:
        file.truncate(0)
        json.dump(_ourselves(), file)
        file.flush()
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _lock(file: IO[str], path: Path, argument: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise _held(path, argument) from None
        warnings.warn(
            f"{path}: no locks here ({error.strerror}): start no second run in it",
            stacklevel=4,
        )


def _held(path: Path, argument: str) -> ArgumentError:
    try:
        holder = json.loads(path.read_text())
        who = f"process {holder['pid']} on {holder['host']}, since {holder['start']}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    expected = "the folder of no living run: wait for its end, or name another"
    return ArgumentError(argument, f"{path.parent}, in which {who}, is at work", expected)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _ourselves() -> dict[str, str | int]:
    start = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"host": socket.gethostname(), "pid": os.getpid(), "start": start}
