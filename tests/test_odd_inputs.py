"""What maps and metrics make of any values, types and shapes: a defined value, or an error.

A table rather than random draws: each row is a kind of value that was wrong somewhere once.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import fostering, maps, metrics
from jaxcam._ground.errors import ArgumentError

RNG = np.random.default_rng(3)
SIGNED = RNG.normal(size=(1, 4, 4)).astype(np.float32)
VALUES = {
    "zero": 0 * SIGNED,
    "constant": 0 * SIGNED + 0.3,
    "negative": -np.abs(SIGNED),
    "1e37": SIGNED * np.float32(1e37),
    "greatest": np.where(SIGNED > 0, 3e38, -3e38).astype(np.float32),
    "1e-37": SIGNED * np.float32(1e-37),
    "denormal": SIGNED * np.float32(1e-41),
    "float16": SIGNED.astype(np.float16),
    "bfloat16": jnp.asarray(SIGNED, jnp.bfloat16),
    "bool": SIGNED > 0,
    "uint8": (100 * np.abs(SIGNED)).astype(np.uint8),
    "one cell": SIGNED[:, :1, :1],
    "one row": SIGNED[:, :1],
    "two": np.concatenate([SIGNED, 2 * SIGNED]),
    "a list": SIGNED.tolist(),
}
BOX = lambda saliency: np.zeros((len(saliency), 1, 4))
OBJECT = lambda saliency: np.ones(np.shape(saliency), bool)
# Of every map of finite values a finite answer, or the NaN that says there is none.
RANGES = {
    "min_max": (maps.normalize, 0, 1),
    "positive": (partial(maps.normalize, method="positive"), 0, 1),
    "max": (partial(maps.normalize, method="max"), 0, 1),
    "signed": (partial(maps.normalize, method="signed"), -1, 1),
    "outliers": (partial(maps.normalize, percentile=90), 0, 1),
    "threshold": (maps.threshold, 0, 1),
    "threshold_of_max": (maps.threshold_of_max, 0, 1),
    "resize": (partial(maps.resize, size=(5, 3)), -np.inf, np.inf),
    "segmentation_mask": (partial(maps.segmentation_mask, size=(5, 3)), 0, 1),
    "cam_entropy": (fostering.cam_entropy, 0, np.log(16)),
    "cam_area": (fostering.cam_area, 0, 16),
    "cam_dispersion": (fostering.cam_dispersion, 0, 15),
    "complexity": (metrics.complexity, 0, 1),
    "coherency": (lambda s: metrics.coherency(s, s), 0, 1),
    "hog": (partial(metrics.hog, cell=1), 0, 1),
    "loc": (lambda s: metrics.loc(s, BOX(s)), 0, 1),
    "mask_iou": (lambda s: metrics.mask_iou(s, BOX(s)), 0, 1),
    "pointing_game": (lambda s: metrics.pointing_game(s, BOX(s)), 0, 1),
    "energy_in_box": (lambda s: metrics.energy_in_box(s, BOX(s)), 0, 1),
    "mass_accuracy": (lambda s: metrics.mass_accuracy(s, OBJECT(s)), 0, 1),
    "rank_accuracy": (lambda s: metrics.rank_accuracy(s, OBJECT(s)), 0, 1),
}
# NaN where nothing is positive, by what they say of themselves.
OF_EVIDENCE = {
    "entropy": (metrics.entropy, 0, np.log(16)),
    "area": (metrics.area, 0, 16),
    "dispersion": (metrics.dispersion, 0, 15),
    "relative_difference": (metrics.relative_difference, 0, 200),
}
NOTHING = {"zero", "negative", "denormal", "one cell"}


def within(found, low, high):
    found = np.asarray(found, np.float64)
    assert np.isfinite(found).all()
    assert (found >= low - 1e-5).all() and (found <= high + 1e-4).all()


@pytest.mark.parametrize("name", RANGES)
def test_any_map_has_an_answer_in_range(name):
    function, low, high = RANGES[name]
    for kind, values in VALUES.items():
        if name == "hog" and kind in ("one cell", "one row"):
            with pytest.raises(ValueError, match="cell: got 1 for"):
                function(values)
            continue
        found = function(values)
        within(found, low, high)
        assert found.dtype in (jnp.float32, bool)


@pytest.mark.parametrize("name", OF_EVIDENCE)
def test_what_nothing_is_positive_in_has_no_answer(name):
    function, low, high = OF_EVIDENCE[name]
    for kind, values in VALUES.items():
        found = np.asarray(function(values))
        if kind == "one cell":
            assert np.isnan(found).all() == bool(SIGNED[0, 0, 0] <= 0)
        elif kind in NOTHING:
            assert np.isnan(found).all()
        else:
            within(found, low, high)


WRONG = {
    "complex": SIGNED + 1j,
    "text": SIGNED.astype(str),
    "objects": SIGNED.astype(object),
    "None": None,
    "a large number": 2**40,
    "keys": jax.random.split(jax.random.key(0), (1, 4, 4)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_real_number_is_refused_by_name(kind):
    values = WRONG[kind]
    expected = "got .*, expected an array of real numbers"
    with pytest.raises(TypeError, match=f"maps: {expected}"):
        maps.normalize(values)
    with pytest.raises(TypeError, match=f"maps: {expected}"):
        fostering.cam_entropy(values)
    with pytest.raises(TypeError, match=f"saliency: {expected}"):
        metrics.entropy(values)
    with pytest.raises(TypeError, match=f"weights: {expected}"):
        metrics.top_share(values)
    with pytest.raises(TypeError, match=f"logits: {expected}"):
        metrics.sim(values, values)
    with pytest.raises(ValueError, match=r"images: got .*, expected"):
        jaxcam.grad_cam(forward, values, 0)
    with pytest.raises((ValueError, TypeError), match=r"images: got .*, expected"):
        jaxcam.rise(forward, values, 0)


# Models, layers and targets --------------------------------------------------------------------

IMAGES = jnp.asarray(RNG.normal(size=(2, 4, 4, 3)), jnp.float32)
SALIENCY = np.abs(SIGNED)[[0, 0]]


def forward(images):
    return jaxcam.tag(jax.nn.relu(images), "cells").mean((1, 2))


OUTPUTS = {
    "a dict": lambda z: {"logits": z},
    "a list": lambda z: [z],
    "a vector": lambda z: z[:, 0],
    "three axes": lambda z: z[:, None],
    "a number": lambda z: z.sum(),
    "None": lambda z: None,
    "of another batch": lambda z: z[:1],
    "complex": lambda z: z.astype(jnp.complex64),
}
ASKING = {
    "grad_cam": lambda model: jaxcam.grad_cam(model, IMAGES, 0),
    "relevance_cam": lambda model: jaxcam.relevance_cam(model, IMAGES, 0),
    "score_cam": lambda model: jaxcam.score_cam(model, IMAGES, 0),
    "rise": lambda model: jaxcam.rise(model, IMAGES, 0, num_masks=2),
    "confidence": lambda model: metrics.confidence(model, IMAGES, 0),
    "deletion": lambda model: metrics.deletion(model, IMAGES, SALIENCY, 0),
    "average_drop": lambda model: metrics.average_drop(model, IMAGES, SALIENCY, 0),
    "infidelity": lambda model: metrics.infidelity(model, IMAGES, SALIENCY, 0, num_samples=2),
}


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_model_of_another_output_is_refused_by_name(name, kind):
    model = lambda x: OUTPUTS[kind](forward(x))
    with pytest.raises(ValueError, match=r"forward: got .*, expected .*\[2, N\]"):
        ASKING[name](model)


def test_logits_and_layers_without_a_gradient_are_refused():
    with pytest.raises(ValueError, match=r"forward: got int32 values, expected logits \[2, N\] of"):
        jaxcam.grad_cam(lambda x: forward(x).astype(jnp.int32), IMAGES, 0)
    photos = np.ones((2, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="images: got uint8 values, which layer 'cells' has too"):
        jaxcam.grad_cam(forward, photos, 0)
    widened = lambda x: jaxcam.tag(x.astype(jnp.int32), "cells").mean((1, 2))
    with pytest.raises(ValueError, match="layer: got 'cells' of int32 values, which have no grad"):
        jaxcam.grad_cam(widened, photos, 0)


@pytest.mark.parametrize(
    "targets",
    [
        np.eye(3, dtype=int)[:2],
        np.eye(3)[:2],
        np.float32(1),
        1.0,
        True,
        np.bool_(True),
        [True, False],
        "cat",
        ["cat", "dog"],
        {"cat": 1},
        {1},
        [],
        [None, 0],
        [[0], [1, 2]],
        -1,
        3,
        2**40,
        float("nan"),
        np.zeros((2, 1, 1), int),
        [1],
    ],
    ids=repr,
)
def test_targets_of_another_kind_are_refused_by_name(targets):
    with pytest.raises(ValueError, match=r"targets: got .*, expected"):
        jaxcam.grad_cam(forward, IMAGES, targets)
    with pytest.raises(ValueError, match=r"targets: got .*, expected"):
        metrics.confidence(forward, IMAGES, targets)


@pytest.mark.parametrize("targets", [1, np.int64(1), np.uint8(1), jnp.int32(1), [1, 1], (1, 1)])
def test_targets_of_any_integer_kind_are_alike(targets):
    expected = jaxcam.grad_cam(forward, IMAGES, 1)
    np.testing.assert_array_equal(jaxcam.grad_cam(forward, IMAGES, targets), expected)


def test_both_of_two_classes_are_no_one_hot_rows():
    two = lambda x: forward(x)[:, :2]
    assert jaxcam.grad_cam(two, IMAGES, [[0, 1], [1, 0]]).shape == (2, 2, 4, 4)


@pytest.mark.parametrize("layer", [1, True, 1.0, b"cells", [], [None], [0], "", "cell"])
def test_layers_of_another_kind_are_refused_by_name(layer):
    with pytest.raises(ValueError, match=r"layer: got .*, expected"):
        jaxcam.grad_cam(forward, IMAGES, 0, layer=layer)


def test_no_class_and_no_photo_are_refused_by_name():
    for ask in (jaxcam.targets.resolve, jaxcam.targets.scores, jaxcam.targets.confidence):
        with pytest.raises(ValueError, match=r"logits: got shape \(2, 0\), expected .* one class"):
            ask(jnp.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"images: got shape \(0, 4, 4, 3\), .* one image"):
        jaxcam.quickshift(np.zeros((0, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"saliency: got shape \(0, 4, 4\), .* one map"):
        metrics.entropy(np.zeros((0, 4, 4)))


OPTIONS = {
    "top": lambda value: metrics.mask_images(IMAGES, SALIENCY, top=value),
    "size": lambda value: metrics.box_mask(BOX(SALIENCY), value),
    "first_boxes": lambda value: metrics.class_sensitivity(
        SALIENCY, SALIENCY, value, BOX(SALIENCY)
    ),
    "percent": lambda value: metrics.road(forward, IMAGES, SALIENCY, 0, percent=value),
    "centers": lambda value: maps.resize(SALIENCY, (5, 5), centers=value),
    "k": lambda value: maps.threshold(SALIENCY, k=value),
    "kernel_size": lambda value: jaxcam.quickshift(IMAGES, kernel_size=value),
    "baseline": lambda value: jaxcam.integrated_gradients(forward, IMAGES, 0, baseline=value),
    "hide_color": lambda value: jaxcam.lime(forward, IMAGES, 0, hide_color=value),
    "num_segments": lambda value: jaxcam.lime(forward, IMAGES, 0, num_segments=value),
    "num_masks": lambda value: jaxcam.rise(forward, IMAGES, 0, num_masks=value),
    "keep": lambda value: jaxcam.rise(forward, IMAGES, 0, keep=value),
    "variant": lambda value: jaxcam.mask(forward, IMAGES, 0, variant=value),
    "strength": lambda value: jaxcam.finer_cam(forward, IMAGES, 0, strength=value),
    "blocks": lambda value: jaxcam.cbam_attention(forward, IMAGES, blocks=value),
    "layers": lambda value: jaxcam.legrad(forward, IMAGES, layers=value),
    "method": lambda value: jaxcam.refine_cam(forward, IMAGES, method=value),
    "head": lambda value: jaxcam.deep_feature_factorization(forward, IMAGES, head=value),
    "forward": lambda value: jaxcam.grad_cam(value, IMAGES, 0),
}


@pytest.mark.parametrize("argument", OPTIONS)
def test_options_of_another_kind_are_refused_by_name(argument):
    for value in ("no such", b"x", 1j, object()):
        with pytest.raises((ValueError, TypeError), match=rf"^{argument}: got .*, expected"):
            OPTIONS[argument](value)


def test_models_and_scores_that_are_no_arrays_are_refused_by_name():
    with pytest.raises(TypeError, match=r"forward: got a function that returned a str, expected"):
        jaxcam.grad_cam(lambda x: "logits", IMAGES, 0)
    with pytest.raises(ValueError, match=r"targets: got a NoneType from the function, expected"):
        metrics.confidence(forward, IMAGES, lambda z: None)


def test_another_librarys_tensors_are_refused_as_images():
    class Tensor:  # as PyTorch's
        shape = (1, 4, 4, 3)
        dtype = type("Dtype", (), {"__str__": lambda self: "torch.float32"})()

    with pytest.raises(ValueError, match=r"images: got torch.float32 values, .* NumPy or JAX"):
        jaxcam.grad_cam(forward, Tensor())


def test_images_smaller_than_the_receptive_field():
    kernel = jnp.ones((7, 7, 3, 2)) / 100

    def wide(images):
        dims = ("NHWC", "HWIO", "NHWC")
        found = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=dims)
        return jaxcam.tag(found, "wide").mean((1, 2))

    maps_of = jaxcam.grad_cam(wide, IMAGES[:, :1, :2], 0, layer="wide")
    assert maps_of.shape == (2, 1, 2)
    assert np.isfinite(maps_of).all()


@pytest.mark.parametrize("spatial", [None, "x", 2.0, True, np.array(2), 0, 4])
def test_axes_that_are_none_are_refused(spatial):
    """`ssim(spatial=None)` was a TypeError of Python's, and None two axes elsewhere."""
    heat = np.ones((2, 9, 9), np.float32)
    for name in ("ssim", "spearman", "coherency"):
        with pytest.raises(ArgumentError, match=r"^spatial: got .*, expected 1, 2 or 3 axes"):
            getattr(metrics, name)(heat, heat, spatial=spatial)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: np.ma.masked_array(x, x > 0.5), "images: got a masked array, expected"),
        (lambda x: x.astype(x.dtype.newbyteorder()), "images: got >f4 values, expected"),
        (lambda x: x.astype(np.longdouble), "images: got float128 values, expected"),
    ],
    ids=["masked", "of the other bytes' order", "long"],
)
def test_arrays_that_jax_does_not_take_are_refused_by_name(change, said):
    with pytest.raises(ArgumentError, match=f"^{said}"):
        jaxcam.grad_cam(lambda x: x.mean((1, 2)), change(np.ones((1, 4, 4, 3), np.float32)))
    with pytest.raises(ArgumentError, match=f"^{said.replace('images', 'maps')}"):
        maps.normalize(change(SIGNED))


FLAGS = {
    "channels_first": lambda flag: jaxcam.equinox(None, channels_first=flag),
    "logits": lambda flag: jaxcam.keras(None, logits=flag),
    "on_host": lambda flag: jaxcam.loops.fold(jnp.add, jnp.ones(1), 1, on_host=flag),
}


@pytest.mark.parametrize("argument", FLAGS)
@pytest.mark.parametrize("value", ["no", None, np.array([True, False])], ids=repr)
def test_flags_of_adapters_and_loops_are_true_or_false(argument, value):
    with pytest.raises(ArgumentError, match=rf"^{argument}: got .*, expected True or False$"):
        FLAGS[argument](value)


MASKED = {
    "targets": lambda hide: jaxcam.grad_cam(forward, IMAGES, hide(np.array([0, 1]))),
    "mask": lambda hide: metrics.entropy(SALIENCY, mask=hide(np.array([True, False]))),
    "box": lambda hide: metrics.box_iou(hide(np.ones((2, 4))), np.ones((2, 1, 4))),
    "boxes_mask": lambda hide: metrics.loc(
        SALIENCY, BOX(SALIENCY), boxes_mask=hide(np.ones((2, 1), bool))
    ),
    "objects": lambda hide: metrics.mass_accuracy(SALIENCY, hide(OBJECT(SALIENCY))),
    "missing": lambda hide: metrics.impute(IMAGES, hide(SALIENCY > 1)),
    "segments": lambda hide: jaxcam.lime(forward, IMAGES, 0, segments=hide(SALIENCY.astype(int))),
    "images": lambda hide: jaxcam.quickshift(hide(np.asarray(IMAGES))),
    "heatmaps": lambda hide: maps.overlay(0 * IMAGES, hide(0 * SALIENCY)),
}


@pytest.mark.parametrize("argument", MASKED)
def test_masked_arrays_are_refused_wherever_their_hidden_values_would_count(argument):
    with pytest.raises(ArgumentError, match=f"^{argument}: got a masked array, expected an array"):
        MASKED[argument](np.ma.masked_array)
