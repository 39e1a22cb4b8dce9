"""Flags of XLA for the tests and the processes that they start, which must compile alike."""

# Compile time dominates: fusions by the older emitter, and no folding of weights, which are
# constants of a program here.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_disable_hlo_passes=constant_folding"


def devices(count: int) -> str:
    """Flags for a process of so many virtual devices."""
    return f"{QUICK} --xla_force_host_platform_device_count={count}"
