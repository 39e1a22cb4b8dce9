"""dm-haiku."""

from collections.abc import Callable
from typing import Any

import jax

from jaxcam._ground.errors import ArgumentTypeError
from jaxcam._program.adapters.tagging import Adapted, tag_tree


def haiku(
    transformed: Any, params: Any, state: Any = None, *, rng: Any = None, **apply_kwargs: Any
) -> Adapted:
    """`images -> transformed.apply(params, rng, images)`, every module's output a layer.

    A layer's name is Haiku's own, `"resnet/~/block_group_0/~/block_0"`.

    Args:
        transformed: what `hk.transform` or `hk.transform_with_state` returned.
        params: its parameters. They may be traced.
        state: its state, of `hk.transform_with_state`; what the call changes in it is discarded.
        rng: a key, for models that draw in the forward pass.
        **apply_kwargs: passed on to the function, such as `is_training=False`.

    Returns:
        The forward function.

    Raises:
        TypeError: `transformed` is neither.

    Example:
        >>> import haiku as hk
        >>> model = hk.transform(lambda x: hk.Linear(3)(hk.Conv2D(4, 3)(x).mean((1, 2))))
        >>> params = model.init(jax.random.key(0), images)
        >>> print(jaxcam.layers(jaxcam.haiku(model, params), images))
        conv2_d  [2, 8, 8, 4]  (default)
        linear   [2, 3]
    """
    import haiku as hk

    if not isinstance(transformed, hk.Transformed | hk.TransformedWithState):
        expected = "what hk.transform or hk.transform_with_state returned"
        raise ArgumentTypeError("transformed", type(transformed).__name__, expected)
    stateful = isinstance(transformed, hk.TransformedWithState)

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        out = call(*args, **kwargs)
        if context.method_name != "__call__":
            return out
        return tag_tree(out, context.module.module_name)

    def run(params: Any, images: jax.Array) -> Any:
        apply = transformed.apply
        with hk.intercept_methods(intercept):
            if not stateful:
                return apply(params, rng, images, **apply_kwargs)
            return apply(params, state, rng, images, **apply_kwargs)[0]

    return Adapted(run, params)
