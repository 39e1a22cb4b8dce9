"""What all adapters do: tag what a module's call returns, for the time of a trace."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._program.layers import tag


@dataclasses.dataclass(frozen=True, eq=False)
class Adapted:
    """What an adapter returns: images -> output, with parameters that can be replaced.

    JAX knows by this object what is compiled: keep it for as long as it is to be compiled once.

    Args:
        apply: `(params, images) -> output`.
        params: the trainable ones, any pytree.
        input_size: (height, width) of the images, if the model says it.
    """

    apply: Callable[[Any, jax.Array], Any]
    params: Any
    input_size: tuple[int, int] | None = None

    def __call__(self, images: jax.Array) -> Any:
        """The output for images `[B, *spatial, C]`."""
        return self.apply(self.params, images)


def tag_tree(out: Any, name: str) -> Any:
    """Tags an array, or each array of a tree, unless it is of integers.

    Several are named `name[0]`, `name[1]`, ...
    """
    leaves, tree = jax.tree.flatten(out)
    tagged = []
    for index, leaf in enumerate(leaves):
        each = name
        if len(leaves) > 1:
            each = f"{name}[{index}]"
        if _is_inexact(leaf):
            leaf = tag(leaf, each)
        tagged.append(leaf)
    return jax.tree.unflatten(tree, tagged)


@contextlib.contextmanager
def calls_tagged(
    kinds: Iterable[type],
    name_of: Callable[[Any], str | None],
    around: Callable[[Any], Any] = lambda module: contextlib.nullcontext(),
) -> Iterator[None]:
    """While it lasts, what an instance's call returns is tagged with the instance's name.

    The classes get another `__call__` for that time, in the class that defines it: an instance's
    own class, identity and attributes stay. Instances without a name are called as ever, and so is
    a call that a named instance makes of itself (`super().__call__`).

    Args:
        kinds: classes of the instances.
        name_of: an instance to its name, or None.
        around: a context that an instance's call runs in.
    """
    active: list[int] = []
    replaced: dict[type, Any] = {}

    def tagging(call: Callable) -> Callable:
        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
            name = name_of(self)
            if name is None or id(self) in active:
                return call(self, *args, **kwargs)
            active.append(id(self))
            try:
                with around(self):
                    found = call(self, *args, **kwargs)
            finally:
                active.remove(id(self))
            return tag_tree(found, name)

        return __call__

    for kind in kinds:
        owner = next((base for base in kind.__mro__ if "__call__" in vars(base)), None)
        if owner is not None and owner not in replaced:
            replaced[owner] = vars(owner)["__call__"]
    for owner, call in replaced.items():
        owner.__call__ = tagging(call)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for owner, call in replaced.items():
            owner.__call__ = call  # type: ignore[method-assign]


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
