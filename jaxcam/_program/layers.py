"""Layers: naming activations inside a model, finding them, and reaching in.

A layer is an activation that carries a name. The name is an identity equation in the traced program
(`tag`), planted by the model's author or by an adapter (`linen`, `nnx`) on every submodule's
output, and it survives `jax.jit`, `nn.remat`, `vmap` and every other transformation. The n-th use
of a name is the layer `name@n`. A tag that stands directly on an equal tag is the same layer.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxcam._program import trace
from jaxcam._program.sites import Layers, Site, find, listed
from jaxcam.targets import Targets, check, scores

Forward = Callable[[jax.Array], Any]
Layer = str | Sequence[str] | None


class Split(NamedTuple):
    """A forward pass cut at a layer: `head(activations)` gives logits without the trunk."""

    logits: jax.Array
    activations: jax.Array
    head: Callable[[jax.Array], jax.Array]
    aux: Any

    def __repr__(self) -> str:
        """Shapes, not values."""
        shapes = ", ".join(
            f"{name}={_shapes(getattr(self, name))}" for name in ("logits", "activations", "aux")
        )
        return f"Split({shapes}, head=activations -> logits)"


def tag(x: jax.Array, name: str) -> jax.Array:
    """Names an activation: x -> x, an identity under every transformation.

    Args:
        x: any array.
        name: the layer's name; used again, it gives the layers `name`, `name@2`, ...

    Returns:
        x.

    Raises:
        ValueError: `name` is not a non-empty string without "@".
    """
    if not isinstance(name, str) or not name or "@" in name:
        raise ValueError(f"name: got {name!r}, expected a non-empty string without '@'")
    return checkpoint_name(x, name)


def layers(forward: Forward, images: Any) -> Layers:
    """Lists the layers of `forward`, by abstract evaluation only.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]` (or a tuple that begins with them).
        images: an array or a `jax.ShapeDtypeStruct`.

    Returns:
        `{name: ShapeDtypeStruct}` in execution order. `.default` names the layer that `layer=None`
        explains: the last one with spatial extent that all evidence passes through (`.cuts`).

    Raises:
        TypeError: `images` is neither an array nor a `jax.ShapeDtypeStruct`. What `forward` raises
            passes through.
    """
    return listed(find(trace.trace(forward, images)))


def tap(forward: Forward, layer: Layer = None) -> Callable:
    """Opens `forward` at a layer: `(images, delta) -> (logits, activations)`, delta added there.

    d logits / d delta at delta = 0 is the gradient with respect to the activations, and nothing
    below the layer is differentiated.

    Args:
        forward: images -> logits. What else it returns is passed on in place of the logits.
        layer: a name, several (then delta and activations are dicts), or None for the last layer
            with spatial extent.

    Returns:
        A function of `images` and `delta` (None adds nothing).

    Raises:
        ValueError: (when the function is called) a layer does not exist, lies inside a loop, or has
            another shape than its delta.
    """

    def tapped(images: jax.Array, delta: Any = None) -> tuple[Any, Any]:
        program = trace.trace(forward, images)
        sites = select(program, layer)
        many = not (layer is None or isinstance(layer, str))
        deltas = {} if delta is None else dict(delta) if many else {sites[0].name: delta}
        outputs, found = run(program, images, sites, deltas)
        return outputs, found if many else found[sites[0].name]

    return tapped


def activations_and_gradients(
    forward: Forward,
    images: jax.Array,
    targets: Targets = None,
    *,
    layer: Layer = None,
    has_aux: bool = False,
) -> tuple:
    """A and G = dY/dA at a layer, from one forward pass and the backward pass of what lies above.

    Args:
        forward: images `[B, H, W, C]` -> logits `[B, N]`, or `(logits, aux)` with `has_aux`.
        images: `[B, H, W, C]`.
        targets: see `jaxcam.targets.check`.
        layer: a name, several names, or None for the last layer with spatial extent.
        has_aux: whether `forward` returns `(logits, aux)`.

    Returns:
        `(logits, A, G)`, with `aux` appended if `has_aux`. A is `[B, h, w, c]`, G the same or
        `[B, K, h, w, c]` for K targets per image; for several layers both are dicts by name. A
        target function must score each image by itself.

    Raises:
        ValueError: images, targets, layer or what `forward` returns do not fit; the message says
            what was expected.
    """
    check_images(images)
    program = trace.trace(forward, images)
    batch, classes = check_logits(program, images, has_aux)
    check(targets, batch, classes)
    sites = select(program, layer)
    _check_used(sites)

    def tapped(deltas: dict) -> tuple:
        outputs, acts = run(program, images, sites, deltas)
        logits, aux = outputs if has_aux else (outputs, None)
        return logits, (acts, aux)

    zeros = {s.name: zeros_like(s.aval, images) for s in sites}
    logits, pull, (acts, aux) = jax.vjp(tapped, zeros, has_aux=True)
    grads = _pull_scores(pull, logits, targets)
    if layer is None or isinstance(layer, str):
        acts, grads = acts[sites[0].name], grads[sites[0].name]
    else:  # in the order asked: a dict comes sorted out of vjp
        acts, grads = ({s.name: found[s.name] for s in sites} for found in (acts, grads))
    return (logits, acts, grads, aux) if has_aux else (logits, acts, grads)


def split(
    forward: Forward, images: jax.Array, layer: str | None = None, *, has_aux: bool = False
) -> Split:
    """Cuts `forward` at one layer, so that what lies above it can be run again alone.

    Args:
        forward: images -> logits.
        images: `[B, H, W, C]`.
        layer: a name, or None for the last layer with spatial extent.
        has_aux: whether `forward` returns `(logits, aux)`.

    Returns:
        The logits, the activations, `head`: activations -> logits for these images, and aux (or
        None). Everything that does not depend on the activations, side branches too, has been
        computed once and is held by `head`.

    Raises:
        ValueError: there is no such layer.
    """
    program = trace.trace(forward, images)
    check_logits(program, images, has_aux)
    (site,) = select(program, layer)
    tree = jax.tree.structure(program.shapes)
    memo: dict[trace.Path, list] = {}

    def remember(path: trace.Path, eqn: Any, values: list) -> list:
        memo[path] = trace.bind(eqn, values)
        return memo[path]

    opens = _opens([site])
    outputs = jax.tree.unflatten(
        tree, trace.evaluate(program.closed, [images], remember, opens=opens)
    )
    logits, aux = outputs if has_aux else (outputs, None)
    (activations,) = memo[site.path]

    def head(replaced: jax.Array) -> jax.Array:
        def visit(path: trace.Path, eqn: Any, boxes: list) -> list:
            if path == site.path:
                return [(replaced, True)]
            if not any(above for _, above in boxes):
                return [(value, False) for value in memo[path]]
            return [(value, True) for value in trace.bind(eqn, [value for value, _ in boxes])]

        lift = lambda value: (value, False)
        results = trace.evaluate(program.closed, [(images, False)], visit, opens=opens, lift=lift)
        replaced_outputs = jax.tree.unflatten(tree, [value for value, _ in results])
        return replaced_outputs[0] if has_aux else replaced_outputs

    return Split(logits, activations, head, aux)


def select(program: trace.Program, layer: Layer) -> list[Site]:
    """The sites of the layers asked for, in the order asked.

    Raises:
        ValueError: no layers at all, an unknown name (the closest ones are named), a layer inside a
            loop.
    """
    sites = {site.name: site for site in find(program)}
    known = listed(list(sites.values()))
    if layer is None:
        if known.default is None:
            raise ValueError(
                f"layer: forward has no activation with spatial extent among its {len(known)} "
                "layers; name them with jaxcam.tag, or wrap the model with jaxcam.linen(model, "
                "variables) or jaxcam.nnx(model)"
            )
        layer = known.default
    if not isinstance(layer, str | Iterable):
        raise ValueError(f"layer: got {layer!r}, expected a name, several names or None")
    names = [layer] if isinstance(layer, str) else list(layer)
    if not names:
        raise ValueError("layer: got no names, expected at least one")
    return [_check_site(name, sites, known) for name in names]


def run(
    program: trace.Program, images: jax.Array, sites: Sequence[Site], deltas: dict
) -> tuple[Any, dict]:
    """Runs a program with `deltas` added at `sites`; gives its result and the activations there."""
    names = {site.path: site.name for site in sites}
    found = {}

    def visit(path: trace.Path, eqn: Any, values: list) -> list:
        out = trace.bind(eqn, values)
        if path in names:
            name = names[path]
            out = [_shift(out[0], deltas[name], name)] if name in deltas else out
            found[name] = out[0]
        return out

    outputs = trace.evaluate(program.closed, [images], visit, opens=_opens(sites))
    return jax.tree.unflatten(jax.tree.structure(program.shapes), outputs), {
        s.name: found[s.name] for s in sites
    }


def zeros_like(aval: jax.ShapeDtypeStruct, images: jax.Array) -> jax.Array:
    """Zeros of a layer's shape that vary over a mesh as the images do.

    Under `jax.shard_map` the gradient with respect to a value that is equal on all devices is
    summed over them, and a plain zero is such a value. The condition is never true, and XLA folds
    it away.
    """
    never = (images != images).any() & False
    return jnp.broadcast_to(never.astype(aval.dtype), aval.shape)


def cast_like(values: jax.Array, images: jax.Array) -> jax.Array:
    """Values computed in float, in the dtype of the images: rounded if that is an integer one."""
    return (values if jnp.issubdtype(images.dtype, jnp.inexact) else jnp.round(values)).astype(
        images.dtype
    )


def check_images(images: jax.Array) -> None:
    """ValueError unless `images` is an array `[B, H, W, C]` and, where known, finite."""
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise ValueError(f"images: got a {type(images).__name__}, expected an array [B, H, W, C]")
    if len(images.shape) != 4 or 0 in images.shape:
        at_least = ", of at least one image" if 0 in images.shape else ""
        raise ValueError(
            f"images: got shape {tuple(images.shape)}, expected [B, H, W, C]{at_least}"
        )
    if not jnp.issubdtype(images.dtype, jnp.inexact):
        return
    try:
        finite = bool(jnp.isfinite(images).all())
    except jax.errors.ConcretizationTypeError:
        return
    if not finite:
        raise ValueError("images: got NaN or infinite values, expected finite ones")


def check_logits(program: trace.Program, images: Any, has_aux: bool) -> tuple[int, int]:
    """`(B, N)` of the logits that a traced model returns.

    Raises:
        ValueError: it returns something else than `[B, N]`, or than `(logits, aux)` with `has_aux`.
    """
    shapes, expected = program.shapes, f"logits [{images.shape[0]}, N]"
    if has_aux:
        if not (isinstance(shapes, tuple) and len(shapes) == 2):
            raise ValueError(
                f"forward: got {_describe(shapes)} with has_aux=True, expected a pair ({expected}, "
                "aux)"
            )
        shapes = shapes[0]
    if isinstance(shapes, tuple | list | dict):
        raise ValueError(
            f"forward: got {_describe(shapes)}, expected {expected}; if it returns (logits, aux), "
            "pass has_aux=True"
        )
    if len(shapes.shape) != 2 or shapes.shape[0] != images.shape[0]:
        raise ValueError(
            f"forward: got an output of shape {tuple(shapes.shape)}, expected {expected}"
        )
    return shapes.shape


def check_spatial(activations: jax.Array, name: str = "activations") -> jax.Array:
    """Returns `activations`; raises a ValueError unless they are `[B, h, w, c]`."""
    if activations.ndim != 4 or 0 in activations.shape:
        raise ValueError(
            f"{name}: got shape {tuple(activations.shape)}, expected spatial extent, [B, h, w, c]"
        )
    return activations


def _opens(sites: Sequence[Site]) -> Callable:
    """Opens calls on the way to a site only: other nn.remat blocks stay, and relu's gradient."""
    prefixes = {site.path[:depth] for site in sites for depth in range(1, len(site.path))}
    return lambda path, eqn: path in prefixes


def _shift(x: jax.Array, delta: jax.Array, name: str) -> jax.Array:
    if jnp.shape(delta) != x.shape:
        raise ValueError(
            f"delta: got shape {jnp.shape(delta)}, expected {x.shape}, as layer {name!r}"
        )
    return x + delta.astype(x.dtype)


def _pull_scores(pull: Callable, logits: jax.Array, targets: Targets) -> dict:
    """Pulls one cotangent per target through the backward pass, all K in one batched pass."""
    values, pull_logits = jax.vjp(lambda z: scores(z, targets), logits)
    if values.ndim == 1:
        return pull(pull_logits(jnp.ones_like(values))[0])[0]
    basis = jnp.eye(values.shape[1], dtype=values.dtype)[:, None, :] * jnp.ones_like(values)
    grads = jax.vmap(lambda cotangent: pull(pull_logits(cotangent)[0])[0])(basis)
    return {name: jnp.moveaxis(grad, 0, 1) for name, grad in grads.items()}


def _check_site(name: str, sites: dict[str, Site], listed: Layers) -> Site:
    site = sites.get(name)
    if site is None:
        close = difflib.get_close_matches(str(name), listed, n=4, cutoff=0.3) or list(listed)[-4:]
        raise ValueError(
            f"layer: got {name!r}, expected one of the model's {len(listed)} layers, such as "
            f"{close}"
        )
    if site.loop is not None:
        raise ValueError(
            f"layer: {name!r} lies inside a {site.loop}, where one equation stands for many "
            "activations; tag its result"
        )
    return site


def _check_used(sites: Sequence[Site]) -> None:
    """Raises where a gradient would be zero whatever the network has learnt."""
    for site in sites:
        if not site.used:
            raise ValueError(
                f"layer: got {site.name!r}, which the logits do not depend on: its gradient is zero"
            )


def _shapes(tree: Any) -> Any:
    """A tree with each array as its type and shape, such as float32[2, 5]."""
    brief = lambda x: (
        f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") and hasattr(x, "dtype") else x
    )
    return jax.tree.map(brief, tree)


def _describe(shapes: Any) -> str:
    return (
        f"a {type(shapes).__name__}"
        if isinstance(shapes, tuple | list | dict)
        else f"shape {tuple(shapes.shape)}"
    )
