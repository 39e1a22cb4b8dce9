"""A trained classifier as commands and experiments use it: forward, photos, classes, stages."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import targets
from jaxcam._ground.errors import ArgumentError
from jaxcam._program.layers import Layers
from jaxcam.methods import WHOLE, Method
from jaxcam.targets import Activation

# One program in place of one for each of its operations.
_probabilities = jax.jit(targets.probabilities, static_argnums=1)

# ITU-R BT.601's weights of red, green and blue, as in Pillow's mode L.
_GREY = (0.299, 0.587, 0.114)
_CONTRASTS = ("contrastive", "official")
Shapes = Mapping[str, jax.ShapeDtypeStruct]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network, what it is shown and what its answers mean.

    Args:
        params: its parameters, any pytree.
        apply: `(params, normalised images [B, H, W, C]) -> logits [B, N]`.
        preprocess: RGB in [0, 1] -> normalised images; grey levels `[B, H, W, 1]` in [0, 1] where C
            is 1.
        size: (height, width) of its input, pixels; one number for a square.
        stages: the layers to explain unless asked otherwise, in execution order.
        classes: their names, if they are known.
        activation: what makes its logits probabilities, as in `jaxcam.targets.probabilities`.
        init: from a key to untrained parameters by the architecture's own initialisers, if these
            are known.
        name: what to call it.
        architecture: its name, if it is one of `jaxcam.models`.
        channels: C of its input: 3, or 1 for grey images.
        mirrored: whether its logits are [-z, z] of one z.
    """

    params: Any
    apply: Callable[[Any, jax.Array], jax.Array]
    preprocess: Callable[[jax.Array], jax.Array]
    size: int | tuple[int, int]
    stages: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    activation: Activation = None
    init: Callable[[jax.Array], Any] | None = None
    name: str = ""
    architecture: str = ""
    channels: int = 3
    mirrored: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, C) of its input."""
        height, width = self.input_size
        return height, width, self.channels

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of its input, pixels."""
        if isinstance(self.size, tuple):
            return self.size
        return self.size, self.size

    def forward(self, params: Any = None) -> "Forward":
        """Normalised images -> logits, with these parameters; None: the trained ones."""
        if params is None:
            params = self.params
        return Forward(self.apply, params, self.activation, self.mirrored)

    def prepare(self, photos: jax.Array | np.ndarray) -> jax.Array:
        """Photos `[B, H, W, 3]` uint8 -> normalised images."""
        images = jnp.asarray(photos, jnp.float32) / 255
        if self.channels == 1:
            grey = jnp.einsum("bhwc,c->bhw", images, jnp.array(_GREY), precision="highest")
            images = grey[..., None]
        return self.preprocess(images)

    def probabilities(self, logits: jax.Array | np.ndarray) -> np.ndarray:
        """What logits `[..., N]` say of each class, in [0, 1]."""
        return np.asarray(_probabilities(logits, self.activation))

    def image(self) -> jax.ShapeDtypeStruct:
        """One normalised image, abstractly."""
        return jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)

    @functools.cached_property
    def layers(self) -> Layers:
        """All its layers, in execution order."""
        return jaxcam.layers(self.forward(), self.image())

    def with_stages(self, names: tuple[str, ...]) -> "Classifier":
        """The same with these stages; layers that are known stay so."""
        found = replace(self, stages=names)
        vars(found)["layers"] = self.layers
        return found

    @functools.cached_property
    def num_logits(self) -> int:
        """N of the logits `[B, N]`."""
        return jax.eval_shape(self.apply, self.params, self.image()).shape[1]


@dataclass(frozen=True, eq=False)
class Forward:
    """Normalised images -> logits, and what makes these probabilities.

    JAX knows by this object what is compiled: keep it for as long as it is to be compiled once.
    """

    apply: Callable[[Any, jax.Array], jax.Array]
    params: Any
    activation: Activation
    mirrored: bool = False

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits `[B, N]` of images `[B, H, W, C]`."""
        return self.apply(self.params, images)


def stages(layers: Shapes, count: int = 4) -> tuple[str, ...]:
    """The layers that end the last stages of a network, in execution order.

    Of the least nested names the last at each resolution; if there are fewer of these than `count`,
    of each shape. Where the default layer is one of tokens, as in a vision transformer: outputs of
    blocks at equal distances, the last one being the default layer; of tokens in several grids the
    last of each.

    Args:
        layers: shapes by name, in execution order, as `jaxcam.layers` returns them.
        count: at most so many.

    Returns:
        Names of layers; none if no layer has spatial extent.
    """
    default = getattr(layers, "default", None)
    if isinstance(layers, Layers) and default and len(layers[default].shape) == 3:
        return _of_tokens(layers, default, count)
    shapes = {name: aval.shape for name, aval in layers.items() if is_spatial(aval.shape)}
    depth = min((name.count(".") for name in shapes), default=0)
    sizes = {}
    whole_shapes = {}
    for name, shape in shapes.items():
        if name.count(".") == depth:
            sizes[shape[1:3]] = name
            whole_shapes[shape[1:]] = name
    ends = sizes
    if len(sizes) < count:
        ends = whole_shapes
    order = list(shapes)
    return tuple(sorted(ends.values(), key=order.index)[-count:])


def _of_tokens(layers: Layers, default: str, count: int) -> tuple[str, ...]:
    """Blocks of a transformer, of those that everything passes through up to the default layer."""
    order = list(layers)
    before = order[: order.index(default) + 1]
    known = []
    for name in before:
        tokens = len(layers[name].shape) == 3
        if tokens and name in layers.cuts and explainable(layers, name):
            known.append(name)
    last = {layers.grids[name]: name for name in known}
    if len(last) > 1:
        return tuple(sorted(last.values(), key=order.index)[-count:])
    blocks = _repeated(known)
    if not blocks or blocks[-1] != default:
        blocks = [*blocks, default]
    places = {-(-len(blocks) * (i + 1) // count) - 1 for i in range(count)}
    return tuple(blocks[place] for place in sorted(places))


def _repeated(names: Sequence[str]) -> list[str]:
    """Of names alike but for their numbers the most; of as many the least nested."""
    alike: dict[str, list[str]] = {}
    for name in names:
        used = re.sub(r"@\d+$", "", name)  # the n-th use of a name
        alike.setdefault(re.sub(r"\d+", "#", used), []).append(name)
    ranked = sorted(alike.items(), key=lambda pair: (-len(pair[1]), pair[0].count(".")))
    return ranked[0][1] if ranked else []


def is_spatial(shape: Sequence[int]) -> bool:
    """Whether an activation of this shape can be drawn as a map."""
    return len(shape) == 4 and shape[1] * shape[2] > 1


def explainable(layers: Layers, name: str) -> bool:
    """Whether a layer has a map that can be drawn: it has height and width, or tokens have."""
    grid = layers.grids.get(name, ())
    return len(grid) == 2 and grid[0] * grid[1] > 1


def explain(
    method: Method,
    forward: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    classes: jax.Array,
    layers: Sequence[str],
) -> dict[str, jax.Array]:
    """A row of the table of methods, carried out.

    Args:
        method: a row.
        forward: as `Classifier.forward` returns it; any other function has no activation to tell.
        images: `[B, H, W, C]`.
        classes: `[B]`.
        layers: names, all explained at once.

    Returns:
        Raw maps `[B, h, w]` by layer; under `WHOLE` those of a method that takes no layer.

    Raises:
        ValueError: the method does not apply.
    """
    options = method.options(getattr(forward, "activation", None))
    if getattr(forward, "mirrored", False):
        options = {**options, **_entering(method, forward, images, classes)}
    if not method.layered:
        return {WHOLE: method.function(forward, images, classes, **options)}
    return method.function(forward, images, classes, layer=list(layers), **options)


def _entering(
    method: Method,
    forward: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    classes: jax.Array,
) -> dict[str, jax.Array]:
    """The relevance that enters a network of one logit z, whose classes are shown as [-z, z].

    The two would cancel in the one z. It is that of the twin [0, z] instead (of [-z, 0] for the
    other class): what enters at the constant goes nowhere.

    Raises:
        ValueError: a contrast was asked for by name.
    """
    init = inspect.signature(method.function).parameters.get("init")
    if init is None or init.default not in _CONTRASTS:
        return {}
    if "init" in getattr(method.function, "keywords", {}):
        got = f"{init.default!r} of a network of one logit, whose two classes are one output"
        raise ArgumentError("init", got, "'one_hot'")
    logits = forward(images)
    hot = jax.nn.one_hot(classes, 2, dtype=logits.dtype)
    if init.default == "official":
        return {"init": hot}
    return {"init": hot * jnp.abs(logits)}
