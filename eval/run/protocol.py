"""What a protocol says of itself: what it measures of which maps, and how that is shown."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from eval.run.parts import Values
from eval.run.settings import Settings
from eval.subjects.data import Photos
from jaxcam.classifier import Classifier, Forward

if TYPE_CHECKING:
    from eval.run.plan import Plan


class Metric(NamedTuple):
    """How a metric is shown: its title, and whether higher (1) or lower (-1) is better, or neither.

    Those that are not shown are recorded all the same; where nothing is shown, all numbers are.
    """

    title: str
    better: int = 0
    shown: bool = True

    @property
    def direction(self) -> str:
        """In words, or nothing."""
        return {-1: "lower is better", 1: "higher is better", 0: ""}[self.better]


class Explained(NamedTuple):
    """Some photos and their maps by one method at one layer, on one device.

    `maps` and `again` are `[B, H, W]` at the photos' size, or `[B, h, w]` of the layer for a
    protocol of raw maps.
    """

    forward: Forward  # of the network on which maps are measured
    images: jax.Array  # [B, H, W, 3], normalised
    targets: jax.Array  # [B], the explained classes
    maps: jax.Array
    again: jax.Array  # the second maps, of what the protocol has changed; else the same
    boxes: jax.Array  # [B, K, 4], NaN for no box; K is 0 where the data have none
    extra: Mapping[str, jax.Array]  # what else the protocol knows of each photo, [B, ...]
    settings: Any  # of the run, of the protocol's kind


class Change(NamedTuple):
    """A second explanation. Its values are `NAME/METRIC`, or `METRIC` without a name.

    Args:
        name: of what is changed.
        params: other parameters, on every device; None: the same.
        arrays: of the photos at hand, `[N, ...]`: `target`, other classes; `shown`, maps
            `[N, H, W]` that mask the photos; `added`, `[N, H, W, 3]`, what is added to them as the
            network gets them.
        layer: the one that is explained again; "" for all.
    """

    name: str = ""
    params: Any = None
    arrays: Mapping[str, np.ndarray] = {}
    layer: str = ""


# (some photos' arrays, their maps by layer) -> what is explained again
Changes = Callable[[Values, Values], Iterator[Change]]


def _as_asked(settings: Any, network: Classifier) -> Any:
    del network
    return settings


def _as_they_are(settings: Any, photos: Photos) -> Photos:
    del settings
    return photos


def _all(values: Values) -> Values:
    return values


def _nothing(values: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
    del values
    return {}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A protocol: a file of eval/protocols, its name that of the file.

    Args:
        name: of the protocol, and of its JSON.
        measure: the metrics `[B, ...]` of one batch of maps.
        metrics: how they are shown, in this order.
        settings: what a run is asked.
        raw: whether `measure` takes maps at the layer's resolution, else resized to the photos.
        boxes: whether it needs boxes.
        correct_only: whether only photos that the network classifies correctly count.
        stored: whether maps that another run has made can be measured.
        settle: what the settings come to on a network; refuses those that it cannot have.
        arrange: other photos made of those drawn.
        again: from a run's plan to what is explained a second time; None: nothing is.
        combine: from a batch's values by `LAYER/CHANGE/METRIC` to those that are kept.
        finish: from all values to further entries of the JSON.
        version: of what the values mean: one that has changed is not mixed with older ones.
    """

    name: str
    measure: Callable[[Explained], Mapping[str, jax.Array]]
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    settings: type[Settings] = Settings
    raw: bool = False
    boxes: bool = False
    correct_only: bool = False
    stored: bool = True
    settle: Callable[[Any, Classifier], Any] = _as_asked
    arrange: Callable[[Any, Photos], Photos] = _as_they_are
    again: Callable[["Plan"], Changes] | None = None
    combine: Callable[[Values], Values] = _all
    finish: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]] = _nothing
    version: int = 1
