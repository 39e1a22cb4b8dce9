"""Photos from files or bytes to upright 8-bit RGB: the one way into every part of the library.

Only the formats that are meant are opened: Pillow would start Ghostscript for an EPS file under
another name. A photo is converted in strips, so that beside what its decoder holds there is one
copy of it, three bytes a pixel.
"""

import contextlib
import functools
import io
import os
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxcam._ground import files

# What Pillow calls them; AVIF where this Pillow has it.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
# Of the files in a folder those that end so are photos.
_PNM = (".pbm", ".pgm", ".ppm")
_JPEG = (".jfif", ".jp2", ".jpe", ".jpeg", ".jpg")
SUFFIXES = {".avif", ".bmp", ".gif", ".png", ".tga", ".tif", ".tiff", ".webp", *_JPEG, *_PNM}
MAX_PIXELS = 178_956_970  # of a photo; Pillow's own limit, whatever a user makes of that
MAX_BYTES = 2**30  # of a photo's file

_ORIENTATION = 0x112  # in EXIF
_PHOTOMETRIC = 262  # in TIFF: 0 where zero is white
_STRIP = 2**21  # pixels that are converted at a time
# White is the first of these that no value exceeds: the samples' number of bits.
_WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)

Source = str | os.PathLike | bytes


class UnreadableError(Exception):
    """What is wrong with a photo, to be completed by its name: "is truncated"."""


class Size(NamedTuple):
    """Of an upright photo, in pixels."""

    height: int
    width: int


def size(source: Source) -> Size:
    """Height and width of the upright photo; only its header is read.

    Raises:
        UnreadableError: as `read`.
        OSError: as `read`.
    """
    with _opened(source) as image:
        return _upright_size(image)


def read(
    source: Source, *, background: int = 255, at_least: tuple[int, int] | None = None
) -> np.ndarray:
    """The photo, upright, as 8-bit RGB; `jaxcam.photos.read` says what becomes of which values.

    Args:
        source: a file's path, or its bytes.
        background: grey level 0..255 behind transparent pixels.
        at_least: (width, height) of the upright photo that are enough: a JPEG is then decoded at a
            half, a quarter or an eighth of its size, the smallest that has them. None: in full.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        UnreadableError: no photo in one of `FORMATS`, or more than `MAX_PIXELS` or `MAX_BYTES`, or
            damaged, or values that are not finite.
        OSError: there is no such file, or none that may be read.
    """
    with _opened(source) as image:
        if at_least is not None:
            if _orientation(image) >= 5:
                at_least = (at_least[1], at_least[0])
            image.draft("RGB", at_least)
        deep = _is_deep_colour(image)
        image.load()
        found = _to_rgb(image, background)
    if deep and 0 < found.max() < 16:
        raise UnreadableError(
            "has 16-bit colours of 12 bits or fewer, of which Pillow keeps four: save it with 8"
        )
    return found


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """The image, of which only the header has been read."""
    length = _length(source)
    if length == 0:
        raise UnreadableError("is an empty file (0 bytes)")
    if length > MAX_BYTES:
        raise UnreadableError(f"is too large: a file of more than {MAX_BYTES >> 20} MiB")
    with _bytes_of(source) as file, _decoding():
        image = Image.open(file, formats=_formats())
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        yield image


def _length(source: Source) -> int:
    if isinstance(source, bytes):
        return len(source)
    return files.regular(source).st_size


def _bytes_of(source: Source) -> IO[bytes]:
    """An open file. Pillow would map a path into memory, and reads turned TIFFs wrongly then."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return open(source, "rb")


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Whatever Pillow raises in the block becomes one kind of error."""
    try:
        yield
    except (UnreadableError, FileNotFoundError, PermissionError):
        raise
    except UnidentifiedImageError:
        known = ", ".join(_formats())
        raise UnreadableError(f"is not an image in a format that is read ({known})") from None
    except Image.DecompressionBombError as error:
        limit = MAX_PIXELS // 10**6
        raise UnreadableError(f"is too large: more than {limit} million pixels") from error
    except MemoryError as error:
        raise UnreadableError("is too large for this machine's memory") from error
    except Exception as error:  # Pillow's decoders raise many types on broken files
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UnreadableError(f"cannot be decoded, it is truncated or damaged: {reason}") from error


def _orientation(image: Image.Image) -> int:
    """How the stored picture lies: 1 to 8, as EXIF says; 1 where it says nothing sensible."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data: show the photo as it lies in the file
        return 1
    if found not in range(1, 9):
        return 1
    return int(found)


def _upright_size(image: Image.Image) -> Size:
    # Pillow turns TIFFs by itself: their size is the upright one from the start.
    if image.format != "TIFF" and _orientation(image) >= 5:
        return Size(image.width, image.height)
    return Size(image.height, image.width)


def _to_rgb(image: Image.Image, background: int) -> np.ndarray:
    """The pixels of a loaded image, converted strip by strip, each laid where it belongs."""
    orientation = _orientation(image)
    found = np.empty((*_upright_size(image), 3), np.uint8)
    lying = _lying(found, orientation)
    if _is_deep_grey(image):
        _fill_grey(image, lying)
        return found
    transparent = image.has_transparency_data
    for rows, strip in _strips(image):
        if transparent:
            strip = strip.convert("RGBA")
            paper = Image.new("RGBA", strip.size, (background,) * 3 + (255,))
            strip = Image.alpha_composite(paper, strip)
        lying[rows] = np.asarray(strip.convert("RGB"))
    return found


def _lying(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright photo in which it lies as it is stored."""
    if orientation >= 5:
        upright = upright.swapaxes(0, 1)
    if orientation in (3, 4, 6, 7):
        upright = upright[::-1]
    if orientation in (2, 3, 7, 8):
        upright = upright[:, ::-1]
    return upright


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    rows = max(1, _STRIP // image.width)
    if rows >= image.height:
        yield slice(None), image
        return
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


# Samples of more than 8 bits ------------------------------------------


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether the file has colours of 16 bits, of which Pillow drops the lower 8."""
    if _is_deep_grey(image):
        return False
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _fill_grey(image: Image.Image, lying: np.ndarray) -> None:
    """Grey of more than 8 bits or of floats, between its black and its white."""
    black, white = _ends(image)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        black, white = white, black
    span = white - black
    if span == 0:
        span = 1.0
    for rows, strip in _strips(image):
        values = np.asarray(strip).astype(np.float64)
        grey = np.rint(255 * ((values - black) / span))
        lying[rows] = grey.astype(np.uint8)[..., None]


def _ends(image: Image.Image) -> tuple[float, float]:
    """The values that are black and white."""
    low = np.inf
    high = -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        if not np.isfinite(values).all():
            raise UnreadableError("has values that are not finite (NaN or infinity)")
        low = min(low, float(values.min()))
        high = max(high, float(values.max()))
    whites = _WHITES
    if image.mode == "F":
        whites = (1.0, *_WHITES)
    for white in whites:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, high
