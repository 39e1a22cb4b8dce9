"""Maps made once and measured by every protocol: the values are those of maps made anew."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxcam
from eval import programs
from eval.protocols import adcc, class_sensitivity, explain, faithfulness, interpretability
from eval.run import record as records
from eval.run import stored, work
from eval.run.runner import run
from jaxcam import maps, metrics
from jaxcam.methods import WHOLE
from tests.eval.conftest import PHOTOS, SIZE
from tests.eval.test_protocols import directly, settings, values_of

CHOSEN = {"methods": ("grad_cam", "cam", "lrp"), "layers": ("stem", "top")}


@pytest.fixture
def made(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, **CHOSEN, output=tmp_path / "maps")
    run(chosen, explain.PROTOCOL)
    return chosen.output


@pytest.mark.parametrize("protocol", [faithfulness.PROTOCOL, interpretability.PROTOCOL])
def test_values_of_stored_maps_are_those_of_new_ones(made, photos, tmp_path, protocol):
    anew = settings(photos, tmp_path, **CHOSEN, n=4)
    first = values_of(run(anew, protocol), anew)
    measured = dataclasses.replace(anew, maps=made, output=tmp_path / "stored")
    record = run(measured, protocol)
    second = values_of(record, measured)
    assert second.keys() == first.keys()
    assert f"lrp/{WHOLE}/" in " ".join(second)
    assert "a global average pool" in record["skipped"]["cam/stem"]
    for name, value in first.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(second[name], value, rtol=1e-3, atol=2e-4, err_msg=name)


def test_no_map_is_made_again(made, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(work.Work, "_explained", lambda *_: pytest.fail("made a map"))
    run(settings(photos, tmp_path, **CHOSEN, maps=made), interpretability.PROTOCOL)


def test_maps_of_something_else_are_refused(made, photos, tmp_path):
    attempt = lambda **fields: run(
        settings(photos, tmp_path, maps=made, **fields), faithfulness.PROTOCOL
    )
    with pytest.raises(ValueError, match="was made with target 'predicted', expected 'label'"):
        attempt(target="label")
    with pytest.raises(ValueError, match="has none of noise, expected methods"):
        attempt(methods=("grad_cam", "noise"))
    with pytest.raises(
        FileNotFoundError, match=r"maps: got .*, expected the folder of a finished run of explain"
    ):
        run(settings(photos, tmp_path, maps=tmp_path), faithfulness.PROTOCOL)
    assert not (tmp_path / "run" / "settings.json").exists()


def test_layers_without_stored_maps_are_refused(network, photos, tmp_path):
    top = settings(photos, tmp_path, output=tmp_path / "maps")
    run(top, explain.PROTOCOL)
    with pytest.raises(ValueError, match=r"layers: got .stem., which .*maps has no maps of"):
        run(settings(photos, tmp_path, maps=top.output, layers=("stem",)), faithfulness.PROTOCOL)


def test_other_photos_are_refused(made, photos, tmp_path):
    folder = settings(photos, tmp_path, data=str(photos[0]), output=tmp_path / "few", n=2)
    run(folder, explain.PROTOCOL)
    with pytest.raises(
        ValueError, match=rf"was made of other photos: {PHOTOS - 2} of {PHOTOS} photos are not"
    ):
        run(
            dataclasses.replace(folder, n=PHOTOS, maps=folder.output, output=tmp_path / "run"),
            faithfulness.PROTOCOL,
        )


def test_protocols_that_explain_twice_refuse_stored_maps(made, photos, tmp_path):
    chosen = settings(photos, tmp_path, class_sensitivity.ClassSettings, maps=made)
    with pytest.raises(ValueError, match="class_sensitivity explains every photo more than once"):
        run(chosen, class_sensitivity.PROTOCOL)


@pytest.mark.parametrize(("made_before", "many"), [(False, 100), (True, 100), (True, 1)])
def test_adcc_is_the_librarys(network, made, photos, tmp_path, monkeypatch, made_before, many):
    """By one program for all layers, and from `many` photos on by one for each."""
    monkeypatch.setattr(work, "_MANY", many)
    chosen = settings(
        *(photos, tmp_path, adcc.AdccSettings),
        layers=("stem", "top"),
        maps=made if made_before else None,
        arcc=not made_before,
    )
    record = run(chosen, adcc.PROTOCOL)
    values = values_of(record, chosen)
    for layer in chosen.layers:
        _, model, images, _, _ = directly(network, chosen, layer)
        single = lambda f, x, t, layer=layer: maps.resize(
            jaxcam.grad_cam(f, x, t, layer=layer), (SIZE, SIZE)
        )
        measured = jax.jit(lambda x: metrics.adcc(model, x, single))
        kept = jax.jit(lambda x: metrics.confidences(model, x, single(model, x, None)))
        expected = measured(images)
        full, masked = map(np.asarray, kept(images))
        percent = 100 * np.maximum(full - masked, 0) / full
        np.testing.assert_allclose(expected.average_drop, percent, rtol=1e-3, atol=1e-3)
        if not made_before and layer == "top":
            np.testing.assert_allclose(
                values["grad_cam/top/arcc"], metrics.arcc(model, images, single).arcc, rtol=1e-3
            )
        assert ("grad_cam/top/arcc" in values) == (not made_before)
        for name, part in zip(list(adcc.PROTOCOL.metrics)[:4], expected, strict=True):
            np.testing.assert_allclose(
                values[f"grad_cam/{layer}/{name}"], part, rtol=1e-3, atol=1e-4, err_msg=name
            )
    assert "| grad_cam | top |" in records.table(record, programs.columns(record))


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", "other"), ("data", "x"), ("split", "val"), ("options", ("lrp.composite=z_plus",))],
)
def test_maps_of_another_run_are_refused_by_what_differs(made, photos, tmp_path, field, value):
    chosen = dataclasses.replace(settings(photos, tmp_path, **CHOSEN, maps=made), **{field: value})
    with pytest.raises(ValueError, match=f"was made with {field} "):
        stored.load(chosen)


def test_rows_are_read_in_any_order(tmp_path):
    array = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
    records.save_npz(tmp_path / "a.npz", [("x/maps", array), ("y", np.arange(3))])
    rows = stored.Rows(tmp_path / "a.npz", "x/maps")
    np.testing.assert_array_equal(rows.read(np.array([1, 2])), array[1:3])
    np.testing.assert_array_equal(rows.read(np.array([4, 0, 4])), array[[4, 0, 4]])
