"""What a method applies to: found out by abstract evaluation, before a photo is explained."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from eval.subjects import methods
from jaxcam import classifier
from jaxcam._ground.errors import ArgumentError
from jaxcam.classifier import Classifier
from jaxcam.methods import WHOLE, Method

Methods = Mapping[str, Method]
Layers = tuple[str, ...]


def find_layers(asked: Layers, rows: Methods, network: Classifier) -> Layers:
    """The layers of a run in the network's order: those asked for, else its stages' ends.

    `WHOLE` for a network that has none: controls apply there too.

    Args:
        asked: for by the settings.
        rows: the methods of the run.
        network: what is explained.

    Raises:
        ValueError: it has no such layer, or none at all for a method that explains a layer.
    """
    for layer in asked:
        if layer not in network.layers:
            raise ArgumentError("layers", repr(layer), _known(network))
    in_order = tuple(layer for layer in network.layers if layer in asked)
    found = in_order or network.stages or (WHOLE,)
    for name, row in rows.items():
        if row.layered and not methods.is_control(name) and found == (WHOLE,):
            raise ArgumentError(
                "methods",
                f"{name}, which explains a layer, and {network.name} has none",
                "methods of a whole network, such as rise or lime, or --explainer",
            )
    return found


def _known(network: Classifier) -> str:
    if network.layers:
        return f"any of {', '.join(network.layers)}"
    return f"none: {network.name} has no layers"


def check_options(rows: Methods, network: Classifier, layers: Layers) -> None:
    """Whether methods that apply go on applying with their options.

    Those that work on the host are not checked.

    Raises:
        ValueError: an option's value that its method does not take.
    """
    for name, row in rows.items():
        plain = methods.METHODS[name]
        if row == plain:
            continue
        without = why_not(plain, network, layers)
        for layer, reason in why_not(row, network, layers).items():
            if layer not in without:
                got = f"values that {name} cannot work with: {reason}"
                raise ArgumentError("options", got, "others")


def usable(row: Method, network: Classifier, layers: Layers) -> tuple[Layers, dict[str, str]]:
    """The layers a method can explain, and why not the others; `WHOLE` if it has no layers."""
    why = why_not(row, network, layers)
    return tuple(layer for layer in places(row, layers) if layer not in why), why


def why_not(row: Method, network: Classifier, layers: Layers) -> dict[str, str]:
    """Why a method cannot explain a layer, or `WHOLE`; unknown if it works on the host."""
    if not row.jit:
        return {}
    everywhere = places(row, layers)
    # all at once is quicker, and mostly there is nothing to say
    if not _refused(row, network, everywhere):
        return {}
    found = {layer: _refused(row, network, (layer,)) for layer in everywhere}
    return {layer: reason for layer, reason in found.items() if reason}


def _refused(row: Method, network: Classifier, layers: Layers) -> str:
    """Why a method cannot explain some layers; nothing if it can."""
    targets = jax.ShapeDtypeStruct((1,), jnp.int32)
    explained = _explained(row, network, layers)
    try:
        jax.eval_shape(explained, network.params, network.image(), targets)
    except ValueError as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _explained(row: Method, network: Classifier, layers: Sequence[str]) -> Callable:
    return lambda params, images, targets: classifier.explain(
        row, network.forward(params), images, targets, layers
    )


def places(row: Method, layers: Layers) -> Layers:
    """Where a method has maps: the layers, or `WHOLE`."""
    if row.layered:
        return layers
    return (WHOLE,)
