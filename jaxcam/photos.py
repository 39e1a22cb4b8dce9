"""Photos from files to a network's input, and heatmaps back onto the photo's own pixels.

Everything here runs on the host, in NumPy and Pillow. A *fit* says which part of a photo the
network sees:

=========  ======================================================  =================================
fit        what the network sees                                   input size
=========  ======================================================  =================================
stretch    the whole photo, aspect ratio not kept                  the network's
crop       the largest centred part of the network's aspect ratio  the network's
pad        the whole photo, aspect ratio kept, within grey bars    the network's
aspect     the whole photo, aspect ratio kept (up to 2 : 1)        the shorter side is the network's
=========  ======================================================  =================================

`stretch` is the default: the explanation covers the whole photo, one compiled program serves all
photos, and it is the protocol of Relevance-CAM and RISE. `aspect` needs a network that takes any
size and one compilation per size. Of 100 ImageNet photos SqueezeNet gets 75 (stretch), 72 (crop),
64 (pad) and 75 (aspect) right, and with a softer, bilinear filter instead of Lanczos 70, 70, 58
and 74.
"""

import os
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxcam._ground import decoding, interpolation
from jaxcam._ground.errors import ArgumentError, check_choice, check_size, check_unmasked

__all__ = ["FITS", "Box", "input_size", "prepare", "read", "restore", "seen"]

FITS = ("stretch", "crop", "pad", "aspect")

_GREY = (124, 116, 104)  # ImageNet's mean colour: near zero once a network has normalised it
_MAX_ASPECT = 2


class Box(NamedTuple):
    """A rectangle in a photo's pixel coordinates, edges not centres; may reach beyond the photo."""

    left: float
    top: float
    right: float
    bottom: float


def read(path: str | os.PathLike, *, background: int = 255) -> np.ndarray:
    """Read a photo of any size and mode, upright, as 8-bit RGB.

    Greyscale is repeated over the channels, transparency is laid over `background` (white), CMYK
    and palettes are converted, the EXIF orientation is applied and of an animation the first frame
    is taken. Of grey with more than 8 bits and of floats the white point is the first of 1 (floats
    only), 255, 1023, 4095, 16383 and 65535 that no value exceeds, 8 to 16 bits: 12-bit data are
    none the darker for lying in a 16-bit file. If there is none, or a value is negative, the values
    are stretched from their minimum to their maximum.

    This is the one way in: `jaxcam.datasets`, training and evaluation read as it does. AVIF, BMP,
    GIF, JPEG, JPEG 2000, PNG, PPM, TGA, TIFF and WebP are opened, nothing else.

    Args:
        path: The file.
        background: Grey level 0..255 behind transparent pixels.

    Returns:
        `[H, W, 3]` uint8.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: `path` is a folder.
        PermissionError: The file may not be read.
        OSError: `path` is no file (a pipe, a device), or leads nowhere (links in a circle).
        ValueError: The file is empty, truncated, no image, or an image that is too large (more than
            178 million pixels or a file of more than 1 GiB), has values that are not finite, or
            16-bit colours that Pillow would read as black. Every message names the file.

    Example:
        >>> import jaxcam.photos
        >>> import pathlib
        >>> import numpy as np
        >>> from PIL import Image
        >>> path = pathlib.Path("grey.png")
        >>> Image.fromarray(np.zeros((30, 40), np.uint8)).save(path)
        >>> jaxcam.photos.read(path).shape
        (30, 40, 3)
    """
    name = repr(os.fspath(path))
    try:
        with warnings.catch_warnings():
            # large yet allowed photos, odd metadata: not the user's concern
            warnings.simplefilter("ignore")
            return decoding.read(path, background=background)
    except decoding.UnreadableError as error:
        raise ValueError(f"photo {name} {error}") from error.__cause__
    except FileNotFoundError:
        raise FileNotFoundError(f"photo {name} does not exist") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"photo {name} is a folder, not an image file") from None
    except PermissionError:
        raise PermissionError(f"photo {name} may not be read: permission denied") from None
    except OSError as error:
        raise OSError(f"photo {name} cannot be read: {error.strerror or error}") from error


def prepare(photo: np.ndarray, size: tuple[int, int], fit: str = "stretch") -> np.ndarray:
    """Resize a photo to a network's input, antialiased (Lanczos).

    Args:
        photo: `[H, W, 3]` uint8.
        size: (height, width) of the network's input, in pixels.
        fit: One of `FITS`, see the module's table.

    Returns:
        `[height, width, 3]` uint8; with `fit="aspect"` the size is
        `input_size(photo.shape[:2], size, fit)`.

    Raises:
        ValueError: `photo` is not uint8 `[H, W, 3]`, or `size` or `fit` is not one of those above.

    Example:
        >>> import jaxcam.photos
        >>> import numpy as np
        >>> photo = np.zeros((300, 400, 3), np.uint8)
        >>> jaxcam.photos.prepare(photo, (224, 224), "crop").shape
        (224, 224, 3)
    """
    _check_photo(photo)
    height, width = input_size(photo.shape[:2], size, fit)
    box = seen(photo.shape[:2], size, fit)
    image = Image.fromarray(photo)
    if fit == "pad":
        image, box = _padded(image, box)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))


def input_size(
    photo_size: tuple[int, ...], size: tuple[int, int], fit: str = "stretch"
) -> tuple[int, int]:
    """Height and width of what `prepare` returns: `size`, unless `fit` is "aspect".

    Then the photo's shorter side becomes that of `size`, and the other is rounded to a multiple of
    32 pixels (8 for inputs under 128), at most twice as long, so that many photos share a few
    compiled programs.

    Args:
        photo_size: (height, width) of the photo.
        size: (height, width) of the network's input.
        fit: One of `FITS`.

    Returns:
        (height, width) in pixels.

    Raises:
        ValueError: `photo_size` or `size` is not two positive whole numbers, or `fit` is unknown.

    Example:
        >>> import jaxcam.photos
        >>> jaxcam.photos.input_size((300, 600), (224, 224), "aspect")
        (224, 448)
    """
    _check_fit(photo_size, size, fit)
    if fit != "aspect":
        return int(size[0]), int(size[1])
    short = min(size)
    step = 8
    if short >= 128:
        step = 32

    def side(pixels: int) -> int:
        ideal = short * pixels / min(photo_size)
        return int(min(max(round(ideal / step) * step, short), _MAX_ASPECT * short))

    return side(photo_size[0]), side(photo_size[1])


def seen(photo_size: tuple[int, ...], size: tuple[int, int], fit: str = "stretch") -> Box:
    """The rectangle of the photo that the network's input shows, in the photo's pixels.

    Args:
        photo_size: (height, width) of the photo.
        size: (height, width) of the network's input.
        fit: One of `FITS`.

    Returns:
        A `Box`; with "pad" it reaches beyond the photo, with "crop" it leaves some of it out.

    Raises:
        ValueError: As `input_size`.

    Example:
        >>> import jaxcam.photos
        >>> jaxcam.photos.seen((300, 400), (224, 224), "crop")
        Box(left=50.0, top=0.0, right=350.0, bottom=300.0)
    """
    _check_fit(photo_size, size, fit)
    height, width = photo_size
    if fit in ("stretch", "aspect"):
        return Box(0.0, 0.0, float(width), float(height))
    scales = (height / size[0], width / size[1])
    scale = min(scales) if fit == "crop" else max(scales)
    h = scale * size[0]
    w = scale * size[1]
    return Box((width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2)


def restore(
    maps: np.ndarray,
    photo_size: tuple[int, ...],
    size: tuple[int, int] | None = None,
    fit: str = "stretch",
) -> np.ndarray:
    """Lay maps of the network's input back onto the photo's own pixels.

    out[y, x] = the map, bilinear, at ((y + 1/2 - top) h / H_box - 1/2, (x + 1/2 - left) w / W_box -
    1/2)

    where the box is `seen(photo_size, size, fit)`. With `fit="stretch"` this is
    `jaxcam.maps.resize`.

    Args:
        maps: `[..., h, w]`, of any resolution.
        photo_size: (height, width) of the photo, or of a smaller copy of it to draw on.
        size: (height, width) of the network's input; its aspect ratio decides what "crop" and "pad"
            see. None: square.
        fit: The `fit` that `prepare` was given.

    Returns:
        `[..., height, width]` float32; NaN where the network saw nothing of the photo ("crop").

    Raises:
        ValueError: `maps` has fewer than two axes, or as `input_size`.

    Example:
        >>> import jaxcam.photos
        >>> import numpy as np
        >>> jaxcam.photos.restore(np.asarray(heat[0]), (300, 400)).shape
        (300, 400)
    """
    maps = np.asarray(maps, np.float32)
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ArgumentError("maps", f"shape {maps.shape}", "[..., h, w] with h, w > 0")
    box = seen(photo_size, size or (1, 1), fit)
    rows = _sampling(photo_size[0], box.top, box.bottom, maps.shape[-2])
    columns = _sampling(photo_size[1], box.left, box.right, maps.shape[-1])
    with np.errstate(invalid="ignore"):  # maps with NaN are drawn as such
        return (rows @ maps @ columns.T).astype(np.float32)


def _padded(image: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """The photo on a grey canvas that holds the box, and the box in the canvas's coordinates."""
    left = -int(np.floor(min(box.left, 0)))
    top = -int(np.floor(min(box.top, 0)))
    canvas = Image.new("RGB", (image.width + 2 * left, image.height + 2 * top), _GREY)
    canvas.paste(image, (left, top))
    return canvas, Box(box.left + left, box.top + top, box.right + left, box.bottom + top)


def _sampling(pixels: int, low: float, high: float, cells: int) -> np.ndarray:
    """`[pixels, cells]` bilinear weights of the cells that span low..high; NaN rows outside."""
    centres = np.arange(pixels) + 0.5
    weights = interpolation.linear((centres - low) * cells / (high - low) - 0.5, cells)
    weights[(centres < low) | (centres > high)] = np.nan
    return weights


def _check_photo(photo: np.ndarray) -> None:
    check_unmasked("photo", photo)
    shape = np.shape(photo)
    dtype = getattr(photo, "dtype", type(photo).__name__)
    if len(shape) != 3 or shape[-1] != 3 or 0 in shape or dtype != np.uint8:
        raise ArgumentError("photo", f"{dtype} of shape {shape}", "a uint8 array [H, W, 3]")


def _check_fit(photo_size: tuple[int, ...], size: tuple[int, int], fit: str) -> None:
    check_size("photo_size", photo_size)
    check_size("size", size)
    check_choice("fit", fit, FITS)
