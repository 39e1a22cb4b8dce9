"""How much of what entered arrives: the sums of relevance at every layer and at the pixels."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcam._ground.errors import ArgumentError
from jaxcam._program.layers import Forward
from jaxcam._program.question import ask
from jaxcam._program.sites import PIXELS, PIXELS_PATH, find
from jaxcam.lrp._kept import entered, is_little, share
from jaxcam.lrp._propagation import check_question, entering, pullback, seed
from jaxcam.lrp.composites import resolve
from jaxcam.targets import Targets, concrete


class Conservation(NamedTuple):
    """Sums of relevance, `[B]` each: what entered, and what is at each layer and at the pixels.

    A layer that all relevance passes (the end of a stage) shows the same sum as entered; one on a
    branch its share. The former are `cuts`, `jaxcam.layers(forward, images).cuts`; `kept` is the
    share of what entered that these and the pixels hold, NaN where it cancels (contrastive
    relevance). Printed, it is a line per layer.
    """

    entered: jax.Array
    layers: dict[str, jax.Array]
    pixels: jax.Array
    cuts: frozenset[str] = frozenset()
    kept: Mapping[str, jax.Array] = MappingProxyType({})

    def __str__(self) -> str:
        """A line per layer: name, sum for each image, and a star if it should be what entered."""
        rows = [("entered", self.entered), *self.layers.items(), (PIXELS, self.pixels)]
        starred = self.cuts | {PIXELS}
        width = max(len(name) for name, _ in rows)
        lines = []
        for name, sums in rows:
            star = " "
            if name in starred:
                star = "*"
            lines.append(f"{name:{width}} {star} {_rounded(sums)}")
        lines.append("* all relevance passes here: the sum should be what entered")
        if self.little:
            lines.append(f"little of what entered: {', '.join(self.little)}")
        return "\n".join(lines)

    @property
    def little(self) -> tuple[str, ...]:
        """Of `kept` the names with less than half, by the median image; () where traced."""
        names = []
        for name, shares in self.kept.items():
            values = concrete(shares)
            if values is not None and is_little(values):
                names.append(name)
        return tuple(names)


# Names are no arrays: they stay outside of what jit and vmap trace.
jax.tree_util.register_pytree_node(
    Conservation,
    lambda c: ((*c[:3], dict(c.kept)), c.cuts),
    lambda cuts, sums: Conservation(*sums[:3], cuts, sums[3]),
)


def _rounded(sums: jax.Array) -> str:
    values = concrete(sums)
    if values is None:
        return str(sums)
    brief = lambda value: f"{value:.4g}"
    return np.array2string(values, 130, threshold=16, formatter={"float_kind": brief})


def conservation(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    composite: Any = "z_plus",
    init: str | jax.Array = "one_hot",
    has_aux: bool = False,
) -> Conservation:
    """How much relevance arrives: its sum at every tagged layer and the pixels, and what entered.

    Args:
        forward: as in `relevance`.
        images: as in `relevance`.
        targets: as in `relevance`, one class per image.
        composite: as in `relevance`.
        init: as in `relevance`.
        has_aux: whether `forward` returns `(logits, aux)`; aux is left out.

    Returns:
        A `Conservation` of `[B]` sums; all from one pass that keeps no relevance map.

    Raises:
        ValueError: as `relevance`; several targets per image.

    Example:
        >>> sums = jaxcam.lrp.conservation(forward, images)
        >>> print(sums.entered, sums.layers["features"], sums.pixels)
        [1.58 1.75] [1.58 1.75] [1.58 1.75]
    """
    question = ask(
        forward, images, targets, layer=PIXELS, has_aux=has_aux, spatial=False, relevance=True
    )
    if getattr(question.targets, "ndim", 1) != 1:
        shape = tuple(question.targets.shape)
        raise ArgumentError("targets", f"shape {shape}", "one class per image")
    check_question(question, init)
    batch = len(images)
    sites = []
    for site in find(question.program):
        if site.loop is None and site.aval.shape[:1] == (batch,):
            sites.append(site)
    seeds = {}
    for site in (*question.sites, *sites):
        # One seed per image, broadcast over the layer: its cotangent is the layer's sum.
        one = (batch,) + (1,) * (len(site.aval.shape) - 1)
        seeds[site.path] = seed(one, site, images)
    # A branch that ends nowhere, and what only sets gates, have a share of 0; the pixels must be
    # reached.
    pulled = pullback(question, resolve(composite), seeds, required={PIXELS_PATH})
    start = entering(question, pulled.output, init)
    total, magnitude = entered(start, 1)
    sums = pulled.pull(start)
    by_layer = {}
    cuts = set()
    for site in sites:
        by_layer[site.name] = sums[site.path].reshape(-1)
        if site.cut:
            cuts.add(site.name)
    pixels = sums[PIXELS_PATH].reshape(-1)
    kept = {}
    for name, arrived in {**by_layer, PIXELS: pixels}.items():
        if name in cuts or name == PIXELS:
            kept[name] = share(arrived, total, magnitude)
    return Conservation(total, by_layer, pixels, frozenset(cuts), kept)
