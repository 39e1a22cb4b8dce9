"""Flags of XLA for the tests and the processes that they start, which must compile alike."""

import importlib.metadata

# Compile time dominates: weights, which are constants of a program here, are not folded.
_UNFOLDED = "--xla_disable_hlo_passes=constant_folding"
# Fusions by the older emitter. Later versions have no choice, and end a process that asks for one.
_OLDER_FUSIONS = "--xla_cpu_use_fusion_emitters=false"


def quick(jaxlib: str) -> str:
    """The flags that a version of jaxlib knows."""
    if tuple(map(int, jaxlib.split(".")[:2])) < (0, 11):
        return f"{_OLDER_FUSIONS} {_UNFOLDED}"
    return _UNFOLDED


QUICK = quick(importlib.metadata.version("jaxlib"))


def devices(count: int) -> str:
    """Flags for a process of so many virtual devices."""
    return f"{QUICK} --xla_force_host_platform_device_count={count}"
