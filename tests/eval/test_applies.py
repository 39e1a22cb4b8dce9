"""Methods that do not apply: refused where none can, else skipped with a reason, never dropped."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from eval.protocols import explain, faithfulness, games, interpretability, sanity
from eval.reporting import gallery
from eval.run.runner import run
from eval.run.settings import Settings
from eval.studies import cam_vs_grad_cam
from eval.subjects import methods, networks
from eval.subjects.applies import find_layers, usable
from jaxcam.blackbox import callback
from jaxcam.classifier import Classifier
from jaxcam.methods import WHOLE
from tests.eval.conftest import SIZE
from tests.eval.test_protocols import settings, values_of


@pytest.fixture
def box(monkeypatch):
    """The network "box", of which only the answers are known."""
    ask = callback(lambda images: images.mean((1, 2)) @ np.eye(3, 5, dtype=np.float32), 5)
    made = Classifier((), lambda _, images: ask(images), lambda images: images, SIZE, ())
    monkeypatch.setitem(networks.OURS, "box", lambda root: made)
    return made


def boxed(photos, tmp_path, kind=Settings, **fields):
    return settings(photos, tmp_path, kind, **{"model": "box", "layers": (), "n": 2} | fields)


def test_a_method_of_a_layer_is_refused_where_there_are_none(box, photos, tmp_path):
    attempt = lambda **fields: run(boxed(photos, tmp_path, **fields), explain.PROTOCOL)
    message = (
        "methods: got grad_cam, which explains a layer, and box has none, expected methods of a "
        "whole network, such as rise"
    )
    with pytest.raises(ValueError, match=message):
        attempt(methods=("noise", "grad_cam"))
    with pytest.raises(ValueError, match=message):
        attempt(methods=Settings.methods)  # as unless asked otherwise
    with pytest.raises(ValueError, match="layers: got 'top', expected none: box has no layers"):
        attempt(layers=("top",))
    with pytest.raises(
        ValueError, match="methods: got cam, which explains a layer, and box has none"
    ):
        run(
            boxed(photos, tmp_path, cam_vs_grad_cam.CamSettings, methods=("cam",)),
            cam_vs_grad_cam.PROTOCOL,
        )
    with pytest.raises(ValueError, match="model: got a network without parameters"):
        run(boxed(photos, tmp_path, sanity.SanitySettings, methods=("noise",)), sanity.PROTOCOL)
    assert not (tmp_path / "run").exists()


def test_a_students_layers_count(network, box, photos, tmp_path):
    """A student with layers explains a black box; a black box as student has none."""
    chosen = boxed(photos, tmp_path, games.GameSettings, explainer="tiny")
    record = run(chosen, games.PROTOCOL)
    assert list(record["results"]["grad_cam"]) == ["stem", "top"]
    other = boxed(photos, tmp_path, model="tiny", explainer="box", output=tmp_path / "other")
    with pytest.raises(ValueError, match="grad_cam, which explains a layer, and box has none"):
        run(other, explain.PROTOCOL)
    assert not other.output.exists()


def test_controls_have_the_images_size_where_there_are_no_layers(box, photos, tmp_path):
    chosen = boxed(photos, tmp_path, methods=("noise", "centre", "lrp"))
    record = run(chosen, explain.PROTOCOL)
    values = values_of(record, chosen)
    noise, centre = (values[f"{name}/{WHOLE}/maps"] for name in ("noise", "centre"))
    assert noise.shape == centre.shape == (2, SIZE, SIZE)
    position = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    np.testing.assert_allclose(
        centre[0], np.exp(-8 * (position[:, None] ** 2 + position**2)), rtol=1e-5
    )
    assert abs(noise.mean() - 0.5) < 0.1 and noise.std() > 0.2
    assert "no rule for 'pure_callback'" in record["skipped"][f"lrp/{WHOLE}"]
    measured = dataclasses.replace(chosen, maps=chosen.output, output=tmp_path / "measured")
    again = run(measured, faithfulness.PROTOCOL)
    assert [list(each) for each in again["results"].values()] == [[WHOLE], [WHOLE]]
    assert again["skipped"] == record["skipped"]


@pytest.mark.parametrize("name", ["attention_grad_cam", "cbam_attention"])
def test_a_method_of_the_whole_network_is_skipped_with_the_reason(
    network, photos, tmp_path, capsys, name
):
    chosen = settings(photos, tmp_path, methods=(name, "noise"))
    record = run(chosen, interpretability.PROTOCOL)
    assert list(record["results"]) == ["noise"]
    assert "without CBAM blocks" in record["skipped"][f"{name}/{WHOLE}"]
    alone = dataclasses.replace(chosen, methods=(name,), output=tmp_path / "alone")
    explain.main(alone)
    printed = capsys.readouterr().out
    assert f"skipped: {name}/{WHOLE}: forward: got a network without CBAM blocks" in printed
    assert gallery.find([alone.output]) == []
    measured = dataclasses.replace(alone, maps=alone.output, output=tmp_path / "measured")
    found = run(measured, faithfulness.PROTOCOL)
    assert (found["results"], list(found["skipped"])) == ({}, [f"{name}/{WHOLE}"])


def test_an_options_bad_value_is_refused_not_skipped(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, methods=("noise", "rise"), options=("rise.num_masks=0",))
    with pytest.raises(
        ValueError, match="options: got values that rise cannot work with: num_masks: got 0"
    ):
        run(chosen, explain.PROTOCOL)
    with pytest.raises(
        ValueError, match="options: got values that grad_cam cannot work with: relu: got 'some'"
    ):
        run(
            dataclasses.replace(chosen, methods=("grad_cam",), options=("grad_cam.relu=some",)),
            explain.PROTOCOL,
        )
    assert not chosen.output.exists()
    beside = dataclasses.replace(
        chosen, methods=("cbam_attention", "noise"), options=("cbam_attention.reduction=sum",)
    )
    assert list(run(beside, explain.PROTOCOL)["skipped"]) == [f"cbam_attention/{WHOLE}"]


def test_methods_of_the_host_are_not_asked(network):
    assert usable(methods.METHODS["lime"], network, ("top",)) == ((WHOLE,), {})


def test_controls_of_tokens_have_the_grids_size():
    """[B, 6, 5] tokens of a grid of 2 x 3, not a map of 6 x 5."""
    tag = lambda x: jaxcam.tag(x.reshape(len(x), 6, 5), "tokens")
    forward = lambda x: tag(x[:, ::4, ::4, :5]).mean(1)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 12, 5)), jnp.float32)
    for name in ("noise", "centre"):
        found = methods.METHODS[name].function(forward, images, None, layer=["tokens"])
        assert found["tokens"].shape == (2, 2, 3)


def test_a_runs_layers_are_in_the_networks_order(network):
    assert find_layers(("top", "stem"), {}, network) == ("stem", "top")
    assert find_layers((), {}, network) == network.stages
