"""The command line: `jaxcam explain | compare | layers | demo`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jaxcam
from jaxcam import photos, pictures
from jaxcam._ground.files import homed
from jaxcam.cli import cache
from jaxcam.cli.black_boxes import BLACK_BOXES
from jaxcam.cli.checks import UsageError
from jaxcam.cli.commands import complain, demo_jobs, draw_pictures, photo_jobs, show_layers
from jaxcam.cli.outputs import streams
from jaxcam.methods import METHODS

EXAMPLES = """\
  jaxcam demo                                    the cat and the coffee, into jaxcam-demo/
  jaxcam explain cat.jpg                         where the network sees what it predicts
  jaxcam explain *.jpg -o out --save-maps        many photos, raw maps beside the pictures
  jaxcam explain cat.jpg --target espresso       where it would see another class
  jaxcam explain cat.jpg --method grad_cam layer_cam --layer layer2 layer4
  jaxcam explain cat.jpg --method rise lime mask --samples 1000     as a black box: slow
  jaxcam compare cat.jpg                         all methods by all stages
  jaxcam compare cat.jpg --html                  and a page to explore them in
  jaxcam explain cat.jpg --width column -o cat.pdf    for a paper: fonts embedded, a legend
  jaxcam explain *.jpg --json                    what was found, a line of JSON for each photo
  jaxcam compare cat.jpg --json                  the same of every map
  jaxcam demo --format svg                       vector graphics
  jaxcam layers --model resnet50.tv_in1k         what can be explained
  jaxcam layers --json                           the same, for programs
  jaxcam explain *.png --model mine.py:model     your own model, see docs/own_model.md
"""
CODES = (
    "exit codes: 0 all went well, 1 some photos failed, 2 the command cannot be carried out as "
    "given\n"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments; None takes those of the process, whose compiled programs are kept for the
            next one (`jaxcam.cli.cache`).

    Returns:
        0: all went well; 1: some photos failed, the others are done; 2: the command cannot be
        carried out as given.
    """
    with streams():
        try:
            arguments = _parser().parse_args(homed(sys.argv[1:] if argv is None else argv))
            with cache.kept(argv is None and not arguments.no_cache):
                return arguments.run(arguments)
        except UsageError as error:
            return complain(error, 2)
        except KeyboardInterrupt:
            return complain("interrupted", 130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "jaxcam", description="Where does an image classifier look?", **_about("")
    )
    parser.add_argument("--version", action="version", version=f"jaxcam {jaxcam.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, defaults) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, **_about(name))
        command.set_defaults(**defaults)
        if defaults.get("jobs") is photo_jobs:
            command.add_argument(
                "photos", nargs="*", metavar="PHOTO", help="an image file of any size and mode"
            )
        _add_model(command)
        if name == "layers":
            command.add_argument(
                "--list-classes", action="store_true", help="all classes, with their indices"
            )
            _add_json(command.add_argument, "an object of JSON on standard output")
        else:
            _add_explanation(command)
            _add_output(command, defaults["out"])
    return parser


def _about(command: str) -> dict[str, Any]:
    """What stands below the options: the methods, and examples of the command, or of all."""
    parts = []
    if command != "layers":
        width = max(map(len, METHODS)) + 2
        rows = "\n".join(f"  {name:{width}}{row.about}" for name, row in METHODS.items())
        parts.append(f"methods:\n{rows}\n")
    shown = []
    for line in EXAMPLES.splitlines():
        if line.startswith(f"  jaxcam {command}"):
            shown.append(line)
    examples = "\n".join(shown)
    parts += [f"examples:\n{examples}\n", CODES]
    return {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "epilog": "\n".join(parts),
    }


def _add_model(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("network").add_argument
    known = (
        "bundled (tiny20, the default), published (resnet50.tv_in1k, ...), a .safetensors file, or "
        "FILE.py:function, which returns your own (docs/own_model.md)"
    )
    add("--model", default="tiny20", metavar="NAME|PATH|FILE.py:function", help=known)
    add("--architecture", metavar="NAME", help="of a .safetensors file that does not say it")
    add(
        "--classes",
        metavar="FILE",
        help="class names: a text file with a line for each, or a CSV with a column name",
    )
    add(
        "--no-cache",
        action="store_true",
        help="compile anew, and keep nothing in ~/.cache/jaxcam for the next time (or set "
        f"{cache.OFF}=1)",
    )


def _add_explanation(command: argparse.ArgumentParser) -> None:
    """What is explained and by which means."""
    add = command.add_argument_group("explanation").add_argument
    add(
        "--method",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="one or more of the methods below, or all (but those on request)",
    )
    add(
        "--layer",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="one or more layers, see jaxcam layers",
    )
    add("--target", metavar="CLASS|INDEX", help="the class to explain (default: the predicted one)")
    add(
        "--fit",
        choices=photos.FITS,
        default="stretch",
        help="how a photo becomes the network's input (%(default)s)",
    )
    for option, defaults in _counts().items():
        add(
            f"--{option}",
            type=int,
            metavar="N",
            help=f"how many: the cost and the quality of a map ({', '.join(defaults)})",
        )


def _add_output(command: argparse.ArgumentParser, out: str) -> None:
    """Where pictures and numbers go."""
    add = command.add_argument_group("output").add_argument
    add(
        "-o",
        "--out",
        default=out,
        help="a folder, or a .png, .pdf or .svg file for a single photo (default: %(default)s)",
    )
    add("--format", choices=pictures.FORMATS, help="of the files in a folder (default: png)")
    widths = ", ".join(f"{name}: {width} inches" for name, width in pictures.WIDTHS.items())
    add(
        "--width",
        choices=tuple(pictures.WIDTHS),
        help=f"for a paper, with a legend: as wide as one column or two ({widths})",
    )
    _add_json(add, "a line of JSON for each photo on standard output, all else on error")
    _add_page(add)
    _add_colours(add)


def _add_page(add: Callable) -> None:
    """Of the explorer, and of what it shows, as files."""
    add("--save-maps", action="store_true", help="raw maps and logits beside the picture, as .npz")
    add(
        "--html",
        action="store_true",
        help="also explorer.html beside the pictures: all maps in one page that opens from disk",
    )
    add(
        "--html-classes",
        type=int,
        default=3,
        metavar="N",
        help="of the likeliest classes, that many in the page (default: %(default)s)",
    )


def _add_colours(add: Callable) -> None:
    """How a map becomes a picture."""
    scale = (
        "scale of the heat, see jaxcam.maps.normalize (default: positive; signed for LRP, CLRP and "
        "LIME)"
    )
    add("--normalize", choices=("positive", "min_max", "max", "signed"), help=scale)
    add(
        "--colormap",
        metavar="NAME",
        help="any of matplotlib's (default: inferno; coolwarm if signed)",
    )


def _add_json(add: Callable, about: str) -> None:
    add("--json", action="store_true", help=about)


def _counts() -> dict[str, list[str]]:
    """The options that say how many, and what methods take without them."""
    found: dict[str, list[str]] = {}
    for name, box in BLACK_BOXES.items():
        found.setdefault(box.option, []).append(f"{name}: {box.default}")
    return found


_DRAW = {
    "run": draw_pictures,
    "jobs": photo_jobs,
    "strict": True,
    "usual_methods": ["grad_cam"],
    "out": ".",
}
COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "explain": ("a picture for each photo: the photo, its heatmaps, the probabilities", _DRAW),
    "compare": (
        "a picture for each photo: all methods by all stages of the network",
        _DRAW | {"strict": False, "usual_methods": ["all"]},
    ),
    "demo": (
        "explain the cat and the coffee that come with scikit-image",
        _DRAW | {"jobs": demo_jobs, "out": "jaxcam-demo"},
    ),
    "layers": (
        "what can be explained: the network's layers and their shapes",
        {"run": show_layers},
    ),
}
