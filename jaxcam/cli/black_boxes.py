"""Methods that only ask the network, over and over: what they cost, and how far they are."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import photos
from jaxcam._explainers.mask import MASK_VARIANTS, MaskVariant
from jaxcam._explainers.rise import Progress, chunks
from jaxcam.cli.network import Network

PUBLISHED_SIZE = 224  # pixels, of the images that the papers' lengths are meant for
_PAD = 64


class View(NamedTuple):
    """A photo as a network sees it, and the class to explain."""

    network: Network
    photo: np.ndarray  # [H, W, 3] uint8, of any size
    image: np.ndarray  # [h, w, 3] uint8, prepared
    fit: str
    target: int

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
    box, count = BLACK_BOXES[method], units(method, counts)
    seconds = box.passes(count) * _seconds_per_pass(network, box.batch(count, min(network.size)))
    work = f"{count} {box.unit}s, {box.passes(count)} forward passes"
    return f"{method}: {work} for each photo, about {_spoken(seconds)}; --{box.option} N changes it"


def segments(photo: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """Quickshift's superpixels `[1, h, w]` int32 of what a network sees of a photo.

    Its lengths are meant for photos of some 224 pixels: smaller inputs are segmented from a larger
    copy.
    """
    scale = -(-PUBLISHED_SIZE // min(size)) if min(size) < PUBLISHED_SIZE else 1
    large = jaxcam.quickshift(photos.prepare(photo, (scale * size[0], scale * size[1]), fit)[None])
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(int)
        for n, m in zip(size, large.shape[1:], strict=True)
    )
    return large[:, rows[:, None], columns]


def padded(found: np.ndarray) -> int:
    """A bound on the number of segments that few photos exceed, so that few programs serve all."""
    return _PAD * -(-(int(found.max()) + 1) // _PAD)


def variant(size: tuple[int, int], steps: int) -> MaskVariant:
    """The official MASK; lengths scaled to smaller images, of which its l1=1e-3 hides less."""
    official, scale = MASK_VARIANTS["official"]._replace(steps=steps), min(size) / PUBLISHED_SIZE
    if scale >= 1:
        return official
    cell, jitter = (
        max(least, round(scale * n)) for n, least in ((official.cell, 1), (official.jitter, 2))
    )
    return official._replace(cell=cell, jitter=jitter, blur=scale * official.blur, l1=1e-3)


def _rise(view: View, count: int, progress: Progress) -> jax.Array:
    chunk = _at_once(min(view.network.size))
    return jaxcam.rise(
        *view.arguments,
        num_masks=count,
        chunk=chunk,
        progress=progress,
        activation=view.network.activation,
    )


def _lime(view: View, count: int, progress: Progress) -> jax.Array:
    found, chunk = (
        segments(view.photo, view.image.shape[:2], view.fit),
        _at_once(min(view.network.size)),
    )
    options = {
        "segments": found,
        "num_segments": padded(found),
        "num_samples": count,
        "chunk": chunk,
    }
    return jaxcam.lime(
        *view.arguments, **options, progress=progress, activation=view.network.activation
    )


def _mask(view: View, count: int, progress: Progress) -> jax.Array:
    rules = variant(view.image.shape[:2], count)
    return jaxcam.mask(
        *view.arguments, variant=rules, progress=progress, activation=view.network.activation
    )


def _at_once(side: int) -> int:
    """How many perturbed images: as many pixels as 32 of 224 x 224, at most 256."""
    return int(np.clip(32 * (PUBLISHED_SIZE / side) ** 2, 1, 256))


def _sampled(count: int, side: int) -> int:
    return chunks(count, _at_once(side))[1]


BLACK_BOXES = {
    "rise": BlackBox("mask", "samples", 4000, lambda n: n, _sampled, _rise),
    "lime": BlackBox("sample", "samples", 1000, lambda n: n, _sampled, _lime),
    # A gradient is as dear as two more passes; the official start asks for 35 circles and the whole
    # image.
    "mask": BlackBox("step", "steps", 300, lambda n: 36 + 3 * n, lambda n, side: 1, _mask),
}


def _seconds_per_pass(network: Network, batch: int) -> float:
    """Measured on the program that the method will run, which is compiled by it."""
    ask, images = jax.jit(network.forward), jnp.zeros((batch, *network.size, 3))
    jax.block_until_ready(ask(images))
    start = time.perf_counter()
    jax.block_until_ready(ask(images))
    return (time.perf_counter() - start) / batch


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counts(arguments: Any) -> dict[str, int | None]:
    """The options that say how many, by name."""
    return {
        option: getattr(arguments, option)
        for option in dict.fromkeys(box.option for box in BLACK_BOXES.values())
    }
