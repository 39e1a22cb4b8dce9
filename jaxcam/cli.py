"""The command line: `jaxcam explain | compare | layers | demo`."""

import argparse
import contextlib
import difflib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxcam
from jaxcam import photos, pictures
from jaxcam.methods import METHODS, WHOLE

EXAMPLES = """examples:
  jaxcam demo                                    the cat and the coffee, into jaxcam-demo/
  jaxcam explain cat.jpg                         where the network sees what it predicts
  jaxcam explain *.jpg -o out --save-maps        many photos, raw maps beside the pictures
  jaxcam explain cat.jpg --target espresso       where it would see another class
  jaxcam explain cat.jpg --method grad_cam layer_cam --layer layer2 layer4
  jaxcam compare cat.jpg                         all methods by all stages
  jaxcam layers --model resnet50.tv_in1k         what can be explained

exit codes: 0 all went well, 1 some photos failed, 2 the command cannot be carried out as given
"""


class UsageError(Exception):
    """A command that cannot be carried out as given."""


class Job(NamedTuple):
    """A photo to explain: what to call it, how to get its pixels, where its picture goes."""

    name: str
    read: Callable[[], np.ndarray]
    out: Path


class Plan(NamedTuple):
    """What to do with every photo."""

    network: "Network"
    methods: Mapping[str, tuple[str, ...]]  # the layers that each can explain
    layers: tuple[str, ...]
    target: int | None
    style: pictures.Style
    fit: str
    save_maps: bool


class Network:
    """A trained network, its layers, and one compiled program for each method and input size."""

    def __init__(self, name: str, *, architecture: str | None = None, classes: str | None = None):
        """Load a network; the arguments and what is raised are those of `jaxcam.models.describe`."""
        from jaxcam import models  # flax is slow to import, and --help does without

        self.name = Path(name).stem if name.endswith(".safetensors") else name
        self.about = models.describe(name, architecture=architecture, classes=classes)
        self.model, self.variables = models.load(name, architecture=architecture)
        self.size = (self.about.preprocess.size,) * 2
        self.layers = jaxcam.layers(functools.partial(self._forward, self.variables), _image(self.size))
        self._programs: dict[tuple, Callable] = {}

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Logits `[N]` of a prepared photo `[H, W, 3]` uint8."""
        program = self._program((), image.shape[:2], lambda forward, images, _: forward(images))
        return np.asarray(program(self.variables, image[None], np.zeros(1, np.int32)))[0]

    def explain(self, method: str, layers: Sequence[str], image: np.ndarray, target: int) -> dict[str, np.ndarray]:
        """Raw maps `[h, w]` by layer of a prepared photo `[H, W, 3]` uint8."""
        program = self.compiled(method, tuple(layers), image.shape[:2])
        found = program(self.variables, image[None], np.full(1, target, np.int32))
        return {layer: np.asarray(raw)[0] for layer, raw in found.items()}

    def compiled(self, method: str, layers: tuple[str, ...], size: tuple[int, int]) -> Callable:
        """The program for a method and layers at an input size; a ValueError if the method does not apply there."""
        row = METHODS[method]

        def by_layer(forward: Callable, images: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
            if not row.layered:
                return {WHOLE: row.function(forward, images, targets)}
            return row.function(forward, images, targets, layer=layers)

        return self._program((method, layers), size, by_layer, row.jit)

    def applicable(self, method: str, layers: Sequence[str]) -> tuple[str, ...]:
        """Those of the layers that a method can explain."""
        with contextlib.suppress(ValueError):
            self.compiled(method, tuple(layers), self.size)
            return tuple(layers)
        return tuple(layer for layer in layers if len(layers) > 1 and self.applicable(method, [layer]))

    def _forward(self, variables: Any, images: jax.Array) -> jax.Array:
        forward = jaxcam.linen(self.model, variables)
        return forward(self.about.preprocess(images.astype(jnp.float32) / 255))

    def _program(self, key: tuple, size: tuple[int, int], function: Callable, jit: bool = True) -> Callable:
        """Compiled once; the parameters are arguments, which XLA compiles faster than constants."""

        def run(variables: Any, images: jax.Array, targets: jax.Array) -> Any:
            return function(functools.partial(self._forward, variables), images, targets)

        if not jit:
            return run
        if (key, size) not in self._programs:
            lowered = jax.jit(run).lower(self.variables, _image(size), jax.ShapeDtypeStruct((1,), jnp.int32))
            self._programs[key, size] = lowered.compile()
        return self._programs[key, size]


def stages(layers: Mapping[str, jax.ShapeDtypeStruct], count: int = 4) -> tuple[str, ...]:
    """The layers that end the last stages of a network, in execution order.

    Of the least nested names the last at each resolution; if there are fewer of these than `count`, of each shape.
    """
    spatial = {name: aval.shape for name, aval in layers.items() if _spatial(aval.shape)}
    depth = min((name.count(".") for name in spatial), default=0)
    shallow = {name: shape for name, shape in spatial.items() if name.count(".") == depth}
    ends = {shape[1:3]: name for name, shape in shallow.items()}
    if len(ends) < count:
        ends = {shape[1:]: name for name, shape in shallow.items()}
    order = list(spatial)
    return tuple(sorted(ends.values(), key=order.index)[-count:])


def find_class(classes: Sequence[str], wanted: str) -> int:
    """Index of the class that a user means: its name, one of its names ("tabby, tabby cat"), or its index.

    Raises:
        UsageError: There is no such class (the nearest are named), or several have this name.
    """
    names = [{_plain(part) for part in (name, *name.split(","))} for name in classes]
    found = [index for index, synonyms in enumerate(names) if _plain(wanted) in synonyms]
    if len(found) > 1:
        raise UsageError(f"--target: {len(found)} classes are called {wanted!r}; give one's index, of {found}")
    if found:
        return found[0]
    if not wanted.isdecimal():
        raise UsageError(f"--target: there is no class {wanted!r}; {_nearest(wanted, classes)}")
    if int(wanted) >= len(classes):
        raise UsageError(f"--target: got class {wanted}, expected 0 to {len(classes) - 1}")
    return int(wanted)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments; None takes those of the process.

    Returns:
        0: all went well; 1: some photos failed, the others are done; 2: the command cannot be carried out as given.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except UsageError as error:
        return _complain(error, 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _draw_pictures(arguments: argparse.Namespace) -> int:
    """The commands explain, compare and demo, which differ in their defaults."""
    jobs = arguments.jobs(arguments)
    methods = _methods(arguments.method or (["grad_cam"] if arguments.strict else ["all"]))
    style = _style(arguments)
    network = _network(arguments)
    target = None if arguments.target is None else find_class(network.about.classes, arguments.target)
    default = [network.layers.default] if arguments.strict else stages(network.layers)
    layers = _layers(network, arguments.layer or default)
    shown = tqdm(methods, "compiling", disable=None, leave=False)
    applicable = {method: network.applicable(method, layers) for method in shown}
    for method, possible in applicable.items():
        if arguments.strict and possible != layers:
            with _usage(f"--method {method}: "):  # asked for by name: say why it cannot be had
                network.compiled(method, layers, network.size)
    with _usage("-o: "):
        jobs[0].out.parent.mkdir(parents=True, exist_ok=True)
    return _run(jobs, Plan(network, applicable, layers, target, style, arguments.fit, arguments.save_maps))


def _run(jobs: Sequence[Job], plan: Plan) -> int:
    """Explain photo after photo; what is wrong with one does not stop the others."""
    failed, steps = 0, len(plan.methods)
    with tqdm(total=len(jobs) * steps, unit="map", disable=None, leave=False) as progress:
        for number, job in enumerate(jobs, start=1):
            try:
                progress.write(_explain(job, plan, progress).encode("utf-8", "replace").decode())  # names are bytes
            except (OSError, ValueError, MemoryError) as error:
                failed += 1
                progress.write(f"jaxcam: {_one_line(error)}", file=sys.stderr)
            progress.update(number * steps - progress.n)
    if failed and len(jobs) > 1:
        return _complain(f"{failed} of {len(jobs)} photos failed", 1)
    return 1 if failed else 0


def _explain(job: Job, plan: Plan, progress: Any) -> str:
    """Explain one photo and write its picture; returns the line to print."""
    network, classes, photo = plan.network, plan.network.about.classes, job.read()
    image = photos.prepare(photo, network.size, plan.fit)
    logits = network.logits(image)
    target = int(np.argmax(logits)) if plan.target is None else plan.target
    raw = {}
    for method, layers in plan.methods.items():
        progress.set_description(f"{job.name} {method}")
        found = network.explain(method, layers, image, target) if layers else {}
        raw |= {(method, layer): found.get(layer) for layer in (plan.layers if METHODS[method].layered else (WHOLE,))}
        progress.update()
    shares = np.asarray(jax.nn.softmax(logits))
    labelled = {(METHODS[method].title, _label(layer, network)): each for (method, layer), each in raw.items()}
    seen = (network.size, plan.fit, network.name)
    pictures.save(pictures.Explanation(job.name, photo, labelled, classes, shares, target, *seen), job.out, plan.style)
    if plan.save_maps:
        known = {f"{method}/{layer}": each for (method, layer), each in raw.items() if each is not None}
        pictures.save_maps(job.out.with_suffix(".npz"), known, logits, target)
    return f"{job.name}: {classes[target]} {shares[target]:.1%} -> {job.out}"


def _show_layers(arguments: argparse.Namespace) -> int:
    network = _network(arguments)
    ends, width = stages(network.layers), max(map(len, network.layers), default=0)
    size = " x ".join(map(str, network.size))
    print(f"{network.name}: {network.about.architecture}, {len(network.about.classes)} classes, input {size}")
    for name, aval in network.layers.items():
        notes = ["stage"] * (name in ends) + ["default"] * (name == network.layers.default)
        print(f"  {name:{width}}  {' x '.join(map(str, aval.shape[1:])):16}  {', '.join(notes)}".rstrip())
    print("default: what explain takes without --layer; stage: what compare takes without it")
    return 0


def _photo_jobs(arguments: argparse.Namespace) -> list[Job]:
    sources = list(dict.fromkeys(arguments.photos))
    if not sources:
        swallowed = [name for name in (arguments.method or []) + (arguments.layer or []) if Path(name).exists()]
        raise UsageError("no PHOTO given" + (f"; put {swallowed[0]} before the options" if swallowed else ""))
    with _usage("-o: "):
        outs = pictures.paths(sources, arguments.out, f"_{arguments.command}")
    names = [Path(source).name for source in sources]
    reads = [functools.partial(photos.read, source) for source in sources]
    return list(map(Job, names, reads, outs))


def _demo_jobs(arguments: argparse.Namespace) -> list[Job]:
    import skimage.data

    with _usage("-o: "):
        outs = pictures.paths(("cat", "coffee"), arguments.out)
    return list(map(Job, ("cat", "coffee"), (skimage.data.cat, skimage.data.coffee), outs))


def _network(arguments: argparse.Namespace) -> Network:
    with _usage("--model: "):
        return Network(arguments.model, architecture=arguments.architecture, classes=arguments.classes)


def _methods(names: Sequence[str]) -> list[str]:
    names = list(METHODS) if "all" in names else list(dict.fromkeys(names))
    for name in names:
        if name not in METHODS:
            raise UsageError(f"--method: there is no method {name!r}; {_nearest(name, list(METHODS))}")
    return names


def _layers(network: Network, names: Sequence[str | None]) -> tuple[str, ...]:
    for name in names:
        if name not in network.layers:
            raise UsageError(f"--layer: there is no layer {name!r}; {_nearest(str(name), list(network.layers))}")
        shape = network.layers[name].shape
        if not _spatial(shape):
            raise UsageError(f"--layer: {name!r} has no spatial extent, its activations are {shape[1:]}")
    return tuple(dict.fromkeys(names))


def _style(arguments: argparse.Namespace) -> pictures.Style:
    import matplotlib

    name = arguments.colormap
    if name is not None and name not in matplotlib.colormaps:
        raise UsageError(f"--colormap: there is no colormap {name!r}; {_nearest(name, list(matplotlib.colormaps))}")
    return pictures.Style(arguments.normalize, name)


@contextlib.contextmanager
def _usage(prefix: str) -> Iterator[None]:
    """What the library refuses, the user asked for."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UsageError(prefix + _one_line(error).removeprefix("name_or_path: ")) from error


def _label(layer: str, network: Network) -> str:
    return "" if layer == WHOLE else "{}\n{} × {}".format(layer, *network.layers[layer].shape[1:3])


def _image(size: tuple[int, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)


def _spatial(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and shape[1] * shape[2] > 1


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _nearest(wanted: str, names: Sequence[str]) -> str:
    plain = {_plain(part): name for name in names for part in (*name.split(","), name)}
    close = difflib.get_close_matches(_plain(wanted), plain, n=4, cutoff=0.5)
    close += [part for part in plain if _plain(wanted) in part]
    nearest = list(dict.fromkeys(plain[part] for part in close))[:5]
    return f"nearest: {'; '.join(nearest)}" if nearest else f"there are: {'; '.join(names[:20])}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _complain(message: object, code: int) -> int:
    print(f"jaxcam: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:20}{row.about}" for name, row in METHODS.items())
    about = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": f"methods:\n{listed}\n\n{EXAMPLES}"}
    parser = argparse.ArgumentParser("jaxcam", description="Where does an image classifier look?", **about)
    parser.add_argument("--version", action="version", version=f"jaxcam {jaxcam.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, defaults) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, **about)
        command.set_defaults(**defaults)
        if defaults.get("jobs") is _photo_jobs:
            command.add_argument("photos", nargs="*", metavar="PHOTO", help="an image file of any size and mode")
        _add_model(command)
        if name != "layers":
            _add_drawing(command, "jaxcam-demo" if name == "demo" else ".")
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("network").add_argument
    known = "bundled (tiny20, the default), published (resnet50.tv_in1k, ...), or a .safetensors file"
    add("--model", default="tiny20", metavar="NAME|PATH", help=known)
    add("--architecture", metavar="NAME", help="of a .safetensors file that does not say it")
    add("--classes", metavar="FILE", help="class names: a text file with a line for each, or a CSV with a column name")


def _add_drawing(command: argparse.ArgumentParser, out: str) -> None:
    add = command.add_argument_group("explanation").add_argument
    add("--method", nargs="+", action="extend", metavar="NAME", help="one or more of the methods below, or all")
    add("--layer", nargs="+", action="extend", metavar="NAME", help="one or more layers, see jaxcam layers")
    add("--target", metavar="CLASS|INDEX", help="the class to explain (default: the predicted one)")
    add("--fit", choices=photos.FITS, default="stretch", help="how a photo becomes the network's input (%(default)s)")
    add = command.add_argument_group("output").add_argument
    add("-o", "--out", default=out, help="a folder, or a .png file for a single photo (default: %(default)s)")
    add("--save-maps", action="store_true", help="raw maps and logits beside the picture, as .npz")
    add("--normalize", choices=("positive", "min_max", "max", "signed"), default="positive",
        help="scale of the heat, see jaxcam.maps.normalize (%(default)s)")  # fmt: skip
    add("--colormap", metavar="NAME", help="any of matplotlib's (default: inferno; coolwarm if signed)")


_DRAW = {"run": _draw_pictures, "jobs": _photo_jobs, "strict": True}
COMMANDS = {
    "explain": ("a picture for each photo: the photo, its heatmaps, the probabilities", _DRAW),
    "compare": ("a picture for each photo: all methods by all stages of the network", _DRAW | {"strict": False}),
    "demo": ("explain the cat and the coffee that come with scikit-image", _DRAW | {"jobs": _demo_jobs}),
    "layers": ("what can be explained: the network's layers and their shapes", {"run": _show_layers}),
}

if __name__ == "__main__":
    sys.exit(main())
