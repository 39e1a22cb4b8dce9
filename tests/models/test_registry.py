import math

import jax
import pytest

from jaxcam import models
from jaxcam.models.convert import expected_shapes

# torchvision's own counts of parameters (its documentation lists them per model)
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_as_in_torchvision(name):
    model = models.create(name)
    variables = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == PARAMETERS[name]


def test_compact_network_fits_four_megabytes_in_float16():
    shapes = expected_shapes(models.create("resnet_compact", num_classes=20)).values()
    assert 3_000_000 < sum(2 * math.prod(shape) for shape in shapes) < 4_000_000


def test_unknown_name_names_the_nearest():
    with pytest.raises(
        ValueError,
        match=r"name: got 'resnet51', expected one of \d+ architectures, such as 'resnet50'",
    ):
        models.create("resnet51")


def test_a_name_like_no_other_still_names_some():
    with pytest.raises(ValueError, match=r"one of \d+ architectures, such as '"):
        models.create("zzz")


def test_unknown_option_names_the_valid_ones():
    with pytest.raises(
        ValueError,
        match=r"options: got 'depth' for resnet18, expected any of 'stage_sizes', .*axis_name",
    ):
        models.create("resnet18", depth=3)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "10"])
def test_number_of_classes_must_be_a_positive_int(count):
    with pytest.raises(
        ValueError, match=r"num_classes: got .* expected a whole number, at least 1"
    ):
        models.create("resnet18", num_classes=count)


@pytest.mark.parametrize("dtype", ["bfloat17", "int8"])
def test_dtype_must_be_floating(dtype):
    with pytest.raises(ValueError, match=f"dtype: got '{dtype}', expected a floating-point type"):
        models.create("vgg11", dtype=dtype)


def test_values_of_options_are_checked():
    with pytest.raises(
        ValueError, match="stem: got 'tiny', expected one of 'imagenet', 'small', 'small_stride2'"
    ):
        models.create("resnet18", stem="tiny")
    with pytest.raises(
        ValueError, match="block: got 'wide', expected one of 'basic', 'bottleneck'"
    ):
        models.create("resnet18", block="wide")
    with pytest.raises(
        ValueError,
        match=r"stage_sizes, widths and strides: got lengths \(4, 1, 4\), expected one length",
    ):
        models.create("resnet18", widths=(8,))
    with pytest.raises(
        ValueError, match=r"stage_sizes and widths: got .* and \(8,\), expected one length for both"
    ):
        models.create("vgg11", widths=(8,))


def test_lists_are_taken_as_tuples():
    assert models.create("resnet18", widths=[8, 8, 8, 8]) == models.create(
        "resnet18", widths=(8, 8, 8, 8)
    )
