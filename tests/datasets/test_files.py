import io
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jaxcam import datasets
from jaxcam.datasets import files, records
from tests.datasets.conftest import encoded


def same(left, right):
    assert left.classes == right.classes
    assert len(left) == len(right)
    for a, b in ((left[i], right[i]) for i in range(len(left))):
        assert (a.image, a.id) == (b.image, b.id)
        np.testing.assert_array_equal(a.label, b.label)
        np.testing.assert_array_equal(a.boxes, b.boxes)


def test_a_folder_gives_its_photos_by_class_and_name(folder):
    photos = datasets.load(folder, "train")
    assert photos.classes == ("cat", "dog")
    assert [photos[i].label for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [photos[i].id for i in range(6)] == [
        f"{c}/{i}.png" for c in ("n2", "n1") for i in range(3)
    ]
    pixels = datasets.decode(photos[4])
    assert pixels.shape == (12, 17, 3)
    assert pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == [200, 20, 21]
    np.testing.assert_array_equal(photos[4].boxes, [[1, 2, 11, 11]])
    assert repr(photos) == "Dataset(6 records, 2 classes)"  # and no record, of which a million are


@pytest.mark.parametrize("split", ["train", "val", "train[1:]+val[:50%]", "all"])
def test_a_zip_gives_the_same_records(folder, zipped, split):
    same(datasets.load(folder, split), datasets.load(zipped, split))


def test_what_is_not_there_is_looked_for_in_the_folder_of_data(folder, tmp_path, monkeypatch):
    """Training and the protocols find their sets so; what is there as written comes first."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv(datasets.ROOT, raising=False)
    with pytest.raises(FileNotFoundError, match="name: got 'set'"):
        datasets.load("set", "train")
    monkeypatch.setenv(datasets.ROOT, str(folder.parent))
    same(datasets.load("set", "train"), datasets.load(folder, "train"))
    (elsewhere / "set" / "n1").mkdir(parents=True)
    (elsewhere / "set" / "n1" / "a.png").write_bytes(encoded((4, 4), (1, 2, 3)))
    assert len(datasets.load("set", "train")) == 1


def test_a_folder_around_the_set_is_looked_through(folder):
    same(datasets.load(folder, "val"), datasets.load(folder.parent, "val"))


def test_without_a_table_the_folders_are_the_classes(folder):
    (folder / "classes.csv").unlink()
    (folder / "boxes.csv").unlink()
    photos = datasets.load(folder, "train")
    assert photos.classes == ("n1", "n2")
    assert photos[0].boxes.shape == (0, 4)
    for name in ("train", "all"):
        same(datasets.load(folder / "train", name), photos)


def test_a_class_that_a_split_lacks_keeps_the_others_numbers(folder):
    for table in ("classes.csv", "boxes.csv"):
        (folder / table).unlink()
    for photo in (folder / "val" / "n1").iterdir():
        photo.unlink()
    photos = datasets.load(folder, "val")
    assert photos.classes == ("n1", "n2")
    assert {photos[i].label for i in range(3)} == {1}


def test_loose_photos_are_of_unknown_class(tmp_path):
    for name in ("b.png", "a.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(encoded())
    photos = datasets.load(tmp_path, "all")
    assert [(photos[i].id, photos[i].label) for i in range(len(photos))] == [
        ("a.png", -1),
        ("b.png", -1),
    ]
    assert photos.classes == ()


def test_parts_and_sums_of_splits():
    splits = {"train": list(range(10)), "val": list(range(100, 103))}
    assert files.select("train[2:4]", splits) == [2, 3]
    assert files.select("train[-30%:]", splits) == [7, 8, 9]
    assert files.select("train[:25%]+val[1:]", splits) == [0, 1, 101, 102]
    assert (
        files.select("train[:50%]", splits) + files.select("train[50%:]", splits) == splits["train"]
    )
    for wrong in ("tset", "train[", "train[1]", "train+", ""):
        with pytest.raises(
            ValueError,
            match=r"split: got .*, expected one of 'train', 'val', or .* such as train\[:50%\]",
        ):
            files.select(wrong, splits)


def test_multi_hot_labels_of_single_ones(folder):
    photos = datasets.load(folder, "train", multilabel=True)
    np.testing.assert_array_equal(photos[0].label, [1, 0])
    np.testing.assert_array_equal(photos[5].label, [0, 1])
    assert photos[0].label.dtype == np.float32
    np.testing.assert_array_equal(records.multi_hot([datasets.UNKNOWN], 3), [0, 0, 0])


def test_a_zip_is_read_from_many_threads(tmp_path):
    """More members than threads, told by content; a member closed too early would end reading."""
    path = tmp_path / "many.zip"
    contents = [bytes([index % 256]) * (1000 + 37 * index) for index in range(200)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for index, content in enumerate(contents):
            file.writestr(f"a/{index:03}.png", content)
    photos = datasets.load(path, "all")
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda index: photos[index % 200].image, range(2000)))
    finally:
        sys.setswitchinterval(switch)
    assert found == contents * 10


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"name: got '/nowhere\.zip', expected a folder or a zip, there or in",
    ):
        datasets.load("/nowhere.zip", "train")
    with pytest.raises(
        FileNotFoundError, match=("which holds no photos, expected files that end in one of")
    ):
        datasets.load(tmp_path, "train")
    (tmp_path / "set.tar").write_bytes(b"x")
    with pytest.raises(
        ValueError, match=r"name: got the file .*set\.tar, expected a folder or a zip"
    ):
        datasets.load(tmp_path / "set.tar", "train")
    (tmp_path / "set.zip").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"name: got .*set\.zip, expected a zip"):
        datasets.load(tmp_path / "set.zip", "train")


def test_tables_that_do_not_fit_are_named(folder):
    def fails(message):
        with pytest.raises(ValueError, match=message):
            datasets.load(folder, "train")

    (folder / "classes.csv").write_text("wnid,name\nn2,cat\n")
    fails(r"classes\.csv: got no row for the folder 'n1', expected one for each class")
    (folder / "classes.csv").write_text("index,wnid,name\n0,n2,cat\n2,n1,dog\n")
    fails(r"classes\.csv: got the index '2', expected 0 to 1, each once")
    (folder / "classes.csv").write_text("folder,name\nn2,cat\n")
    fails(r"classes\.csv: got the columns folder, name, expected wnid, name")
    (folder / "classes.csv").write_text("wnid,name\nn2,cat\nn1,dog\n")
    (folder / "boxes.csv").write_text("split,wnid,file,xmin,ymin,xmax\n1,2,3,4,5,6\n")
    fails(r"boxes\.csv: got the columns .*, xmax, expected split, wnid, file, xmin")
    (folder / "boxes.csv").write_text(
        "split,wnid,file,xmin,ymin,xmax,ymax\ntrain,n1,0.png,4,5,x,6\n"
    )
    fails(r"boxes\.csv: got 'x', expected a number in each row")
    (folder / "classes.csv").write_text("index,wnid,name\n0,n2,cat\n,n1,dog\n")
    fails(r"classes\.csv: got the index '', expected 0 to 1, each once")


def test_an_empty_part_and_an_index_outside_are_errors(folder):
    with pytest.raises(
        ValueError, match=(r"split: got 'train\[:0\]' of .*, which is empty, expected a photo")
    ):
        datasets.load(folder, "train[:0]")
    with pytest.raises(IndexError, match="index: got 6, expected 0 to 5"):
        datasets.load(folder, "train")[6]


def test_pictures_that_cannot_be_read_are_named():
    record = lambda image: datasets.Record(image, 0, datasets.NO_BOXES, "x")
    with pytest.raises(ValueError, match="image: got x, which is not an image in a format"):
        datasets.decode(record(b"text"))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    with pytest.raises(
        ValueError, match=r"image: got x, which cannot be decoded, .* expected a picture"
    ):
        datasets.decode(record(file.getvalue()[:-500]))
    with pytest.raises(
        ValueError, match=(r"image: got x, which is float64 \(2, 2, 3\), expected uint8")
    ):
        datasets.decode(record(np.zeros((2, 2, 3))))
    np.testing.assert_array_equal(datasets.decode(record(noise)), noise)


def test_a_jpeg_is_decoded_no_finer_than_asked():
    record = datasets.Record(encoded((160, 80), format="JPEG"), 0, datasets.NO_BOXES, "x")
    for wanted, shape in (
        ((160, 80), (80, 160)),
        ((80, 40), (40, 80)),
        ((41, 20), (40, 80)),
        ((10, 10), (10, 20)),
    ):
        assert datasets.decode(record, at_least=wanted).shape == (*shape, 3)


def test_import_jaxcam_leaves_datasets_alone():
    heavy = ("jaxcam.datasets", "grain", "tensorflow")
    code = f"import jaxcam, sys; print([name for name in sys.modules if name.startswith({heavy})])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"
