"""How much memory the loaders take of the worst files: `python -m tests.worst`.

Each file is read in a process of its own. A table says its size, what came of it and the most
memory that the process held beyond what it held before.
"""

import multiprocessing
import resource
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack

import numpy as np
from PIL import Image

MIB = 1 << 20


def _float_tiff(path: Path) -> None:
    Image.fromarray(np.zeros((12_000, 12_000), np.float32)).save(path, compression="raw")


def _wide_png(path: Path) -> None:
    """30,000 x 30,000 pixels of one colour."""
    side = 30_000
    rows = zlib.compressobj(9)
    content = b"".join(rows.compress(bytes(1 + side)) for _ in range(side)) + rows.flush()
    header = pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", content), (b"IEND", b"")):
            file.write(pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data)))


def _jpeg(path: Path) -> None:
    Image.new("RGB", (12_000, 12_000)).save(path)


def _zip(path: Path) -> None:
    """A photo that unpacks to 1 GiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train/a/1.png", "train/b/2.png"):
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(1024):
                    member.write(bytes(MIB))


def _header(path: Path) -> None:
    path.write_bytes(pack("<Q", 1 << 40) + bytes(100))


def _photo(path: Path) -> object:
    from jaxcam import photos

    return photos.read(path).shape


def _folder(path: Path) -> object:
    from jaxcam import datasets

    return datasets.decode(datasets.load(str(path), "train")[0]).shape


def _weights(path: Path) -> object:
    from jaxcam import models

    return models.load(str(path))


WORST: dict[str, tuple[Callable, Callable]] = {
    "float 12,000 x 12,000.tif": (_float_tiff, _photo),
    "grey 30,000 x 30,000.png": (_wide_png, _photo),
    "colours 12,000 x 12,000.jpg": (_jpeg, _photo),
    "two photos of 1 GiB.zip": (_zip, _folder),
    "a header of 1 TiB.safetensors": (_header, _weights),
}


def _held() -> int:
    """The most bytes that this process has held; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(read: Callable, path: Path, answers: multiprocessing.SimpleQueue) -> None:
    small = path.parent / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    _photo(small)  # imports
    before = _held()
    try:
        said = f"read: {read(path)}"
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    answers.put((_held() - before, said.replace(f"{path.parent}/", "")))


def main() -> None:
    """Prints the table."""
    context = multiprocessing.get_context("spawn")
    print(f"{'file':32} {'MiB':>6} {'memory':>8}")
    for name, (make, read) in WORST.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            make(path)
            answers = context.SimpleQueue()
            process = context.Process(target=_read, args=(read, path, answers))
            process.start()
            memory, said = answers.get()
            process.join()
            size = path.stat().st_size
        print(f"{name:32} {size / MIB:6.1f} {memory / MIB:5.0f} MiB  {said[:150]}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
