"""Runs of the same config compile the same programs, and share them, child processes too."""

import jax
import pytest

# Whose formulas are ours alone: what else trains runs Flax's and Optax's, which promote.
_STRICT = {"test_augment.py", "test_objectives.py"}


@pytest.fixture(autouse=True)
def _strict(request):
    """Our formulas promote neither ranks nor types in silence."""
    if request.path.name not in _STRICT:
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A folder of compiled programs, as the environment of a child process names it."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }


@pytest.fixture(scope="session", autouse=True)
def _cache(compiled):
    before = {name.lower(): getattr(jax.config, name.lower()) for name in compiled}
    jax.config.update("jax_compilation_cache_dir", compiled["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
