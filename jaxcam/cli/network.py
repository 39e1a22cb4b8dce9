"""A trained network as the commands use it: its layers, and programs that are compiled once."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import targets
from jaxcam.methods import METHODS, WHOLE


class Network:
    """A trained network, its layers, and one compiled program for each method and input size."""

    def __init__(self, name: str, *, architecture: str | None = None, classes: str | None = None):
        """Load a network; arguments and errors are those of `jaxcam.models.describe`."""
        from jaxcam import models  # flax is slow to import, and --help does without

        self.name = Path(name).stem if name.endswith(".safetensors") else name
        self.about = models.describe(name, architecture=architecture, classes=classes)
        self.model, self.variables = models.load(name, architecture=architecture)
        self.activation = self.about.activation  # of the logits, see `jaxcam.targets.probabilities`
        self.size = (self.about.preprocess.size,) * 2
        # Normalised images -> logits. One function for as long as the network lives: JAX knows by
        # it what is compiled.
        self.forward = jaxcam.linen(self.model, self.variables)
        self.layers = jaxcam.layers(
            self.forward, jax.ShapeDtypeStruct((1, *self.size, 3), jnp.float32)
        )
        self._programs: dict[tuple, Callable] = {}

    def normalized(self, image: np.ndarray) -> jax.Array:
        """The images `[1, H, W, 3]` that the network gets of a prepared photo `[H, W, 3]` uint8."""
        return self.about.preprocess(jnp.asarray(image[None], jnp.float32) / 255)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Logits `[N]` of a prepared photo `[H, W, 3]` uint8."""
        program = self._program((), image.shape[:2], lambda forward, images, _: forward(images))
        return np.asarray(program(self.variables, self.normalized(image), np.zeros(1, np.int32)))[0]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """What the logits `[N]` say of each class, in [0, 1]."""
        return np.asarray(targets.probabilities(jnp.asarray(logits), self.activation))

    def explain(
        self, method: str, layers: Sequence[str], image: np.ndarray, target: int
    ) -> dict[str, np.ndarray]:
        """Raw maps `[h, w]` by layer of a prepared photo `[H, W, 3]` uint8."""
        program = self.compiled(method, tuple(layers), image.shape[:2])
        found = program(self.variables, self.normalized(image), np.full(1, target, np.int32))
        return {layer: np.asarray(raw)[0] for layer, raw in found.items()}

    def compiled(self, method: str, layers: tuple[str, ...], size: tuple[int, int]) -> Callable:
        """The program for a method and layers at an input size; ValueError if it does not apply."""
        row = METHODS[method]

        def by_layer(
            forward: Callable, images: jax.Array, classes: jax.Array
        ) -> dict[str, jax.Array]:
            options = row.options(self.activation)
            if not row.layered:
                return {WHOLE: row.function(forward, images, classes, **options)}
            return row.function(forward, images, classes, layer=layers, **options)

        return self._program((method, layers if row.layered else WHOLE), size, by_layer, row.jit)

    def applicable(self, method: str, layers: Sequence[str]) -> tuple[str, ...]:
        """Those of the layers that a method can explain; all or none if it explains the whole."""
        with contextlib.suppress(ValueError):
            self.compiled(method, tuple(layers), self.size)
            return tuple(layers)
        if not METHODS[method].layered or len(layers) == 1:
            return ()
        return tuple(layer for layer in layers if self.applicable(method, [layer]))

    def _program(
        self, key: tuple, size: tuple[int, int], function: Callable, jit: bool = True
    ) -> Callable:
        """Compiled once; the parameters are arguments, which XLA compiles faster than constants."""
        if not jit:
            return lambda _, images, classes: function(self.forward, images, classes)

        def run(variables: Any, images: jax.Array, classes: jax.Array) -> Any:
            return function(jaxcam.linen(self.model, variables), images, classes)

        if (key, size) not in self._programs:
            shapes = (
                jax.ShapeDtypeStruct((1, *size, 3), jnp.float32),
                jax.ShapeDtypeStruct((1,), jnp.int32),
            )
            self._programs[key, size] = jax.jit(run).lower(self.variables, *shapes).compile()
        return self._programs[key, size]


def stages(layers: Mapping[str, jax.ShapeDtypeStruct], count: int = 4) -> tuple[str, ...]:
    """The layers that end the last stages of a network, in execution order.

    Of the least nested names the last at each resolution; if there are fewer of these than `count`,
    of each shape.
    """
    shapes = {name: aval.shape for name, aval in layers.items() if spatial(aval.shape)}
    depth = min((name.count(".") for name in shapes), default=0)
    shallow = {name: shape for name, shape in shapes.items() if name.count(".") == depth}
    ends = {shape[1:3]: name for name, shape in shallow.items()}
    if len(ends) < count:
        ends = {shape[1:]: name for name, shape in shallow.items()}
    order = list(shapes)
    return tuple(sorted(ends.values(), key=order.index)[-count:])


def spatial(shape: Sequence[int]) -> bool:
    """Whether an activation of this shape can be drawn as a map."""
    return len(shape) == 4 and shape[1] * shape[2] > 1
