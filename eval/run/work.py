"""The one kind of work: explain photos, perhaps again on something changed, and measure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval.run.parts import Values
from eval.run.plan import Plan
from eval.run.protocol import Change, Changes, Explained
from eval.subjects import methods
from jaxcam import classifier, maps
from jaxcam._ground.devices import in_batches, over_devices, replicate
from jaxcam._ground.dtypes import at_least_float32, cast_like
from jaxcam.classifier import Classifier
from jaxcam.metrics import mask_images

Explain = Callable[[Any, Any], Any]  # (params, batch) -> maps by layer
# Explaining one layer in place of all spares half the time, but a program for each is compiled:
# with fewer photos that takes longer. (EfficientNet-Lite0's Grad-CAM on a core: 2.1 s to compile
# for a layer; a photo takes 23 ms at one layer, 48 ms at eight.)
_MANY = 100
_SLOW = ("kpca_cam",)  # a second a photo at 112 x 112 positions, of no forward pass


@dataclass(frozen=True)
class Bench:
    """What all methods of a run are carried out with; on the devices once.

    Args:
        plan: of the run.
    """

    plan: Plan

    @cached_property
    def params(self) -> Any:
        """The network's parameters, on every device."""
        return replicate(self.plan.network.params)

    @cached_property
    def explainer_params(self) -> Any:
        """Those of the network that is explained."""
        if self.plan.explainer is self.plan.network:
            return self.params
        return replicate(self.plan.explainer.params)

    @cached_property
    def changes(self) -> Changes | None:
        """What the protocol explains again."""
        if self.plan.protocol.again is None:
            return None
        return self.plan.protocol.again(self.plan)

    @cached_property
    def measure(self) -> Callable:
        """`(params, batch with maps) -> {metric: values}`: one program for all methods, layers."""
        network: Classifier = self.plan.network

        def measure(params: Any, batch: Mapping[str, jax.Array]) -> Mapping[str, jax.Array]:
            no_boxes = jnp.zeros((len(batch["maps"]), 0, 4))
            found = Explained(
                forward=network.forward(params),
                images=network.prepare(batch["image"]),
                targets=batch["target"],
                maps=batch["maps"],
                again=batch.get("again", batch["maps"]),
                boxes=batch.get("boxes", no_boxes),
                extra=batch,
                settings=self.plan.settings,
            )
            return self.plan.protocol.measure(found)

        return over_devices(measure)


class Work:
    """What is done with one method of a run."""

    def __init__(self, bench: Bench, method: str, layers: tuple[str, ...]) -> None:
        """Prepares programs, which are compiled when they are first used.

        Args:
            bench: of the run.
            method: its name.
            layers: those that it can explain.
        """
        self._bench = bench
        self._plan = bench.plan
        self._method = bench.plan.methods[method]
        self._layers = layers
        self._programs: dict[tuple[str, ...], Explain] = {}
        costly = method in (*methods.COSTLY, *methods.DEAR, *_SLOW)
        self._apart = costly or bench.plan.settings.n >= _MANY
        self._readers = {}
        if self._plan.maps is not None:
            for layer in layers:
                self._readers[layer] = self._plan.maps.reader(method, layer)

    def values(self, batches: Iterable[Values]) -> Iterator[Values]:
        """Values `[n, ...]` of each batch of photos, by `LAYER/METRIC` or `LAYER/CHANGE/METRIC`."""
        for batch in batches:
            first = self._first(batch)
            found: Values = {}
            if self._bench.changes is None:
                for layer, each in first.items():
                    found |= self._measured(f"{layer}/", {**batch, "maps": each})
            else:
                for change in self._bench.changes(batch, first):
                    found |= self._compared(change, batch, first)
            yield self._plan.protocol.combine(found)

    def _first(self, batch: Values) -> Values:
        """The photos' maps by layer: new ones, or those that another run has made."""
        if self._plan.maps is None:
            return self._explained(self._layers, self._bench.explainer_params, batch)
        found = {}
        size = self._plan.network.input_size
        for layer, reader in self._readers.items():
            found[layer] = reader.read(batch["row"])
            if not self._plan.protocol.raw:
                found[layer] = np.asarray(self._sized(layer, found[layer], size))
        return found

    def _compared(self, change: Change, batch: Values, first: Values) -> Values:
        """The values of maps and second ones."""
        layers = self._layers
        if change.layer and self._apart:
            layers = (change.layer,)
        params = change.params
        if params is None:
            params = self._bench.explainer_params
        second = self._explained(layers, params, {**batch, **change.arrays})
        found: Values = {}
        if change.layer:
            layers = (change.layer,)
        for layer in layers:
            prefix = f"{layer}/"
            if change.name:
                prefix = f"{layer}/{change.name}/"
            found |= self._measured(prefix, {**batch, "maps": first[layer], "again": second[layer]})
        return found

    def _measured(self, prefix: str, batch: Values) -> Values:
        bench = self._bench
        found = in_batches(bench.measure, bench.params, batch, self._plan.settings.batch)
        return {f"{prefix}{metric}": value for metric, value in found.items()}

    def _explained(self, layers: tuple[str, ...], params: Any, batch: Values) -> Values:
        if layers not in self._programs:
            self._programs[layers] = self._program(layers)
        needed = {}
        for name in ("image", "target", "shown", "added"):
            if name in batch:
                needed[name] = batch[name]
        found = in_batches(self._programs[layers], params, needed, self._plan.settings.batch)
        return {layer: found[layer] for layer in layers}  # a program's results are sorted by name

    def _program(self, layers: tuple[str, ...]) -> Explain:
        """From params and a batch to maps by layer, at the photos' size unless raw ones are wanted.

        Photos are masked by `batch["shown"]`, maps [B, H, W], and changed by `batch["added"]`, if
        there are any.
        """
        network = self._plan.explainer

        def explain(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
            images = network.prepare(batch["image"])
            if "shown" in batch:
                images = mask_images(images, batch["shown"])
            if "added" in batch:
                images = cast_like(at_least_float32(images) + batch["added"], images)
            forward = network.forward(params)
            found = classifier.explain(self._method, forward, images, batch["target"], layers)
            if self._plan.protocol.raw:
                return found
            size = (images.shape[1], images.shape[2])
            return {layer: self._sized(layer, each, size) for layer, each in found.items()}

        if self._method.jit:
            return over_devices(explain)
        return explain

    def _sized(self, layer: str, raw: Any, size: tuple[int, int]) -> jax.Array:
        """A layer's maps at the photos' size, each cell where the settings say that it lies."""
        where = None
        if self._plan.settings.place == "centers":
            where = self._plan.explainer.layers.centers.get(layer)
        return maps.resize(raw, size, centers=where)
