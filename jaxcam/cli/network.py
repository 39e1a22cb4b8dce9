"""A classifier as the commands use it: programs that are compiled once."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import classifier, loops
from jaxcam._program.layers import Layers
from jaxcam.classifier import Classifier, Forward
from jaxcam.methods import METHODS, WHOLE

Size = tuple[int, int]


class Network:
    """A classifier, and one compiled program for each method and input size."""

    def __init__(self, name: str, *, architecture: str | None = None, classes: str | None = None):
        """Load a network; arguments and errors are those of `jaxcam.classifier.load`."""
        self.about: Classifier = classifier.load(name, architecture=architecture, classes=classes)
        self.name = self.about.name
        self.size: Size = self.about.input_size
        # One function for as long as the network lives: JAX knows by it what is compiled.
        self.forward: Forward = self.about.forward()
        self.layers: Layers = self.about.layers
        self._programs: dict[tuple, Callable] = {}
        # One program in place of one for each of its operations.
        self._prepared = jax.jit(self.about.prepare)

    def normalized(self, image: np.ndarray) -> jax.Array:
        """The images `[1, H, W, C]` that the network gets of a prepared photo `[H, W, 3]` uint8."""
        return self._prepared(image[None])

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Logits `[N]` of a prepared photo `[H, W, 3]` uint8."""
        forward = lambda forward, images, _: loops.quick(forward)(images)
        program = self._program((), _size(image), forward)
        no_class = np.zeros(1, np.int32)
        return np.asarray(program(self.about.params, self.normalized(image), no_class))[0]

    def explain(
        self, method: str, layers: Sequence[str], image: np.ndarray, target: int
    ) -> dict[str, np.ndarray]:
        """Raw maps `[h, w]` by layer of a prepared photo `[H, W, 3]` uint8."""
        program = self.compiled(method, tuple(layers), _size(image))
        classes = np.full(1, target, np.int32)
        found = program(self.about.params, self.normalized(image), classes)
        return {layer: np.asarray(raw)[0] for layer, raw in found.items()}

    def compiled(self, method: str, layers: tuple[str, ...], size: Size) -> Callable:
        """The program for a method and layers at an input size; ValueError if it does not apply."""
        row = METHODS[method]
        places = layers
        if not row.layered:
            places = (WHOLE,)

        def by_layer(
            forward: Callable, images: jax.Array, classes: jax.Array
        ) -> dict[str, jax.Array]:
            return classifier.explain(row, forward, images, classes, layers)

        return self._program((method, places), size, by_layer, row.jit)

    def applicable(self, method: str, layers: Sequence[str]) -> tuple[str, ...]:
        """Those of the layers that a method can explain; all or none if it explains the whole."""
        with contextlib.suppress(ValueError):
            self.compiled(method, tuple(layers), self.size)
            return tuple(layers)
        if not METHODS[method].layered or len(layers) == 1:
            return ()
        return tuple(layer for layer in layers if self.applicable(method, [layer]))

    def _program(self, key: tuple, size: Size, function: Callable, jit: bool = True) -> Callable:
        """Compiled once; the parameters are arguments, which XLA compiles faster than constants."""
        if not jit:
            return lambda _, images, classes: function(self.forward, images, classes)

        def run(params: Any, images: jax.Array, classes: jax.Array) -> Any:
            return function(self.about.forward(params), images, classes)

        if (key, size) not in self._programs:
            images = jax.ShapeDtypeStruct((1, *size, self.about.channels), jnp.float32)
            classes = jax.ShapeDtypeStruct((1,), jnp.int32)
            lowered = jax.jit(run).lower(self.about.params, images, classes)
            self._programs[key, size] = lowered.compile()
        return self._programs[key, size]


def _size(image: np.ndarray) -> Size:
    return image.shape[0], image.shape[1]
