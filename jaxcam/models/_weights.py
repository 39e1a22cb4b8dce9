"""Where the file of a network is, what its header says, and how it is written."""

import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from jaxcam._ground import files
from jaxcam._ground.errors import ArgumentError, ArgumentFileError, check_choice, one_of
from jaxcam.models.convert import first, torchvision_keys

BUNDLED = Path(__file__).parent / "weights"
_DTYPES = ("float16", "float32")
_FLOATS = ("F16", "F32", "F64")  # as safetensors call them; NumPy has no bfloat16
_MAX_HEADER = 2**24  # bytes
_HUB_FILE = "model.safetensors"


def bundled() -> list[str]:
    """The networks that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def locate(name_or_path: str | os.PathLike, published: Sequence[str]) -> Path:
    """The file of a name or path, downloaded if need be; `published` are the hub's names.

    Raises:
        ArgumentFileError: there is none, or it could not be downloaded.
        ArgumentError: neither a file nor a name that is known.
    """
    name = str(name_or_path)
    path = Path(name).expanduser()
    own = BUNDLED / f"{name}.safetensors"
    if path.name == name and own.is_file():
        return own
    if name in published:
        return _download(name)
    if path.is_file():
        return path
    if path.exists() and (path.suffix or not path.is_dir()):
        _check_file(path)  # says what it is instead
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        raise ArgumentFileError("name_or_path", f"{path}, which is not there", "a file")
    expected = f"a file or {one_of(name, [*bundled(), *published], 'networks')}"
    raise ArgumentError("name_or_path", repr(name), expected)


def header(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """A file's header: metadata, and arrays without memory that stand for the shapes.

    Raises:
        ArgumentError: no complete safetensors file, or one with arrays that are no floats.
    """
    _check_file(path)
    shapes = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118  (no mapping)
                found = file.get_slice(key)
                _check_dtype(path, key, found.get_dtype())
                shapes[key] = found.get_shape()
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        expected = f"a complete safetensors file ({error})"
        raise ArgumentError("name_or_path", path, expected) from error
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    return metadata, torchvision_keys(state)


def _check_file(path: Path) -> None:
    """Refuses what is no file, a pickle, and a header that is larger than any network's.

    A pickle runs what it holds when it is opened: none ever is, whatever its name.
    """
    try:
        size = files.regular(path).st_size
    except OSError as error:
        raise ArgumentError("name_or_path", f"{path}, {error.strerror}", "a file") from error
    with open(path, "rb") as file:
        start = file.read(8)
    length = int.from_bytes(start, "little")
    if 8 + length <= size and length <= _MAX_HEADER:
        return
    if start.startswith((b"PK\x03\x04", b"\x80")):
        got = f"{path}, a pickle or an archive of PyTorch or NumPy, which is never opened"
        raise ArgumentError("name_or_path", got, "a safetensors file: convert it where it is from")
    got = f"{path}, {size} bytes whose header says that it has {length}"
    expected = f"a complete safetensors file with a header of up to {_MAX_HEADER >> 20} MiB"
    raise ArgumentError("name_or_path", got, expected)


def _check_dtype(path: Path, key: str, dtype: str) -> None:
    if dtype not in _FLOATS and not key.endswith("num_batches_tracked"):
        got = f"{path}, where {key} is {dtype}"
        raise ArgumentError("name_or_path", got, f"one of {', '.join(_FLOATS)}")


def cast(state: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """The arrays in the type that a file is to hold.

    Raises:
        ArgumentError: another type than float16 and float32, or numbers that overflow it.
    """
    check_choice("dtype", dtype, _DTYPES)
    with np.errstate(over="ignore"):
        found = {key: np.ascontiguousarray(value, dtype) for key, value in state.items()}
    lost = [key for key, value in found.items() if not np.isfinite(value).all()]
    if lost:
        raise ArgumentError("variables", first(lost), f"numbers that are finite in {dtype}")
    return found


def write(path: Path, state: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # save_file would make a file that only its owner can read.
    files.write_bytes(path, to_bytes(dict(state), metadata=dict(metadata)))


def _download(name: str) -> Path:
    """The file of a published network: placed by hand, in the hub's cache, or fetched."""
    from huggingface_hub import hf_hub_download, hf_hub_url  # slow to import, and needed only here

    folder = Path(os.environ.get("JAXCAM_WEIGHTS", "~/.cache/jaxcam")).expanduser()
    placed = folder / f"{name}.safetensors"
    if placed.is_file():
        return placed
    repository = f"timm/{name}"
    url = hf_hub_url(repository, _HUB_FILE)
    try:
        return Path(hf_hub_download(repository, _HUB_FILE, local_files_only=True))
    except OSError:  # not in the cache
        pass
    try:
        _resolve_host(url)
        return Path(hf_hub_download(repository, _HUB_FILE))
    except Exception as error:  # whatever failed between here and the hub, the remedy is the same
        got = f"{name}, which could not be downloaded ({type(error).__name__})"
        expected = f"its file: fetch {url} and save it as {placed}, or give load() its path"
        raise ArgumentFileError("name_or_path", got, expected) from error


def _resolve_host(url: str) -> None:
    """Fails at once without a network, where the hub's client would retry for half a minute."""
    if not urllib.request.getproxies():
        socket.getaddrinfo(urllib.parse.urlsplit(url).hostname, 443)
