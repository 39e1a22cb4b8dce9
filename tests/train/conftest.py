"""Runs of the same config compile the same programs, and share them, child processes too."""

import jax
import pytest


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
