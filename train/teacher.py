"""Teachers outside JAX: asked once about every view of every photo, their answers kept on disk.

A folder of answers holds `settings.json`, all that they depend on, and one `VIEW.npy` of logits
`[N, classes]` for each draw of the augmentation, written whole or not at all, with its SHA-256 in
`VIEW.sha256`; a run that was stopped asks only for the missing ones, and for those of other bits.
"""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs import Distillation
from jaxcam import blackbox
from jaxcam._ground import files
from jaxcam._ground.devices import by_writer, fill_up
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.progress import told
from jaxcam.datasets import Dataset
from train import pipeline
from train.augment import augment
from train.unreadable import Unreadable

_DIGEST = ".sha256"
BATCH = 100  # even: CutMix, unused, pairs neighbours
# What the answers depend on.
_FIELDS = (
    "data",
    "train_split",
    "seed",
    "image_size",
    "crop_on",
    "crop_sizes",
    "crop_area",
    "crop_ratio",
    "crop_fraction",
    "stretch",
    "color_jitter",
    "teacher",
    "teacher_kind",
    "teacher_options",
    "teacher_mean",
    "teacher_std",
    "teacher_probabilities",
)
_PHOTOS = "photos"  # how many: others of the same name are other photos
_FILE = "teacher_sha256"  # of a network in a file, which may be another one by now


def answers(config: Distillation, photos: Dataset, folder: Path | None = None) -> list[np.ndarray]:
    """The teacher's logits `[N, classes]` for each view, asked for where they are not kept yet.

    Args:
        config: the teacher and the augmentation.
        photos: the training photos.
        folder: of the answers; None takes `config.answers`.

    Returns:
        An array for each view, read from disk as it is used.

    Raises:
        ValueError: the folder holds answers to other questions, or the teacher's are no finite
            `[B, classes]`.
        FileNotFoundError: no such teacher.
    """
    if folder is None:
        folder = Path(config.answers)
    by_writer(lambda: _fill(folder, config, photos))  # the others find what it wrote
    return [np.load(_file(folder, view), mmap_mode="r") for view in range(config.views)]


def _fill(folder: Path, config: Distillation, photos: Dataset) -> None:
    _claim(folder, config, photos)
    shape = (len(photos), len(photos.classes))
    missing = [view for view in range(config.views) if not _sound(_file(folder, view), shape)]
    if not missing:
        return
    teacher = blackbox.KINDS[config.teacher_kind](config.teacher, **config.teacher_options)
    for view in missing:
        logits = _ask(config, photos, teacher, view)
        _keep(_file(folder, view), logits)


def _file(folder: Path, view: int) -> Path:
    return folder / f"{view}.npy"


def _keep(path: Path, logits: np.ndarray) -> None:
    """Writes answers, their digest first: those of before are no longer taken for whole."""
    with files.replacing(path, "w+b") as file:
        np.save(file, logits)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        files.write_text(path.with_suffix(_DIGEST), f"{digest}  {path.name}\n")


def _sound(path: Path, shape: tuple[int, int]) -> bool:
    """Whether there are a view's answers; damaged ones are named, and asked for again."""
    if not path.exists():
        return False
    reason = "its SHA-256 is another"
    if _as_kept(path):
        reason = _misfit(path, shape)
    if reason:
        print(f"{path}: damaged ({reason}), asked for again", file=sys.stderr, flush=True)
    return not reason


def _misfit(path: Path, shape: tuple[int, int]) -> str:
    """What is wrong with the array in a file, if anything is."""
    try:
        found = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        return str(error)
    if (found.shape, found.dtype) == (shape, np.float32):
        return ""
    return f"{found.dtype} {found.shape} instead of float32 {shape}"


def _as_kept(path: Path) -> bool:
    """Whether a file is that of its digest; answers of before there were any are taken as such."""
    kept = path.with_suffix(_DIGEST)
    return not kept.exists() or kept.read_bytes().split()[:1] == [_sha256(path).encode()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _claim(folder: Path, config: Distillation, photos: Dataset) -> None:
    """Writes down what the answers depend on, or compares with what is written there."""
    ours = {name: getattr(config, name) for name in _FIELDS}
    ours |= {_PHOTOS: len(photos), _FILE: ""}
    if config.teacher_kind == "onnx" and Path(config.teacher).is_file():
        ours[_FILE] = _sha256(Path(config.teacher))
    text = json.dumps(ours, indent=1, default=dict)
    path = folder / "settings.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
        return
    theirs = files.read_json(path)
    different = []
    for name in (_PHOTOS, _FILE):  # answers of before these were kept
        theirs.setdefault(name, ours[name])
    for name, value in json.loads(text).items():
        if theirs.get(name) != value:
            different.append(f"{name} {theirs.get(name)!r} there, {value!r} here")
    if different:
        raise ArgumentError(
            "answers", f"{folder}", f"answers to the same questions: {', '.join(different)}"
        )


def _ask(config: Distillation, photos: Dataset, teacher: blackbox.Model, view: int) -> np.ndarray:
    found = []
    batches = math.ceil(len(photos) / BATCH)
    asked = _views(config, photos, view)
    for images in told(asked, f"teacher, view {view + 1}", "batch", batches):
        outputs = np.asarray(teacher(images), np.float32)
        found.append(_checked(outputs, len(images), len(photos.classes)))
    outputs = np.concatenate(found)
    if config.teacher_probabilities:
        return np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    return outputs


def _checked(outputs: np.ndarray, batch: int, classes: int) -> np.ndarray:
    if outputs.shape != (batch, classes):
        raise ArgumentError("teacher", f"answers of shape {outputs.shape}", f"{(batch, classes)}")
    if not np.isfinite(outputs).all():
        raise ArgumentError("teacher", "NaN or infinite answers", "finite ones")
    return outputs


def _views(config: Distillation, photos: Dataset, view: int) -> Iterator[np.ndarray]:
    """All photos in order, augmented as in training and normalised as the teacher expects."""
    import grain

    (_, size) = config.crop_sizes[0]
    classes = len(photos.classes)
    mean = np.asarray(config.teacher_mean, np.float32)
    std = np.asarray(config.teacher_std, np.float32)
    # Mean 0 and deviation 1: the pixels that the student sees, before its own normalisation.
    plain: Any = dataclasses.replace(config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    augmented = jax.jit(lambda batch: augment(batch, plain, classes, size)[0])
    left_out = Unreadable(config.unreadable)  # whose answers nobody asks for
    example = partial(pipeline.photo, photos, config, view, left_out=left_out)
    threads = grain.ReadOptions(num_threads=config.workers, prefetch_buffer_size=2 * config.workers)
    batches = grain.MapDataset.range(len(photos)).map(example).batch(BATCH)
    for batch in batches.to_iter_dataset(threads):
        images = np.asarray(augmented(fill_up(batch, BATCH)))[: len(batch["label"])]
        yield (images - mean) / std
