"""Flax Linen."""

from collections.abc import Callable
from typing import Any

import jax

from jaxcam._ground.errors import ArgumentTypeError
from jaxcam._program.adapters.tagging import Adapted, tag_tree


def linen(model: Any, variables: Any, **apply_kwargs: Any) -> Adapted:
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

    Example:
        >>> from flax import linen as nn
        >>> pool = lambda x: x.mean((1, 2))
        >>> model = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, pool, nn.Dense(3)])
        >>> variables = model.init(jax.random.key(0), images)
        >>> print(jaxcam.layers(jaxcam.linen(model, variables), images))
        layers_0  [2, 8, 8, 4]  (default)
        layers_3  [2, 3]
    """
    from flax import linen as nn

    if not isinstance(model, nn.Module):
        expected = "a flax.linen.Module (jaxcam.nnx takes NNX modules)"
        raise ArgumentTypeError("model", type(model).__name__, expected)

    def apply(variables: Any, images: jax.Array) -> Any:
        # Entered inside the traced function, else a jitted caller that was traced before would
        # never see it.
        with nn.intercept_methods(intercepting()):
            return model.apply(variables, images, **apply_kwargs)

    return Adapted(apply, variables)


def intercepting(prefix: Callable[[], str] = lambda: "") -> Callable:
    """What tags a module's output with its path, behind a prefix."""

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        out = call(*args, **kwargs)
        path = context.module.path
        if not path or context.method_name != "__call__":
            return out
        return tag_tree(out, prefix() + ".".join(path))

    return intercept
