"""What the protocols are made of: photos, trained nets, controls, intervals."""

import dataclasses
import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from eval.costs import tpu
from eval.run import folder as folders
from eval.run import record
from eval.run.settings import Settings, plain
from eval.subjects import data, methods, nets, networks
from jaxcam import datasets, metrics
from tests import nets as test_nets
from tests.eval.conftest import SIZE, forward


def test_photos_are_drawn_by_seed_with_their_labels_and_boxes(photos):
    folder, root = photos
    some = data.load("tiny20", 16, 3, 7, root)
    everything = data.load("tiny20", 16, 99, 7, root)
    assert some.ids == everything.ids[:3]
    assert everything.images.shape == (6, 16, 16, 3)
    assert sorted(everything.ids) == [
        "n1/0.png",
        "n1/2.png",
        "n1/4.png",
        "n2/1.png",
        "n2/3.png",
        "n2/5.png",
    ]
    for name, image, label, boxes in zip(
        everything.ids, everything.images, everything.labels, everything.boxes, strict=True
    ):
        number = int(name[3])
        assert label == (2, 4)[number % 2]
        # 24 x 20 pixels -> 16 x 16: edges number, number + 12 and 0, 10 scaled by 2 / 3 and 4 / 5,
        # rounded
        edges = np.floor(np.array([number * 2 / 3, 0, (number + 12) * 2 / 3, 8]) + 0.5)
        np.testing.assert_array_equal(boxes, [edges - [0, 0, 1, 1]])
        photo = Image.open(folder / name).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image, np.asarray(photo))
    assert data.load("tiny20", 16, 6, 8, root).ids != everything.ids


def test_a_folder_of_photos_has_its_subfolders_as_classes(photos):
    plain = data.load(str(photos[0]), 16, 6, 0)
    assert plain.boxes is None
    assert [
        label == int(name[1]) - 1 for name, label in zip(plain.ids, plain.labels, strict=True)
    ] == [True] * 6
    assert set(data.load(str(photos[0] / "n1"), 16, 6, 0).labels) == {data.UNKNOWN}


@pytest.mark.parametrize(("name", "classes"), [("imagenet100", 100), ("cifar10_test1000", 10)])
def test_shared_sets(shared, name, classes):
    found = data.load(name, 32, 40, 0, shared / "data")
    assert found.images.shape == (40, 32, 32, 3)
    assert found.labels.min() >= 0
    assert len(set(found.labels)) == 40 if classes == 100 else set(found.labels) == set(range(10))


def test_photos_are_resized_as_the_reference_was(shared):
    reference = np.load(shared / "reference/games_squeezenet.npz")
    found = data.load("imagenet100", 224, 100, 0, shared / "data")
    for name, image in zip(reference["names"], reference["images"], strict=True):
        index = found.ids.index(str(name))
        np.testing.assert_array_equal(found.images[index], image)
        assert f"/{found.labels[index]:03d}_" in str(name)


def test_cifar_resnet_is_the_published_one(shared):
    reference = np.load(shared / "reference/cams_cifar10_resnet20.npz")
    network = networks.load("cifar10_resnet20", shared / "data")
    model, prepare = forward(network)
    logits = jax.jit(model)(prepare(reference["images"]))
    np.testing.assert_allclose(logits, reference["logits"], rtol=1e-3, atol=1e-3)
    deep = nets.load_cifar_resnet(shared / "data/cifar10_resnet56.safetensors")
    twin = test_nets.CifarResNet(blocks=9)
    images = prepare(reference["images"][:2])
    expected = jax.jit(twin.apply)(test_nets.load_cifar(shared, 56), images)
    np.testing.assert_allclose(
        jax.jit(nets.cifar_resnet)(deep, images), expected, rtol=1e-3, atol=1e-3
    )


def test_the_bundled_network_classifies_its_photos(shared):
    network = networks.load("tiny20")
    photos = data.load("tiny20", network.size, 60, 0, shared / "data")
    model, prepare = forward(network)
    assert (np.argmax(jax.jit(model)(prepare(photos.images)), 1) == photos.labels).mean() > 0.5
    assert network.stages == ("layer1", "layer2", "layer3", "layer4")


def test_controls_know_nothing_of_the_model(network):
    model, _ = forward(network)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 16, 3)), jnp.float32)
    noise = methods.noise(model, images, None, layer=["stem", "top"])
    assert noise["stem"].shape == (3, 16, 16)
    assert not np.allclose(noise["top"][0], noise["top"][1])
    np.testing.assert_array_equal(
        methods.noise(model, images[1:], None, layer=["top"])["top"], noise["top"][1:]
    )
    centre = methods.centre(model, images, None, layer=["top"])["top"]
    np.testing.assert_allclose(centre, centre[:, ::-1, ::-1], rtol=1e-5)
    assert centre[0, 3, 3] > centre[0, 0, 3] > centre[0, 0, 0]


def test_interval_covers_as_the_normal_one_does(rng):
    values = rng.normal(size=400)
    low, high = record.interval(values, 0)
    error = 1.96 * values.std() / 20
    np.testing.assert_allclose(
        [low, high], [values.mean() - error, values.mean() + error], atol=0.02
    )
    assert record.interval(values, 0) == (low, high)
    assert record.interval(np.full(5, 3.0), 0) == pytest.approx((3, 3))


def test_summary_counts_what_is_undefined():
    found = record.summary(np.array([1.0, np.nan, 3.0]), 0)
    assert (found["mean"], found["n"], found["undefined"]) == (2, 2, 1)
    assert record.summary(np.array([np.nan]), 0) == {
        "mean": None,
        "low": None,
        "high": None,
        "n": 0,
        "undefined": 1,
    }
    assert (found["low"], found["high"]) == (None, None)
    many = record.summary(np.arange(record.FEWEST), 0)
    assert 0 < many["low"] < many["mean"] < many["high"]
    curves = record.summary(np.array([[1.0, 2], [3, 4], [np.nan, 0]]), 0)
    assert curves == {"mean": [2, 3], "n": 2, "undefined": 1}


def test_methods_are_found_by_name():
    assert list(methods.find(["cam", "relevance_cam"])) == ["cam", "relevance_cam"]
    with pytest.raises(ValueError, match="methods: got none, expected any of"):
        methods.find([])
    with pytest.raises(ValueError, match="methods: got a, b, expected any of grad_cam, "):
        methods.find(["a", "cam", "b"])


def test_boxes_of_other_classes_are_no_object():
    """A dog and two persons, as in VOC; a photo of a person alone; none with classes of boxes."""
    boxes = np.array([[0, 0, 3, 3], [4, 4, 15, 15], [8, 0, 9, 1]], np.float32)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    records = [
        datasets.Record(image, 1, boxes, "dog", np.array([2, 1, 2])),
        datasets.Record(image, 2, boxes[:1], "person", np.array([2])),
        datasets.Record(image, 1, boxes, "all"),
    ]
    drawn = data.Drawn(
        datasets.Dataset(records, ("cat", "dog", "person")), np.arange(3), (SIZE,) * 2
    )
    found = drawn.photos(drawn.describe(np.arange(3))).boxes
    kept = lambda rows: rows[np.isfinite(rows).all(1)]
    np.testing.assert_array_equal(kept(found[0]), boxes[1:2])
    np.testing.assert_array_equal(kept(found[1]), boxes[:1])
    np.testing.assert_array_equal(kept(found[2]), boxes)


def test_a_prepared_set_has_its_boxes(tmp_path, network):
    """Cars of 40 x 30 pixels, boxes of 10 x 6 of them, at 16 x 16."""
    tfds = pytest.importorskip("tensorflow_datasets")
    from eval.protocols import localization
    from eval.run.runner import run
    from tests.datasets.conftest import encoded, prepare_fake

    # from 1, as Cars196 counts
    box = tfds.features.BBox(ymin=7 / 30, xmin=11 / 40, ymax=12 / 30, xmax=20 / 40)
    features = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(num_classes=5),
        "bbox": tfds.features.BBoxFeature(),
        "id": tfds.features.Text(),
    }
    example = lambda i: {
        "image": io.BytesIO(encoded((40, 30), (i, 9, 9))),
        "label": i % 5,
        "bbox": box,
        "id": str(i),
    }
    splits = {"train": [example(0)], "test": [example(i) for i in range(10)]}
    folder = str(prepare_fake(tmp_path, "cars196", features, splits) / "cars196")
    found = data.load(folder, SIZE, 99, 1, split="test[:8]")
    assert sorted(zip(found.ids, found.labels, strict=True)) == [(str(i), i % 5) for i in range(8)]
    assert [image[0, 0, 0] for image in found.images] == [int(name) for name in found.ids]
    expected = metrics.resize_boxes(np.array([[10.0, 6, 19, 11]]), (30, 40), (SIZE, SIZE))
    np.testing.assert_array_equal(found.boxes, np.broadcast_to(expected, (8, 1, 4)))
    chosen = Settings(
        tmp_path / "run",
        "tiny",
        folder,
        split="test",
        methods=("centre",),
        layers=("top",),
        batch=1,
    )
    results = run(chosen, localization.PROTOCOL)["results"]["centre"]["top"]
    assert 0 < results["box_share"]["mean"] < 0.1


def test_sets_of_a_short_name_can_be_split(photos):
    assert data.load("tiny20", SIZE, 9, 0, photos[1], "val[:2]").images.shape == (2, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="split: got 'test', expected one of 'val'"):
        data.load("tiny20", SIZE, 9, 0, photos[1], "test")
    assert next(data.draw("skimage", 8, 2, 0).records(np.arange(2))).id in ("cat", "coffee")


def test_a_new_setting_does_not_hinder_an_old_run(tmp_path):
    old = plain(Settings(tmp_path), "games")
    del old["split"]
    record.write_json(tmp_path / "settings.json", old)
    record.save_npz(tmp_path / "parts/noise.npz", [])
    folders.of(Settings(tmp_path), "games").check()
    with pytest.raises(ValueError, match="holds another run: split '' there, 'val' here"):
        folders.of(Settings(tmp_path, split="val"), "games").check()


def test_methods_can_come_later_with_their_options(tmp_path):
    run = Settings(tmp_path, methods=("rise",), options=("rise.num_masks=9",))
    folders.of(run, "games").claim()
    record.save_npz(tmp_path / "parts/rise.npz", [])
    more = dataclasses.replace(run, methods=("noise", "lime"), options=("lime.num_samples=8",))
    folders.of(more, "games").claim()
    record.save_npz(tmp_path / "parts/lime.npz", [])
    both = (*more.options, *run.options)
    folders.of(dataclasses.replace(run, methods=("rise", "lime"), options=both), "games").claim()

    for name, options in {"rise": (), "lime": ("lime.num_samples=9",)}.items():
        with pytest.raises(
            ValueError, match=rf"holds another run: options .'{name}.* there, .* here"
        ):
            folders.of(dataclasses.replace(run, methods=(name,), options=options), "games").check()


def test_tiny20_is_its_validation_photos_unless_asked_otherwise(photos):
    _, root = photos
    with zipfile.ZipFile(root / "tiny20.zip", "a") as archive:
        archive.writestr("tiny20/train/n1/7.png", archive.read("tiny20/val/n1/0.png"))
    assert len(data.load("tiny20", SIZE, 99, 0, root)) == 6
    assert data.load("tiny20", SIZE, 99, 0, root, "train").ids == ("n1/7.png",)
    assert len(data.load("tiny20", SIZE, 99, 0, root, "all")) == 7


def test_the_librarys_version_is_its_own_word(monkeypatch):
    """Its distribution has another name, and that of a checkout may be an older one's."""
    monkeypatch.setattr(tpu, "_PACKAGES", ("jax",))
    versions = tpu.record(tpu.Request("v5e:2x2"), [])["versions"]
    assert (versions["jaxcam"], versions["jax"]) == (jaxcam.__version__, jax.__version__)
    about = {"ids": np.arange(1), "accuracy": np.array(1.0)}
    made = record.record({"protocol": "games", "seed": 0}, {}, about, 0.0)
    assert made["versions"]["jaxcam"] == jaxcam.__version__
