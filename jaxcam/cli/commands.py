"""What the commands do: explain photo after photo, or list what can be explained."""

import argparse
import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxcam import photos, pictures
from jaxcam._ground.text import counted, in_line
from jaxcam._program.centers import Centers
from jaxcam.cli import black_boxes, checks, outputs, results
from jaxcam.cli.black_boxes import BLACK_BOXES
from jaxcam.cli.checks import UsageError
from jaxcam.cli.exploring import Page
from jaxcam.cli.network import Network
from jaxcam.lrp import _kept as lrp
from jaxcam.methods import METHODS, WHOLE

# Raw maps by (method, layer); None where the method does not apply.
Maps = dict[tuple[str, str], np.ndarray | None]
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
    page: Page | None = None  # of --html
    json: bool = False


def draw_pictures(arguments: argparse.Namespace) -> int:
    """The commands explain, compare and demo, which differ in their defaults."""
    jobs = arguments.jobs(arguments)
    asked = arguments.method or arguments.usual_methods
    methods = checks.find_methods(asked)
    counts = black_boxes.counts(arguments)
    checks.check_counts(counts, methods)
    style = checks.find_style(arguments)
    network = checks.load(arguments, Network)
    target = None
    if arguments.target is not None:
        target = checks.find_class(network.about.classes, arguments.target)
    layers = checks.find_layers(network, arguments.layer or _usual_layers(network, arguments))
    applicable = _applicable(network, methods, layers, asked, arguments.strict)
    checks.make_folder(arguments, jobs[0].out.parent)
    for method in applicable:
        if method in BLACK_BOXES:
            outputs.say(f"jaxcam: {black_boxes.estimate(method, network, counts)}", error=True)
    plan = Plan(
        network=network,
        methods=applicable,
        layers=layers,
        target=target,
        style=style,
        fit=arguments.fit,
        save_maps=arguments.save_maps,
        counts=counts,
        json=arguments.json,
    )
    if arguments.html:
        where = Page.place(jobs[0].out)
        plan = plan._replace(page=Page(where, network, arguments.fit, arguments.html_classes))
    return _run(jobs, plan)


def _usual_layers(network: Network, arguments: argparse.Namespace) -> Sequence[str]:
    """What is explained without --layer: by explain the default layer, by compare all stages."""
    if not arguments.strict:
        return network.about.stages
    if network.layers.default is None:
        raise UsageError(f"--layer: {network.name} has no layer with spatial extent")
    return [network.layers.default]


def show_layers(arguments: argparse.Namespace) -> int:
    """The command layers."""
    network = checks.load(arguments, Network)
    if arguments.json:
        outputs.say(results.layers(network))
        return 0
    width = max(map(len, network.layers), default=0)
    classes = network.about.classes
    size = " x ".join(map(str, network.size))
    if network.about.channels == 1:
        size = f"{size}, grey"
    made = ", ".join(filter(None, (network.about.architecture, counted(len(classes), "class"))))
    outputs.say(f"{network.name}: {made}, input {size}")
    for name, aval in network.layers.items():
        shape = " x ".join(map(str, aval.shape[1:]))
        outputs.say(f"  {name:{width}}  {shape:16}  {_notes(network, name)}".rstrip())
    outputs.say("default: what explain takes without --layer; stage: what compare takes without it")
    if arguments.list_classes:
        outputs.say("classes:")
        for index, name in enumerate(classes):
            outputs.say(f"  {index:4}  {name}")
    elif len(classes) > _NAMED:
        named = "; ".join(classes[:_NAMED])
        outputs.say(f"classes: {named}; ... ({len(classes)}: --list-classes)")
    else:
        outputs.say(f"classes: {'; '.join(classes)}")
    return 0


def _notes(network: Network, layer: str) -> str:
    """What is special about a layer."""
    notes = []
    if layer in network.about.stages:
        notes.append("stage")
    if layer == network.layers.default:
        notes.append("default")
    return ", ".join(notes)


def photo_jobs(arguments: argparse.Namespace) -> list[Job]:
    """The photos given."""
    sources = list(dict.fromkeys(arguments.photos))
    if not sources:
        for name in (arguments.method or []) + (arguments.layer or []):
            if Path(name).exists():
                raise UsageError(f"no PHOTO given; put {name} before the options")
        raise UsageError("no PHOTO given")
    with checks.usage("-o: ", {"out": "-o"}):
        suffix = f"_{arguments.command}"
        read = (arguments.model, arguments.classes)
        outs = outputs.paths(sources, arguments.out, suffix, arguments.format, read)
        if arguments.html:
            outputs.check_not_read([Page.place(outs[0])], [*sources, *read])
    jobs = []
    for source, name, out in zip(sources, outputs.names(sources), outs, strict=True):
        jobs.append(Job(in_line(name), functools.partial(photos.read, source), out))
    return jobs


def demo_jobs(arguments: argparse.Namespace) -> list[Job]:
    """The cat and the coffee."""
    import skimage.data

    with checks.usage("-o: ", {"out": "-o"}):
        outs = outputs.paths(("cat", "coffee"), arguments.out, kind=arguments.format)
    return list(map(Job, ("cat", "coffee"), (skimage.data.cat, skimage.data.coffee), outs))


def complain(message: object, code: int) -> int:
    """Says what is wrong; returns the exit code."""
    outputs.say(f"jaxcam: {message}", error=True)
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
        possible = layers
        if method not in BLACK_BOXES:
            possible = network.applicable(method, layers)
        if strict and method in asked and possible != layers:
            with checks.usage(f"--method {method}: "):  # say why it cannot be had
                network.compiled(method, layers, network.size)
        if possible or method in asked:
            found[method] = possible
    if not any(found.values()):
        raise UsageError(f"--method: none of {', '.join(methods)} applies to {', '.join(layers)}")
    left_out = [method for method in methods if method not in found]
    if left_out:
        outputs.say(
            f"jaxcam: left out, as they do not apply to {network.name}: {', '.join(left_out)} "
            "(jaxcam explain --method NAME says why)",
            error=True,
        )
    return found


def _run(jobs: Sequence[Job], plan: Plan) -> int:
    """Explain photo after photo; what is wrong with one does not stop the others."""
    failed = []
    replaced = 0
    steps = len(plan.methods)
    with tqdm(total=len(jobs) * steps, unit="map", disable=None, leave=False) as progress:
        for number, job in enumerate(jobs, start=1):
            there = os.path.exists(job.out)
            try:
                outputs.say(_explain(job, plan, progress))
                replaced += there
            except (OSError, ValueError, MemoryError) as error:
                failed.append(job.name)
                complain(checks.one_line(error), 1)
                if plan.json:
                    outputs.say(results.failure(job.name, checks.one_line(error)))
            progress.update(number * steps - progress.n)
    failed += _written(plan.page, plan.json)
    if replaced:
        complain(f"{counted(replaced, 'picture')} of an earlier run replaced", 0)
    if failed and len(jobs) > 1:
        named = ", ".join(failed[:_NAMED])
        if len(failed) > _NAMED:
            named = f"{named}, ..."
        complain(f"{len(failed)} of {counted(len(jobs), 'photo')} failed: {named}", 1)
    return int(len(failed) > 0)


def _written(page: Page | None, json: bool) -> list[str]:
    """Writes the page, if one is asked for; its name if it cannot be written."""
    if page is None:
        return []
    try:
        line = page.write()
    except OSError as error:
        complain(checks.one_line(error), 1)
        return [page.path.name]
    if line:
        outputs.say(line, error=json)
    return []


def _explain(job: Job, plan: Plan, progress: Any) -> str:
    """Explain one photo and write its picture; returns the line to print."""
    network = plan.network
    photo = job.read()
    image = photos.prepare(photo, network.size, plan.fit)
    logits = network.logits(image)
    _check_logits(logits, job.name)
    target = plan.target
    if target is None:
        target = int(np.argmax(logits))
    view = black_boxes.View(network, photo, image, plan.fit, target)
    raw: Maps = {}
    for method in plan.methods:
        progress.set_description(f"{job.name} {method}")
        raw |= _maps(method, plan, view, f"{job.name} {method}")
        progress.update()
    for line in _little(raw, logits[target]):
        complain(f"{job.name}: {line}", 0)
    shares = network.about.probabilities(logits)
    classes = network.about.classes
    picture = pictures.Explanation(
        name=job.name,
        photo=photo,
        maps=_labelled(raw, network, float(logits[target])),
        centers=_centers(raw, network),
        classes=classes,
        probabilities=shares,
        target=target,
        size=network.size,
        fit=plan.fit,
        network=network.name,
        signed=frozenset(METHODS[name].title for name in plan.methods if METHODS[name].signed),
    )
    pictures.save(picture, job.out, plan.style)
    if plan.save_maps:
        _save_maps(raw, logits, target, job.out.with_suffix(".npz"))
    if plan.page is not None:
        again = lambda method, index: _maps(method, plan, view._replace(target=index), job.name)
        plan.page.add(job.name, photo, logits, target, raw, again)
    if plan.json:
        return results.photo(job.name, job.out, network, logits, target, raw)
    return f"{job.name}: {classes[target]} {shares[target]:.1%} -> {job.out}"


def _little(raw: Maps, logit: float) -> list[str]:
    """What is to be said of LRP's map: it should sum to the logit."""
    relevance = raw.get(("lrp", WHOLE))
    if relevance is None:
        return []
    shares = np.array([relevance.sum() / logit])
    if not lrp.is_little(shares):
        return []
    return [lrp.message("pixels", shares)]


def _check_logits(logits: np.ndarray, name: str) -> None:
    lost = logits.size - np.count_nonzero(np.isfinite(logits))
    if lost:
        raise ValueError(
            f"photo {name!r} has no explanation: {lost} of the network's {logits.size} logits are "
            "NaN or infinite"
        )


def _labelled(raw: Maps, network: Network, score: float) -> Maps:
    """Maps by what a picture calls their methods and layers; above 0 what speaks for the class."""
    found: Maps = {}
    for (method, layer), each in raw.items():
        if each is not None:
            each = METHODS[method].evidence(each, score)
        found[_label(method, layer, network)] = each
    return found


def _label(method: str, layer: str, network: Network) -> tuple[str, str]:
    if layer == WHOLE:
        return METHODS[method].title, ""
    height, width = network.layers.grids[layer]
    return METHODS[method].title, f"{layer}\n{height} × {width}"


def _centers(raw: Maps, network: Network) -> dict[tuple[str, str], Centers]:
    """Where the cells of layers lie in the network's input."""
    found = {}
    for method, layer in raw:
        if layer in network.layers.centers:
            found[_label(method, layer, network)] = network.layers.centers[layer]
    return found


def _save_maps(raw: Maps, logits: np.ndarray, target: int, path: Path) -> None:
    known = {}
    for (method, layer), each in raw.items():
        if each is not None:
            known[f"{method}/{layer}"] = each
    pictures.save_maps(path, known, logits, target)


def _maps(method: str, plan: Plan, view: black_boxes.View, description: str) -> Maps:
    """The raw maps of a photo by one method."""
    if method in BLACK_BOXES:
        with _bar(description, BLACK_BOXES[method].unit) as tell:
            return {(method, WHOLE): black_boxes.explain(method, view, plan.counts, tell)}
    places = (WHOLE,)
    if METHODS[method].layered:
        places = plan.layers
    possible = plan.methods[method]
    if not possible:
        return dict.fromkeys((method, layer) for layer in places)
    found = view.network.explain(method, possible, view.image, view.target)
    return {(method, layer): found.get(layer) for layer in places}


@contextlib.contextmanager
def _bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the remaining time, below that of all photos, and what tells it (done, total)."""
    with tqdm(desc=description, unit=unit, disable=None, leave=False) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tell
