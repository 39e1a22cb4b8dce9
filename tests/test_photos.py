"""photos: Pillow's modes and formats, errors that name the file, and the way back to the photo."""

import os
import struct
import warnings
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcam import datasets, maps, photos
from jaxcam._ground import decoding


@pytest.fixture
def colours(rng):
    """A smooth `[24, 30, 3]` photo with unlike corners, so that transpositions are noticed."""
    y, x = np.mgrid[:24, :30] / 30
    return (255 * np.stack([x, y, 0.8 * x * (1 - y)], -1)).astype(np.uint8)


def _save(path, array_or_image, **options):
    image = (
        array_or_image
        if isinstance(array_or_image, Image.Image)
        else Image.fromarray(array_or_image)
    )
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "tga"])
def test_read_returns_lossless_rgb_as_it_is(tmp_path, colours, suffix):
    got = photos.read(_save(tmp_path / f"p.{suffix}", colours))
    assert got.dtype == np.uint8 and got.flags.writeable
    np.testing.assert_array_equal(got, colours)


def test_read_accepts_a_string(tmp_path, colours):
    np.testing.assert_array_equal(photos.read(str(_save(tmp_path / "p.png", colours))), colours)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_read_of_lossy_formats_is_close(tmp_path, colours, suffix):
    got = photos.read(_save(tmp_path / f"p.{suffix}", colours, quality=95)).astype(int)
    assert np.abs(got - colours).mean() < 4


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_read_repeats_grey_over_the_channels(tmp_path, colours, mode):
    image = Image.fromarray(colours).convert("L").convert(mode)
    got = photos.read(_save(tmp_path / "p.png", image))
    np.testing.assert_array_equal(got, np.repeat(np.asarray(image.convert("L"))[..., None], 3, -1))


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr"])
def test_read_converts_other_colour_spaces(tmp_path, colours, mode):
    image = Image.fromarray(colours)
    image = image.quantize(256) if mode == "P" else image.convert(mode)
    got = photos.read(_save(tmp_path / "p.tif", image))
    assert np.abs(got.astype(int) - colours).mean() < 4


def test_read_converts_lab(tmp_path):
    neutral = Image.new("LAB", (4, 2), (128, 128, 128))  # L = 50 of 100, a = b = 0
    assert photos.read(_save(tmp_path / "p.tif", neutral))[0, 0].tolist() == [119] * 3


def test_read_of_a_cmyk_jpeg_is_not_inverted(tmp_path, colours):
    got = photos.read(
        _save(tmp_path / "p.jpg", Image.fromarray(colours).convert("CMYK"), quality=95)
    )
    assert np.abs(got.astype(int) - colours).mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_read_lays_transparency_over_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 2), (40, 40, 40, 255))
    image.putpixel((1, 0), (40, 40, 40, 0))
    image.putpixel((2, 0), (40, 40, 40, 128))
    path = _save(tmp_path / "p.tif", image.convert(mode))
    got = photos.read(path)
    assert got[0, 0].tolist() == [40] * 3 and got[0, 1].tolist() == [255] * 3
    np.testing.assert_allclose(got[0, 2], 255 * (1 - 128 / 255) + 40 * 128 / 255, atol=1)
    assert photos.read(path, background=0)[0, 1].tolist() == [0] * 3


def test_read_lays_a_transparent_palette_over_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    path = _save(tmp_path / "p.png", image, transparency=0)
    assert photos.read(path).tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_read_scales_16_bit_grey(tmp_path, suffix):
    deep = np.array([[0, 257, 25700, 65535]], np.uint16)
    assert photos.read(_save(tmp_path / f"p.{suffix}", deep))[0, :, 1].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 0.25, 0.5], [0, 64, 128]),
        ([0.0, 100.0, 200.0], [0, 100, 200]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 5e5, 1e6], [0, 128, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([-3.0, -3.0, -3.0], [0, 0, 0]),
    ],
)
def test_read_finds_the_white_point_of_float_tiffs(tmp_path, values, expected):
    path = _save(tmp_path / "p.tif", np.array([values], np.float32))
    assert photos.read(path)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 1, 255], [0, 1, 255]), ([0, 257, 65535], [0, 1, 255])]
)
def test_read_finds_the_white_point_of_32_bit_tiffs(tmp_path, values, expected):
    path = _save(tmp_path / "p.tif", np.array([values], np.int32))
    assert photos.read(path)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_applies_the_exif_orientation(tmp_path, colours, orientation):
    stored = {  # how a camera stores the upright photo under each orientation
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](colours)
    exif = Image.Exif()
    exif[0x112] = orientation
    path = _save(tmp_path / "p.png", np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(photos.read(path), colours)


def test_read_survives_damaged_exif(tmp_path, colours):
    path = _save(tmp_path / "p.jpg", colours, exif=b"Exif\0\0garbage garbage")
    assert photos.read(path).shape == colours.shape


def test_read_takes_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    path = _save(tmp_path / "p.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (photos.read(path) == [255, 0, 0]).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif"])
def test_read_refuses_truncated_files(tmp_path, rng, suffix):
    path = _save(tmp_path / f"half.{suffix}", rng.integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        ValueError, match=rf"photo '.*half\.{suffix}' cannot be decoded, it is truncated"
    ) as error:
        photos.read(path)
    assert "\n" not in str(error.value)


def test_read_names_what_is_wrong_with_a_file(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a photo")
    _save(tmp_path / "nan.tif", np.array([[0, np.nan]], np.float32))
    for name, kind, message in [
        ("gone.png", FileNotFoundError, r"photo '.*gone\.png' does not exist"),
        ("", IsADirectoryError, r"photo '.*' is a folder"),
        ("empty.png", ValueError, r"photo '.*empty\.png' is an empty file \(0 bytes\)"),
        ("text.jpg", ValueError, r"photo '.*text\.jpg' is not an image"),
        ("nan.tif", ValueError, r"photo '.*nan\.tif' has values that are not finite"),
    ]:
        with pytest.raises(kind, match=message):
            photos.read(tmp_path / name)


def test_read_refuses_bombs_and_passes_large_photos_quietly(tmp_path, monkeypatch):
    large, bomb = (_save(tmp_path / f"{n}.png", Image.new("L", (n, n))) for n in (12, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert photos.read(large).shape == (12, 12, 3)
    with pytest.raises(ValueError, match=r"photo '.*20\.png' is too large"):
        photos.read(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 399)
    with pytest.raises(ValueError, match=r"photo '.*20\.png' is too large: more than 0 million"):
        photos.read(bomb)
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"12\.png' is too large: a file of more than 0 MiB"):
        photos.read(large)


def test_read_opens_the_formats_that_are_meant(tmp_path, monkeypatch):
    """An EPS under another name would start Ghostscript."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a process"))
    path = tmp_path / "p.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"photo '.*p\.jpg' is not an image in a format that is"):
        photos.read(path)
    _save(tmp_path / "p.ico", Image.new("RGB", (16, 16)))
    with pytest.raises(ValueError, match=r"is not an image in a format .*JPEG, JPEG2000, PNG"):
        photos.read(tmp_path / "p.ico")


def test_read_never_waits_for_a_pipe_or_follows_links_for_ever(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    for name, message in [
        ("pipe.png", r"photo '.*pipe\.png' cannot be read: a pipe or a device"),
        ("a.png", r"photo '.*a\.png' cannot be read: Too many levels of symbolic links"),
        ("\0.png", r"photo '.*png' cannot be read: .*embedded null "),
    ]:
        with pytest.raises(OSError, match=message):
            photos.read(tmp_path / name)


def test_read_finds_the_bits_of_16_bit_grey(tmp_path):
    for bits in (8, 10, 12, 14, 16):
        white = 2**bits - 1
        values = np.array([[0, white // 3, white]], np.uint16)
        got = photos.read(_save(tmp_path / "p.png", values))
        assert got[0, :, 0].tolist() == [0, 85, 255]


def test_read_inverts_deep_grey_whose_zero_is_white(tmp_path):
    path = _save(tmp_path / "p.tif", np.array([[0, 65535]], np.uint16), tiffinfo={262: 0})
    assert photos.read(path)[0, :, 0].tolist() == [255, 0]


def _png_of_16_bit_colours(values):
    """A PNG of uint16 `[H, W, 3]`, which Pillow cannot write."""
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    height, width, _ = values.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_read_refuses_12_bit_colours_that_would_be_black(tmp_path):
    values = np.full((2, 3, 3), 4095, np.uint16)
    path = tmp_path / "p.png"
    path.write_bytes(_png_of_16_bit_colours(16 * values))
    assert (photos.read(path) == 255).all()
    path.write_bytes(_png_of_16_bit_colours(values))
    with pytest.raises(ValueError, match=r"photo '.*p\.png' has 16-bit colours of 12 bits"):
        photos.read(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK", "I;16", "F", "1"])
def test_photos_are_converted_strip_by_strip(tmp_path, rng, monkeypatch, mode):
    """As all at once, at every orientation, and a data set's record likewise."""
    grey = rng.integers(0, 2**16, (11, 7))
    images = {
        "I;16": Image.fromarray(grey.astype(np.uint16)),
        "F": Image.fromarray(grey.astype(np.float32) - 9),
    }
    noise = Image.fromarray(rng.integers(0, 256, (11, 7, 4), np.uint8), "RGBA")
    colours = noise if mode == "RGBA" else noise.convert("RGB")
    image = images.get(mode) or colours.convert(mode)
    for orientation in (1, 6, 7):
        exif = Image.Exif()
        exif[0x112] = orientation
        path = _save(tmp_path / "p.tif", image, exif=exif)
        whole = photos.read(path)
        monkeypatch.setattr(decoding, "_STRIP", 20)
        np.testing.assert_array_equal(photos.read(path), whole)
        record = datasets.Record(path.read_bytes(), 0, datasets.NO_BOXES, "p")
        np.testing.assert_array_equal(datasets.decode(record), whole)
        assert datasets.photo_size(record) == whole.shape[:2]
        monkeypatch.undo()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_photo(tmp_path, colours, suffix, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    path = _save(tmp_path / f"p.{suffix}", colours, exif=exif)
    assert decoding.size(path) == photos.read(path).shape[:2]
    assert decoding.size(path).height == (24 if orientation < 5 else 30)
    reduced = decoding.read(path, at_least=(12, 15))
    assert reduced.shape[0] in (decoding.size(path).height, decoding.size(path).height // 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (24, 30), (301, 200)])
@pytest.mark.parametrize("fit", photos.FITS)
def test_prepare_and_restore_take_any_size(rng, size, fit):
    photo = rng.integers(0, 256, (*size, 3), np.uint8)
    got = photos.prepare(photo, (64, 64), fit)
    assert got.dtype == np.uint8 and got.shape[:2] == photos.input_size(size, (64, 64), fit)
    heat = photos.restore(rng.random((2, 8, 8)), size, (64, 64), fit)
    assert heat.shape == (2, *size) and np.isfinite(heat).any()
    assert fit == "crop" or np.isfinite(heat).all()


def test_input_size_keeps_the_aspect_ratio_up_to_two():
    sizes = [(300, 400), (400, 300), (400, 600), (200, 2000)]
    assert [photos.input_size(s, (64, 64), "aspect") for s in sizes] == [
        (64, 88),
        (88, 64),
        (64, 96),
        (64, 128),
    ]
    assert photos.input_size((300, 400), (224, 224), "aspect") == (224, 288)
    assert {
        photos.input_size(s, (64, 64), fit) for s in sizes for fit in ("stretch", "crop", "pad")
    } == {(64, 64)}


def test_seen_is_the_whole_the_centre_or_more_than_the_photo():
    assert photos.seen((40, 100), (64, 64), "stretch") == (0, 0, 100, 40)
    assert photos.seen((40, 100), (64, 64), "aspect") == (0, 0, 100, 40)
    assert photos.seen((40, 100), (64, 64), "crop") == (30, 0, 70, 40)
    assert photos.seen((40, 100), (64, 64), "pad") == (0, -30, 100, 70)
    assert photos.seen((40, 100), (64, 128), "crop") == (10, 0, 90, 40)


def test_prepare_shows_what_seen_says(colours):
    square = colours[:24, :24]
    np.testing.assert_array_equal(photos.prepare(square, (24, 24), "crop"), square)
    np.testing.assert_array_equal(photos.prepare(colours, (24, 24), "crop"), colours[:, 3:27])
    padded = photos.prepare(colours, (30, 30), "pad")
    np.testing.assert_array_equal(padded[3:27], colours)
    assert (padded[:3] == padded[0, 0]).all() and (padded[27:] == padded[0, 0]).all()


def test_restore_by_stretching_is_resize(rng):
    low = rng.random((3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(photos.restore(low, (30, 21)), maps.resize(low, (30, 21)), atol=1e-6)


@pytest.mark.parametrize("fit", photos.FITS)
@pytest.mark.parametrize("size", [(120, 200), (200, 120), (150, 150)])
def test_restore_puts_the_heat_back_where_it_came_from(fit, size):
    spot = (70, 90)  # inside what every fit sees
    photo = np.zeros((*size, 3), np.uint8)
    photo[spot[0] - 6 : spot[0] + 7, spot[1] - 6 : spot[1] + 7] = 255
    sees = photos.prepare(photo, (64, 64), fit)[..., 0].astype(np.float32)
    heat = np.nan_to_num(photos.restore(np.maximum(sees - 130, 0), size, (64, 64), fit))
    centre = np.array([(heat * axis).sum() for axis in np.mgrid[: size[0], : size[1]]]) / heat.sum()
    np.testing.assert_allclose(centre, spot, atol=1.0)


def test_restore_leaves_what_a_crop_left_out_unknown():
    heat = photos.restore(np.ones((4, 4)), (40, 100), (64, 64), "crop")
    assert np.isnan(heat[:, :30]).all() and np.isnan(heat[:, 70:]).all()
    np.testing.assert_allclose(heat[:, 30:70], 1, rtol=1e-6)


def test_prepare_is_ready_for_jax(colours):
    assert jax.numpy.asarray(photos.prepare(colours, (8, 8))).shape == (8, 8, 3)


PHOTO = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: photos.prepare(PHOTO / 255, (8, 8)),
            r"photo: got float64 of shape .*expected a uint8 array",
        ),
        (
            lambda: photos.prepare(PHOTO[..., 0], (8, 8)),
            r"photo: got uint8 of shape \(4, 6\), expected .*\[H, W, 3\]",
        ),
        (lambda: photos.prepare("cat.png", (8, 8)), r"photo: got str .*expected a uint8"),
        (
            lambda: photos.prepare(PHOTO, (8, 8), "squash"),
            r"fit: got 'squash', expected one of 'stretch', 'crop', 'pad', 'aspect'",
        ),
        (lambda: photos.prepare(PHOTO, (8, 0)), r"size: got \(8, 0\), expected \(height, width\)"),
        (
            lambda: photos.restore(np.ones(3), (4, 4)),
            r"maps: got shape \(3,\), expected \[\.\.\., h, w\]",
        ),
        (lambda: photos.restore(np.ones((3, 3)), (0, 4)), r"photo_size: got \(0, 4\), expected"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
