"""Maps and metrics of xplique's own code, kept: ours have to say the same of the same network.

    python -m tests.golden_xplique --write    # with tensorflow and xplique installed

The network and images are those of tests/golden.npz, in Keras; noise is that of `jaxcam.smooth`,
masks and samples are those of `jaxcam.rise` and `jaxcam.lime`.
"""

import pathlib
import sys
from typing import Any
from unittest import mock

import jax
import numpy as np

from jaxcam._explainers import rise, surrogates
from jaxcam._explainers.smoothing import noisy
from tests import golden, golden_peers
from tests.golden_peers import TARGETS, heat

FILE = pathlib.Path(__file__).with_suffix(".npz")
LAYERS = ("layer2", "layer3")
SAMPLES, SIGMA = 3, 0.1
PATCH, POINTS, STEPS = 8, 5, 8
MASKS, GRID, KEEP = 12, 4, 0.5  # of RISE
ROWS, HIDE = 40, 0.5  # of LIME: samples, and what a hidden pixel becomes


def theirs(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps `[B, H, W]` by explainer, `[B, h, w]` by EXPLAINER/LAYER, numbers `[B, ...]`."""
    model = network(given)
    images, hot = given["images"], np.eye(5, dtype=np.float32)[TARGETS]
    found = {"logits": model(images)}
    found |= _pixels(model, images, hot) | _layers(model, images, hot)
    found |= _rise(model, images, hot) | _lime(model, images, hot)
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


def _rise(model: Any, images: np.ndarray, hot: np.ndarray) -> dict[str, Any]:
    """With the shifts of our masks, and enlarged as the authors enlarge; its own way beside it."""
    import tensorflow as tf
    from skimage.transform import resize
    from xplique.attributions import Rise

    size = images.shape[1:3]
    drawn = rise.draw(jax.random.key(0), MASKS, GRID, KEEP, size)
    grids, shifts = (np.array(each) for each in drawn)
    corners = iter(np.tile(shifts, (len(images), 1)))

    def crop(masks: Any, _: Any) -> Any:
        y, x = next(corners)
        return masks[:, y : y + size[0], x : x + size[1]]

    def enlarge(cells: Any, to: Any) -> Any:
        (cell,) = np.asarray(cells)[..., 0]
        return tf.constant(resize(cell, to, order=1, mode="reflect")[None, :, :, None])

    cells = grids.astype(np.float32)[..., None]
    found = {"Rise masks": tf.image.resize(cells[:3], [side + side // GRID for side in size])}
    apply = staticmethod(Rise._apply_masks.python_function)
    with (
        mock.patch.object(Rise, "_get_masks", lambda *_: tf.constant(grids[..., None])),
        mock.patch.object(Rise, "_apply_masks", apply),
        mock.patch.object(tf.image, "random_crop", crop),
        mock.patch.object(tf.image, "resize", enlarge),
    ):
        made = Rise(model, batch_size=1, nb_samples=MASKS, grid_size=GRID)  # a shift for each mask
        found["Rise"] = np.asarray(made(images, hot))[..., 0]
    return found


def squares(images: np.ndarray, side: int) -> np.ndarray:
    """Superpixels `[B, H, W]`: squares of so many pixels, in raster order."""
    rows, columns = (np.arange(length) // side for length in images.shape[1:3])
    segments = rows[:, None] * (columns[-1] + 1) + columns
    return np.broadcast_to(segments, images.shape[:3]).astype(np.int32)


def stripes(images: np.ndarray) -> np.ndarray:
    """Superpixels `[B, H, W]`: three, in slanted stripes, which all meet in the layers' windows."""
    height, width = images.shape[1:3]
    places = np.arange(height, dtype=np.int32)[:, None] + np.arange(width, dtype=np.int32)
    return np.broadcast_to(places // 2 % 3, images.shape[:3])


def _lime(model: Any, images: np.ndarray, hot: np.ndarray) -> dict[str, Any]:
    """LIME as it is and with our kernel; KernelSHAP on LIME's samples and on all coalitions."""
    import tensorflow as tf
    from sklearn.linear_model import Ridge
    from xplique.attributions import KernelShap, Lime

    def asked(kind: Any, segments: np.ndarray, samples: np.ndarray, **options: Any) -> Any:
        options["map_to_interpret_space"] = lambda _: tf.constant(segments[0])
        made = kind(
            model, len(samples), ref_value=np.full(3, HIDE), nb_samples=len(samples), **options
        )
        made.pertub_func = lambda *_: tf.constant(samples.astype(np.int32))
        return np.asarray(made(images, hot))[..., 0]

    key = jax.random.key(0)
    all_of = lambda count: np.ones((1, count), bool)
    halves = np.array(surrogates.halves(key, ROWS, all_of(16)))[:, 0]
    every = np.array(surrogates.coalitions(key, 8, all_of(3)))[2:, 0]
    cosine = lambda _, z, __: np.array(
        surrogates.cosine_weights(np.asarray(z, np.float32), np.ones(16), 0.25)
    )
    cells = squares(images, 6)
    ours = {"similarity_kernel": cosine, "interpretable_model": Ridge(alpha=1)}
    likeness = Lime._get_exp_kernel_func("cosine", 1.0)
    pair = np.stack([images[0], -images[0]])  # most alike, least alike
    return {
        "Lime": asked(Lime, cells, halves),
        "Lime/ours": asked(Lime, cells, halves, **ours),
        "Lime/likeness": likeness(images[0], halves[:2].astype(np.int32), pair),
        "KernelShap/halves": asked(KernelShap, cells, halves),
        "KernelShap/stripes": asked(KernelShap, stripes(images), every),
    }


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
    found["MuFidelity"] = _fidelity(model, images, hot)
    found["Complexity"] = metrics.Complexity().detailed_evaluate(maps)
    found["Sparseness"] = metrics.Sparseness().detailed_evaluate(maps)
    return found


def _fidelity(model: Any, images: np.ndarray, hot: np.ndarray) -> list[float]:
    """Photo by photo, of the sets of cells that we draw."""
    import tensorflow as tf
    from xplique.metrics import MuFidelity

    gone = golden_peers.sets(images, golden_peers.GRID)
    random = lambda *_, **__: tf.constant(np.where(gone, 0, 1).astype(np.float32))
    asked = {"grid_size": golden_peers.GRID, "nb_samples": len(gone), "activation": "softmax"}
    found = []
    with (
        mock.patch.object(
            MuFidelity, "_perturb_samples", MuFidelity._perturb_samples.python_function
        ),
        mock.patch.object(tf.random, "uniform", random),
    ):
        for one in map(slice, range(len(images)), range(1, len(images) + 1)):
            made = MuFidelity(model, images[one], hot[one], **asked)
            found.append(made.evaluate(heat(images)[one]))
    return found


if __name__ == "__main__":
    sys.exit(golden.write(FILE, theirs, __doc__, sys.argv[1:]))
