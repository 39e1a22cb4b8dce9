"""A forward pass cut at a layer, so that what lies above it can be run again alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxcam._program import trace
from jaxcam._program.checks import check_output
from jaxcam._program.layers import Forward, opens, select
from jaxcam._program.question import traced
from jaxcam._program.sites import PIXELS_PATH, Site, find


class Split(NamedTuple):
    """A forward pass cut at one layer: `head(activations)` gives the output without the trunk."""

    logits: Any
    activations: jax.Array
    head: Callable[[jax.Array], Any]
    aux: Any

    def __repr__(self) -> str:
        """Shapes, not values."""
        names = ("logits", "activations", "aux")
        shapes = ", ".join(f"{name}={_shapes(getattr(self, name))}" for name in names)
        return f"Split({shapes}, head=activations -> logits)"


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
    """
    program = traced(forward, images)
    check_output(program, images.shape[0], has_aux, classes=False)
    (site,) = select(find(program), layer, images)
    return cut(program, images, site, has_aux)


def cut(program: trace.Program, images: jax.Array, site: Site, has_aux: bool) -> Split:
    """A traced model cut at a site."""
    memo: dict[trace.Path, list] = {}
    inside = opens([site])

    def remember(path: trace.Path, eqn: Any, values: list) -> list:
        memo[path] = trace.bind(eqn, values)
        return memo[path]

    def restored(values: list) -> tuple[Any, Any]:
        outputs = jax.tree.unflatten(jax.tree.structure(program.shapes), values)
        return outputs if has_aux else (outputs, None)

    def head(replaced: jax.Array) -> Any:
        def visit(path: trace.Path, eqn: Any, boxes: list) -> list:
            if path == site.path:
                return [(replaced, True)]
            if not any(above for _, above in boxes):
                return [(value, False) for value in memo[path]]
            return [(value, True) for value in trace.bind(eqn, [value for value, _ in boxes])]

        start = (replaced, True) if site.path == PIXELS_PATH else (images, False)
        lift = lambda value: (value, False)
        results = trace.evaluate(program.closed, [start], visit, opens=inside, lift=lift)
        return restored([value for value, _ in results])[0]

    output, aux = restored(trace.evaluate(program.closed, [images], remember, opens=inside))
    activations = images if site.path == PIXELS_PATH else memo[site.path][0]
    return Split(output, activations, head, aux)


def _shapes(tree: Any) -> Any:
    """A tree with each array as its type and shape, such as float32[2, 5]."""

    def brief(x: Any) -> Any:
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return f"{x.dtype}{list(x.shape)}"
        return x

    return jax.tree.map(brief, tree)
