"""Flax NNX, and Linen modules bridged into it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from jaxcam._ground.errors import ArgumentTypeError
from jaxcam._program.adapters.linen import intercepting
from jaxcam._program.adapters.tagging import Adapted, calls_tagged

_PATH = "_jaxcam_path"


def nnx(model: Any, **call_kwargs: Any) -> Adapted:
    """`images -> model(images, **call_kwargs)`, every submodule's output a layer.

    `model` itself is left as it is. A layer's name is its module's path joined by dots,
    `"layers.0.conv1"`; in a bridged Linen module (`nnx.bridge.ToNNX`) its own path follows. Call
    `model.eval()` first if it has dropout or batch norm: in NNX the mode is part of the object.
    What the call changes in the state of the module or of `rngs` is discarded.

    Args:
        model: a `flax.nnx.Module`. Its state may be traced.
        **call_kwargs: passed on to the model's `__call__`, such as `rngs=nnx.Rngs(0)`.

    Returns:
        The forward function.

    Raises:
        TypeError: `model` is not an NNX module.

    Example:
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> pool = lambda x: x.mean((1, 2))
        >>> parts = [nnx.Conv(3, 4, (3, 3), rngs=rngs), pool, nnx.Linear(4, 3, rngs=rngs)]
        >>> print(jaxcam.layers(jaxcam.nnx(nnx.Sequential(*parts)), images))
        layers.0  [2, 8, 8, 4]  (default)
        layers.2  [2, 3]
    """
    from flax import linen as nn
    from flax import nnx as api

    if not isinstance(model, api.Module):
        expected = "a flax.nnx.Module (jaxcam.linen takes Linen modules)"
        raise ArgumentTypeError("model", type(model).__name__, expected)
    graph, trained, others = api.split(model, api.Param, ...)
    stateful = {}
    for name, value in call_kwargs.items():
        if isinstance(value, api.Module | api.Rngs):
            stateful[name] = api.split(value)

    def apply(params: Any, images: jax.Array) -> Any:
        copy = api.merge(graph, params, others, copy=True)
        fresh = {name: api.merge(*parts, copy=True) for name, parts in stateful.items()}
        kinds = {}
        names = {}
        for path, module in api.iter_modules(copy):
            if path and callable(module):
                names[id(module)] = name = ".".join(map(str, path))
                kinds[type(module)] = None
                if not isinstance(module, api.bridge.ToNNX):  # which takes all it has for variables
                    # A static attribute comes along where `nnx.remat` or `nnx.jit` take a module
                    # apart and build it again.
                    object.__setattr__(module, _PATH, name)

        def name_of(module: Any) -> str | None:
            return names.get(id(module), getattr(module, _PATH, None))

        inside: list[str] = []

        @contextlib.contextmanager
        def within(module: Any) -> Iterator[None]:
            inside.append(f"{name_of(module)}.")
            yield
            inside.pop()

        linen = intercepting(lambda: "".join(inside[-1:]))
        tagged = calls_tagged(kinds, name_of, within)
        with nn.intercept_methods(linen), tagged:
            return copy(images, **{**call_kwargs, **fresh})

    return Adapted(apply, trained)
