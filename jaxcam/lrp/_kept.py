"""How much of the relevance that entered is at a layer, and a warning where it is little."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._program.sites import PIXELS, Site
from jaxcam.lrp.composites import Composite
from jaxcam.targets import concrete

# Below it more of what entered is missing from a map than is in it.
LITTLE = 0.5
# A sum this small beside its terms is a rest of cancellation: no share of it means anything.
_CANCELLED = 0.01


def share(arrived: jax.Array, entered: jax.Array, magnitude: jax.Array) -> jax.Array:
    """Arrived / entered `[...]`, NaN where what entered cancels, as contrastive relevance does.

    Args:
        arrived: sums of relevance at a layer.
        entered: sums of the relevance that entered.
        magnitude: sums of its absolute values.
    """
    cancelled = jnp.abs(entered) <= _CANCELLED * magnitude
    return arrived / jnp.where(cancelled, jnp.nan, entered).astype(arrived.dtype)


def is_little(shares: np.ndarray) -> bool:
    """Whether the median of the shares that mean something is below `LITTLE`."""
    known = np.abs(shares[np.isfinite(shares)])
    return known.size > 0 and bool(np.median(known) < LITTLE)


def warn(composite: Composite, sites: Sequence[Site], start: Any, relevance: Mapping) -> None:
    """Warns of a map that holds little of what entered; never inside a transformation.

    Only a layer that all relevance passes can hold all of it, and only a composite that gives
    biases and the softmax nothing is meant to bring it there.

    Args:
        composite: the rules.
        sites: the layers that were explained.
        start: what entered at the output, `[B, ...]`, `[B, K, N]` for K targets, or a tree.
        relevance: by path, `[B, ...]` or `[B, K, ...]`.
    """
    if composite.bias != "pass" or composite.attention != "gate":
        return
    for site in sites:
        if not site.cut and site.name != PIXELS:
            continue
        arrived = relevance[site.path]
        kept = arrived.ndim - len(site.aval.shape) + 1
        shares = concrete(share(_sum(arrived, kept), *entered(start, kept)))
        if shares is None:
            return
        if is_little(shares):
            warnings.warn(message(site.name, shares), stacklevel=5)


def entered(start: Any, kept: int) -> tuple[jax.Array, jax.Array]:
    """The sum of what entered at the output, over all axes but the first, and of its magnitude."""
    leaves = jax.tree.leaves(start)
    total = sum(_sum(leaf, kept) for leaf in leaves[1:]) + _sum(leaves[0], kept)
    magnitude = sum(_sum(jnp.abs(leaf), kept) for leaf in leaves[1:])
    magnitude = magnitude + _sum(jnp.abs(leaves[0]), kept)
    return total, magnitude


def _sum(array: Any, kept: int) -> jax.Array:
    """Over all axes but the first `kept`."""
    return array.sum(tuple(range(kept, array.ndim)))


def message(name: str, shares: np.ndarray) -> str:
    """What is said of a layer with a little of what entered."""
    percent = 100 * np.nanmedian(shares)
    return (
        f"composite: relevance at {name!r} sums to {percent:.2g} % of what entered: the rest got "
        "lost at units to which no input contributes, or went to parameters. "
        "jaxcam.lrp.conservation says at which layers; composite='mobile' loses none at units"
    )
