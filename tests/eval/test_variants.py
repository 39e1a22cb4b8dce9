"""Sanity check, sensitivity, class sensitivity on a tiny network: values equal a plain loop's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

import jaxcam
from eval.protocols import class_sensitivity, sanity, sensitivity
from eval.protocols.class_sensitivity import ClassSettings
from eval.protocols.sanity import SanitySettings
from eval.protocols.sensitivity import SensitivitySettings
from eval.run import folder, work
from eval.run.record import save_npz, write_json
from eval.run.runner import run
from eval.run.settings import plain
from eval.subjects import data, networks
from jaxcam import maps, metrics
from tests.eval.conftest import PHOTOS, SIZE
from tests.eval.test_protocols import directly, settings, values_of


def explained(network, params, images, targets, layer="top"):
    raw = jaxcam.grad_cam(lambda x: network.apply(params, x), images, targets, layer=layer)
    return maps.resize(raw, (SIZE, SIZE))


def test_sensitivity_is_the_metrics_and_of_a_map_that_does_not_look_0(network, photos, tmp_path):
    fields = {"methods": ("grad_cam", "centre"), "radius": 0.3, "samples": 2}
    chosen = settings(photos, tmp_path, SensitivitySettings, **fields)
    values = values_of(run(chosen, sensitivity.PROTOCOL), chosen)
    _, model, images, _, _ = directly(network, chosen)
    top = lambda *call: jaxcam.grad_cam(*call, layer="top")
    measure = lambda x: metrics.max_sensitivity(model, x, top, radius=0.3, num_samples=2)
    expected = jax.jit(measure)(images)
    assert np.nanmax(expected) > 0
    np.testing.assert_allclose(values["grad_cam/top/max_sensitivity"], expected, rtol=1e-3)
    np.testing.assert_array_equal(values["centre/top/max_sensitivity"], 0)
    assert not [name for name in values if name.startswith("grad_cam/top/0/")]
    for field, message in (({"radius": 0.0}, "radius: got 0"), ({"samples": 0}, "samples: got 0")):
        with pytest.raises(ValueError, match=message):
            run(dataclasses.replace(chosen, **field), sensitivity.PROTOCOL)


def test_sanity(network, photos, tmp_path):
    """From the logits down, each step explained for the trained class; noise does not notice."""
    chosen = settings(
        photos,
        tmp_path,
        SanitySettings,
        methods=("grad_cam", "noise", "cam"),
        layers=("stem", "top"),
    )
    record = run(chosen, sanity.PROTOCOL)
    values = values_of(record, chosen)
    found, model, images, _, saliency = directly(network, chosen)
    order = list(sanity.groups(network))
    targets = np.argmax(model(images), 1)
    fresh = metrics.shuffled(network.params, jax.random.key(0))
    steps = dict(metrics.cascade(network.params, [f"params.{name}" for name in order], fresh))
    assert len(order) >= 3
    for name in order:
        again = explained(network, steps[f"params.{name}"], images, targets)
        expected = metrics.spearman(saliency, again, absolute=True)
        np.testing.assert_allclose(values[f"grad_cam/top/{name}/spearman_abs"], expected, atol=2e-3)
        ssim = metrics.ssim(saliency, again)
        np.testing.assert_allclose(values[f"grad_cam/top/{name}/ssim"], ssim, atol=2e-3)
        np.testing.assert_allclose(values[f"noise/top/{name}/spearman"], 1, atol=1e-5)
    last = record["results"]["grad_cam"]["top"][f"{order[-1]}/spearman"]
    assert last["mean"] < 0.9
    assert list(record["results"]["cam"]) == ["top"]
    assert "cam/stem" in record["skipped"]
    assert record["photos"] == PHOTOS == len(found.ids)
    assert record["settings"]["protocol"] == "sanity"


def test_independent_replaces_one_group_only(network, photos, tmp_path):
    order = list(sanity.groups(network))
    chosen = settings(photos, tmp_path, SanitySettings, independent=True, groups=(order[1],))
    fresh = metrics.shuffled(network.params, jax.random.key(0))
    ((name, params),) = sanity.steps(network, fresh, chosen)
    same = jax.tree.map(np.array_equal, params, network.params)
    changed = [
        jax.tree_util.keystr(p, simple=True, separator=".")
        for p, v in jax.tree.leaves_with_path(same)
        if not v
    ]
    assert name == order[1]
    assert changed
    assert set(changed) <= set(sanity.groups(network)[order[1]])


def test_independent_steps_do_not_add_up(network, tmp_path):
    """Of two groups the second step has replaced the second alone, or both."""
    order = tuple(sanity.groups(network))[:2]
    fresh = jax.tree.map(lambda x: x + 1, network.params)
    replaced = {}
    for independent in (True, False):
        chosen = SanitySettings(tmp_path, independent=independent, groups=order)
        (_, (name, params)) = sanity.steps(network, fresh, chosen)
        assert name == order[1]
        changed = set()
        for path, same in jax.tree.leaves_with_path(
            jax.tree.map(np.array_equal, params, network.params)
        ):
            if not same:
                changed.add(jax.tree_util.keystr(path, simple=True, separator="."))
        replaced[independent] = changed
    groups = sanity.groups(network)
    assert replaced[True] == set(groups[order[1]])
    assert replaced[False] == set(groups[order[0]]) | set(groups[order[1]])


def test_untrained_parameters_come_from_the_initialisers(network, photos, tmp_path, monkeypatch):
    """All replaced at the end but for the batch statistics, which are the trained ones."""
    fresh = jax.tree.map(lambda x: x + 1, network.params)
    keys = []
    made = dataclasses.replace(network, init=lambda key: keys.append(key) or fresh)
    monkeypatch.setitem(networks.OURS, "tiny", lambda root: made)
    chosen = settings(photos, tmp_path, SanitySettings, methods=("noise",), seed=3)
    used = []
    replicate = lambda params: used.append(params) or params
    monkeypatch.setattr(sanity, "replicate", replicate)
    assert run(chosen, sanity.PROTOCOL)["settings"]["untrained"] == "initialised"
    (key,) = keys
    assert key == jax.random.key(3)
    mixed = used[len(sanity.groups(network)) - 1]
    for (path, value), trained in zip(
        jax.tree.leaves_with_path(mixed), jax.tree.leaves(network.params), strict=True
    ):
        kept = "batch_stats" in jax.tree_util.keystr(path)
        np.testing.assert_array_equal(value, trained if kept else trained + 1)


def test_without_initialisers_parameters_are_shuffled(network, tmp_path):
    chosen = SanitySettings(tmp_path, model="tiny")
    network = dataclasses.replace(network, name="tiny")
    assert sanity.settle(chosen, network).untrained == "shuffled"
    with pytest.raises(
        ValueError, match="untrained: got 'initialised', expected 'shuffled': tiny has no"
    ):
        sanity.settle(dataclasses.replace(chosen, untrained="initialised"), network)
    old = plain(dataclasses.replace(chosen, untrained="shuffled"), "sanity")
    del old["untrained"]
    write_json(tmp_path / "settings.json", old)
    save_npz(tmp_path / "parts/noise.npz", [])
    folder.of(sanity.settle(chosen, network), "sanity").check()
    with pytest.raises(
        ValueError, match="holds another run: untrained 'shuffled' there, 'initialised' here"
    ):
        folder.of(dataclasses.replace(chosen, untrained="initialised"), "sanity").check()


def test_the_bundled_network_has_initialisers():
    network = networks.load("tiny20")
    fresh = network.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, network.params)


def test_groups_go_from_the_logits_down_and_leave_statistics(network, shared):
    assert next(iter(sanity.groups(network))) == "head"
    cifar = sanity.groups(networks.load("cifar10_resnet20", shared / "data"))
    assert list(cifar) == ["linear", "layer3", "layer2", "layer1", "bn1", "conv1"]
    assert not [path for members in cifar.values() for path in members if "running" in path]
    squeezenet = networks.load("squeezenet", shared / "data")
    assert list(sanity.groups(squeezenet)) == [
        "conv_final",
        *(f"fire{i}" for i in range(9, 1, -1)),
        "conv1",
    ]
    with pytest.raises(
        ValueError, match=r"groups: got 'fire1', expected .* such as conv_final, fire9"
    ):
        sanity.chosen_groups(squeezenet, ("fire1",))
    assert len(sanity.chosen_groups(squeezenet, ("fire9/conv1x1_1",))["fire9/conv1x1_1"]) == 2


def test_command_line_takes_the_short_n(tmp_path):
    assert tyro.cli(SanitySettings, args=["-n", "5", "--output", str(tmp_path)]).n == 5
    assert tyro.cli(SanitySettings, args=["--output", str(tmp_path)]).n == 200


def test_classes_that_score_highest(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, ClassSettings, methods=("grad_cam", "centre"))
    values = values_of(run(chosen, class_sensitivity.PROTOCOL), chosen)
    found, model, images, _, first = directly(network, chosen)
    runner_up = np.argsort(-np.asarray(model(images)), 1)[:, 1]
    second = explained(network, network.params, images, runner_up)
    correlation = [
        np.corrcoef(np.ravel(a), np.ravel(b))[0, 1] for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(values["grad_cam/top/correlation"], correlation, atol=1e-3)
    energy = metrics.energy_in_box(second, found.boxes)
    np.testing.assert_allclose(values["grad_cam/top/energy_second"], energy, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(values["centre/top/correlation"], 1, atol=1e-5)


def test_two_photos_side_by_side(network, photos, tmp_path):
    chosen = settings(photos, tmp_path, ClassSettings, pairs=True)
    record = run(chosen, class_sensitivity.PROTOCOL)
    values = values_of(record, chosen)
    found = data.load("tiny20", SIZE, 1000, 0, photos[1])
    pairs = class_sensitivity.side_by_side(found)
    second = pairs.extra
    assert record["settings"]["target"] == "label"
    for i in range(PHOTOS):
        left, right = pairs.ids[i].split(" ")
        j = found.ids.index(right)
        assert left == found.ids[i]
        assert found.labels[i] != found.labels[j] == second["second_target"][i]
        halves = [
            np.round((x[:, ::2].astype(float) + x[:, 1::2]) / 2)
            for x in (found.images[i], found.images[j])
        ]
        np.testing.assert_array_equal(pairs.images[i], np.concatenate(halves, 1))
        low, high = (
            np.floor(found.boxes[j, 0, 0] / 2 + 0.5),
            np.floor((found.boxes[j, 0, 2] + 1) / 2 + 0.5) - 1,
        )
        np.testing.assert_array_equal(
            second["second_boxes"][i, 0, [0, 2]], np.array([low, max(low, high)]) + SIZE // 2
        )
        np.testing.assert_array_equal(
            second["second_boxes"][i, 0, [1, 3]], found.boxes[j, 0, [1, 3]]
        )
    images = network.prepare(jax.numpy.asarray(pairs.images))
    maps_of = lambda targets: explained(network, network.params, images, targets)
    first, other = maps_of(found.labels), maps_of(second["second_target"])
    own = metrics.energy_in_box(first, pairs.boxes) + metrics.energy_in_box(
        other, second["second_boxes"]
    )
    np.testing.assert_allclose(values["grad_cam/top/own"], own / 2, rtol=1e-3, atol=1e-5)


def test_photos_without_boxes_own_their_half(network, photos):
    found = data.load(str(photos[0]), SIZE, 6, 0)
    pairs = class_sensitivity.side_by_side(found)
    second = pairs.extra
    np.testing.assert_array_equal(pairs.boxes[3], [[0, 0, SIZE // 2 - 1, SIZE - 1]])
    np.testing.assert_array_equal(second["second_boxes"][3], [[SIZE // 2, 0, SIZE - 1, SIZE - 1]])


def test_pairs_need_two_classes(network, photos, tmp_path):
    attempt = lambda **fields: run(
        settings(photos, tmp_path, ClassSettings, pairs=True, **fields), class_sensitivity.PROTOCOL
    )
    with pytest.raises(
        ValueError, match="has photos without a class, expected them in a subfolder"
    ):
        attempt(data=str(photos[0] / "n1"))
    with pytest.raises(ValueError, match="got 1 photo of one class, expected two classes"):
        attempt(n=1)


def test_a_stopped_run_goes_on_where_it_stopped(network, photos, tmp_path, monkeypatch):
    chosen = settings(photos, tmp_path, ClassSettings, methods=("noise", "centre"))
    first = run(chosen, class_sensitivity.PROTOCOL)
    (tmp_path / "run/parts/centre.npz").unlink()
    done, compared = [], work.Work._compared
    monkeypatch.setattr(work.Work, "_compared", lambda *a: done.append(a) or compared(*a))
    again = run(chosen, class_sensitivity.PROTOCOL)
    assert len(done) == 1
    assert again["results"] == first["results"]
    with pytest.raises(
        ValueError,
        match="holds another run: target 'predicted' there, 'label' here, pairs False there",
    ):
        run(dataclasses.replace(chosen, pairs=True), class_sensitivity.PROTOCOL)
