"""What bfloat16 does to maps: how far they are from those of the model as it is.

LRP's are with fewer passes of a TPU's matrix unit (`precision` of a composite), which are made here
by hand.

Of the bundled network and scikit-image's photos, or of another model of `jaxcam.models`; the class
is the predicted one. Maps are compared raw by their correlation, and normalised to [-1, 1] by the
largest difference of a cell; the games by their curves.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import skimage.data

import jaxcam
from eval.costs.matrix_unit import emulated
from jaxcam import classifier, lrp, maps, metrics, photos, scaling
from jaxcam.classifier import Classifier

PHOTOS = ("cat", "coffee", "astronaut", "rocket")
_SAMPLES = 64  # masks of RISE, samples of LIME
_DTYPE = "bfloat16"


class Change(NamedTuple):
    """Of a method's maps in bfloat16 against those in float32, over photos."""

    correlation: float  # the least
    difference: float  # the largest, of maps in [-1, 1] or of confidences
    seconds: float  # of a call in bfloat16
    usual: float  # of a call in float32


class Scene(NamedTuple):
    """A model, photos as it takes them, the classes that it predicts, and superpixels."""

    model: Classifier
    images: jax.Array
    targets: jax.Array
    segments: np.ndarray


# (forward, scene, **options) -> maps [B, h, w] or curves [B, n]
Ask = Callable[..., jax.Array]


def _whole(method: Callable, **given: Any) -> Ask:
    def ask(forward: Callable, scene: Scene, **options: Any) -> jax.Array:
        asked = {"activation": scene.model.activation, **given, **options}
        return method(forward, scene.images, scene.targets, **asked)

    return ask


def _lime(forward: Callable, scene: Scene, **options: Any) -> jax.Array:
    count = scaling.num_segments(scene.segments)
    found = {"segments": scene.segments, "num_segments": count, "num_samples": _SAMPLES}
    return _whole(jaxcam.lime, **found)(forward, scene, **options)


def _played(game: Callable) -> Ask:
    def ask(forward: Callable, scene: Scene, **options: Any) -> jax.Array:
        heat = jaxcam.gradient(forward, scene.images, scene.targets)
        activation = scene.model.activation
        found = {"activation": activation, **options}
        return game(forward, scene.images, heat, scene.targets, **found)

    return ask


def _relevance(composite: str, precision: str) -> Ask:
    """LRP to the pixels; "in bfloat16" at this precision, as a TPU has it."""

    def ask(forward: Callable, scene: Scene, **options: Any) -> jax.Array:
        if not options:
            return jaxcam.lrp_map(forward, scene.images, scene.targets, composite=composite)
        rules = lrp.COMPOSITES[composite](precision=precision)
        explain = lambda x: jaxcam.lrp_map(forward, x, scene.targets, composite=rules)
        return emulated(explain)(scene.images)

    return ask


METHODS: dict[str, Ask] = {
    "rise": _whole(jaxcam.rise, num_masks=_SAMPLES),
    "lime": _lime,
    "occlusion": _whole(jaxcam.occlusion, window=16, stride=16),
    "score_cam": _whole(jaxcam.score_cam),
    "ablation_cam": lambda forward, scene, **options: jaxcam.ablation_cam(
        forward, scene.images, scene.targets, **options
    ),
    "deletion": _played(metrics.deletion),
    "insertion": _played(metrics.insertion),
}
for _name in ("z_plus", "epsilon_plus_flat", "epsilon"):
    for _precision in ("high", "default"):
        METHODS[f"lrp, {_name}, {_precision}"] = _relevance(_name, _precision)


def measure(name: str, names: tuple[str, ...] = ()) -> dict[str, Change]:
    """Changes by method.

    Args:
        name: of a model, as `jaxcam.classifier.load` takes it.
        names: of methods; none means all.
    """
    scene = _scene(name)
    return {each: _change(METHODS[each], scene) for each in names or METHODS}


def _scene(name: str) -> Scene:
    model = classifier.load(name)
    shown = []
    segments = []
    for photo in PHOTOS:
        pixels = getattr(skimage.data, photo)()
        shown.append(photos.prepare(pixels, model.input_size, "stretch"))
        segments.append(scaling.segments(pixels, model.input_size, "stretch")[0])
    images = model.prepare(np.stack(shown))
    targets = model.forward()(images).argmax(-1)
    return Scene(model, images, targets, np.stack(segments))


def _change(ask: Ask, scene: Scene) -> Change:
    usual, before = _timed(ask, scene)
    found, after = _timed(ask, scene, dtype=_DTYPE)
    flat = [np.asarray(each, np.float64).reshape(len(usual), -1) for each in (usual, found)]
    correlations = []
    for first, second in zip(*flat, strict=True):
        correlations.append(np.corrcoef(first, second)[0, 1])
    apart = np.abs(flat[0] - flat[1])
    if usual.ndim == 3:
        scaled = [maps.normalize(each, "signed") for each in (usual, found)]
        apart = np.abs(np.asarray(scaled[0] - scaled[1]))
    return Change(float(min(correlations)), float(apart.max()), after, before)


def _timed(ask: Ask, scene: Scene, **options: Any) -> tuple[jax.Array, float]:
    """The maps, and the processor's seconds of the call."""

    def run(params: Any, images: jax.Array) -> jax.Array:
        forward = scene.model.forward(params)
        return ask(forward, scene._replace(images=images), **options)

    program = jax.jit(run).lower(scene.model.params, scene.images).compile()
    start = time.process_time()
    found = jax.block_until_ready(program(scene.model.params, scene.images))
    return found, time.process_time() - start


def table(changes: Mapping[str, Change]) -> str:
    """The changes as a Markdown table."""
    lines = ["| | least correlation | largest difference | CPU s | in float32 |", "|---" * 5 + "|"]
    for name, change in changes.items():
        numbers = f"{change.correlation:.5f} | {change.difference:.4f}"
        lines.append(f"| {name} | {numbers} | {change.seconds:.2f} | {change.usual:.2f} |")
    return "\n".join(lines)
