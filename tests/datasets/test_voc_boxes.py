"""XML boxes as ImageNet's become the table that a folder of photos is read with."""

import numpy as np
import pytest
from PIL import Image

from jaxcam import datasets
from jaxcam.datasets import __main__ as command

XML = """<annotation><filename>a</filename><size><width>{}</width><height>{}</height></size>
{}</annotation>"""
THING = """<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def folder(tmp_path, rng):
    """Two photos of 24 x 16 in two classes, and their annotations."""
    for name, wnid in (("a", "n1"), ("b", "n2")):
        (tmp_path / f"photos/val/{wnid}").mkdir(parents=True)
        pixels = rng.integers(0, 256, (16, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/val/{wnid}/{name}.JPEG")
    (tmp_path / "xml/val").mkdir(parents=True)
    things = THING.format("n1", 2, 3, 9, 40) + THING.format("n2", 0, 0, 5, 5)
    (tmp_path / "xml/val/a.xml").write_text(XML.format(24, 16, things))
    half = XML.format(12, 8, THING.format("n2", 1, 1, 5, 6))  # made of the photo at half its size
    (tmp_path / "xml/val/b.xml").write_text(half)
    return tmp_path


def words(folder, *more):
    return ["boxes", "--annotations", f"{folder}/xml", "--photos", f"{folder}/photos", *more]


def test_boxes_are_those_of_the_photos_class_cut_off_and_scaled(folder, capsys):
    (folder / "photos/boxes.csv").write_text(
        "split,wnid,file,xmin,ymin,xmax,ymax\ntrain,n1,c.JPEG,1,2,3,4\nval,n1,a.JPEG,0,0,0,0\n"
    )
    command.main(words(folder))
    assert "2 boxes of the split val" in capsys.readouterr().out
    lines = (folder / "photos/boxes.csv").read_text().splitlines()
    assert lines[1:] == [
        "train,n1,c.JPEG,1,2,3,4",
        "val,n1,a.JPEG,2,3,9,15",
        "val,n2,b.JPEG,2,2,10,12",
    ]
    (folder / "photos/boxes.csv").write_text("\n".join([lines[0], *lines[2:]]))
    found = datasets.load(folder / "photos", "val")
    np.testing.assert_array_equal(found[0].boxes, [[2, 3, 9, 15]])
    command.main(words(folder, "--first", "1"))
    assert "val,n1,a.JPEG,1,2,8,15" in (folder / "photos/boxes.csv").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "which is no XML"),
        ("<!DOCTYPE x><a/>", "which declares entities"),
        (
            XML.format(24, 16, THING.format("n1", 2, "x", 9, 9)),
            "bndbox/ymin is 'x', expected a num",
        ),
    ],
)
def test_other_files_are_refused_by_name(folder, content, message):
    (folder / "xml/val/a.xml").write_text(content)
    with pytest.raises(SystemExit, match=rf"annotations: got .*a\.xml, .*{message}"):
        command.main(words(folder))


def test_annotations_of_other_photos_are_refused(folder):
    with pytest.raises(SystemExit, match=r"photos: got .*photos/train, which has none"):
        command.main(words(folder, "--split", "train"))
    for path in folder.glob("xml/val/*"):
        path.rename(path.with_stem(f"other_{path.stem}"))
    with pytest.raises(SystemExit, match="which has no box of a photo in"):
        command.main(words(folder))
