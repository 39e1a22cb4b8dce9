"""Peak memory of an evaluation by the number of its photos: it should not grow with them.

    python -m eval memory --photos 500 5000

Synthetic photos, JPEGs of random colours in folders of two classes, are written to a folder; each
run is `python -m eval PROTOCOL` in a process of its own, whose peak resident memory the operating
system tells when it ends.
"""

import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure.

    Args:
        photos: of each run.
        protocol: that is carried out.
        model: as for the protocols.
        methods: likewise.
        layers: likewise; none means the ends of the model's stages.
        batch: likewise.
        pixels: height and width of the synthetic photos.
    """

    photos: tuple[int, ...] = (500, 5000)
    protocol: str = "faithfulness"
    model: str = "tiny20"
    methods: tuple[str, ...] = ("grad_cam", "noise")
    layers: tuple[str, ...] = ("layer4",)
    batch: int = 50
    pixels: int = 224


class Peak(NamedTuple):
    """What a run took: bytes of resident memory at most, and seconds."""

    memory: int
    seconds: float


def measure(settings: Settings, folder: Path) -> dict[int, Peak]:
    """Peaks by the number of photos.

    Args:
        settings: what to measure.
        folder: for the photos and the runs.

    Raises:
        ValueError: no photos, or fewer than one in a run.
        ChildProcessError: a run failed, and has said why.
    """
    if not settings.photos or min(settings.photos) < 1:
        raise ArgumentError("photos", settings.photos, "numbers of at least 1")
    write_photos(folder / "photos", max(settings.photos), settings.pixels)
    return {count: _run(settings, folder, count) for count in settings.photos}


def write_photos(folder: Path, count: int, pixels: int) -> None:
    """Photos of random blocks of colour in two classes, no two alike."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        photo = Image.fromarray(blocks).resize((pixels, pixels), Image.Resampling.BICUBIC)
        photo.save(path, quality=80)


def _run(settings: Settings, folder: Path, count: int) -> Peak:
    words = [sys.executable, "-m", "eval", settings.protocol, "--data", str(folder / "photos")]
    words += ["--output", str(folder / f"run{count}"), "-n", str(count)]
    words += ["--model", settings.model, "--batch", str(settings.batch)]
    words += ["--methods", *settings.methods]
    if settings.layers:
        words += ["--layers", *settings.layers]
    start = time.perf_counter()
    silence = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    process = os.posix_spawn(sys.executable, words, os.environ, file_actions=[silence])
    _, status, used = os.wait4(process, 0)
    if status:
        raise ChildProcessError(f"failed with {counted(count, 'photo')}: {' '.join(words)}")
    # The system tells kilobytes, but bytes on a Mac.
    unit = 1024
    if sys.platform == "darwin":
        unit = 1
    return Peak(unit * used.ru_maxrss, time.perf_counter() - start)


def table(peaks: dict[int, Peak]) -> str:
    """The peaks as a Markdown table."""
    lines = ["| photos | peak memory, MiB | s |", "|---|---|---|"]
    for count, peak in peaks.items():
        lines.append(f"| {count} | {peak.memory / 2**20:.0f} | {peak.seconds:.0f} |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Prints the peaks."""
    with tempfile.TemporaryDirectory() as folder:
        print(table(measure(settings, Path(folder))))
