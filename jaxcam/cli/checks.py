"""What a user asked for, found in what there is, or refused in one line."""

import argparse
import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jaxcam import pictures
from jaxcam._ground import style
from jaxcam._ground.errors import ArgumentError
from jaxcam.classifier import explainable
from jaxcam.cli.black_boxes import BLACK_BOXES
from jaxcam.cli.network import Network
from jaxcam.methods import METHODS

# How the library calls what the command line calls otherwise.
_OPTIONS = {
    "name_or_path": "--model",
    "model": "--model",
    "classes": "--classes",
    "name": "--architecture",
    "architecture": "--architecture",
}


class UsageError(Exception):
    """A command that cannot be carried out as given."""


@contextlib.contextmanager
def usage(prefix: str, renamed: Mapping[str, str] | None = None) -> Iterator[None]:
    """A refusal is the user's: `prefix` says where, unless its argument is one of `renamed`."""
    names = renamed or {}
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, ArgumentError) and error.argument in names:
            named = error.renamed(names[error.argument])
            raise UsageError(one_line(named)) from error
        raise UsageError(prefix + one_line(error)) from error


def load(arguments: argparse.Namespace, kind: type[Network]) -> Network:
    """The network that the options name."""
    if Path(arguments.model).suffix == ".onnx":
        raise UsageError(
            f"--model: got {arguments.model!r}, but the command line explains networks of "
            "jaxcam.models; an ONNX file is explained from Python: "
            "jaxcam.rise(jaxcam.blackbox.onnx(path), images, host=True)"
        )
    with usage("--model: ", _OPTIONS):
        return kind(arguments.model, architecture=arguments.architecture, classes=arguments.classes)


def find_class(classes: Sequence[str], wanted: str) -> int:
    """Index of the class a user means: by name, one of its names ("tabby, tabby cat"), or index.

    Raises:
        UsageError: There is no such class (the nearest are named), or several have this name.
    """
    found = []
    for index, name in enumerate(classes):
        if _plain(wanted) in map(_plain, (name, *name.split(","))):
            found.append(index)
    if len(found) > 1:
        raise UsageError(
            f"--target: {len(found)} classes are called {wanted!r}; give one's index, of {found}"
        )
    if found:
        return found[0]
    if not wanted.isdecimal():
        raise UsageError(f"--target: there is no class {wanted!r}; {_nearest(wanted, classes)}")
    if int(wanted) >= len(classes):
        raise UsageError(f"--target: got class {wanted}, expected 0 to {len(classes) - 1}")
    return int(wanted)


def find_methods(names: Sequence[str]) -> list[str]:
    """The methods by name; "all" stands for all but those that must be asked for."""
    found = []
    for name in names:
        if name == "all":
            found += [usual for usual, row in METHODS.items() if not row.on_request]
        elif name in METHODS:
            found.append(name)
        else:
            raise UsageError(
                f"--method: there is no method {name!r}; {_nearest(name, list(METHODS))}"
            )
    return list(dict.fromkeys(found))


def check_counts(counts: Mapping[str, int | None], methods: Sequence[str]) -> None:
    """Raises a UsageError unless the numbers given are positive and a method takes them."""
    for option, count in counts.items():
        takers = [name for name, box in BLACK_BOXES.items() if box.option == option]
        if count is None:
            continue
        if count < 1:
            raise UsageError(f"--{option}: got {count}, expected at least 1")
        if not set(takers) & set(methods):
            raise UsageError(
                f"--{option}: got {count} without --method {' or '.join(takers)}, which alone take "
                "it"
            )


def find_layers(network: Network, names: Sequence[str]) -> tuple[str, ...]:
    """The layers by name, each once."""
    for name in names:
        if name not in network.layers:
            raise UsageError(
                f"--layer: there is no layer {name!r}; {_nearest(name, list(network.layers))}"
            )
        if not explainable(network.layers, name):
            raise UsageError(
                f"--layer: {name!r} has no spatial extent, its activations are "
                f"{network.layers[name].shape[1:]}"
            )
    return tuple(dict.fromkeys(names))


def find_style(arguments: argparse.Namespace) -> pictures.Style:
    """How the options want maps to be drawn."""
    name = arguments.colormap
    known = style.matplotlib().colormaps
    if name is not None and name not in known:
        raise UsageError(
            f"--colormap: there is no colormap {name!r}; {_nearest(name, list(known))}"
        )
    return pictures.Style(arguments.normalize, name, arguments.width)


def make_folder(arguments: argparse.Namespace, folder: Path) -> None:
    """Makes the folder that pictures go to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(
            f"-o: got {arguments.out!r}, but the folder {str(folder)!r} cannot be made: {why}"
        ) from error


def one_line(error: BaseException) -> str:
    """An error's message, whatever its form."""
    return " ".join(str(error).split()) or type(error).__name__


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _nearest(wanted: str, names: Sequence[str]) -> str:
    known = {}
    for name in names:
        for part in (*name.split(","), name):
            known[_plain(part)] = name
    close = difflib.get_close_matches(_plain(wanted), known, n=4, cutoff=0.5)
    close += [part for part in known if _plain(wanted) in part]
    if not close:
        return f"there are: {'; '.join(names[:20])}"
    nearest = dict.fromkeys(known[part] for part in close)
    return f"nearest: {'; '.join(list(nearest)[:5])}"
