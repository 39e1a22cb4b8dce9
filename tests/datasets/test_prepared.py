"""TFDS sets, read from small ones with the same names and features."""

import io
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxcam import datasets
from tests.datasets.conftest import encoded, prepare_fake

tfds = pytest.importorskip("tensorflow_datasets")
VOC = ("cat", "dog", "person")
WIDTH, HEIGHT = 500, 375


def _voc_box(xmin, ymin, xmax, ymax):
    """As TFDS writes VOC's, which number pixels from 1."""
    return tfds.features.BBox(ymin / HEIGHT, xmin / WIDTH, ymax / HEIGHT, xmax / WIDTH)


def _voc_photo(name, objects):
    labels = sorted({label for label, _ in objects})
    return {
        "image": _file(encoded((WIDTH, HEIGHT), format="JPEG")),
        "image/filename": name,
        "objects": [
            {
                "label": label,
                "bbox": box,
                "pose": "left",
                "is_truncated": False,
                "is_difficult": False,
            }
            for label, box in objects
        ],
        "labels": labels,
        "labels_no_difficult": labels,
    }


def _file(content):
    return io.BytesIO(content)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of TFDS sets: VOC, ImageNet and one with boxes of its own kind each."""
    root = tmp_path_factory.mktemp("tfds")
    label = tfds.features.ClassLabel
    objects = {
        "label": label(names=VOC),
        "bbox": tfds.features.BBoxFeature(),
        "pose": label(names=("left", "right")),
        "is_truncated": np.bool_,
        "is_difficult": np.bool_,
    }
    voc = {
        "image": tfds.features.Image(),
        "image/filename": tfds.features.Text(),
        "objects": tfds.features.Sequence(objects),
        "labels": tfds.features.Sequence(label(names=VOC)),
        "labels_no_difficult": tfds.features.Sequence(label(names=VOC)),
    }
    person, dog = ("person", _voc_box(1, 1, 100, 300)), ("dog", _voc_box(48, 240, 500, 371))
    splits = {
        "train": [_voc_photo("a.jpg", [person, dog, person]), _voc_photo("b.jpg", [person])],
        "validation": [_voc_photo("c.jpg", [("cat", _voc_box(2, 2, 3, 3))])] * 4,
        "test": [_voc_photo("d.jpg", [])],
    }
    prepare_fake(root, "voc", voc, splits, "2012")
    imagenet = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": label(names=("n01", "n02")),
        "file_name": tfds.features.Text(),
    }
    photo = encoded((30, 20), format="JPEG")
    examples = [
        {"image": _file(photo), "label": i % 2, "file_name": f"{i}.JPEG"} for i in range(10)
    ]
    prepare_fake(root, "imagenet2012", imagenet, {"train": examples})
    birds = {
        "image": tfds.features.Image(),
        "image/filename": tfds.features.Text(),
        "label": label(num_classes=3),
        "bbox": tfds.features.BBoxFeature(),
        "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
    }
    bird = {
        "image": _file(photo),
        "image/filename": "CUB/x.jpg",
        "label": 2,
        # x 3, y 2, width 27, height 10
        "bbox": tfds.features.BBox(2 / 20, 3 / 30, 12 / 20, 30 / 30),
        "segmentation_mask": _file(encoded((30, 20))),
    }
    prepare_fake(root, "caltech_birds2011", birds, {"train": [bird]})
    prepare_fake(
        root, "others", {"image": tfds.features.Image()}, {"train": [{"image": _file(photo)}]}
    )
    return root


def test_voc_takes_the_class_of_the_largest_box(root):
    photos = datasets.load("voc/2012", "train", root=root)
    assert photos.classes == VOC
    # 453 x 132 pixels of dog, 100 x 300 of person
    assert [photos[i].label for i in range(2)] == [1, 2]
    assert [photos[i].id for i in range(2)] == ["a.jpg", "b.jpg"]
    expected = [[0, 0, 99, 299], [47, 239, 499, 370], [0, 0, 99, 299]]  # from 0, inclusive
    np.testing.assert_array_equal(photos[0].boxes, expected)
    np.testing.assert_array_equal(photos[0].box_labels, [2, 1, 2])
    np.testing.assert_array_equal(photos[0].boxes_of(1), expected[1:2])
    np.testing.assert_array_equal(photos[0].boxes_of(2), expected[::2])
    assert photos[0].boxes_of(0).shape == (0, 4)
    assert datasets.decode(photos[0]).shape == (HEIGHT, WIDTH, 3)
    assert isinstance(photos[0].image, bytes)


def test_voc_has_many_labels_if_asked(root):
    photos = datasets.load("voc/2012", "train", root=root, multilabel=True)
    np.testing.assert_array_equal(photos[0].label, [0, 1, 1])
    np.testing.assert_array_equal(photos[1].label, [0, 0, 1])
    assert photos[0].label.dtype == np.float32


def test_photos_without_annotation_are_of_unknown_class(root):
    photo = datasets.load("voc/2012", "test", root=root)[0]
    assert photo.label == datasets.UNKNOWN
    assert photo.boxes.shape == (0, 4)
    assert not datasets.load("voc/2012", "test", root=root, multilabel=True)[0].label.any()


def test_imagenet_and_parts_of_its_split(root):
    photos = datasets.load("imagenet2012", "train[:50%]", root=root)
    assert [(photos[i].id, photos[i].label) for i in range(len(photos))] == [
        (f"{i}.JPEG", i % 2) for i in range(5)
    ]
    assert photos.classes == ("n01", "n02")
    both = datasets.load("voc/2012", "train+validation[1:]", root=root)
    assert len(both) == 5


def test_a_box_that_ends_behind_its_last_pixel(root):
    photo = datasets.load("caltech_birds2011", "train", root=root)[0]
    np.testing.assert_array_equal(photo.boxes, [[3, 2, 29, 11]])
    assert photo.label == 2


def test_a_prepared_folder_is_found_at_and_below_its_path(root):
    here = datasets.load(root / "voc/2012/5.0.0", "train")
    below = datasets.load(root / "voc", "train")
    assert [here[0].id, below[0].id] == ["a.jpg", "a.jpg"]
    with pytest.raises(
        ValueError,
        match=r"holds several prepared sets, expected one of 'caltech_birds2011/5\.0\.0', 'im",
    ):
        datasets.load(root, "train")


def test_records_are_read_from_many_threads(root):
    photos = datasets.load("imagenet2012", "train", root=root)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda i: photos[i % 10].id, range(400)))
    assert ids == [f"{i % 10}.JPEG" for i in range(400)]


def test_what_is_missing_is_named_with_the_command(root, tmp_path):
    def fails(name, split, message, error=ValueError, **options):
        with pytest.raises(error, match=message):
            datasets.load(name, split, **{"root": root, **options})

    missing = FileNotFoundError
    fails(
        "voc/2007",
        "train",
        r"pip install .* && python -m jaxcam.datasets prepare voc/2007 --output /",
        missing,
    )
    fails(
        "imagenet2012",
        "train",
        r"prepare imagenet2012 --source FOLDER_OF_ILSVRC2012_TAR_FILES --output /",
        missing,
        root=tmp_path,
    )
    fails(
        "tiny20",
        "train",
        r"python -m jaxcam.datasets prepare tiny20 --source PATH --output",
        missing,
    )
    fails("vocc", "train", r"expected voc, perhaps; else", missing)
    fails(
        "voc/2012",
        "trian",
        r"split: got 'trian', expected one of 'train', 'validation', 'test', or a part such as",
    )
    fails(
        "voc/2012", "train[", r"split: got 'train\[', expected one of 'train', 'validation', 'test'"
    )
    fails("voc/2012", "train[:0]", r"split: got 'train\[:0\]' of .*, which is empty")
    fails("others", "train", "has no class label 'label', expected it among 'image'")


def test_a_format_without_random_access_is_named(root, tmp_path):
    copy = shutil.copytree(root / "imagenet2012/5.0.0", tmp_path / "imagenet2012/5.0.0")
    info = copy / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(
        ValueError, match="prepared as tfrecord, without random access, expected array_record"
    ):
        datasets.load(copy, "train")


def test_reading_imports_no_tensorflow(root):
    """Nor may it where TensorFlow is installed."""
    code = f"""if True:
        import sys
        from jaxcam import datasets
        photos = datasets.load("voc/2012", "train", root={str(root)!r})
        shape = datasets.decode(photos[0]).shape
        print(photos[0].label, shape, {{"tensorflow", "torch"}} & set(sys.modules))"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == f"1 ({HEIGHT}, {WIDTH}, 3) set()", out.stderr
