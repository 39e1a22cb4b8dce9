"""Folders and zips as people have them: read right or refused by name, never as other classes."""

import os
import zipfile

import numpy as np
import pytest

from jaxcam import datasets
from jaxcam.datasets import sources
from tests.datasets.conftest import encoded

PNG = encoded()


def build(top, *names, content=PNG):
    """Files at these paths below a folder; of a name that ends in "/" an empty folder."""
    for name in names:
        path = top / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return top


def zip_of(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, PNG)
    return path


def split(top, name="train"):
    found = datasets.load(top, name)
    return found.classes, [(found[i].label, found[i].id) for i in range(len(found))]


TWO = (("a", "b"), [(0, "a/1.png"), (1, "b/1.png")])


@pytest.mark.parametrize(
    ("train", "other", "name"),
    [
        ("Train", "Test", "test"),
        ("training", "testing", "testing"),
        ("TRAIN", "valid", "val"),
        ("train", "Valid", "valid"),
        ("train", "validation", "validation"),
    ],
)
@pytest.mark.parametrize("around", ["", "set/", "set/set/", "set/images/"])
def test_splits_by_their_usual_names(tmp_path, train, other, name, around):
    inner = [
        f"{around}{split}/{photo}" for split in (train, other) for photo in ("a/1.png", "b/1.png")
    ]
    build(tmp_path, *inner, "README.txt", ".git/a.png", f"{around}{train}/.cache/x.png")
    assert split(tmp_path) == split(tmp_path, name) == TWO
    assert split(zip_of(tmp_path / "set.zip", *inner), name) == TWO


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".gif", ".JPG", ".webp", ".ppm", ".jp2"])
def test_a_class_of_other_formats_is_a_class(tmp_path, suffix):
    build(tmp_path, f"a/1{suffix}", "b/1.png")
    assert split(tmp_path) == (("a", "b"), [(0, f"a/1{suffix}"), (1, "b/1.png")])


def test_one_class_and_nested_photos_of_equal_names(tmp_path):
    build(tmp_path / "one", "a/1.png", "a/2.png")
    assert split(tmp_path / "one") == (("a",), [(0, "a/1.png"), (0, "a/2.png")])
    nested = build(tmp_path / "two", "a/x/1.png", "a/y/1.png", "b/1.png")
    assert split(nested) == (("a", "b"), [(0, "a/x/1.png"), (0, "a/y/1.png"), (1, "b/1.png")])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "b/"], "name: got 'b' in .* without a photo, expected photos in each folder"),
        (["train/a/1.png", "train/b/x.heic"], "name: got 'b' in .*train/ without a photo"),
        (["train/a/1.png", "Train/a/2.png"], "the folders 'Train' and|'Train', 'train' in .*, exp"),
        (["val/a/1.png", "valid/a/2.png"], "the folders 'val', 'valid' in .* is the split 'val'"),
        (["train/1.png", "bus/1.png"], "'train' and 'bus' lie side by side, expected folders of"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/B/1.png"],
         "got val/B in .*, of 1 folders that are none there, expected the classes of train/, or"),
    ],
)  # fmt: skip
def test_folders_of_which_it_is_not_clear_what_they_are_are_refused(tmp_path, names, message):
    build(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        datasets.load(tmp_path, "train")


def test_a_table_settles_what_the_classes_are(tmp_path):
    build(tmp_path, "train/a/1.png", "train/c/", "val/b/1.png")
    (tmp_path / "Classes.CSV").write_bytes(b"\xef\xbb\xbfname,wnid\r\nB,b\r\nC,c\r\nA,a\r\n")
    assert split(tmp_path) == (("B", "C", "A"), [(2, "a/1.png")])
    assert split(tmp_path, "val") == (("B", "C", "A"), [(0, "b/1.png")])


def test_links_are_followed_but_not_in_circles(tmp_path):
    build(tmp_path / "elsewhere", "1.png")
    build(tmp_path / "set", "a/1.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    assert split(tmp_path / "set") == TWO
    (tmp_path / "set" / "a" / "again").symlink_to(tmp_path / "set")
    with pytest.raises(ValueError, match=r"name: got .*again, a link to a folder that it lies in"):
        datasets.load(tmp_path / "set", "train")


def test_a_pipe_among_the_photos_is_an_error_and_no_hang(tmp_path):
    build(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    photos = datasets.load(tmp_path, "train")
    with pytest.raises(OSError, match=r"a pipe or a device, not a file.*2\.png"):
        photos[1]
    os.mkfifo(tmp_path / "set.zip")
    with pytest.raises(OSError, match=r"a pipe or a device, not a file.*set\.zip"):
        datasets.load(tmp_path / "set.zip", "train")


ROWS = "split,wnid,file,xmin,ymin,xmax,ymax\n"


def test_boxes_find_their_photo_by_name_or_path(tmp_path):
    build(tmp_path, "Train/a/x/1.png", "Train/a/y/1.png", "Train/a/2.png")
    rows = "Train,a,x/1.png,0,1,2,3\ntrain,a,2.png,4,5,6,7\ntrain,a,2.png,0,0,1,1\n"
    (tmp_path / "boxes.csv").write_text(ROWS + rows)
    photos = datasets.load(tmp_path, "train")
    found = {photos[i].id: photos[i].boxes.tolist() for i in range(3)}
    boxes = {"a/2.png": [[4, 5, 6, 7], [0, 0, 1, 1]], "a/x/1.png": [[0, 1, 2, 3]], "a/y/1.png": []}
    assert found == boxes


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("train,a,9.png,0,1,2,3", "got 1 of 1 rows that match no photo, the first 'train/a/9.png'"),
        ("val,a,2.png,0,1,2,3", "got 1 of 1 rows that match no photo"),
        ("train,a,1.png,0,1,2,3", "got 1.png of a, of which there are 'a/x/1.png', 'a/y/1.png', "),
        ("train,a,2.png,2,1,0,3", "got 2, 1, 0, 3 of 2.png, expected xmin <= xmax and ymin"),
        ("train,a,2.png,nan,1,2,3", "got 'nan', expected a number in each row"),
        ("train,a,2.png,0,1,2", "got 6 fields in line 2, expected 7: split, wnid, file, xmin"),
    ],
)
def test_rows_of_boxes_that_fit_no_photo_are_refused(tmp_path, row, message):
    build(tmp_path, "train/a/x/1.png", "train/a/y/1.png", "train/a/2.png")
    (tmp_path / "boxes.csv").write_text(ROWS + row)
    with pytest.raises(ValueError, match=rf"boxes\.csv: {message}"):
        datasets.load(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"wnid,name\na,A\na,B\n", "got wnid 'a' 2 times, expected each once"),
        (b"index,wnid,name\n0,a,A\n0,b,B\n", "got the index 0 twice, expected 0 to 1, each once"),
        (b"wnid,name\n,A\na,B", "got no wnid in row 1, expected a wnid in each row"),
        (b"wnid,name,name\na,A,A", "got the columns wnid, name, name, expected each name once"),
        (b"wnid,name\na,\xff", r"got bytes that are no UTF-8 \(at 12\), expected text in UTF-8"),
        (b'wnid,name\na,"A', r"got line 2, which is no CSV \("),
    ],
)
def test_a_table_of_classes_is_read_right_or_refused(tmp_path, content, message):
    build(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "classes.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"classes\.csv: {message}"):
        datasets.load(tmp_path, "train")


def test_nothing_is_written_among_the_photos(tmp_path):
    """It was read as a class without a photo the next time."""
    for name in ("classes/a/1.png", "splits/train/a/1.png", "flat/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    among = ["classes", "classes/run", "classes/a/run", "splits/train/run"]
    for name in among:
        with pytest.raises(ValueError, match=r"output: got .*, which lies among the photos of .*"):
            datasets.check_apart("output", tmp_path / name, tmp_path / name.partition("/")[0])
    for name in ("classes-run", "classes/.run", "splits/runs/1", "flat/run", "flat"):
        datasets.check_apart("output", tmp_path / name, tmp_path / name.partition("/")[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../a/1.png", "a path that climbs, expected paths within"),
        ("/a/1.png", "a path that climbs"),
        ("a/../../1.png", "a path that climbs"),
        ("C:\\a\\1.png", "a path that climbs"),
    ],
)
def test_a_zip_whose_paths_climb_is_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=rf"name: got .*1\.png' in .*set\.zip, {message}"):
        datasets.load(zip_of(tmp_path / "set.zip", "a/0.png", name), "train")


def test_a_zip_of_links_twice_named_or_damaged_is_refused(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as file:
        link = zipfile.ZipInfo("a/1.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"name: got 'a/1\.png' in .*, a link, expected files"):
        datasets.load(path, "train")
    with pytest.warns(UserWarning, match="Duplicate name"):
        zip_of(path, "a/1.png", "a/1.png")
    with pytest.raises(ValueError, match=r"'a/1\.png' in .* twice, expected each once"):
        datasets.load(path, "train")
    content = zip_of(path, "a/1.png").read_bytes()
    path.write_bytes(content.replace(b"IDAT", b"IDAX", 1))
    photos = datasets.load(path, "train")
    with pytest.raises(ValueError, match=r"a/1\.png in .*, which cannot be unpacked \(Bad CRC"):
        photos[0]


def test_a_zip_written_on_windows_has_folders(tmp_path):
    assert split(zip_of(tmp_path / "set.zip", "train\\a\\1.png", "train\\b\\1.png")) == TWO


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MEMBER", 2**20)
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/1.png", np.zeros(2**20 + 1, np.uint8))
    photos = datasets.load(path, "train")
    with pytest.raises(ValueError, match=r"a/1\.png in .*, of 1 MiB, expected files of at most 1"):
        photos[0]
