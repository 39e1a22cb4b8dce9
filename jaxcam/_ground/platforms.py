"""What programs are compiled for: the platform of the process, or another one that is said."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

# Of the device that programs are compiled for; None: the one that they run on.
_PLATFORM: ContextVar[str | None] = ContextVar("platform", default=None)


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Programs traced inside are for "cpu", "gpu" or "tpu", whatever runs this process."""
    token = _PLATFORM.set(platform)
    try:
        yield
    finally:
        _PLATFORM.reset(token)


def on_cpu() -> bool:
    """Whether programs traced now are compiled for a CPU."""
    return (_PLATFORM.get() or jax.default_backend()) == "cpu"
