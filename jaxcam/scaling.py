"""LIME's and MASK's lengths are meant for photos of 224 pixels: what they are for smaller ones."""

import numpy as np

import jaxcam
from jaxcam import photos
from jaxcam._explainers.mask import MASK_VARIANTS, MaskVariant

PUBLISHED_SIZE = 224  # pixels, of the images that the papers' lengths are meant for
# MASK's weight of the mask's size, for smaller images: of these the published one hides less.
SMALL_L1 = 1e-3
_PAD = 64


def segments(photo: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """Quickshift's superpixels of what a network sees of a photo.

    Its lengths are meant for photos of some 224 pixels: smaller inputs are segmented from a larger
    copy.

    Args:
        photo: `[H, W, 3]` uint8, of any size.
        size: (height, width) of the network's input, pixels.
        fit: one of `jaxcam.photos.FITS`.

    Returns:
        `[1, height, width]` int32.

    Raises:
        ValueError: as `jaxcam.photos.prepare`.
    """
    scale = 1
    if min(size) < PUBLISHED_SIZE:
        scale = -(-PUBLISHED_SIZE // min(size))
    copy = photos.prepare(photo, (scale * size[0], scale * size[1]), fit)
    large = np.asarray(jaxcam.quickshift(copy[None]))
    rows = _centres(size[0], large.shape[1])
    columns = _centres(size[1], large.shape[2])
    return large[:, rows[:, None], columns]


def _centres(cells: int, pixels: int) -> np.ndarray:
    """The pixel in the middle of each cell."""
    return ((np.arange(cells) + 0.5) * pixels / cells).astype(int)


def num_segments(found: np.ndarray) -> int:
    """A bound on the number of segments that few photos exceed, so that few programs serve all."""
    return _PAD * -(-(int(found.max()) + 1) // _PAD)


def mask_variant(size: tuple[int, int], steps: int) -> MaskVariant:
    """The official MASK, its lengths scaled to images of fewer pixels than 224.

    Args:
        size: (height, width) of the images, pixels.
        steps: of the optimiser.

    Returns:
        What `jaxcam.mask` takes as `variant`.
    """
    official = MASK_VARIANTS["official"]._replace(steps=steps)
    scale = min(size) / PUBLISHED_SIZE
    if scale >= 1:
        return official
    return official._replace(
        cell=max(1, round(scale * official.cell)),
        jitter=max(2, round(scale * official.jitter)),
        blur=scale * official.blur,
        l1=SMALL_L1,
    )
