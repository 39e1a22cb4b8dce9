"""A run that can be carried out: its settings are checked here, once, and become what they name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eval.run import folder, stored
from eval.run.folder import Folder
from eval.run.protocol import Protocol
from eval.run.settings import check_numbers
from eval.subjects import applies, data, methods, networks
from eval.subjects.data import Drawn
from jaxcam import datasets
from jaxcam._ground.devices import join
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.stops import Notice
from jaxcam.classifier import Classifier
from jaxcam.methods import Method


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Args:
        protocol: what is measured.
        settings: of the protocol's kind, for what they say beside the following.
        network: on which maps are measured.
        explainer: the network that is explained: the same one, unless a student stands in for it.
        methods: by which, by name.
        layers: of the explainer.
        photos: drawn, and not yet read.
        maps: those that another run has made, or None.
        folder: of the run.
        notice: whether the run was asked to end.
    """

    protocol: Protocol
    settings: Any
    network: Classifier
    explainer: Classifier
    methods: Mapping[str, Method]
    layers: tuple[str, ...]
    photos: Drawn
    maps: stored.Maps | None
    folder: Folder
    notice: Notice = field(default_factory=Notice)


def make(settings: Any, protocol: Protocol) -> Plan:
    """Joins the other processes, and checks what does not take reading the photos.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: what the settings ask for is not there; a folder that holds another run.
    """
    if settings.distributed:
        join()
    check_numbers(settings)
    if settings.data not in data.SETS:
        datasets.check_apart("output", settings.output, settings.data)
    rows = methods.find(settings.methods, settings.options)
    network = networks.load(settings.model, settings.root)
    settings = protocol.settle(settings, network)
    explainer = _explainer(settings, network)
    layers = applies.find_layers(settings.layers, rows, explainer)
    ours = folder.of(settings, protocol.name, protocol.version)
    ours.check()
    photos = data.draw(
        settings.data,
        network.input_size,
        settings.n,
        settings.seed,
        settings.root,
        settings.split,
        settings.crop,
    )
    if settings.maps and not protocol.stored:
        expected = f"none: {protocol.name} explains every photo more than once"
        raise ArgumentError("maps", settings.maps, expected)
    maps = stored.load(settings)
    if maps is None:
        applies.check_options(rows, explainer, layers)
    return Plan(protocol, settings, network, explainer, rows, layers, photos, maps, ours)


def _explainer(settings: Any, network: Classifier) -> Classifier:
    """The network whose maps are measured.

    Raises:
        FileNotFoundError: no such model.
        ValueError: one of another input size.
    """
    if not settings.explainer:
        return network
    explainer = networks.load(settings.explainer, settings.root)
    if explainer.input_size != network.input_size:
        got = f"{explainer.name}, which takes images of {_sides(explainer)} pixels"
        raise ArgumentError("explainer", got, f"{_sides(network)}, as {network.name}")
    return explainer


def _sides(network: Classifier) -> str:
    return " x ".join(map(str, network.input_size))
