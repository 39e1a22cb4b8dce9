"""Any values, shapes and kinds into public functions: a defined answer, or an error by name.

    JAXCAM_EXAMPLES=200 pytest tests/test_properties.py

Hypothesis draws them: always the same few here, so that CI compiles little, and so many of each
property where JAXCAM_EXAMPLES says. What it found once is in tests/test_odd_inputs.py.
"""

import inspect
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxcam import metrics
from jaxcam._ground.errors import ArgumentError
from tests import test_laws as laws
from tests import test_odd_inputs as odd
from tests.metrics import test_properties as of_metrics

EXAMPLES = int(os.environ.get("JAXCAM_EXAMPLES", "0"))
PHASES = [Phase.explicit, Phase.generate]
if EXAMPLES:
    PHASES.append(Phase.shrink)


def few(count):
    """So many examples in CI; as many as the environment says elsewhere, others each time."""
    return settings(
        max_examples=EXAMPLES or count,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )


# Values ----------------------------------------------------------------------------------------

SHAPES = [(2, 4, 4), (0, 4, 4)]
if EXAMPLES:
    SHAPES += [(1, 1, 1), (3, 2, 5), (1, 1, 4)]
CORNERS = [0.0, -0.0, 0.3, 1, -1, 1e-45, -1e-41, 1.2e-38, 1e-20, -1e20, 3.4e38, -3.4e38]
NUMBERS = st.sampled_from(CORNERS) | st.floats(width=32, allow_nan=False, allow_infinity=False)
ANYTHING = NUMBERS | st.sampled_from([np.nan, np.inf, -np.inf])
TYPES = ["float32", "float16", "bfloat16", "float64", "int8", "bool"]


@st.composite
def arrays(draw, shapes=st.sampled_from(SHAPES), elements=NUMBERS, types=TYPES):
    """An array, and its values in float32."""
    shape = draw(shapes)
    elements = draw(st.sampled_from([elements, st.just(draw(elements))]))
    values = draw(hnp.arrays(np.float64, shape, elements=elements, fill=st.nothing()))
    with np.errstate(all="ignore"):
        found = values.astype(jnp.dtype(draw(st.sampled_from(types))))
        return found, np.asarray(found, np.float32)


def finite(values):
    """Which examples are: `[B, ...]` -> `[B]`."""
    return np.isfinite(values).all(tuple(range(1, values.ndim)))


def normal(values):
    """Whether no number is denormal, or is in the unit of its map: float32 has 0 there."""
    size = np.abs(values.astype(np.float64))
    unit = np.maximum(size.max((1, 2), keepdims=True), 1)
    return ((size == 0) | (size / unit >= 2.0**-124)).all()


MEASURES = {**odd.RANGES, **odd.OF_EVIDENCE}
# A decision at a threshold may fall otherwise in float64.
DECIDED = {"threshold", "threshold_of_max", "segmentation_mask", "loc", "mask_iou", "cam_area"}
DECIDED |= {"pointing_game", "area", "rank_accuracy", "outliers"}
# Of no map at all there is none: an error, where the others give nothing of nothing.
NONE_OF_NONE = set(MEASURES) - {"resize", "threshold", "threshold_of_max", "segmentation_mask"}
NONE_OF_NONE -= {"min_max", "positive", "max", "signed", "outliers"}
NONE_OF_NONE -= {"cam_entropy", "cam_area", "cam_dispersion"}


@few(24)
@given(st.sampled_from(sorted(MEASURES)), arrays(elements=ANYTHING))
def test_a_map_of_any_values_has_an_answer_in_range_or_none(name, drawn):
    """Each map by itself, whatever the others of the batch hold."""
    saliency, values = drawn
    function, low, high = MEASURES[name]
    if name == "hog" and min(saliency.shape[1:]) < 3:
        return
    if not len(saliency) and name in NONE_OF_NONE:
        with pytest.raises(
            ArgumentError, match=r"(saliency|maps|images|first): got shape \(0, 4, 4\)"
        ):
            function(saliency)
        return
    found = np.asarray(function(saliency), np.float32)
    assert len(found) == len(saliency)
    for one, known, map_ in zip(found, finite(values), values, strict=True):
        if known and name in odd.OF_EVIDENCE and np.isnan(one):
            assert (np.maximum(map_, 0) < np.finfo(np.float32).tiny).all() or name in NEEDS_MORE
        elif known:
            top = max(high, 0) * (map_.size / 16 if high >= 16 else 1)
            odd.within(one, low, max(high, top))


NEEDS_MORE = {"relative_difference"}


@few(2)
@given(st.sampled_from(sorted(set(MEASURES) - DECIDED)), arrays(types=["float32"]))
def test_float32_is_what_float64_says(name, drawn):
    saliency, values = drawn
    assume(len(saliency) and normal(values) and (name != "hog" or min(saliency.shape[1:]) > 2))
    function, _, _ = MEASURES[name]
    found = np.asarray(function(saliency))
    with jax.enable_x64(True):
        exact = np.asarray(function(values.astype(np.float64)))
    assert exact.dtype == np.float64
    scale = max(np.abs(values).max(), 1e-30) if name == "resize" else 1
    np.testing.assert_allclose(found / scale, exact / scale, rtol=1e-3, atol=1e-4)


CORNER = st.sampled_from([-1e30, -3.0, 0.0, 1.0, 2.5, 3.0, 1e30, np.inf, -np.inf, np.nan])
BOXES = hnp.arrays(np.float32, (2, 2, 4), elements=CORNER, fill=st.nothing())
OF_BOXES = {name: getattr(metrics, name) for name in ("loc", "mask_iou", "pointing_game")}
OF_BOXES["energy_in_box"] = metrics.energy_in_box


@few(4)
@given(st.sampled_from(sorted(OF_BOXES)), BOXES)
def test_boxes_of_any_corners(name, boxes):
    saliency = np.abs(odd.SIGNED)[[0, 0]]
    found = np.asarray(OF_BOXES[name](saliency, boxes))
    known = ~np.isnan(found)
    assert (found[known] >= 0).all() and (found[known] <= 1 + 1e-6).all()
    low, high = np.maximum(boxes[..., :2], 0), np.minimum(boxes[..., 2:], 3)
    assert known[(np.ceil(low) <= np.floor(high)).all(-1).any(1)].all()  # of a pixel at least
    overlap = np.asarray(metrics.box_iou(boxes[:, 0], boxes[:, 1:]))
    assert ((overlap >= 0) & (overlap <= 1) | np.isnan(overlap)).all()


# Questions -------------------------------------------------------------------------------------

NAMES = st.text(max_size=8) | st.sampled_from(["layer2", "layer9", "pixels", "layer2@0"])
SCALARS = st.none() | st.booleans() | st.floats() | st.complex_numbers() | st.binary(max_size=3)
WRONG_KINDS = SCALARS | NAMES | st.builds(object) | st.dictionaries(NAMES, st.integers())
CLASS = st.integers(-2, 6) | st.sampled_from([2**40, -(2**70)])
TARGETS = (
    WRONG_KINDS
    | CLASS
    | st.lists(CLASS | WRONG_KINDS, max_size=4)
    | st.lists(st.lists(CLASS, max_size=4), max_size=4)
    | hnp.arrays(hnp.integer_dtypes() | hnp.floating_dtypes(), hnp.array_shapes(max_side=4))
    | st.sampled_from([np.eye(4, dtype=int)[:3], jax.random.key(0), jnp.zeros((3, 0), int)])
    | st.sampled_from([lambda z: z, lambda z: z[0], lambda z: None, lambda z: "x"])
)
LAYERS = WRONG_KINDS | CLASS | st.lists(NAMES | SCALARS, max_size=2) | st.sets(st.integers(5, 9))
OUTPUTS = {
    **odd.OUTPUTS,
    "text": lambda z: "logits",
    "a pair": lambda z: (z, z),
    "integers": lambda z: z.astype(jnp.int32),
    "of no class": lambda z: z[:, :0],
    "NumPy": lambda z: np.ones((3, 4), np.float32),
    "of no image": lambda z: jnp.ones((3, 4)),
}
IMAGES = laws.IMAGES
EXPLAINERS = sorted(laws.LAWS)
ASKING = sorted(of_metrics.BETWEEN)  # metrics that ask a model
FUNCTIONS = {name: laws.METHODS[name].function for name in EXPLAINERS}
FUNCTIONS |= {name: getattr(metrics, name) for name in ASKING}


def refused_by_name(name, ask):
    """The answer; None where it was refused, by the name of an argument."""
    try:
        return ask()
    except ArgumentError as error:
        known = [*inspect.signature(FUNCTIONS[name]).parameters, "layer", "layers", "logits"]
        names = error.argument.replace("variant.", "").split(", ")
        assert set(names) <= set(known), error
    return None


def well_formed(found, name, targets):
    for each in jax.tree.leaves(found):
        assert each.dtype == jnp.float32
        several = np.shape(targets)[1:] if not callable(targets) else ()
        assert each.shape[: 1 + len(several)] == (3, *several)
        assert each.ndim == 3 + len(several)
        assert np.isfinite(each).all()


@few(24)
@given(st.sampled_from(EXPLAINERS), TARGETS)
def test_targets_of_any_kind(name, targets):
    found = refused_by_name(name, lambda: laws.explain(name, targets=targets))
    if found is not None:
        well_formed(found, name, targets)


@few(14)
@given(st.sampled_from(ASKING), TARGETS)
def test_targets_of_any_kind_of_metrics(name, targets):
    metric = FUNCTIONS[name]
    found = refused_by_name(name, lambda: metric(laws.forward, *asked(name), targets))
    for each in jax.tree.leaves(found):
        assert each.shape[0] == 3 and np.isfinite(each).all()


def asked(name, images=IMAGES):
    """What stands between model and targets."""
    saliency = jnp.abs(images[..., 0])
    known = {"saliency": saliency, "again": images[..., 1]}
    return [images, *(known.get(each, each) for each in of_metrics.BETWEEN[name])]


@few(24)
@given(st.sampled_from(laws.LAYERED), LAYERS)
def test_layers_of_any_kind(name, layer):
    found = refused_by_name(name, lambda: laws.explain(name, layer=layer, targets=1))
    if found is not None:
        well_formed(found, name, 1)


@few(24)
@given(st.sampled_from(EXPLAINERS + ASKING), st.sampled_from(sorted(OUTPUTS)))
def test_models_of_any_output(name, kind):
    if name in laws.LAWS:
        model = lambda x: OUTPUTS[kind](laws.LAWS[name].model(x))
        ask = lambda: laws.explain(name, model=model, targets=1)
    else:
        model = lambda x: OUTPUTS[kind](laws.forward(x))
        ask = lambda: FUNCTIONS[name](model, *asked(name), 1)
    own = any(map(callable, of_metrics.BETWEEN.get(name, ())))  # which adds floats to logits
    if kind == "integers" and own:
        return
    found = refused_by_name(name, ask)
    if found is not None:
        assert kind in ("NumPy", "of no image", "integers")
        for each in jax.tree.leaves(found):
            assert np.isfinite(each).all() or kind != "integers"


IMAGE_SHAPES = st.sampled_from([(0, 8, 8, 3), (3, 8, 8), (8,), (), (3, 0, 8, 3), (3, 8, 8, 0)])
PICTURES = WRONG_KINDS | CLASS | arrays(IMAGE_SHAPES).map(lambda drawn: drawn[0])


@few(30)
@given(st.sampled_from(EXPLAINERS + ASKING), PICTURES)
def test_images_of_any_kind_are_refused(name, images):
    named = "images"
    if np.ndim(images) == 3 and name in ASKING:  # signals, which the maps do not fit
        named = "(images|saliency)"
    with pytest.raises(ArgumentError, match=rf"^{named}: got"):
        if name in laws.LAWS:
            laws.LAWS[name].call(laws.LAWS[name].model, images, 1)
        else:
            FUNCTIONS[name](laws.forward, images, *asked(name)[1:], 1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_image_at_all_is_refused(name):
    nothing = IMAGES[:0]
    with pytest.raises(ArgumentError, match=r"^images: got shape \(0, 8, 8, 3\), .* one image"):
        if name in laws.LAWS:
            FUNCTIONS[name](laws.forward, nothing, 1)
        else:
            FUNCTIONS[name](laws.forward, *asked(name, nothing), 1)


QUICK = ["grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam", "gradient", "lrp"]
DRAWN = arrays(st.just((3, 8, 8, 3)), st.floats(-8, 8, width=16), ["float32", "bfloat16"])


@few(3)
@given(st.sampled_from(EXPLAINERS if EXAMPLES else QUICK), DRAWN)
def test_images_of_any_values(name, drawn):
    images = jnp.asarray(drawn[0])
    well_formed(laws.explain(name, images, 1), name, 1)


# Options ---------------------------------------------------------------------------------------

NO_OPTION = st.sampled_from(["no such", b"x", np.nan, 1j, object(), np.zeros((2, 2)), [], {}, -0.5])


def options_of(function):
    """The names of options that are numbers, names, flags or values: no keys of randomness."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if isinstance(parameter.default, (int, float, str)):
            found.append(parameter.name)
    return found


# Of what the defaults do not fit so small images.
RIGHT = {"region_perturbation": {"side": 2, "steps": 2}}
OPTIONS = [(name, option) for name, call in FUNCTIONS.items() for option in options_of(call)]


@few(40)
@given(st.sampled_from(OPTIONS), NO_OPTION)
def test_options_of_any_kind(row, value):
    name, option = row
    options = {**RIGHT.get(name, {}), option: value}
    if name in laws.LAWS:
        ask = lambda: laws.explain(name, targets=1, **options)
    else:
        ask = lambda: FUNCTIONS[name](laws.forward, *asked(name), 1, **options)
    try:
        found = ask()
    except ArgumentError as error:
        assert error.argument == option, error
        return
    for each in jax.tree.leaves(found):
        assert each.shape[0] == 3
        assert np.isfinite(each).all() or value is np.nan


def flags():
    """Every flag of every function."""
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            if isinstance(parameter.default, bool):
                yield name, parameter.name


@pytest.mark.parametrize("value", ["no", np.array([True, False])], ids=["text", "array"])
def test_flags_are_true_or_false(value):
    """Text was True, and an array an error of NumPy's."""
    for name, flag in flags():
        with pytest.raises(ArgumentError, match=rf"^{flag}: got .*, expected True or False$"):
            if name in laws.LAWS:
                laws.explain(name, targets=1, **{flag: value})
            else:
                options = {**RIGHT.get(name, {}), flag: value}
                FUNCTIONS[name](laws.forward, *asked(name), 1, **options)


NO_KEY = {
    "a seed": (3, "3"),
    "text": ("seed", "'seed'"),
    "several": (jax.random.split(jax.random.key(0)), r"keys of shape \(2,\)"),
    "of numbers": (np.zeros(2, np.float32), r"float32 values of shape \(2,\)"),
    "of three": (np.zeros(3, np.uint32), r"uint32 values of shape \(3,\)"),
}


@pytest.mark.parametrize("kind", NO_KEY)
def test_what_is_no_key_is_refused_by_name(kind):
    """A seed was a TypeError of JAX's that names no argument."""
    value, said = NO_KEY[kind]
    message = rf"^key: got {said}, expected one key of randomness, such as jax.random.key\(0\)$"
    for name, function in FUNCTIONS.items():
        if "key" not in inspect.signature(function).parameters:
            continue
        with pytest.raises(ArgumentError, match=message):
            if name in laws.LAWS:
                laws.explain(name, targets=1, key=value)
            else:
                options = {**RIGHT.get(name, {}), "key": value}
                function(laws.forward, *asked(name), 1, **options)
    with pytest.raises(ArgumentError, match=message):
        metrics.shuffled(np.ones(3), value)
