"""Session-wide settings and fixtures. The environment is set before jax is imported."""

import functools
import gc
import os
import pathlib
import threading

from tests import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# No line of Python is written into programs.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Four virtual devices; PJRT_NPROC keeps their collectives from deadlocking on few cores.
os.environ.setdefault("PJRT_NPROC", "16")
# Compile time dominates these tests; `.ci/run` runs one job with all optimisations.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags.QUICK}".strip()
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
    )

import jax
import numpy as np
import pytest
from jax._src.interpreters import mlir

# Tracing makes objects by the thousand, few of which are in a circle.
gc.set_threshold(50_000, 20, 20)
# What has yet to say every promotion: eval, what runs Optax's (train), networks as users write
# them.
_LENIENT = {"eval", "train", "lrp/test_normalizers.py"}
SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"

# JAX loads all its dialects anew for each of the thousands of programs that it lowers here, which
# was a tenth of the time. What they share stays until the context is forgotten, after each module.
_context = functools.cache(lambda thread, make: make())
if hasattr(mlir, "make_ir_context"):
    mlir.make_ir_context = functools.partial(
        lambda make: _context(threading.get_ident(), make), mlir.make_ir_context
    )


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Reference outputs and trained nets beside the checkout; tests skip visibly without them."""
    if not (SHARED / "reference").is_dir():
        pytest.skip(f"no reference data at {SHARED}")
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded NumPy generator."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def strict(request: pytest.FixtureRequest):
    """Our formulas promote neither ranks nor types in silence, in a stricter JAX than users have.

    `@pytest.mark.lenient` is for what runs the code of third parties, which does so.
    """
    file = request.path.relative_to(pathlib.Path(__file__).parent)
    if _LENIENT & {file.parts[0], file.as_posix()} or request.node.get_closest_marker("lenient"):
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(autouse=True, scope="module")
def small_heap():
    """Programs and their traces stay for the session: the collector need not look at them again."""
    yield
    _context.cache_clear()
    gc.collect()
    gc.freeze()
