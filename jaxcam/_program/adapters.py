"""Flax models, unmodified, as functions images -> logits with every submodule's output a layer.

Both only plant tags while the function is traced; all else happens in the traced program. flax is
imported here, when an adapter is used, and nowhere else outside of `jaxcam.models`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._program.layers import tag

_PATH = "_jaxcam_path"


def linen(model: Any, variables: Any, **apply_kwargs: Any) -> Callable:
    """`images -> model.apply(variables, images, **apply_kwargs)`, every submodule's output a layer.

    A layer's name is its module's path joined by dots, `"layer1.conv1"`; an output of several
    arrays gives `"layer1.conv1[0]"`, `[1]`, ...; a module called twice gives `name` and `name@2`.

    Args:
        model: a `flax.linen.Module`.
        variables: its variables. They may be traced, so that a loss can be differentiated with
            respect to them.
        **apply_kwargs: passed on to `model.apply`, such as `train=False` or
            `mutable=["batch_stats"]` (the result then is a pair: use `has_aux=True`).

    Returns:
        The forward function.

    Raises:
        TypeError: `model` is not a Linen module.
    """
    from flax import linen as nn

    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: got {type(model).__name__}, expected a flax.linen.Module (jaxcam.nnx takes "
            "NNX modules)"
        )

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        out = call(*args, **kwargs)
        path = context.module.path
        return _tag_tree(out, ".".join(path)) if path and context.method_name == "__call__" else out

    def forward(images: jax.Array) -> Any:
        # Entered inside the traced function, else a jitted caller that was traced before would
        # never see it.
        with nn.intercept_methods(intercept):
            return model.apply(variables, images, **apply_kwargs)

    return forward


def nnx(model: Any, **call_kwargs: Any) -> Callable:
    """`images -> model(images, **call_kwargs)`, every submodule's output a layer.

    `model` itself is left as it is. A layer's name is its module's path joined by dots,
    `"layers.0.conv1"`. Call `model.eval()` first if it has dropout or batch norm: in NNX the mode
    is part of the object. What the call changes in the module's state is discarded.

    Args:
        model: a `flax.nnx.Module`. Its state may be traced.
        **call_kwargs: passed on to the model's `__call__`.

    Returns:
        The forward function.

    Raises:
        TypeError: `model` is not an NNX module.
    """
    from flax import nnx as nnx_api

    if not isinstance(model, nnx_api.Module):
        raise TypeError(
            f"model: got {type(model).__name__}, expected a flax.nnx.Module (jaxcam.linen takes "
            "Linen modules)"
        )
    graph, state = nnx_api.split(model)

    def forward(images: jax.Array) -> Any:
        copy = nnx_api.merge(graph, state, copy=True)
        for path, module in nnx_api.iter_modules(copy):
            if path and callable(module):
                module.__class__ = _tagging(type(module))
                setattr(module, _PATH, ".".join(map(str, path)))
        return copy(images, **call_kwargs)

    return forward


@functools.cache
def _tagging(kind: type) -> type:
    """A subclass whose call tags its result with the instance's path.

    The path is a static attribute and the class is part of NNX's graph definition, so both come
    along where `nnx.remat` or `nnx.jit` take a module apart and build it again; a patch of
    `kind.__call__` would also reach other instances.
    """

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _tag_tree(kind.__call__(self, *args, **kwargs), getattr(self, _PATH))

    return type(kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__})


def _tag_tree(out: Any, name: str) -> Any:
    """Tags an array, or each array of a tree, unless it is of integers."""
    leaves, tree = jax.tree.flatten(out)
    names = [name] if len(leaves) == 1 else [f"{name}[{i}]" for i in range(len(leaves))]
    tagged = [
        tag(leaf, n) if _is_inexact(leaf) else leaf for leaf, n in zip(leaves, names, strict=True)
    ]
    return jax.tree.unflatten(tree, tagged)


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
