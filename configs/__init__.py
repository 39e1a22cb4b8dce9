"""Experiments: one small file each, which owns every number and says its command, its cost and its expected result."""

import ast
import dataclasses
import difflib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Classification:
    """Every number of one classification run of `train.classify`.

    Args:
        name: name of the run, written into the export.
        data: zip or folder with `train/CLASS/*` and `val/CLASS/*` and a `classes.csv`, or "synthetic".
        workdir: folder of checkpoints and logs.
        export: `.safetensors` file that the trained network is written to.
        export_dtype: storage type of its parameters, "float32" or "float16".
        architecture: name that `jaxcam.models.create` takes.
        options: its options.
        image_size: side of the photos in pixels, the size of validation too.
        mean: mean of each channel of RGB in [0, 1], subtracted from the images.
        std: deviation of each channel, which divides them.
        crop_sizes: (first epoch, side in pixels) pairs in order: the side of the training crops from that epoch on.
        epochs: passes over the training photos.
        batch_size: images in a step over all devices, even.
        learning_rate: peak of the schedule: linear warm-up from 0, then a cosine down to 0.
        warmup_epochs: length of the warm-up.
        momentum: Nesterov momentum of SGD.
        weight_decay: times the parameters is added to the gradient; norms and biases are spared.
        label_smoothing: probability that is spread over all classes.
        ema_decay: decay a step of the averaged parameters and batch statistics, which are validated and exported.
        crop_area: smallest and largest part of the photo's area that a crop covers.
        crop_ratio: largest width to height ratio of a crop, and the smallest's inverse.
        color_jitter: brightness, contrast and saturation are each scaled by U(1 - j, 1 + j).
        cutmix: probability that a box of an image is cut out of another image.
        seed: of parameters, order and augmentation.
    """

    name: str
    data: str
    workdir: str
    export: str
    export_dtype: str
    architecture: str
    options: Mapping[str, Any]
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    crop_sizes: Sequence[tuple[int, int]]
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    ema_decay: float
    crop_area: tuple[float, float]
    crop_ratio: float
    color_jitter: float
    cutmix: float
    seed: int

    def __post_init__(self) -> None:
        """Checks what would otherwise fail late or silently."""
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"batch_size: got {self.batch_size}, expected an even number (CutMix pairs images)")
        if self.epochs < 1:
            raise ValueError(f"epochs: got {self.epochs}, expected at least 1")
        if self.export_dtype not in ("float32", "float16"):
            raise ValueError(f"export_dtype: got {self.export_dtype!r}, expected 'float32' or 'float16'")
        if not self.crop_sizes or self.crop_sizes[0][0] != 0:
            raise ValueError(f"crop_sizes: got {self.crop_sizes}, expected a first pair that begins at epoch 0")

    def crop_size(self, epoch: int) -> int:
        """Side in pixels of the training crops in an epoch."""
        return [size for first, size in self.crop_sizes if first <= epoch][-1]


def load(path: str) -> Any:
    """The `config` that the Python file at `path` defines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file defines no `config`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--config: got {path!r}, expected a Python file such as configs/tiny20.py")
    spec = importlib.util.spec_from_file_location(f"configs.{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "config"):
        raise ValueError(f"--config: {path} defines no `config`")
    return module.config


def override(config: Any, assignments: Sequence[str]) -> Any:
    """`config` with fields replaced by `key=value` texts; `options.KEY=value` replaces or adds one option.

    Values are Python literals; what is none is taken as text.

    Raises:
        ValueError: a text without `=`, an unknown field (the nearest are named) or a value of another type.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set: got {assignment!r}, expected key=value")
        config = _replace(config, key.strip(), _literal(text.strip()))
    return config


def _replace(config: Any, key: str, value: Any) -> Any:
    name, _, option = key.partition(".")
    names = [field.name for field in dataclasses.fields(config)]
    if name not in names or (option and not isinstance(getattr(config, name), Mapping)):
        nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
        raise ValueError(f"--set: got the key {key!r}, which is no field; nearest: {', '.join(nearest)}")
    old = getattr(config, name)
    value = {**old, option: value} if option else _as_type_of(old, value, key)
    return dataclasses.replace(config, **{name: value})


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as_type_of(old: Any, value: Any, key: str) -> Any:
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(value, type(old)):
        return value
    raise ValueError(f"--set: {key} got {value!r}, expected a {type(old).__name__} such as {old!r}")
