"""Pictures that look the same whatever a user's matplotlibrc says: a style of their own."""

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from jaxcam._ground.extras import wanted


def matplotlib() -> ModuleType:
    """The package; a backend in MPLBACKEND that it does not know is no reason to fail.

    Figures are drawn without a backend of the user's.
    """
    backend = None
    if "matplotlib" not in sys.modules:  # its import looks at the variable, and fails half-way
        backend = os.environ.pop("MPLBACKEND", None)
    with wanted("jaxcam.maps"):
        import matplotlib as found

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with contextlib.suppress(ValueError):
            found.rcParams["backend"] = backend
    return found


@contextlib.contextmanager
def own() -> Iterator[None]:
    """Matplotlib's own defaults in the block, in which figures are made, drawn and saved.

    A matplotlibrc may put the origin of images below, typeset every text by TeX or name fonts that
    are not there. PDF files hold their fonts whole, as publishers ask (TrueType, not Type 3); SVG
    files hold the outlines of their letters, so that none is looked for.
    """
    package = matplotlib()
    with package.rc_context():
        package.rcdefaults()
        package.rcParams["pdf.fonttype"] = 42
        package.rcParams["svg.fonttype"] = "path"
        package.rcParams["svg.hashsalt"] = "jaxcam"  # the same picture, the same file
        yield
