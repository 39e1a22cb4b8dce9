"""Layers: naming activations inside a model, finding them, and reaching in.

A layer is an activation that carries a name. The name is an identity equation in the traced program
(`tag`), planted by the model's author or by an adapter (`linen`, `nnx`) on every submodule's
output, and it survives `jax.jit`, `nn.remat`, `vmap` and every other transformation. The n-th use
of a name is the layer `name@n`, in a scan's body that of its n-th step. A tag that stands directly
on an equal tag is the same layer. The images themselves are the layer `"pixels"`.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxcam._ground.dtypes import cast_like as cast_like  # until metrics take it from there
from jaxcam._ground.errors import ArgumentError, nearest
from jaxcam._ground.text import counted
from jaxcam._program import quick, trace
from jaxcam._program.sites import (
    PIXELS,
    PIXELS_PATH,
    Layers,
    Site,
    Sites,
    find,
    is_tag,
    listed,
    scanned,
)
from jaxcam._program.unroll import unrolled

Forward = Callable[[jax.Array], Any]
Layer = str | Sequence[str] | None

_BEHIND = (
    "layer: the default layer {!r} stands before a {}, in which no layer can be reached: a while "
    "loop, or a scan that is long or whose body names nothing. Name an activation behind or inside "
    "it with jaxcam.tag, or name the layer that is meant."
)


def tag(x: jax.Array, name: str) -> jax.Array:
    """Names an activation: x -> x, an identity under every transformation.

    Args:
        x: any array.
        name: the layer's name; used again, it gives the layers `name`, `name@2`, ...

    Returns:
        x.

    Raises:
        ValueError: `name` is not a non-empty string without "@".

    Example:
        >>> squared = lambda x: jaxcam.tag(x**2, "squares").mean((1, 2))
        >>> list(jaxcam.layers(squared, images))
        ['squares']
    """
    if not isinstance(name, str) or not name or "@" in name:
        raise ArgumentError("name", repr(name), "a non-empty string without '@'")
    return checkpoint_name(x, name)


def layers(forward: Forward, images: Any) -> Layers:
    """Lists the layers of `forward`, by abstract evaluation only.

    Args:
        forward: images `[B, H, W, C]` -> output, or a tuple that begins with it.
        images: an array or a `jax.ShapeDtypeStruct`.

    Returns:
        `{name: ShapeDtypeStruct}` in execution order. `.default` names the layer that `layer=None`
        explains: the last one with spatial extent that all evidence passes through (`.cuts`) and at
        which positions still matter. `.grids` are the spatial sizes, also of tokens.

    Raises:
        TypeError: `images` is neither an array nor a `jax.ShapeDtypeStruct`. What `forward` raises
            passes through.

    Example:
        >>> known = jaxcam.layers(forward, images)
        >>> print(known)
        colours   [2, 8, 8, 3]
        features  [2, 4, 4, 3]  (default)  every 2 px from 0.5
        >>> known.default, known["features"].shape
        ('features', (2, 4, 4, 3))
    """
    return known(trace.trace(forward, images), images)


def known(program: trace.Program, images: Any) -> Layers:
    """The layers of a model that has been traced with `images`."""
    _, found = opened(program, None, images)
    return listed(found, len(images.shape))


def tap(forward: Forward, layer: Layer = None) -> Callable:
    """Opens `forward` at a layer: `(images, delta) -> (output, activations)`, delta added there.

    d output / d delta at delta = 0 is the gradient with respect to the activations, and nothing
    below the layer is differentiated. Activations and delta are as the model has them.

    Args:
        forward: images -> output. What it returns is passed on whole.
        layer: a name, several (then delta and activations are dicts), or None for the default.

    Returns:
        A function of `images` and `delta` (None adds nothing).

    Raises:
        ValueError: (when the function is called) a layer does not exist, lies inside a loop, or has
            another shape than its delta.

    Example:
        >>> opened = jaxcam.tap(forward, "features")
        >>> logits, activations = opened(images, None)
        >>> score = lambda delta: opened(images, delta)[0][:, 0].sum()
        >>> jax.grad(score)(0 * activations).shape  # d(red) / dA
        (2, 4, 4, 3)
    """

    def tapped(images: jax.Array, delta: Any = None) -> tuple[Any, Any]:
        program, found = opened(trace.trace(forward, images), layer, images)
        sites = select(found, layer, images)
        alone = layer is None or isinstance(layer, str)
        deltas = {}
        if alone and delta is not None:
            deltas = {sites[0].name: delta}
        elif delta is not None:
            deltas = delta
        outputs, found = run(program, images, sites, deltas)
        if alone:
            return outputs, found[sites[0].name]
        return outputs, found

    return tapped


def opened(
    program: trace.Program, layer: Layer, images: Any, outputs: int = 1, *, every: bool = False
) -> tuple[trace.Program, Sites]:
    """A program in which the layers asked for can be reached, and its sites.

    A scan whose body holds layers is written out, unless all that is asked for are layers outside
    of it that are known without.

    Args:
        program: a traced model.
        layer: a name, several, or None for the default layer.
        images: what it was traced with.
        outputs: how many of its outputs are what is explained.
        every: whether all scans are written out, as relevance has to pass them.
    """
    if every:
        program = unrolled(program, images)
        return program, find(program, outputs)
    found = find(program, outputs)
    if not scanned(found) or _known_outside(found, layer):
        return program, found
    program = unrolled(program, images, lambda eqn: trace.contains(eqn, is_tag))
    return program, find(program, outputs)


def _known_outside(found: Sequence[Site], layer: Layer) -> bool:
    """Whether all layers asked for stand outside of loops, with axes that are known."""
    if layer is None:
        return False
    hidden = set()
    known = {PIXELS}
    for site in found:
        if site.loop is not None:
            hidden.add(site.name.partition("@")[0])
        elif site.grid is not None:
            known.add(site.name)
    names = [layer] if isinstance(layer, str) else layer
    if not isinstance(names, Iterable):
        return True  # and is refused
    return all(name in known and name.partition("@")[0] not in hidden for name in list(names))


def select(found: Sequence[Site], layer: Layer, images: Any) -> list[Site]:
    """Those of a program's sites that are asked for, in that order; `"pixels"` are the images.

    Raises:
        ValueError: no layers at all, an unknown name (the closest ones are named), a layer inside a
            loop.
    """
    sites = {site.name: site for site in found}
    hidden = getattr(found, "hidden", {})
    known = listed(list(sites.values()), len(images.shape))
    names = _names(layer, known)
    if layer is None and names[0] in hidden:
        warnings.warn(_BEHIND.format(names[0], hidden[names[0]]), stacklevel=4)
    sites.setdefault(PIXELS, _pixel_site(images))
    return [_check_site(name, sites, known) for name in names]


def run(
    program: trace.Program, images: jax.Array, sites: Sequence[Site], deltas: dict
) -> tuple[Any, dict]:
    """A program with `deltas` added at `sites`: what it returns, and the activations there."""
    names = {site.path: site.name for site in sites}
    found: dict[str, jax.Array] = {}

    def enter(name: str, value: jax.Array) -> jax.Array:
        if name in deltas:
            value = _shift(value, deltas[name], name)
        found[name] = value
        return value

    def visit(path: trace.Path, eqn: Any, values: list) -> list:
        results = quick.bind(eqn, values)
        if path in names:
            return [enter(names[path], results[0])]
        return results

    if PIXELS_PATH in names:
        images = enter(names[PIXELS_PATH], images)
    outputs = trace.evaluate(program.closed, [images], visit, opens=opens(sites))
    tree = jax.tree.structure(program.shapes)
    in_order = {site.name: found[site.name] for site in sites}
    return jax.tree.unflatten(tree, outputs), in_order


def opens(sites: Sequence[Site]) -> Callable:
    """Opens only calls on the way to a site, and those with something to be quick in.

    Other nn.remat blocks keep saving memory, and relu its gradient.
    """
    prefixes = set()
    for site in sites:
        for depth in range(1, len(site.path)):
            prefixes.add(site.path[:depth])
    return lambda path, eqn: path in prefixes or quick.opens(path, eqn)


def zeros_like(aval: jax.ShapeDtypeStruct, images: jax.Array) -> jax.Array:
    """Zeros of a layer's shape that vary over a mesh as the images do.

    Under `jax.shard_map` the gradient with respect to a value that is equal on all devices is
    summed over them, and a plain zero is such a value. The condition is never true, and XLA folds
    it away.
    """
    never = (images != images).any() & False
    return jnp.broadcast_to(never.astype(aval.dtype), aval.shape)


def _names(layer: Any, known: Layers) -> list[str]:
    if layer is None:
        if known.default is None:
            got = (
                f"None for a model with no spatial extent among its {counted(len(known), 'layer')}"
            )
            raise ArgumentError(
                "layer",
                got,
                "a name; name an activation with jaxcam.tag, or wrap the model with "
                "jaxcam.linen(model, variables) or jaxcam.nnx(model)",
            )
        return [known.default]
    if isinstance(layer, str):
        return [layer]
    if not isinstance(layer, Iterable):
        raise ArgumentError("layer", repr(layer), "a name, several names or None")
    names = list(layer)
    if not names:
        raise ArgumentError("layer", "no names", "at least one")
    return names


def _pixel_site(images: Any) -> Site:
    from jaxcam._program import axes, grids

    shape = tuple(images.shape)
    grid = grids.find(axes.of_images(shape), shape[0], len(shape))
    aval = jax.ShapeDtypeStruct(shape, images.dtype)
    return Site(PIXELS, PIXELS_PATH, aval, None, cut=True, grid=grid)


def _shift(x: jax.Array, delta: jax.Array, name: str) -> jax.Array:
    if jnp.shape(delta) != x.shape:
        raise ArgumentError("delta", f"shape {jnp.shape(delta)}", f"{x.shape}, as layer {name!r}")
    return x + delta.astype(x.dtype)


def _check_site(name: Any, sites: dict[str, Site], known: Layers) -> Site:
    site = None
    if isinstance(name, str):
        site = sites.get(name)
    if site is None:
        close = nearest(name, known)
        expected = f"one of the model's {counted(len(known), 'layer')}, such as {close}"
        raise ArgumentError("layer", repr(name), expected)
    if site.loop is not None:
        raise ArgumentError(
            "layer",
            f"{name!r}, which lies inside a {site.loop}, where one equation stands for many "
            "activations",
            "a layer outside of it: tag its result",
        )
    return site
