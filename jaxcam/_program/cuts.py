"""A forward pass cut at a layer, so that what lies above it can be run again alone."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax

from jaxcam._program import quick, trace
from jaxcam._program.checks import check_output
from jaxcam._program.layers import Forward, opened, opens, select
from jaxcam._program.question import traced
from jaxcam._program.sites import PIXELS_PATH, Site


class Split(NamedTuple):
    """A forward pass cut at one layer: `head(activations)` gives the output without the trunk."""

    logits: Any
    activations: jax.Array
    head: Callable[[jax.Array], Any]
    aux: Any

    def __repr__(self) -> str:
        """Shapes, not values."""
        names = ("logits", "activations", "aux")
        shapes = [f"{name}={_shapes(getattr(self, name))}" for name in names]
        return f"Split({', '.join(shapes)}, head=activations -> logits)"


def split(
    forward: Forward, images: jax.Array, layer: str | None = None, *, has_aux: bool = False
) -> Split:
    """Cuts `forward` at one layer, so that what lies above it can be run again alone.

    Args:
        forward: images -> output.
        images: `[B, H, W, C]`.
        layer: a name, or None for the default layer.
        has_aux: whether `forward` returns `(output, aux)`.

    Returns:
        The output (`logits`), the activations as the model has them, `head`: activations -> output
        for these images, and aux (or None). Everything that does not depend on the activations,
        side branches too, has been computed once and is held by `head`.

    Raises:
        ValueError: there is no such layer.

    Example:
        >>> cut = jaxcam.split(forward, images, "features")
        >>> cut.activations.shape
        (2, 4, 4, 3)
        >>> bool(jnp.allclose(cut.head(cut.activations), cut.logits))
        True
    """
    program = traced(forward, images)
    check_output(program, images.shape[0], has_aux, classes=False)
    program, found = opened(program, layer, images)
    (site,) = select(found, layer, images)
    return cut(program, images, site, has_aux)


def cut(program: trace.Program, images: jax.Array, site: Site, has_aux: bool) -> Split:
    """A traced model cut at a site."""
    memo: dict[trace.Path, list] = {}
    inside = opens([site])

    def remember(path: trace.Path, eqn: Any, values: list) -> list:
        memo[path] = quick.bind(eqn, values)
        return memo[path]

    def restored(values: list) -> tuple[Any, Any]:
        outputs = jax.tree.unflatten(jax.tree.structure(program.shapes), values)
        if has_aux:
            return outputs
        return outputs, None

    def head(replaced: jax.Array) -> Any:
        def visit(path: trace.Path, eqn: Any, flows: list[_Flow]) -> list[_Flow]:
            if path == site.path:
                return [_Flow(replaced, above=True)]
            if not any(map(attrgetter("above"), flows)):
                return list(map(_Flow, memo[path]))
            return [_Flow(value, above=True) for value in quick.bind(eqn, _values(flows))]

        start = _Flow(images)
        if site.path == PIXELS_PATH:
            start = _Flow(replaced, above=True)
        results = trace.evaluate(program.closed, [start], visit, opens=inside, lift=_Flow)
        return restored(_values(results))[0]

    output, aux = restored(trace.evaluate(program.closed, [images], remember, opens=inside))
    if site.path == PIXELS_PATH:
        return Split(output, images, head, aux)
    return Split(output, memo[site.path][0], head, aux)


class _Flow(NamedTuple):
    """A value, and whether it depends on the activations at the cut."""

    value: Any
    above: bool = False


def _values(flows: Sequence[_Flow]) -> list:
    return list(map(attrgetter("value"), flows))


def _shapes(tree: Any) -> Any:
    """A tree with each array as its type and shape, such as float32[2, 5]."""

    def brief(x: Any) -> Any:
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return f"{x.dtype}{list(x.shape)}"
        return x

    return jax.tree.map(brief, tree)
