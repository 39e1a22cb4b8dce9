"""Maps and metrics of xplique's own code, kept: ours have to say the same of the same network.

    python -m tests.golden_xplique --write    # with tensorflow and xplique installed

The network and images are those of tests/golden.npz, in Keras; noise is that of `jaxcam.smooth`.
"""

import pathlib
import sys
from typing import Any
from unittest import mock

import jax
import numpy as np

from jaxcam._explainers.smoothing import noisy
from tests import golden
from tests.golden_peers import TARGETS, heat

FILE = pathlib.Path(__file__).with_suffix(".npz")
LAYERS = ("layer2", "layer3")
SAMPLES, SIGMA = 3, 0.1
PATCH, POINTS, STEPS = 8, 5, 8


def theirs(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps `[B, H, W]` by explainer, `[B, h, w]` by EXPLAINER/LAYER, numbers `[B, ...]`."""
    model = network(given)
    images, hot = given["images"], np.eye(5, dtype=np.float32)[TARGETS]
    found = {"logits": model(images)}
    found |= _pixels(model, images, hot) | _layers(model, images, hot)
    found |= _metrics(model, images, hot)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def network(given: dict[str, np.ndarray]) -> Any:
    """`golden.convolutional` in Keras."""
    from tensorflow import keras

    layers = keras.layers

    def convolved(name: str, x: Any, **options: Any) -> Any:
        size, _, _, channels = given[name].shape
        usual = {"padding": "same", "use_bias": False, "name": name}
        return layers.Conv2D(channels, size, **usual | options)(x)

    images = keras.Input(given["images"].shape[1:])
    x = layers.ReLU(name="layer1")(convolved("conv1", images))
    x = layers.ReLU(name="layer2")(convolved("conv2", x, strides=2))
    gated = layers.Multiply()([x, convolved("gate", x, activation="sigmoid")])
    x = layers.ReLU(name="layer3")(layers.Add()([convolved("conv3", gated), x]))
    mean = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, layers.Dense(5, use_bias=False, name="head")(mean))
    for name in ("conv1", "conv2", "conv3", "gate", "head"):
        model.get_layer(name).set_weights([given[name]])
    return model


def shaken(images: np.ndarray) -> np.ndarray:
    """`[B, SAMPLES, H, W, C]`: the noisy images of `jaxcam.smooth`."""
    keys = jax.random.split(jax.random.key(0), SAMPLES)
    return np.stack([np.asarray(noisy(images, key, SIGMA)) for key in keys], 1)


def _pixels(model: Any, images: np.ndarray, hot: np.ndarray) -> dict[str, Any]:
    import tensorflow as tf
    from xplique import attributions
    from xplique.attributions.gradient_statistics.gradient_statistic import GradientStatistic

    found = {}
    for name, options in {
        "Saliency": {},
        "GradientInput": {"reducer": "sum"},
        "IntegratedGradients": {"reducer": "sum", "steps": POINTS},
        "GuidedBackprop": {"reducer": "sum"},
        "DeconvNet": {"reducer": "sum"},
        "Occlusion": {"patch_size": PATCH, "patch_stride": PATCH},
    }.items():
        made = getattr(attributions, name)(model, **options)
        found[name] = np.asarray(made(images, hot)).reshape(images.shape[:3])
    each = shaken(images)
    noised = tf.constant(each.reshape(-1, *images.shape[1:]))
    with mock.patch.object(GradientStatistic, "_perturb_samples", lambda *_: noised):
        for name in ("SmoothGrad", "SquareGrad", "VarGrad"):
            options = {"reducer": "sum", "nb_samples": SAMPLES, "batch_size": SAMPLES * len(images)}
            made = getattr(attributions, name)(model, **options)
            found[name] = np.asarray(made(images, hot))[..., 0]
    return found


def _layers(model: Any, images: np.ndarray, hot: np.ndarray) -> dict[str, Any]:
    """Raw maps: what would enlarge them does nothing."""
    import tensorflow as tf
    from xplique import attributions

    found = {}
    with mock.patch.object(tf.image, "resize", lambda maps, *_, **__: maps):
        for layer in LAYERS:
            for name in ("GradCAM", "GradCAMPP", "FEM"):
                made = getattr(attributions, name)(model, conv_layer=layer)
                found[f"{name}/{layer}"] = np.asarray(made(images, hot))[..., 0]
    return found


def _metrics(model: Any, images: np.ndarray, hot: np.ndarray) -> dict[str, Any]:
    from xplique import metrics

    maps = heat(images)
    found: dict[str, Any] = {}
    for name in ("Deletion", "Insertion"):
        curves = []
        for one in map(slice, range(len(images)), range(1, len(images) + 1)):
            asked = {"steps": STEPS, "activation": "softmax"}
            made = getattr(metrics, name)(model, images[one], hot[one], **asked)
            curves.append(list(made.detailed_evaluate(maps[one]).values()))
        found[name] = np.stack(curves)
    for name in ("AverageDropMetric", "AverageIncreaseMetric", "AverageGainMetric"):
        made = getattr(metrics, name)(model, images, hot, activation="softmax")
        found[name] = made.detailed_evaluate(images, hot, maps)
    found["Complexity"] = metrics.Complexity().detailed_evaluate(maps)
    found["Sparseness"] = metrics.Sparseness().detailed_evaluate(maps)
    return found


if __name__ == "__main__":
    sys.exit(golden.write(FILE, theirs, __doc__, sys.argv[1:]))
