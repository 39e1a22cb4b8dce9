"""What a user says of a model, `about`: checked, and completed from the model itself."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import targets
from jaxcam._ground.errors import (
    ArgumentError,
    ArgumentTypeError,
    check_choice,
    check_size,
    nearest,
    one_of,
)
from jaxcam._ground.text import counted
from jaxcam._program.adapters.tagging import Adapted
from jaxcam.classifier._classifier import Classifier, explainable, stages

KEYS = (
    "classes",
    "size",
    "channels",
    "preprocess",
    "loss",
    "activation",
    "stages",
    "params",
    "init",
    "name",
)
_LOSSES = ("softmax", "sigmoid")
_USUAL_SIZE = 224
_CHANNELS = (3, 1)
_BATCH = 2  # of which a model has to give two answers


def read(about: Any) -> dict[str, Any]:
    """`about` as a dict of what it says; what is None in it is not said.

    Raises:
        ValueError: it is no mapping, dataclass or None, or says what nobody asks.
    """
    if about is None:
        return {}
    if dataclasses.is_dataclass(about) and not isinstance(about, type):
        about = {field.name: getattr(about, field.name) for field in dataclasses.fields(about)}
    if not isinstance(about, Mapping):
        expected = f"a dict or dataclass with any of {', '.join(KEYS)}"
        raise ArgumentTypeError("about", f"a {type(about).__name__}", expected)
    facts = {}
    for key, value in about.items():
        if key not in KEYS:
            raise ArgumentError("about", f"{key!r} in it", one_of(key, KEYS))
        if value is not None:
            facts[key] = value
    return facts


def classifier(forward: Callable, facts: Mapping[str, Any]) -> Classifier:
    """A model and what is said of it.

    Args:
        forward: images -> logits; `(params, images) -> logits` if `params` are among the facts.
        facts: as `read` returns them.

    Raises:
        ValueError: something that does not fit; the message names the entry. What `forward` raises
            passes through.
    """
    params = facts.get("params", ())
    apply = forward
    if "params" not in facts:
        apply = lambda params, images: forward(images)
        if isinstance(forward, Adapted):
            params = forward.params
            apply = forward.apply
    found = Classifier(
        params=params,
        apply=apply,
        preprocess=_preprocess(facts.get("preprocess")),
        size=_size(facts, forward),
        activation=_activation(facts),
        init=_init(facts),
        name=str(facts.get("name", "")),
    )
    found = _with_channels(found, facts)
    found = _with_classes(found, facts)
    return _with_stages(found, facts)


# What the images are --------------------------------------------------


def _size(facts: Mapping[str, Any], forward: Callable) -> tuple[int, int]:
    """Height and width: as it is said, else as the model says, else the usual ones."""
    size = facts.get("size", getattr(forward, "input_size", None))
    if size is None:
        warnings.warn(
            f"about: says no size, so photos are shown to the model at {_USUAL_SIZE} x "
            f"{_USUAL_SIZE} pixels; give the size it was trained for, "
            'return forward, {"size": (height, width)}',
            stacklevel=2,
        )
        size = _USUAL_SIZE
    if isinstance(size, int | np.integer) and not isinstance(size, bool):
        size = (size, size)
    return check_size(_entry("size"), size)


def _preprocess(given: Any) -> Callable[..., Any]:
    """From images in [0, 1]: a function, (x - mean) / std, or nothing at all."""
    if given is None:
        return lambda images: images
    if callable(given):
        return given
    expected = "a function of images in [0, 1], or {'mean': ..., 'std': ...}, one number a channel"
    pair: Any = given
    if isinstance(given, Mapping):
        if set(given) != {"mean", "std"}:
            raise ArgumentError(_entry("preprocess"), f"keys {sorted(given)}", expected)
        pair = (given["mean"], given["std"])
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise ArgumentError(_entry("preprocess"), repr(given), expected)
    try:
        mean = np.asarray(pair[0], np.float32)
        std = np.asarray(pair[1], np.float32)
    except (TypeError, ValueError) as error:
        raise ArgumentError(_entry("preprocess"), repr(given), expected) from error
    if not (std > 0).all() or max(mean.ndim, std.ndim) > 1:
        raise ArgumentError(_entry("preprocess"), repr(given), f"{expected}, every std above 0")
    return _normalize(mean, std)


def _normalize(mean: np.ndarray, std: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """(x - mean) / std."""

    def normalize(images: jax.Array) -> jax.Array:
        for name, each in (("mean", mean), ("std", std)):
            if each.ndim and each.shape != images.shape[-1:]:
                got = f"{counted(len(each), 'number')} for {name}"
                expected = f"one, or one for each of {images.shape[-1]} channels"
                raise ArgumentError(_entry("preprocess"), got, expected)
        shape = (1,) * (images.ndim - 1) + (-1,)
        return (images - mean.reshape(shape)) / std.reshape(shape)

    return normalize


def _with_channels(found: Classifier, facts: Mapping[str, Any]) -> Classifier:
    """With the channels it says, else the first of 3 and 1 that it can be traced with."""
    if "channels" in facts:
        check_choice(_entry("channels"), facts["channels"], _CHANNELS, or_else="nothing")
        return dataclasses.replace(found, channels=int(facts["channels"]))
    first = None
    for channels in _CHANNELS:
        tried = dataclasses.replace(found, channels=channels)
        try:
            _outputs(tried)
        except Exception as error:
            first = first or error
        else:
            return tried
    assert first is not None
    raise first


# What the outputs are -------------------------------------------------


def _outputs(found: Classifier) -> Any:
    """The shapes of what it answers to photos."""
    height, width = found.input_size
    photos = jax.ShapeDtypeStruct((_BATCH, height, width, 3), jnp.uint8)
    answer = lambda params, photos: found.apply(params, found.prepare(photos))
    return jax.eval_shape(answer, found.params, photos)


def _with_classes(found: Classifier, facts: Mapping[str, Any]) -> Classifier:
    """With class names; one logit becomes two, for no and for yes."""
    shapes = _outputs(found)
    if not hasattr(shapes, "shape") or len(shapes.shape) != 2 or shapes.shape[0] != _BATCH:
        got = f"a {type(shapes).__name__}"
        if hasattr(shapes, "shape"):
            got = f"an output of shape {shapes.shape} for {_BATCH} images"
        raise ArgumentError("forward", got, f"logits [{_BATCH}, N]")
    count = shapes.shape[1]
    if count == 1:
        found = _of_two_classes(found)
    return dataclasses.replace(found, classes=_names(facts.get("classes"), count))


def _of_two_classes(found: Classifier) -> Classifier:
    """A network of one logit z as one of [-z, z], each with its sigmoid: no and yes.

    So the predicted class is explained, and its probability is 1 - p or p.
    """
    expected = "'sigmoid', or 'identity' for a probability: of one output"
    if found.activation not in (None, "sigmoid", "identity"):
        raise ArgumentError(_entry("loss"), repr(found.activation), expected)
    apply = found.apply
    certain = 0.0
    activation = "sigmoid"
    if found.activation == "identity":
        certain = 1.0
        activation = "identity"

    def both(params: Any, images: jax.Array) -> jax.Array:
        yes = apply(params, images)
        return jnp.concatenate([certain - yes, yes], axis=-1)

    return dataclasses.replace(found, apply=both, activation=activation, mirrored=True)


def _names(given: Any, count: int) -> tuple[str, ...]:
    if given is None:
        return tuple(map(str, range(max(count, 2))))
    from jaxcam.models.pretrained import read_classes  # flax is slow to import

    if not isinstance(given, str) and not isinstance(given, Sequence | np.ndarray):
        expected = "names, or a file of them"
        raise ArgumentError(_entry("classes"), f"a {type(given).__name__}", expected)
    names: Any = given
    if isinstance(given, str):
        names = read_classes(given)
    names = tuple(map(str, names))
    if count == 1 and len(names) == 1:
        return f"not {names[0]}", names[0]
    if len(names) == max(count, 2):
        return names
    expected = f"one for each of the {count} outputs"
    if count == 1:
        expected = "two for the one output, what it says no and yes to, or one for yes"
    raise ArgumentError(_entry("classes"), counted(len(names), "name"), expected)


def _activation(facts: Mapping[str, Any]) -> Any:
    if "loss" not in facts:
        activation = facts.get("activation")
        if activation is not None and not callable(activation):
            check_choice(
                _entry("activation"), activation, targets.ACTIVATIONS, or_else="a function"
            )
        return activation
    check_choice(_entry("loss"), facts["loss"], _LOSSES)
    if "activation" in facts:
        raise ArgumentError("about", "both a loss and an activation", "one of the two")
    return facts["loss"]


def _init(facts: Mapping[str, Any]) -> Callable | None:
    init = facts.get("init")
    if init is None:
        return None
    if not callable(init):
        got = f"a {type(init).__name__}"
        raise ArgumentError(_entry("init"), got, "a function of a key -> params")
    return init


# Layers ---------------------------------------------------------------


def _with_stages(found: Classifier, facts: Mapping[str, Any]) -> Classifier:
    """With the layers it names, else the ends of its stages, else the default layer."""
    layers = found.layers
    asked = facts.get("stages")
    if asked is None:
        usual = stages(layers)
        if not usual and layers.default is not None:
            usual = (layers.default,)
        return found.with_stages(usual)
    if isinstance(asked, str):
        asked = [asked]
    for name in asked:
        if name not in layers:
            expected = f"layers of the model, which has {len(layers)}"
            if layers:
                expected = f"{expected}, such as {nearest(name, layers)}"
            raise ArgumentError(_entry("stages"), repr(name), expected)
        if not explainable(layers, name):
            got = f"{name!r} of shape {layers[name].shape}"
            raise ArgumentError(_entry("stages"), got, "layers with spatial extent")
    return found.with_stages(tuple(asked))


def _entry(key: str) -> str:
    """What errors call an entry of `about`."""
    return f"about[{key!r}]"
