"""What a method applies to: found out by abstract evaluation, before a photo is explained."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp

import jaxcam
from eval import methods, models
from eval.settings import Settings


def image(network: models.Network) -> jax.ShapeDtypeStruct:
    """One image of a network, abstractly."""
    return jax.ShapeDtypeStruct((1, network.size, network.size, 3), jnp.float32)


def layers_of(settings: Settings, network: models.Network) -> tuple[str, ...]:
    """The layers of a run, `WHOLE` for a network that has none: controls apply there too."""
    return settings.layers or network.layers or (methods.WHOLE,)


def check_layers(settings: Settings, network: models.Network, name: str) -> None:
    """Whether a run's layers are there for its methods.

    Args:
        settings: of the run.
        network: what is explained.
        name: of the network.

    Raises:
        ValueError: it has no such layer, or none at all for a method that explains a layer.
    """
    shapes = jaxcam.layers(partial(network.apply, network.params), image(network))
    for layer in settings.layers:
        if layer not in shapes:
            known = f"any of {', '.join(shapes)}" if shapes else f"none: {name} has no layers"
            raise ValueError(f"layers: got {layer!r}, expected {known}")
    rows = methods.find(settings.methods, settings.options)
    layered = [each for each, row in rows.items() if row.layered and each not in methods.CONTROLS]
    if layered and layers_of(settings, network) == (methods.WHOLE,):
        got = f"methods: {layered[0]} explains a layer, and {name} has none"
        raise ValueError(
            f"{got}; expected methods of a whole network, such as rise or lime, or --explainer"
        )


def check_options(settings: Settings, network: models.Network) -> None:
    """Whether methods that apply go on applying with their options.

    Those that work on the host are not checked.

    Raises:
        ValueError: an option's value that its method does not take.
    """
    plain = methods.find(settings.methods)
    for name, method in methods.find(settings.methods, settings.options).items():
        if method != plain[name]:
            without = why_not(plain[name], network, layers_of(settings, network))
            for layer, reason in why_not(method, network, layers_of(settings, network)).items():
                if layer not in without:
                    raise ValueError(f"options: {name} cannot work with them: {reason}")


def usable(
    method: methods.Method, network: models.Network, layers: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The layers a method can explain, and why not the others; `WHOLE` if it has no layers."""
    why = why_not(method, network, layers)
    return tuple(layer for layer in _places(method, layers) if layer not in why), why


def why_not(
    method: methods.Method, network: models.Network, layers: Sequence[str]
) -> Mapping[str, str]:
    """Why a method cannot explain a layer, or `WHOLE`; unknown if it works on the host."""
    targets, why = jax.ShapeDtypeStruct((1,), jnp.int32), {}
    for layer in _places(method, layers) if method.jit else ():
        explain = lambda p, x, t, layer=layer: methods.explain(
            method, network.forward(p), x, t, [layer]
        )
        try:
            jax.eval_shape(explain, network.params, image(network), targets)
        except ValueError as error:
            why[layer] = " ".join(str(error).split())
    return why


def _places(method: methods.Method, layers: Sequence[str]) -> tuple[str, ...]:
    return tuple(layers) if method.layered else (methods.WHOLE,)
