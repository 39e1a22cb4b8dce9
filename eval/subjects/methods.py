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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from eval.subjects import smoothed
from jaxcam import scaling
from jaxcam._ground.errors import ArgumentError
from jaxcam.maps import normalize
from jaxcam.methods import METHODS as LIBRARY
from jaxcam.methods import WHOLE, Method


def noise(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> dict[str, jax.Array]:
    """Uniform noise at the resolution of the layer (of the image, for `WHOLE`)."""
    del targets
    keys = _keys(images)
    found = {}
    for name, size in _sizes(forward, images, layer).items():
        found[name] = jax.vmap(partial(jax.random.uniform, shape=size))(keys)
    return found


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

    found = {}
    for name, (height, width) in _sizes(forward, images, layer).items():
        one = bump(height)[:, None] * bump(width)
        found[name] = jnp.broadcast_to(one, (len(images), height, width))
    return found


def random_weights(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> dict[str, jax.Array]:
    """ReLU(sum_k w_k A_k), w_k uniform in [-1, 1]: pytorch-grad-cam's RandomCAM.

    Its maps look at the image, and where the network is active, but at no class.
    """
    keys = _keys(images)

    def formula(activations: jax.Array, gradients: jax.Array) -> jax.Array:
        del gradients
        draw = partial(jax.random.uniform, shape=activations.shape[-1:], minval=-1)
        weights = jax.vmap(draw)(keys).astype(activations.dtype)
        return jax.nn.relu(jnp.einsum("b...c,bc->b...", activations, weights))

    return jaxcam.explain(formula, forward, images, targets, layer=layer)


def of_residual_softmax(method: Callable) -> Callable:
    """A method of the score z_c + ln p_c (`jaxcam.targets.residual_softmax`), not of the logit."""

    def explained(
        forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
    ) -> dict[str, jax.Array]:
        score = jaxcam.targets.residual_softmax(targets)
        return method(forward, images, score, layer=layer)

    return explained


def _keys(images: jax.Array) -> jax.Array:
    """Of random numbers, one for each image: of its pixels' sum."""
    seeds = jax.lax.bitcast_convert_type(images.astype(jnp.float32).sum((1, 2, 3)), jnp.uint32)
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(seeds)


def _sizes(
    forward: Callable, images: jax.Array, layer: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Of the maps of each layer, also where it is one of tokens."""
    known = jaxcam.layers(forward, images)
    found = {}
    for name in layer:
        found[name] = images.shape[1:3]
        if name != WHOLE:
            found[name] = known.grids.get(name, known[name].shape[1:3])
    return found


def lime(forward: Callable, images: jax.Array, targets: jax.Array, **options: Any) -> jax.Array:
    """`jaxcam.lime` on superpixels of a larger copy, as on the command line.

    64 pixels themselves fall into about five. What is segmented are the images that the network
    gets, each scaled to [0, 255].
    """
    scaled = np.asarray(255 * normalize(images.reshape(len(images), -1, images.shape[3])))
    # superpixels are those of colours: a grey image has three that are the same
    photos = np.broadcast_to(scaled.reshape(images.shape), (*images.shape[:3], 3))

    def segment(photo: np.ndarray) -> np.ndarray:
        size = (photo.shape[0], photo.shape[1])
        return scaling.segments(photo.round().astype(np.uint8), size, "stretch")

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
    variant = scaling.mask_variant((images.shape[1], images.shape[2]), steps)
    return jaxcam.mask(forward, images, targets, variant=variant, activation=activation)


def stage_attention(
    forward: Callable, images: jax.Array, targets: jax.Array, *, layer: Sequence[str]
) -> dict[str, jax.Array]:
    """Layer-wise attention: `jaxcam.cbam_attention` of the blocks in each layer, say a stage."""
    found = {}
    for name in layer:
        inside = []
        for known in jaxcam.layers(forward, images):
            block = known.removesuffix(".att")
            if block != known and f"{block}.".startswith(f"{name}."):
                inside.append(block)
        if not inside:
            raise ArgumentError(
                "layer", f"{name!r}, which has no CBAM block inside", "one that has"
            )
        found[name] = jaxcam.cbam_attention(forward, images, targets, blocks=inside)
    return found


_BLIND = "knows nothing of the model"
CONTROLS: Mapping[str, Method] = {
    "noise": Method("noise (control)", noise, _BLIND),
    "centre": Method("centre (control)", centre, _BLIND),
}
OF_TRANSFORMERS: Mapping[str, Method] = {
    "lrp_attnlrp": LIBRARY["lrp"]._replace(
        title="LRP, attnlrp",
        function=partial(jaxcam.lrp_map, composite="attnlrp"),
        about="through attention by AttnLRP, not with it as a gate; signed",
    ),
    "attention_rollout_max": LIBRARY["attention_rollout"]._replace(
        title="Attention rollout, max",
        function=partial(jaxcam.attention_rollout, heads="max"),
        about="of each block's greatest head, not their mean",
    ),
}
_REST = "of z + ln p, as ShapleyCAM's tables have it"
METHODS: Mapping[str, Method] = {
    **LIBRARY,
    "lime": LIBRARY["lime"]._replace(function=lime),
    "mask": LIBRARY["mask"]._replace(function=mask),
    "stage_attention": Method("CBAM by stage", stage_attention, "CBAM attention inside a layer"),
    "grad_cam_channel": Method(
        "Grad-CAM, ReLU by channel",
        partial(jaxcam.grad_cam, relu="channel"),
        "as Relevance-CAM's code of 2021 has it",
    ),
    "grad_cam_plus_plus_rcam": Method(
        "Grad-CAM++ (Relevance-CAM's)",
        partial(jaxcam.grad_cam_plus_plus, variant="rcam"),
        "as Relevance-CAM's code has it",
    ),
    "grad_cam_plus_plus_torchcam": Method(
        "Grad-CAM++ (torchcam's)",
        partial(jaxcam.grad_cam_plus_plus, variant="torchcam"),
        "as torchcam's code has it, its division lost",
    ),
    "grad_cam_rest": Method("Grad-CAM of z + ln p", of_residual_softmax(jaxcam.grad_cam), _REST),
    "grad_cam_plus_plus_rest": Method(
        "Grad-CAM++ of z + ln p", of_residual_softmax(jaxcam.grad_cam_plus_plus), _REST
    ),
    **smoothed.ROWS,
    **OF_TRANSFORMERS,
    "random_weights": Method("random weights", random_weights, "RandomCAM: knows no class"),
    **CONTROLS,
}
# hundreds of forward passes a map, and thousands
COSTLY = ("score_cam", "ablation_cam", "rise", "lime", "mask", "occlusion")
DEAR = ("ss_cam", "is_cam")


def title(name: str) -> str:
    """What a method is called."""
    if name in METHODS:
        return METHODS[name].title
    return name


def is_control(name: str) -> bool:
    """Whether a method knows nothing of the model."""
    return name in CONTROLS


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
        got = ", ".join(unknown) or "none"
        raise ArgumentError("methods", got, f"any of {', '.join(METHODS)}")
    rows = {name: METHODS[name] for name in names}
    for option in options:
        name, keywords = _option(option, rows)
        rows[name] = rows[name]._replace(function=partial(rows[name].function, **keywords))
    return rows


def _option(option: str, rows: Mapping[str, Method]) -> tuple[str, dict[str, Any]]:
    place, equals, text = option.partition("=")
    name, _, keyword = place.partition(".")
    if name not in rows:
        expected = f"METHOD.OPTION=VALUE; the methods are {', '.join(rows)}"
        raise ArgumentError("options", repr(option), expected)
    known = list(inspect.signature(rows[name].function).parameters)[3:]
    # lime passes its **options on
    if not equals or not keyword or (keyword not in known and "options" not in known):
        expected = f"METHOD.OPTION=VALUE; {name} has {', '.join(known)}"
        raise ArgumentError("options", repr(option), expected)
    try:
        return name, {keyword: ast.literal_eval(text)}
    except (ValueError, SyntaxError):
        return name, {keyword: text}
