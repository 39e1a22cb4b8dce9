import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import models
from jaxcam.models.convert import expected_shapes

SMALL = {"stage_sizes": (1, 1), "widths": (4, 8), "strides": (1, 2), "stem": "small"}
SMALL_VGG = {"stage_sizes": (1, 1), "widths": (4, 8), "hidden": 6}


def random_state(model, rng):
    """A random state dict in PyTorch's layout with everything that `model` takes."""
    return {
        key: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        for key, shape in expected_shapes(model).items()
    }


@pytest.fixture
def state(rng):
    return random_state(models.create("resnet18", num_classes=5, **SMALL), rng)


@pytest.fixture(scope="module")
def reference(shared):
    return np.load(shared / "reference" / "torchvision_seed0.npz")


@pytest.fixture(scope="module")
def seeded_state_dict(shared):
    spec = importlib.util.spec_from_file_location(
        "seeded_weights", shared / "reference" / "seeded_weights.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.seeded_state_dict


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "vgg11", "vgg16_bn"])
def test_logits_of_torchvision(name, reference, seeded_state_dict):
    shapes = [
        tuple(map(int, text.strip("()").rstrip(",").split(","))) if text != "()" else ()
        for text in reference[f"{name}/shapes"]
    ]
    state = seeded_state_dict(dict(zip(reference[f"{name}/keys"].tolist(), shapes, strict=True)), 0)
    variables = models.from_torchvision(name, state)
    images = reference["images"].transpose(0, 2, 3, 1)
    logits = jax.jit(models.create(name).apply)(variables, images)
    expected = reference[f"{name}/logits"]
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "options"), [("resnet50", SMALL), ("vgg11_bn", SMALL_VGG), ("vgg11", SMALL_VGG)]
)
def test_there_and_back_is_the_identity(name, options, rng):
    state = random_state(models.create(name, num_classes=7, **options), rng)
    back = models.to_torchvision(models.from_torchvision(name, state, **options))
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_structure_is_that_of_init(state):
    model = models.create("resnet18", num_classes=5, **SMALL)
    fresh = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert jax.tree.structure(
        models.from_torchvision("resnet18", state, **SMALL)
    ) == jax.tree.structure(fresh)


def test_other_types_become_float32_and_counters_are_ignored(state):
    halves = {key: value.astype(np.float16) for key, value in state.items()}
    halves["bn1.num_batches_tracked"] = np.int64(3)
    variables = models.from_torchvision("resnet18", halves, **SMALL)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_missing_keys_are_named(state):
    del state["layer1.0.conv2.weight"], state["bn1.running_var"]
    message = (
        r"state_dict: got 2 missing: bn1.running_var, layer1.0.conv2.weight, expected the keys"
    )
    with pytest.raises(ValueError, match=message):
        models.from_torchvision("resnet18", state, **SMALL)


def test_unused_keys_are_named(state):
    state["layer1.0.se.weight"] = np.zeros(3)
    with pytest.raises(
        ValueError,
        match=r"got 1 unused: layer1.0.se.weight, expected the keys and shapes of resnet18$",
    ):
        models.from_torchvision("resnet18", state, **SMALL)


def test_misshapen_keys_are_named_with_both_shapes(state):
    state["conv1.weight"] = np.zeros((4, 3, 7, 7))
    with pytest.raises(
        ValueError,
        match=r"1 misshapen: conv1.weight \(4, 3, 7, 7\) instead of \(4, 3, 3, 3\), expected",
    ):
        models.from_torchvision("resnet18", state, **SMALL)


def test_all_findings_come_at_once_and_long_lists_are_cut(state):
    misfit = {f"module.{key}": value for key, value in state.items() if not key.startswith("fc")}
    misfit |= {"fc.bias": state["fc.bias"], "fc.weight": state["fc.weight"][:, :1]}
    with pytest.raises(
        ValueError,
        match=r"missing: .* and \d+ more; .* unused: module.* more; 1 misshapen: fc.weight",
    ):
        models.from_torchvision("resnet18", misfit, **SMALL)


def test_the_weights_of_another_network_do_not_fit(state):
    with pytest.raises(
        ValueError, match=r"missing: .* unused: .*, expected the keys and shapes of vgg11$"
    ):
        models.from_torchvision("vgg11", state)


def test_unknown_architecture(state):
    with pytest.raises(
        ValueError,
        match=r"name: got 'resnet19', expected one of \d+ architectures, such as 'resnet18'",
    ):
        models.from_torchvision("resnet19", state)


def test_timms_vgg_is_torchvisions_under_other_names(rng):
    model = models.create("vgg11", num_classes=5, **SMALL_VGG)
    state = random_state(model, rng)
    timm = dict(state)
    for ours, theirs in (
        ("classifier.0", "pre_logits.fc1"),
        ("classifier.3", "pre_logits.fc2"),
        ("classifier.6", "head.fc"),
    ):
        timm[f"{theirs}.weight"], timm[f"{theirs}.bias"] = (
            timm.pop(f"{ours}.weight"),
            timm.pop(f"{ours}.bias"),
        )
    timm["pre_logits.fc1.weight"] = timm["pre_logits.fc1.weight"].reshape(6, 8, 7, 7)
    timm["pre_logits.fc2.weight"] = timm["pre_logits.fc2.weight"].reshape(6, 6, 1, 1)
    converted = models.from_torchvision("vgg11", timm, **SMALL_VGG)
    expected = models.from_torchvision("vgg11", state, **SMALL_VGG)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), converted, expected))


def test_a_variable_without_counterpart_is_named():
    with pytest.raises(
        ValueError,
        match="variables: got params/mix/gate, which has no counterpart in PyTorch, expected",
    ):
        models.to_torchvision({"params": {"mix": {"gate": np.zeros(3)}}})
