"""What the commands do: explain photo after photo, or list what can be explained."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxcam import photos, pictures
from jaxcam.cli import black_boxes, checks
from jaxcam.cli.black_boxes import BLACK_BOXES
from jaxcam.cli.checks import UsageError
from jaxcam.cli.network import Network, stages
from jaxcam.methods import METHODS, WHOLE

_NAMED = 5  # classes that `layers` names unless asked for all


class Job(NamedTuple):
    """A photo to explain: what to call it, how to get its pixels, where its picture goes."""

    name: str
    read: Callable[[], np.ndarray]
    out: Path


class Plan(NamedTuple):
    """What to do with every photo."""

    network: Network
    methods: Mapping[str, tuple[str, ...]]  # the layers that each can explain
    layers: tuple[str, ...]
    target: int | None
    style: pictures.Style
    fit: str
    save_maps: bool
    counts: Mapping[str, int | None]  # of masks, samples or steps


def draw_pictures(arguments: argparse.Namespace) -> int:
    """The commands explain, compare and demo, which differ in their defaults."""
    jobs = arguments.jobs(arguments)
    asked = arguments.method or (["grad_cam"] if arguments.strict else ["all"])
    methods, counts = checks.find_methods(asked), black_boxes.counts(arguments)
    checks.check_counts(counts, methods)
    style = checks.find_style(arguments)
    network = checks.load(arguments, Network)
    target = (
        None
        if arguments.target is None
        else checks.find_class(network.about.classes, arguments.target)
    )
    default = [network.layers.default] if arguments.strict else stages(network.layers)
    layers = checks.find_layers(network, arguments.layer or default)
    applicable = _applicable(network, methods, layers, asked, arguments.strict)
    checks.make_folder(arguments, jobs[0].out.parent)
    for method in (name for name in applicable if name in BLACK_BOXES):
        tqdm.write(f"jaxcam: {black_boxes.estimate(method, network, counts)}", file=sys.stderr)
    return _run(
        jobs,
        Plan(
            network, applicable, layers, target, style, arguments.fit, arguments.save_maps, counts
        ),
    )


def show_layers(arguments: argparse.Namespace) -> int:
    """The command layers."""
    network = checks.load(arguments, Network)
    ends, width = stages(network.layers), max(map(len, network.layers), default=0)
    classes, size = network.about.classes, " x ".join(map(str, network.size))
    print(f"{network.name}: {network.about.architecture}, {len(classes)} classes, input {size}")
    for name, aval in network.layers.items():
        notes = ["stage"] * (name in ends) + ["default"] * (name == network.layers.default)
        print(
            f"  {name:{width}}  {' x '.join(map(str, aval.shape[1:])):16}  "
            f"{', '.join(notes)}".rstrip()
        )
    print("default: what explain takes without --layer; stage: what compare takes without it")
    if arguments.list_classes:
        print(
            "\n".join(["classes:", *(f"  {index:4}  {name}" for index, name in enumerate(classes))])
        )
    else:
        more = f"; ... ({len(classes)}: --list-classes)" if len(classes) > _NAMED else ""
        print(f"classes: {'; '.join(classes[:_NAMED])}{more}")
    return 0


def photo_jobs(arguments: argparse.Namespace) -> list[Job]:
    """The photos given."""
    sources = list(dict.fromkeys(arguments.photos))
    if not sources:
        swallowed = [
            name
            for name in (arguments.method or []) + (arguments.layer or [])
            if Path(name).exists()
        ]
        raise UsageError(
            "no PHOTO given" + (f"; put {swallowed[0]} before the options" if swallowed else "")
        )
    with checks.usage("-o: ", {"out: ": "-o: "}):
        outs = pictures.paths(sources, arguments.out, f"_{arguments.command}")
    names = [Path(source).name for source in sources]
    reads = [functools.partial(photos.read, source) for source in sources]
    return list(map(Job, names, reads, outs))


def demo_jobs(arguments: argparse.Namespace) -> list[Job]:
    """The cat and the coffee."""
    import skimage.data

    with checks.usage("-o: ", {"out: ": "-o: "}):
        outs = pictures.paths(("cat", "coffee"), arguments.out)
    return list(map(Job, ("cat", "coffee"), (skimage.data.cat, skimage.data.coffee), outs))


def complain(message: object, code: int) -> int:
    """Says what is wrong; returns the exit code."""
    print(f"jaxcam: {message}", file=sys.stderr)
    return code


def _applicable(
    network: Network,
    methods: Sequence[str],
    layers: tuple[str, ...],
    asked: Sequence[str],
    strict: bool,
) -> dict[str, tuple[str, ...]]:
    """Each method's layers; a method not asked for by name that can explain none is left out."""
    found = {}
    for method in tqdm(methods, "compiling", disable=None, leave=False):
        found[method] = layers if method in BLACK_BOXES else network.applicable(method, layers)
        if strict and method in asked and found[method] != layers:
            with checks.usage(f"--method {method}: "):  # say why it cannot be had
                network.compiled(method, layers, network.size)
    found = {method: possible for method, possible in found.items() if possible or method in asked}
    if not any(found.values()):
        raise UsageError(f"--method: none of {', '.join(methods)} applies to {', '.join(layers)}")
    return found


def _run(jobs: Sequence[Job], plan: Plan) -> int:
    """Explain photo after photo; what is wrong with one does not stop the others."""
    failed, steps = 0, len(plan.methods)
    with tqdm(total=len(jobs) * steps, unit="map", disable=None, leave=False) as progress:
        for number, job in enumerate(jobs, start=1):
            try:
                # names are bytes
                progress.write(_explain(job, plan, progress).encode("utf-8", "replace").decode())
            except (OSError, ValueError, MemoryError) as error:
                failed += 1
                progress.write(f"jaxcam: {checks.one_line(error)}", file=sys.stderr)
            progress.update(number * steps - progress.n)
    if failed and len(jobs) > 1:
        return complain(f"{failed} of {len(jobs)} photos failed", 1)
    return 1 if failed else 0


def _explain(job: Job, plan: Plan, progress: Any) -> str:
    """Explain one photo and write its picture; returns the line to print."""
    network, classes, photo = plan.network, plan.network.about.classes, job.read()
    image = photos.prepare(photo, network.size, plan.fit)
    logits = network.logits(image)
    target = int(np.argmax(logits)) if plan.target is None else plan.target
    view, raw = black_boxes.View(network, photo, image, plan.fit, target), {}
    for method in plan.methods:
        progress.set_description(f"{job.name} {method}")
        raw |= _maps(method, plan, view, f"{job.name} {method}")
        progress.update()
    shares = network.probabilities(logits)
    labelled = {
        (METHODS[method].title, _label(layer, network)): each
        for (method, layer), each in raw.items()
    }
    signed = frozenset(METHODS[method].title for method in plan.methods if METHODS[method].signed)
    seen = (network.size, plan.fit, network.name, signed)
    pictures.save(
        pictures.Explanation(job.name, photo, labelled, classes, shares, target, *seen),
        job.out,
        plan.style,
    )
    if plan.save_maps:
        known = {
            f"{method}/{layer}": each for (method, layer), each in raw.items() if each is not None
        }
        pictures.save_maps(job.out.with_suffix(".npz"), known, logits, target)
    return f"{job.name}: {classes[target]} {shares[target]:.1%} -> {job.out}"


def _maps(
    method: str, plan: Plan, view: black_boxes.View, description: str
) -> dict[tuple[str, str], Any]:
    """Raw maps of a photo by (method, layer), None where the method does not apply."""
    if method in BLACK_BOXES:
        with _bar(description, BLACK_BOXES[method].unit) as tell:
            return {(method, WHOLE): black_boxes.explain(method, view, plan.counts, tell)}
    possible = plan.methods[method]
    found = view.network.explain(method, possible, view.image, view.target) if possible else {}
    return {
        (method, layer): found.get(layer)
        for layer in (plan.layers if METHODS[method].layered else (WHOLE,))
    }


@contextlib.contextmanager
def _bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the remaining time, below that of all photos, and what tells it (done, total)."""
    with tqdm(desc=description, unit=unit, disable=None, leave=False) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tell


def _label(layer: str, network: Network) -> str:
    return "" if layer == WHOLE else "{}\n{} × {}".format(layer, *network.layers[layer].shape[1:3])
