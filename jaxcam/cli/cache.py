"""Compiled programs, kept in the user's cache folder for the next command.

JAX keeps them, finds them and bounds their size; here is said where. Whatever is wrong with the
folder, the command goes on and compiles: a folder that cannot be made or written, a full disk,
entries that are cut or damaged. Then all entries are removed, so that the next command finds none
of them.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import platform
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

_CONFIG: Any = jax.config  # whose options no type checker knows
OFF = "JAXCAM_NO_CACHE"  # the variable that does what --no-cache does
MOST = 2**27  # bytes, of all programs
_SECONDS = 0.0  # that a program takes to compile, at the least: a command has a handful
_COMPLAINT = re.compile("Error (reading|writing) persistent compilation cache entry")
_ENTRIES = ("*-cache", "*-atime")


def folder() -> Path:
    """Where programs are kept: they are of a kind of processor, and a home may be of many."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "jaxcam" / "programs" / _machine()


def _machine() -> str:
    """A name of the processor's instruction set."""
    known = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                known.append(line)
                break
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]


@contextlib.contextmanager
def kept(wanted: bool) -> Iterator[None]:
    """Programs compiled in the block are kept for later processes, and found if they are there.

    A cache that the user has told JAX of is left as it is.

    Args:
        wanted: False keeps nothing.
    """
    where = folder()
    if not wanted or os.environ.get(OFF) or not _usable(where):
        yield
        return
    _CONFIG.update("jax_compilation_cache_dir", str(where))
    _CONFIG.update("jax_compilation_cache_max_size", MOST)
    _CONFIG.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)
    with warnings.catch_warnings():
        warnings.showwarning = functools.partial(_shown, warnings.showwarning, where)
        yield


def _usable(where: Path) -> bool:
    """Whether there is a folder to write to, and JAX can bound it, which takes filelock."""
    if _CONFIG.jax_compilation_cache_dir or importlib.util.find_spec("filelock") is None:
        return False
    with contextlib.suppress(OSError):
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.access(where, os.W_OK)
    return False


def _shown(show: Callable, where: Path, message: Warning | str, *args: Any, **options: Any) -> None:
    """Shows a warning, unless the cache complains: then it is emptied, in silence."""
    if not _COMPLAINT.match(str(message)):
        show(message, *args, **options)
        return
    for pattern in _ENTRIES:
        for entry in where.glob(pattern):
            with contextlib.suppress(OSError):
                entry.unlink()
