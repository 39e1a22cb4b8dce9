"""What chips can do at best, as their makers say: the roofline that a program is held against."""

from typing import NamedTuple

from jaxcam._ground.errors import ArgumentError


class Chip(NamedTuple):
    """A chip's peaks.

    Args:
        flops: multiplications and additions of bfloat16 numbers a second.
        bandwidth: of its memory, bytes a second.
        memory: bytes.
        source: where these numbers stand.
    """

    flops: float
    bandwidth: float
    memory: float
    source: str


# By the name that JAX has for a device of the kind, read on 2026-11-26. Where the page's editions
# differ (819 or 800 GB/s of a v5e, 1640 or 1600 of a v6e) the older, exact number stands here.
CHIPS: dict[str, Chip] = {
    "TPU v4": Chip(275e12, 1228e9, 32 * 2**30, "cloud.google.com/tpu/docs/v4"),
    "TPU v5 lite": Chip(197e12, 819e9, 16 * 2**30, "cloud.google.com/tpu/docs/v5e"),
    "TPU v5": Chip(459e12, 2765e9, 95 * 2**30, "cloud.google.com/tpu/docs/v5p"),
    "TPU v6 lite": Chip(918e12, 1640e9, 32 * 2**30, "cloud.google.com/tpu/docs/v6e"),
}


def of(kind: str) -> Chip:
    """The peaks of a device by `jax.Device.device_kind`.

    Raises:
        ValueError: of this kind nothing is known.
    """
    if kind not in CHIPS:
        raise ArgumentError("device", repr(kind), f"one of {', '.join(CHIPS)}")
    return CHIPS[kind]


def seconds(chip: Chip, operations: float, traffic: float) -> float:
    """The roofline's time: t = max(operations / peak, bytes / bandwidth).

    Args:
        chip: its peaks.
        operations: passes of bfloat16 multiplications and additions.
        traffic: bytes from and to memory.
    """
    return max(operations / chip.flops, traffic / chip.bandwidth)
