"""What programs are compiled for: the platform of the process, or another one that is said."""

import contextlib
from collections.abc import Iterator

import jax

# Of the device that programs are compiled for; None: the one that they run on. JAX keeps what it
# has traced by this too, so that a function traced for one platform is traced anew for another.
_PLATFORM = jax.make_user_context(None)


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Programs traced inside are for "cpu", "gpu" or "tpu", whatever runs this process."""
    with _PLATFORM(platform):
        yield


def on_cpu() -> bool:
    """Whether programs traced now are compiled for a CPU."""
    return (_PLATFORM.value or jax.default_backend()) == "cpu"
