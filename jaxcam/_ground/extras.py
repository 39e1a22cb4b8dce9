"""Packages that not every use needs, and the extra of the distribution that brings each."""

import contextlib
import importlib.util
from collections.abc import Iterator

DISTRIBUTION = "jaxcam-xai"
# By the name that is imported.
EXTRAS = {
    "flax": "models",
    "safetensors": "models",
    "huggingface_hub": "models",
    "PIL": "pictures",
    "matplotlib": "pictures",
    "skimage": "pictures",
    "tqdm": "pictures",
}


@contextlib.contextmanager
def wanted(by: str, extra: str | None = None) -> Iterator[None]:
    """Imports inside; one that fails says what to install.

    Args:
        by: what wants the package, to begin the message with.
        extra: what to install; None for the extra that brings the package.

    Raises:
        ModuleNotFoundError: a package of an extra is not installed; the message has the command.

    Example:
        >>> with wanted("jaxcam.maps.figure"):
        ...     import matplotlib
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        command = f'pip install "{DISTRIBUTION}[{extra or EXTRAS[package]}]"'
        message = f"{by}: the package {package} is not installed; {command}"
        raise ModuleNotFoundError(message, name=error.name) from error


def check_all(by: str) -> None:
    """Looks whether the packages of the extra `all` are installed, and imports none.

    Raises:
        ModuleNotFoundError: one is not; the message has the command.
    """
    for package in EXTRAS:
        if importlib.util.find_spec(package) is None:
            with wanted(by, "all"):
                raise ModuleNotFoundError(name=package)
