"""Trained networks in `.safetensors` files: bundled, local, or torchvision's from the hub.

A file holds torchvision's keys and PyTorch's layout, and in its header, as JSON strings, what else
is needed: `architecture` {"name", "options"}, `classes` [names] and `preprocess` {"size", "resize",
"mean", "std"}. All of it is checked before it is used, and a pickle is never opened.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from safetensors.numpy import load_file

from jaxcam._ground import files, tables
from jaxcam._ground.dtypes import wide
from jaxcam._ground.errors import (
    ArgumentError,
    ArgumentFileError,
    check_whole,
    check_within,
    listing,
)
from jaxcam._ground.text import counted
from jaxcam.models import _header as header
from jaxcam.models import _weights as weights
from jaxcam.models.convert import (
    check_fit,
    expected_shapes,
    fill,
    infer_classes,
    to_torchvision,
    torchvision_keys,
)
from jaxcam.models.registry import ARCHITECTURES, TORCHVISION, create

__all__ = ["Preprocess", "Pretrained", "available", "describe", "load", "save"]

DEFAULT = "tiny20"
_MOST_CLASSES = 10**6
_RUNTIME = ("dtype", "axis_name")  # options that say how a network is run, not what it is


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How a network wants images: shorter side to `resize`, crop to `size`, then (x - mean) / std.

    Args:
        size: height and width in pixels.
        resize: pixels of the shorter side before the crop; None crops nothing off it (`size`).
        mean: per channel, of images in [0, 1].
        std: per channel, of images in [0, 1].
    """

    size: int
    resize: int | None = None
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        """Makes `mean` and `std` tuples, so that what is read equals what was written."""
        check_whole("size", self.size, 1)
        if self.resize is not None:
            check_whole("resize", self.resize, 1)
        if len(self.mean) != len(self.std):
            got = f"{self.std} beside the mean {self.mean}"
            raise ArgumentError("std", got, "as many numbers, one for each channel")
        for value in self.mean:
            check_within("mean", value, -np.inf, np.inf, ends="()")
        for value in self.std:
            check_within("std", value, 0, np.inf, ends="()")
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    def __call__(self, images01: Any) -> Any:
        """(x - mean) / std; resizing and cropping are the caller's.

        Args:
            images01: images `[..., H, W, C]`, floats in [0, 1].

        Raises:
            ValueError: integers, or another number of channels.
        """
        if not hasattr(images01, "dtype") or np.issubdtype(images01.dtype, np.integer):
            got = getattr(images01, "dtype", type(images01).__name__)
            raise ArgumentError("images01", got, "an array of floats in [0, 1]")
        channels = len(self.mean)
        if images01.ndim < 3 or images01.shape[-1] != channels:
            expected = f"[..., H, W, {channels}]"
            raise ArgumentError("images01", f"shape {images01.shape}", expected)
        dtype = wide(images01.dtype)
        shape = (*[1] * (images01.ndim - 1), channels)
        mean = np.asarray(self.mean, dtype).reshape(shape)
        std = np.asarray(self.std, dtype).reshape(shape)
        return (images01.astype(dtype) - mean) / std


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What is known about a trained network besides its weights.

    Args:
        architecture: name for `create`.
        options: options for `create`, `num_classes` among them.
        classes: a name per logit; "class 281" where none is known.
        preprocess: how it wants its images.
        metadata: every entry of the file's header, as strings.
    """

    architecture: str
    options: Mapping[str, Any]
    classes: tuple[str, ...]
    preprocess: Preprocess
    metadata: Mapping[str, str]

    @property
    def activation(self) -> str | None:
        """What makes its logits probabilities: "sigmoid" if it was trained so, else None.

        Raises:
            ValueError: the `loss` of the file or of its `config` is not "softmax" or "sigmoid".
        """
        loss = self.metadata.get("loss")
        config = header.entry(self.metadata, "config", None)
        if loss is None and isinstance(config, Mapping):
            loss = config.get("loss")
        if loss not in (None, "softmax", "sigmoid"):
            got = f"a file whose loss is {loss!r}"
            raise ArgumentError("name_or_path", got, "'softmax' or 'sigmoid'")
        if loss == "sigmoid":
            return loss
        return None


_IMAGENET = Preprocess(224, resize=256)
# name -> architecture and preprocessing; the hub repository is timm/NAME. tv2: torchvision's newer
# recipe.
PUBLISHED = {f"{name}.tv_in1k": (name, _IMAGENET) for name in TORCHVISION}
PUBLISHED |= {
    f"resnet{n}.tv2_in1k": (f"resnet{n}", Preprocess(224, resize=232)) for n in (50, 101, 152)
}


def available() -> list[str]:
    """The names that `load` knows: bundled networks first, then the published ones.

    Example:
        >>> jaxcam.models.available()[:2]
        ['tiny20', 'tiny20_cbam']
    """
    return [*weights.bundled(), *PUBLISHED]


def load(
    name_or_path: str | os.PathLike = DEFAULT, *, architecture: str | None = None, **options: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network.

    Args:
        name_or_path: a bundled network ("tiny20"), a published one ("resnet50.tv_in1k"; downloaded
            once, then cached) or the path of a `.safetensors` file with torchvision's or timm's
            keys.
        architecture: name for `create`; None takes it from the file's metadata, name or keys.
        **options: options for `create` beyond those the file gives, say `dtype="bfloat16"`.

    Returns:
        `(model, variables)`, the variables in float32, for `model.apply(variables, images)`.

    Raises:
        FileNotFoundError: no such file, or a download that failed: what to fetch and where to put
            it.
        ValueError: an unknown name, a file that is no safetensors file, whose metadata are of wrong
            types, or whose weights do not fit, are no floats or not finite, or negative variances.

    Example:
        >>> model, variables = jaxcam.models.load("tiny20")
        >>> forward = jaxcam.linen(model, variables)
        >>> jax.eval_shape(forward, jnp.zeros((1, 64, 64, 3))).shape
        (1, 20)
    """
    path = weights.locate(name_or_path, tuple(PUBLISHED))
    about = _about(name_or_path, path, architecture, options)
    what = f"{about.architecture} (from {path})"
    _, shapes = weights.header(path)
    model = _created(about, shapes, what)
    state = torchvision_keys(load_file(path))
    return model, fill(model, state, what)


def _created(about: Pretrained, shapes: Mapping[str, np.ndarray], what: str) -> nn.Module:
    """The module, once the shapes of a file fit it: nothing has been read that does not."""
    try:
        model = create(about.architecture, **about.options)
        check_fit(model, shapes, what)
    except ArgumentError:
        raise
    except Exception as error:  # options that make no network fail in many ways
        reason = str(error).split("\n")[0]
        got = f"{dict(about.options)}, of which no network can be made ({reason})"
        raise ArgumentError("options", got, f"those of {what}") from error
    return model


def describe(
    name_or_path: str | os.PathLike = DEFAULT,
    *,
    architecture: str | None = None,
    classes: str | os.PathLike | Sequence[str] | None = None,
) -> Pretrained:
    """Classes, preprocessing and architecture of a trained network, without loading its weights.

    Args:
        name_or_path: as for `load`.
        architecture: as for `load`.
        classes: names of the classes, in order; or a file of them: `.csv` with a column `name` (and
            perhaps `index`), else a text file with a name per line. None takes those of the
            network's file, or numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `load`, or another number of classes than the network has.

    Example:
        >>> about = jaxcam.models.describe("tiny20")
        >>> about.classes[:2], about.preprocess.size
        (('goldfish', 'king penguin'), 64)
    """
    path = None
    if str(name_or_path) not in PUBLISHED:
        path = weights.locate(name_or_path, tuple(PUBLISHED))
    about = _about(name_or_path, path, architecture, {})
    if classes is None:
        return about
    names = _checked_classes(read_classes(classes), about.options["num_classes"])
    return dataclasses.replace(about, classes=names)


def save(
    path: str | os.PathLike,
    model_name: str,
    options: Mapping[str, Any],
    variables: Mapping,
    classes: Sequence[str] | None = None,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    dtype: str = "float32",
    extra_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network as a `.safetensors` file that `load` and PyTorch users can read, atomically.

    Args:
        path: the file; its folder is made.
        model_name: architecture, name for `create`.
        options: options given to `create`; `dtype` and `axis_name` are not kept (they say how, not
            what).
        variables: the model's variables.
        classes: a name per logit.
        preprocess: how the network wants its images: a `Preprocess` or its fields.
        dtype: "float16" (half the size; `load` gives float32 again) or "float32".
        extra_metadata: more entries for the header; what is no string is written as JSON.

    Raises:
        ValueError: variables that do not fit the architecture, values that overflow `dtype`, a
            wrong number of classes, an unknown `dtype`, or a key of `extra_metadata` that is taken.

    Example:
        >>> import pathlib
        >>> fields = {"stage_sizes": (1,), "widths": (4,), "strides": (1,), "num_classes": 3}
        >>> model = jaxcam.models.create("resnet18", **fields)
        >>> variables = model.init(jax.random.key(0), images)
        >>> path = pathlib.Path("mine.safetensors")
        >>> jaxcam.models.save(path, "resnet18", fields, variables, ["red", "green", "blue"])
        >>> jaxcam.models.describe(path).classes
        ('red', 'green', 'blue')
    """
    state = to_torchvision(variables)
    options = {key: value for key, value in options.items() if key not in _RUNTIME}
    options = infer_classes(model_name, state, options)
    check_fit(create(model_name, **options), state, model_name)
    metadata = {"architecture": json.dumps({"name": model_name, "options": options})}
    if classes is not None:
        metadata["classes"] = json.dumps(_checked_classes(classes, options["num_classes"]))
    if preprocess is not None:
        if isinstance(preprocess, Mapping):
            preprocess = Preprocess(**preprocess)
        metadata["preprocess"] = json.dumps(dataclasses.asdict(preprocess))
    metadata = _merged(metadata, extra_metadata or {})
    weights.write(Path(path), weights.cast(state, dtype), metadata)


def _about(
    name_or_path: str | os.PathLike,
    path: Path | None,
    architecture: str | None,
    options: Mapping[str, Any],
) -> Pretrained:
    """Puts together what the arguments, the header and the keys say, in this order."""
    known, preprocess = PUBLISHED.get(str(name_or_path), (None, _IMAGENET))
    metadata: dict[str, str] = {}
    state: dict[str, np.ndarray] = {}
    if path is not None:
        metadata, state = weights.header(path)
    stored = None
    options_of_file: dict[str, Any] = {}
    if architecture is None:
        stored, options_of_file = header.architecture(metadata, path, len(state))
    name: str = architecture or known or stored or _recognise(path, state)
    options = infer_classes(name, state, {**options_of_file, **options})
    count = options.setdefault("num_classes", 1000)
    fields = header.preprocess(metadata, path)
    if fields is not None:
        preprocess = Preprocess(**fields)
    classes = header.classes(metadata, path)
    if classes is None:
        check_whole("num_classes", count, 1, _MOST_CLASSES)
        classes = [f"class {i}" for i in range(count)]
    if path is not None and len(classes) != count:  # are the names wrong, or the architecture?
        check_fit(create(name, **options), state, f"{name} (from {path})")
    return Pretrained(name, options, _checked_classes(classes, count), preprocess, metadata)


def _recognise(path: Path | None, state: Mapping[str, np.ndarray]) -> str:
    """The architecture with a file's keys and shapes, else the one its name begins with."""
    file = "" if path is None else path.name
    longest_first = sorted(ARCHITECTURES, key=len, reverse=True)  # vgg16_bn before vgg16
    named = [name for name in longest_first if file.startswith(name)]
    shapes = {key: value.shape for key, value in state.items()}
    for name in (*named, *ARCHITECTURES):
        if f"{ARCHITECTURES[name].module.classifier}.bias" not in state:
            continue  # to trace them all takes seconds
        if shapes == expected_shapes(create(name, **infer_classes(name, state, {}))):
            return name
    if named:
        return named[0]  # its error will name the keys that do not fit
    expected = (
        "an architecture in its metadata, or the keys and shapes of one of "
        f"{listing(ARCHITECTURES)}; else give the architecture and its options"
    )
    raise ArgumentError("name_or_path", f"{path}, which does not say what it is", expected)


def read_classes(classes: str | os.PathLike | Sequence[str]) -> Sequence[str]:
    """Names of classes, in order: as they are, or from a file as `describe` takes it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a CSV without a column `name`.
    """
    if not isinstance(classes, str | os.PathLike):
        return classes
    path = Path(classes).expanduser()
    if not path.exists():
        raise ArgumentFileError("classes", f"{path}, which is not there", "a file")
    content = _content(path)
    try:
        return _names(content, path.suffix.lower() == ".csv")
    except ArgumentError as error:
        raise ArgumentError("classes", f"{path} with {error.got}", error.expected) from error


def _names(content: bytes, is_table: bool) -> list[str]:
    if not is_table:
        return tables.text(content, "classes").rstrip().splitlines()
    rows = tables.rows(content, "classes")
    tables.need(rows, "classes", ("name",), "a column 'name' in it")
    return [row["name"] for row in tables.in_order(rows, "classes")]


def _content(path: Path) -> bytes:
    try:
        return files.read_bytes(path, tables.MAX_BYTES)
    except OSError as error:
        raise ArgumentError("classes", f"{path}, {error.strerror}", "a file") from error


def _checked_classes(classes: Sequence[str], count: int) -> tuple[str, ...]:
    if len(classes) != count:
        expected = f"one for each of the {count} logits"
        raise ArgumentError("classes", counted(len(classes), "name"), expected)
    names = tuple(map(str, classes))
    for index, name in enumerate(names):
        if not name.strip() or len(name) > header.LONGEST_NAME:
            got = f"{len(name.strip())} characters for class {index}"
            raise ArgumentError("classes", got, f"a name of 1 to {header.LONGEST_NAME}")
    return names


def _merged(metadata: Mapping[str, str], extra: Mapping[str, Any]) -> dict[str, str]:
    taken = sorted(set(metadata) & set(extra))
    if taken:
        expected = "other keys than save() writes itself"
        raise ArgumentError("extra_metadata", listing(taken), expected)
    merged = dict(metadata)
    for key, value in extra.items():
        merged[key] = value if isinstance(value, str) else json.dumps(value)
    return merged
