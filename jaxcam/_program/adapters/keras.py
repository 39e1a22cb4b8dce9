"""Keras 3 on its JAX backend."""

import contextlib
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import jax

from jaxcam._ground.errors import ArgumentError, ArgumentTypeError, check_flag
from jaxcam._program.adapters.tagging import Adapted, calls_tagged

_PROBABILITIES = ("softmax", "sigmoid", "log_softmax")


def keras(model: Any, *, logits: bool = True, **call_kwargs: Any) -> Adapted:
    """`images -> model(images, training=False)`, every layer's output a layer under its own name.

    Layers inside another layer or model have its name before theirs, `"backbone/conv1_conv"`; so
    have the operations of a functional model, such as the sum at the end of a residual block.

    Args:
        model: a `keras.Model` or `keras.Sequential`, built, on the JAX backend.
        logits: whether a softmax or sigmoid that is the last layer's activation is left out, so
            that the model returns logits, which explanations are about; the model itself keeps it.
        **call_kwargs: passed on to the model's call; `training` is False unless it says otherwise.

    Returns:
        The forward function.

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: Keras runs on another backend, the model is not built, or `logits` is neither
            True nor False.

    Example:
        >>> import os
        >>> os.environ["KERAS_BACKEND"] = "jax"  # before the first import of keras
        >>> from keras import Sequential, layers
        >>> parts = [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)]
        >>> model = Sequential(parts)
        >>> model.build(images.shape)
        >>> print([known.shape for known in jaxcam.layers(jaxcam.keras(model), images).values()])
        [(2, 6, 6, 4), (2, 4), (2, 3)]
    """
    check_flag("logits", logits)
    import keras as api

    _check(model, api)
    paths = _paths(model.trainable_variables)
    trained = dict(zip(paths, map(attrgetter("value"), model.trainable_variables), strict=True))
    others = list(map(attrgetter("value"), model.non_trainable_variables))
    options = {"training": False, **call_kwargs}
    last = _last(model) if logits else None
    operations = set(map(id, _operations(model)))

    def apply(params: Any, images: jax.Array) -> Any:
        stack: list[str] = []

        @contextlib.contextmanager
        def within(layer: Any) -> Iterator[None]:
            stack.append(layer.name)
            changed = contextlib.nullcontext()
            if layer is last:
                changed = _linear(layer, api)
            with changed:
                yield
            stack.pop()

        def name_of(layer: Any) -> str | None:
            if layer is model:
                return None
            if not isinstance(layer, api.Layer) and id(layer) not in operations:
                return None  # made in passing by a layer's call, with another name each time
            return "/".join([*stack, layer.name])

        with calls_tagged([api.Layer, api.Operation], name_of, within):
            trainable = [params[path] for path in paths]
            return model.stateless_call(trainable, others, images, **options)[0]

    return Adapted(apply, trained, _input_size(model))


def _check(model: Any, api: Any) -> None:
    """Raises unless it is a built Keras model on JAX."""
    if not isinstance(model, api.Model):
        raise ArgumentTypeError("model", type(model).__name__, "a keras.Model")
    if api.backend.backend() != "jax":
        expected = "'jax': set the environment variable KERAS_BACKEND before importing keras"
        raise ArgumentError("model", f"Keras on the backend {api.backend.backend()!r}", expected)
    if not model.built:
        raise ArgumentError("model", "one that is not built", "model.build(input_shape) before")


def _paths(variables: Any) -> list[str]:
    """A name for each variable: Keras's own, numbered where several share it."""
    paths = list(map(attrgetter("path"), variables))
    for number, path in enumerate(paths):
        if path in paths[:number]:
            paths[number] = f"{path}:{number}"
    return paths


def _input_size(model: Any) -> tuple[int, int] | None:
    """(height, width) of its images, of a model that takes one size."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:3]:
        return None
    return shape[1], shape[2]


def _operations(model: Any) -> Iterator[Any]:
    """The nodes of a functional model and of the models inside it."""
    yield from getattr(model, "operations", ())
    for layer in getattr(model, "layers", ()):
        yield from _operations(layer)


def _last(model: Any) -> Any:
    """The layer that makes the model's output, if it ends in probabilities."""
    layers = list(model.layers)
    if not layers:
        return None
    layer = layers[-1]
    if hasattr(layer, "layers"):
        return _last(layer)
    name = getattr(getattr(layer, "activation", None), "__name__", "")
    if name in _PROBABILITIES:
        return layer
    return None


@contextlib.contextmanager
def _linear(layer: Any, api: Any) -> Iterator[None]:
    """A layer without its activation, for the time of its call."""
    kept = layer.activation
    layer.activation = api.activations.linear
    try:
        yield
    finally:
        layer.activation = kept
