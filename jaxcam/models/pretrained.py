"""Trained networks in `.safetensors` files: bundled, local, or torchvision's from the hub.

A file holds torchvision's keys and PyTorch's layout, and in its header, as JSON strings, what else
is needed: `architecture` {"name", "options"}, `classes` [names] and `preprocess` {"size", "resize",
"mean", "std"}.
"""

import csv
import dataclasses
import difflib
import json
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from jaxcam.models.convert import (
    check_fit,
    expected_shapes,
    fill,
    infer_classes,
    listing,
    to_torchvision,
    torchvision_keys,
)
from jaxcam.models.registry import ARCHITECTURES, TORCHVISION, create

DEFAULT = "tiny20"
_BUNDLED = Path(__file__).parent / "weights"
_DTYPES = ("float16", "float32")
_RUNTIME = ("dtype", "axis_name")  # options that say how a network is run, not what it is
_HUB_FILE = "model.safetensors"


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
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std: expected one length for both, got {self.mean} and {self.std}"
            )
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
            raise ValueError(f"images01: got {got}, expected an array of floats in [0, 1]")
        if images01.ndim < 3 or images01.shape[-1] != len(self.mean):
            raise ValueError(
                f"images01: got shape {images01.shape}, expected [..., H, W, {len(self.mean)}]"
            )
        return (images01 - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)


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
        config = _entry(self.metadata, "config", None)
        loss = self.metadata.get("loss") or (
            config.get("loss") if isinstance(config, Mapping) else None
        )
        if loss not in (None, "softmax", "sigmoid"):
            raise ValueError(
                f"name_or_path: the file's loss is {loss!r}, expected 'softmax' or 'sigmoid'"
            )
        return "sigmoid" if loss == "sigmoid" else None


_IMAGENET = Preprocess(224, resize=256)
# name -> architecture and preprocessing; the hub repository is timm/NAME. tv2: torchvision's newer
# recipe.
PUBLISHED = {f"{name}.tv_in1k": (name, _IMAGENET) for name in TORCHVISION}
PUBLISHED |= {
    f"resnet{n}.tv2_in1k": (f"resnet{n}", Preprocess(224, resize=232)) for n in (50, 101, 152)
}


def available() -> list[str]:
    """The names that `load` knows: bundled networks first, then the published ones."""
    return [*sorted(path.stem for path in _BUNDLED.glob("*.safetensors")), *PUBLISHED]


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
        ValueError: an unknown name, a file that is no safetensors file, or weights that do not fit.
    """
    path = _locate(name_or_path)
    about = _about(name_or_path, path, architecture, options)
    model = create(about.architecture, **about.options)
    return model, fill(
        model, torchvision_keys(load_file(path)), f"{about.architecture} (from {path})"
    )


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
    """
    path = None if str(name_or_path) in PUBLISHED else _locate(name_or_path)
    about = _about(name_or_path, path, architecture, {})
    if classes is None:
        return about
    return dataclasses.replace(
        about, classes=_checked_classes(_read_classes(classes), about.options["num_classes"])
    )


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
    """
    state = to_torchvision(variables)
    options = {key: value for key, value in options.items() if key not in _RUNTIME}
    options = infer_classes(model_name, state, options)
    check_fit(create(model_name, **options), state, model_name)
    metadata = {"architecture": json.dumps({"name": model_name, "options": options})}
    if classes is not None:
        metadata["classes"] = json.dumps(_checked_classes(classes, options["num_classes"]))
    if preprocess is not None:
        fields = preprocess if isinstance(preprocess, Mapping) else dataclasses.asdict(preprocess)
        metadata["preprocess"] = json.dumps(dataclasses.asdict(Preprocess(**fields)))
    _write(Path(path), _cast(state, dtype), _merged(metadata, extra_metadata or {}))


def _about(
    name_or_path: str | os.PathLike,
    path: Path | None,
    architecture: str | None,
    options: Mapping[str, Any],
) -> Pretrained:
    """Puts together what the arguments, the header and the keys say, in this order."""
    known, preprocess = PUBLISHED.get(str(name_or_path), (None, _IMAGENET))
    metadata, state = ({}, {}) if path is None else _header(path)
    stored = (_entry(metadata, "architecture", path) or {}) if architecture is None else {}
    architecture = architecture or known or stored.get("name") or _recognise(path, state)
    options = infer_classes(architecture, state, {**stored.get("options", {}), **options})
    count = options.setdefault("num_classes", 1000)
    fields = _entry(metadata, "preprocess", path)
    preprocess = Preprocess(**fields) if fields else preprocess
    classes = _entry(metadata, "classes", path) or [f"class {index}" for index in range(count)]
    if path is not None and len(classes) != count:  # are the names wrong, or the architecture?
        check_fit(create(architecture, **options), state, f"{architecture} (from {path})")
    return Pretrained(architecture, options, _checked_classes(classes, count), preprocess, metadata)


def _entry(metadata: Mapping[str, str], key: str, path: Path | None) -> Any:
    try:
        return json.loads(metadata.get(key, "null"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"name_or_path: {path} has no valid JSON under {key!r} in its metadata"
        ) from error


def _recognise(path: Path, state: Mapping[str, np.ndarray]) -> str:
    """The architecture with a file's keys and shapes, else the one its name begins with."""
    longest_first = sorted(ARCHITECTURES, key=len, reverse=True)  # vgg16_bn before vgg16
    named = [name for name in longest_first if path.name.startswith(name)]
    shapes = {key: value.shape for key, value in state.items()}
    for name in (*named, *ARCHITECTURES):
        if shapes == expected_shapes(create(name, **infer_classes(name, state, {}))):
            return name
    if named:
        return named[0]  # its error will name the keys that do not fit
    raise ValueError(
        f"name_or_path: {path} does not say its architecture in its metadata, and its keys and "
        f"shapes are those of none of {', '.join(ARCHITECTURES)}; give architecture= and its "
        "options"
    )


def _locate(name_or_path: str | os.PathLike) -> Path:
    """The file of a name or path, downloaded if need be."""
    name = str(name_or_path)
    bundled, path = _BUNDLED / f"{name}.safetensors", Path(name).expanduser()
    if path.name == name and bundled.is_file():
        return bundled
    if name in PUBLISHED:
        return _download(name)
    if path.is_file():
        return path
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        raise FileNotFoundError(f"name_or_path: there is no file {path}")
    names = available()
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
    raise ValueError(
        f"name_or_path: got {name!r}, neither a file nor a known network; nearest: "
        f"{', '.join(nearest)}"
    )


def _download(name: str) -> Path:
    """The file of a published network: placed by hand, in the hub's cache, or fetched."""
    from huggingface_hub import hf_hub_download, hf_hub_url  # slow to import, and needed only here

    folder = Path(os.environ.get("JAXCAM_WEIGHTS", "~/.cache/jaxcam")).expanduser()
    placed, repository = folder / f"{name}.safetensors", f"timm/{name}"
    if placed.is_file():
        return placed
    url = hf_hub_url(repository, _HUB_FILE)
    try:
        return Path(hf_hub_download(repository, _HUB_FILE, local_files_only=True))
    except OSError:  # not in the cache
        pass
    try:
        _resolve_host(url)
        return Path(hf_hub_download(repository, _HUB_FILE))
    except Exception as error:  # whatever failed between here and the hub, the remedy is the same
        raise FileNotFoundError(
            f"name_or_path: {name} could not be downloaded ({type(error).__name__}); "
            f"fetch {url} and save it as {placed}, or give load() its path"
        ) from error


def _resolve_host(url: str) -> None:
    """Fails at once without a network, where the hub's client would retry for half a minute."""
    if not urllib.request.getproxies():
        socket.getaddrinfo(urllib.parse.urlsplit(url).hostname, 443)


def _header(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """A file's header: metadata, and arrays without memory that stand for the shapes."""
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(
            f"name_or_path: {path} is no complete safetensors file ({error})"
        ) from error
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    return metadata, torchvision_keys(state)


def _read_classes(classes: str | os.PathLike | Sequence[str]) -> Sequence[str]:
    if not isinstance(classes, str | os.PathLike):
        return classes
    path = Path(classes).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"classes: there is no file {path}")
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".csv":
        return text.splitlines()
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or "name" not in rows[0]:
        raise ValueError(f"classes: {path} has no column 'name'")
    return [
        row["name"]
        for row in (sorted(rows, key=lambda r: int(r["index"])) if "index" in rows[0] else rows)
    ]


def _checked_classes(classes: Sequence[str], count: int) -> tuple[str, ...]:
    if len(classes) != count:
        raise ValueError(
            f"classes: got {len(classes)} names, expected one for each of the {count} logits"
        )
    return tuple(map(str, classes))


def _cast(state: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: got {dtype!r}, expected one of {', '.join(_DTYPES)}")
    with np.errstate(over="ignore"):
        cast = {key: np.ascontiguousarray(value, dtype) for key, value in state.items()}
    lost = [key for key, value in cast.items() if not np.isfinite(value).all()]
    if lost:
        raise ValueError(f"variables: not finite in {dtype}: {listing(lost)}")
    return cast


def _merged(metadata: Mapping[str, str], extra: Mapping[str, Any]) -> dict[str, str]:
    taken = sorted(set(metadata) & set(extra))
    if taken:
        raise ValueError(
            f"extra_metadata: got {', '.join(taken)}, expected other keys than save() writes itself"
        )
    return {
        **metadata,
        **{key: v if isinstance(v, str) else json.dumps(v) for key, v in extra.items()},
    }


def _write(path: Path, state: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # save_file would make a file that only its owner can read.
        part.write_bytes(to_bytes(dict(state), metadata=dict(metadata)))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
