import dataclasses

import jax
import numpy as np
import pytest

from configs.smoke import config as smoke
from jaxcam import models
from train import initial


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file of the smoke network for 4 classes, and its variables."""
    path = tmp_path_factory.mktemp("nets") / "four.safetensors"
    variables, said = initial.variables(
        dataclasses.replace(smoke, seed=5), initial.network(smoke, 4)
    )
    assert said == "parameters drawn from seed 5"
    models.save(path, smoke.architecture, smoke.options, variables)
    return str(path), variables


def _start(path, num_classes, **options):
    config = dataclasses.replace(smoke, init_from=path, options={**smoke.options, **options})
    return initial.variables(config, initial.network(config, num_classes))


def _same(a, b):
    return jax.tree.leaves(
        jax.tree.map(lambda x, y: x.shape == y.shape and bool((x == y).all()), a, b)
    )


def test_parameters_are_those_of_the_seed():
    model = initial.network(smoke, 4)
    drawn = [
        initial.variables(dataclasses.replace(smoke, seed=seed), model)[0] for seed in (0, 0, 1)
    ]
    assert all(_same(drawn[0], drawn[1]))
    assert not all(_same(drawn[0], drawn[2]))


def test_a_network_is_of_the_configs_options_dtype_and_axis():
    config = dataclasses.replace(smoke, compute_dtype="bfloat16")
    model = initial.network(config, 4, "device")
    assert (model.num_classes, model.widths, model.axis_name) == (4, (8,), "device")
    assert (model.dtype, initial.network(smoke, 4).dtype) == ("bfloat16", None)


def test_parameters_start_from_a_file(trained):
    found, said = _start(trained[0], 4)
    assert all(_same(found, trained[1]))
    assert said == f"parameters from {trained[0]}"


def test_another_number_of_classes_gets_a_new_head(trained):
    found, said = _start(trained[0], 7)
    assert said.endswith("; new: fc.bias, fc.kernel")
    head = found["params"].pop("fc")
    assert head["kernel"].shape == (8, 7) and float(np.abs(head["kernel"]).max()) > 0
    others = {key: value for key, value in trained[1]["params"].items() if key != "fc"}
    assert all(_same(found["params"], others)) and all(
        _same(found["batch_stats"], trained[1]["batch_stats"])
    )


def test_what_the_network_has_no_place_for_is_named(trained):
    with pytest.raises(
        ValueError,
        match=r"init_from: got .* with bn1\.bias, .*, expected only what resnet_compact has",
    ):
        _start(trained[0], 4, stem_width=4)
    with pytest.raises(
        FileNotFoundError, match=r"name_or_path: got nets/none\.safetensors, which is not there"
    ):
        _start("nets/none.safetensors", 4)


def test_one_output_needs_another_loss_than_softmax():
    with pytest.raises(ValueError, match="loss: got 'softmax' for 1 class"):
        initial.network(smoke, 1)
    assert initial.network(dataclasses.replace(smoke, loss="sigmoid"), 1).num_classes == 1


def test_what_the_file_lacks_is_drawn_and_named(trained):
    found, said = _start(trained[0], 4, stage_sizes=(2,))
    assert "new: layer1.1.bn1.bias" in said and said.endswith(" more")
    assert all(_same(found["params"]["layer1.0"], trained[1]["params"]["layer1.0"]))
    assert "layer1.1" in found["params"]


def test_the_bundled_network_fine_tunes_with_a_new_head():
    config = dataclasses.replace(
        smoke, architecture="resnet_compact", init_from="tiny20", image_size=64
    )
    options = models.describe("tiny20").options
    config = dataclasses.replace(
        config, options={key: options[key] for key in ("stage_sizes", "widths", "strides", "stem")}
    )
    _, said = initial.variables(config, initial.network(config, 4))
    assert said == "parameters from tiny20; new: fc.bias, fc.kernel"
