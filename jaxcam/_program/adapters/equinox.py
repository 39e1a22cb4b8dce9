"""Equinox."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._ground.errors import ArgumentTypeError, check_flag
from jaxcam._program.adapters.tagging import Adapted, calls_tagged


def equinox(
    model: Any, state: Any = None, *, channels_first: bool = True, **call_kwargs: Any
) -> Adapted:
    """`images -> jax.vmap(model)(images)`, every submodule's output a layer.

    Equinox's models take one example, `[C, H, W]`: the images `[B, H, W, C]` are transposed, the
    model is mapped over them, and layers are explained as `[B, h, w, c]` all the same. A layer's
    name is its path in the model joined by dots, `"layers.0.conv"`. Call
    `eqx.nn.inference_mode(model)` first if it has dropout or batch norm. Modules that the model
    takes apart and builds again (in `eqx.filter_jit`, a scan over stacked layers) have no name.

    Args:
        model: an `equinox.Module`. Its arrays may be traced.
        state: of stateful models, called as `model(x, state)`; what the call changes is discarded.
        channels_first: whether the model takes `[C, H, W]`, else `[H, W, C]`.
        **call_kwargs: passed on to the model's `__call__`, such as `key=jax.random.key(0)`, which
            all examples then share.

    Returns:
        The forward function.

    Raises:
        TypeError: `model` is not an Equinox module.
        ValueError: `channels_first` is neither True nor False.

    Example:
        >>> import equinox as eqx
        >>> key = jax.random.key(0)
        >>> pool = eqx.nn.Lambda(lambda x: x.mean((1, 2)))
        >>> parts = [eqx.nn.Conv2d(3, 4, 3, key=key), pool, eqx.nn.Linear(4, 3, key=key)]
        >>> print(jaxcam.layers(jaxcam.equinox(eqx.nn.Sequential(parts)), images))
        layers.0  [2, 4, 6, 6]  positions 6 x 6  (default)  every 1 px from 1
        layers.1  [2, 4]
        layers.2  [2, 3]
    """
    check_flag("channels_first", channels_first)
    import equinox as eqx

    if not isinstance(model, eqx.Module):
        raise ArgumentTypeError("model", type(model).__name__, "an equinox.Module")
    trained, others = eqx.partition(model, eqx.is_inexact_array)
    is_module = lambda node: isinstance(node, eqx.Module)

    def apply(params: Any, images: jax.Array) -> Any:
        call: Any = model  # whatever Equinox's module says of its call
        if params is not trained:
            call = eqx.combine(params, others)
        names: dict[int, str] = {}
        kinds: dict[type, None] = {}
        for path, module in _modules(call, is_module):
            if path and callable(module):
                names.setdefault(id(module), path)
                kinds[type(module)] = None

        def one(x: jax.Array) -> Any:
            if state is None:
                return call(x, **call_kwargs)
            return call(x, state, **call_kwargs)[0]

        if channels_first:
            images = jnp.moveaxis(images, -1, 1)
        with calls_tagged(kinds, lambda module: names.get(id(module))):
            return jax.vmap(one, axis_name="batch")(images)

    return Adapted(apply, trained)


def _modules(tree: Any, is_module: Callable[[Any], bool], prefix: str = "") -> list:
    """Every module of a tree with its path, outer ones first."""
    found = []
    inner = lambda node: node is not tree and is_module(node)
    for keys, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=inner):
        if inner(node):
            path = ".".join([prefix, *map(_key, keys)]).lstrip(".")
            found.append((path, node))
            found += _modules(node, is_module, path)
    return found


def _key(key: Any) -> str:
    for attribute in ("name", "idx", "key"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
