"""The one table of methods that protocols share: the library's, published variants, controls.

A method is `(forward, images, targets, *, layer) -> maps`, layer a list of names, maps a dict by
name. Controls know nothing of the model: what they score is what any number here has to be compared
with.
"""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import scaling
from jaxcam.maps import normalize
from jaxcam.methods import METHODS as LIBRARY
from jaxcam.methods import WHOLE


class Method(NamedTuple):
    """A row of the table."""

    title: str
    function: Callable
    layered: bool = True  # False: explains the network as a whole, and takes no layer
    jit: bool = True  # False: works on the host, and compiles its own parts
    confidence: bool = False  # asks for probabilities: takes `activation`


def noise(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> dict[str, jax.Array]:
    """Uniform noise at the resolution of the layer (of the image, for `WHOLE`)."""
    del targets
    seeds = jax.lax.bitcast_convert_type(images.astype(jnp.float32).sum((1, 2, 3)), jnp.uint32)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(seeds)
    draw = lambda size: jax.vmap(lambda key: jax.random.uniform(key, size))(keys)
    return {name: draw(size) for name, size in _sizes(forward, images, layer).items()}


def centre(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> dict[str, jax.Array]:
    """A Gaussian in the middle of the image, its standard deviation a quarter of the side.

    Photographers aim.
    """
    del targets

    def bump(cells: int) -> jax.Array:
        position = (jnp.arange(cells) + 0.5) / cells - 0.5
        return jnp.exp(-0.5 * (position / 0.25) ** 2)

    gauss = {
        name: bump(h)[:, None] * bump(w) for name, (h, w) in _sizes(forward, images, layer).items()
    }
    return {name: jnp.broadcast_to(one, (len(images), *one.shape)) for name, one in gauss.items()}


def _sizes(
    forward: Callable, images: jax.Array, layer: Sequence[str]
) -> dict[str, tuple[int, int]]:
    shapes = {WHOLE: images, **jaxcam.layers(forward, images)}
    return {name: shapes[name].shape[1:3] for name in layer}


def lime(forward: Callable, images: jax.Array, targets: jax.Array, **options: Any) -> jax.Array:
    """`jaxcam.lime` on superpixels of a larger copy, as on the command line.

    64 pixels themselves fall into about five. What is segmented are the images that the network
    gets, each scaled to [0, 255].
    """
    photos = np.asarray(255 * normalize(images.reshape(len(images), -1, images.shape[3]))).reshape(
        images.shape
    )
    segment = lambda photo: scaling.segments(
        photo.round().astype(np.uint8), images.shape[1:3], "stretch"
    )
    with ThreadPoolExecutor() as pool:
        found = np.concatenate(list(pool.map(segment, photos)))
    bound = scaling.num_segments(found)
    return jaxcam.lime(forward, images, targets, segments=found, num_segments=bound, **options)


def mask(
    forward: Callable,
    images: jax.Array,
    targets: jax.Array,
    *,
    steps: int = 300,
    activation: Any = None,
) -> jax.Array:
    """`jaxcam.mask`, its lengths scaled to images below 224 pixels, as on the command line."""
    return jaxcam.mask(
        forward,
        images,
        targets,
        variant=scaling.mask_variant(images.shape[1:3], steps),
        activation=activation,
    )


def stage_attention(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> dict[str, jax.Array]:
    """Layer-wise attention: `jaxcam.cbam_attention` of the blocks in each layer, say a stage."""
    known = [
        name.removesuffix(".att")
        for name in jaxcam.layers(forward, images)
        if name.endswith(".att")
    ]
    found = {}
    for name in layer:
        inside = [block for block in known if block == name or block.startswith(f"{name}.")]
        if not inside:
            raise ValueError(f"layer: got {name!r}, which has no CBAM block inside")
        found[name] = jaxcam.cbam_attention(forward, images, targets, blocks=inside)
    return found


CONTROLS: Mapping[str, Method] = {
    "noise": Method("noise (control)", noise),
    "centre": Method("centre (control)", centre),
}
METHODS: Mapping[str, Method] = {
    **{
        name: Method(row.title, row.function, row.layered, row.jit, row.confidence)
        for name, row in LIBRARY.items()
    },
    "lime": Method("LIME", lime, layered=False, jit=False, confidence=True),
    "mask": Method("MASK", mask, layered=False, confidence=True),
    "stage_attention": Method("CBAM by stage", stage_attention),
    "grad_cam_channel": Method(
        "Grad-CAM, ReLU by channel", partial(jaxcam.grad_cam, relu="channel")
    ),
    "grad_cam_plus_plus_rcam": Method(
        "Grad-CAM++ (Relevance-CAM's)", partial(jaxcam.grad_cam_plus_plus, variant="rcam")
    ),
    **CONTROLS,
}


def find(names: Sequence[str], options: Sequence[str] = ()) -> dict[str, Method]:
    """Rows by name, in the order asked.

    Args:
        names: of the table.
        options: METHOD.OPTION=VALUE, a Python literal: keywords of a method's function.

    Raises:
        ValueError: no name at all, or an unknown one; an option of no chosen method, or that it
            does not have.
    """
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise ValueError(
            f"methods: got {', '.join(unknown) or 'none'}, expected any of {', '.join(METHODS)}"
        )
    rows = {name: METHODS[name] for name in names}
    for option in options:
        name, keywords = _option(option, rows)
        rows[name] = rows[name]._replace(function=partial(rows[name].function, **keywords))
    return rows


def _option(option: str, rows: Mapping[str, Method]) -> tuple[str, dict[str, Any]]:
    place, equals, text = option.partition("=")
    name, _, keyword = place.partition(".")
    known = list(inspect.signature(rows[name].function).parameters)[3:] if name in rows else []
    # lime passes its **options on
    if not equals or not (keyword in known or (keyword and "options" in known)):
        of = f"{name} has {', '.join(known)}" if known else f"the methods are {', '.join(rows)}"
        raise ValueError(f"options: got {option!r}, expected METHOD.OPTION=VALUE; {of}")
    try:
        return name, {keyword: ast.literal_eval(text)}
    except (ValueError, SyntaxError):
        return name, {keyword: text}


def explain(
    method: Method, forward: Callable, images: jax.Array, targets: jax.Array, layers: Sequence[str]
) -> dict[str, jax.Array]:
    """Raw maps by layer; under `WHOLE` for a method that takes no layer."""
    options = {"activation": getattr(forward, "activation", None)} if method.confidence else {}
    if not method.layered:
        return {WHOLE: method.function(forward, images, targets, **options)}
    return method.function(forward, images, targets, layer=list(layers), **options)
