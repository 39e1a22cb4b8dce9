"""Methods that only ask the network, over and over: what they cost, and how far they are."""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import loops, scaling
from jaxcam._explainers.black_box import Progress
from jaxcam._ground import chunks
from jaxcam.cli.network import Network
from jaxcam.scaling import PUBLISHED_SIZE


class View(NamedTuple):
    """A photo as a network sees it, and the class to explain."""

    network: Network
    photo: np.ndarray  # [H, W, 3] uint8, of any size
    image: np.ndarray  # [h, w, 3] uint8, prepared
    fit: str
    target: int

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width of the prepared photo."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def arguments(self) -> tuple:
        """What every explainer gets first."""
        return (
            self.network.forward,
            self.network.normalized(self.image),
            np.full(1, self.target, np.int32),
        )


class BlackBox(NamedTuple):
    """What one of these methods costs, and how it is asked to tell how far it is."""

    unit: str
    option: str  # of the command line: how many units
    default: int
    passes: Callable[[int], int]  # units -> forward passes
    batch: Callable[[int, int], int]  # (units, pixels of the side) -> images at once
    explain: Callable[[View, int, Progress], jax.Array]  # -> [1, h, w]


def explain(
    method: str, view: View, counts: Mapping[str, int | None], progress: Progress
) -> np.ndarray:
    """The raw map `[h, w]`; `counts` are options; `progress` is told (units done, units)."""
    return np.asarray(BLACK_BOXES[method].explain(view, units(method, counts), progress))[0]


def units(method: str, counts: Mapping[str, int | None]) -> int:
    """How many masks, samples or steps."""
    return counts[BLACK_BOXES[method].option] or BLACK_BOXES[method].default


def estimate(method: str, network: Network, counts: Mapping[str, int | None]) -> str:
    """What a photo will cost, in words: the passes are counted, and the time of one is measured."""
    box = BLACK_BOXES[method]
    count = units(method, counts)
    seconds = box.passes(count) * _seconds_per_pass(network, box.batch(count, min(network.size)))
    work = f"{count} {box.unit}s, {box.passes(count)} forward passes"
    return f"{method}: {work} for each photo, about {_spoken(seconds)}; --{box.option} N changes it"


def _rise(view: View, count: int, progress: Progress) -> jax.Array:
    return jaxcam.rise(
        *view.arguments,
        num_masks=count,
        chunk=_at_once(min(view.network.size)),
        progress=progress,
        activation=view.network.about.activation,
    )


def _lime(view: View, count: int, progress: Progress) -> jax.Array:
    found = scaling.segments(view.photo, view.seen, view.fit)
    return jaxcam.lime(
        *view.arguments,
        segments=found,
        num_segments=scaling.num_segments(found),
        num_samples=count,
        chunk=_at_once(min(view.network.size)),
        progress=progress,
        activation=view.network.about.activation,
    )


def _mask(view: View, count: int, progress: Progress) -> jax.Array:
    return jaxcam.mask(
        *view.arguments,
        variant=scaling.mask_variant(view.seen, count),
        progress=progress,
        activation=view.network.about.activation,
    )


def _at_once(side: int) -> int:
    """How many perturbed images: as many pixels as 32 of 224 x 224, at most 256."""
    return int(np.clip(32 * (PUBLISHED_SIZE / side) ** 2, 1, 256))


def _sampled(count: int, side: int) -> int:
    return chunks.equal(count, _at_once(side)).size


BLACK_BOXES = {
    "rise": BlackBox("mask", "samples", 4000, lambda n: n, _sampled, _rise),
    "lime": BlackBox("sample", "samples", 1000, lambda n: n, _sampled, _lime),
    # A gradient is as dear as two more passes; the official start asks for 35 circles and the whole
    # image.
    "mask": BlackBox("step", "steps", 300, lambda n: 36 + 3 * n, lambda n, side: 1, _mask),
}


def _seconds_per_pass(network: Network, batch: int) -> float:
    """Measured on the program that the method will run, which is compiled by it."""
    ask = jax.jit(loops.quick(network.forward))
    images = jnp.zeros((batch, *network.about.shape))
    jax.block_until_ready(ask(images))
    start = time.perf_counter()
    jax.block_until_ready(ask(images))
    return (time.perf_counter() - start) / batch


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def counts(arguments: argparse.Namespace) -> dict[str, int | None]:
    """The options that say how many, by name."""
    return {box.option: getattr(arguments, box.option) for box in BLACK_BOXES.values()}
