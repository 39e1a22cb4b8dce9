import io

import numpy as np
import pytest
from PIL import Image

from jaxcam import datasets
from tests.datasets.test_files import same

pytest.importorskip("tensorflow_datasets")
from jaxcam.datasets import __main__ as command
from jaxcam.datasets import builders


@pytest.mark.parametrize("name", ["image_folder", "tiny20"])
def test_a_prepared_folder_gives_the_folders_records(folder, zipped, tmp_path, name):
    path = builders.prepare(name, zipped, tmp_path / "out")
    for split in ("train", "val", "train[:50%]+val", "all"):
        same(datasets.load(folder, split), datasets.load(path, split))
        same(datasets.load(folder, split), datasets.load(name, split, root=tmp_path / "out"))
    same(datasets.load(folder, "val", multilabel=True), datasets.load(path, "val", multilabel=True))


def test_the_command_prepares_and_says_where(folder, tmp_path, capsys):
    command.main(
        ["prepare", "image_folder", "--source", str(folder), "--output", str(tmp_path / "out")]
    )
    path = capsys.readouterr().out.strip().splitlines()[-1].removeprefix("prepared: ")
    same(datasets.load(folder, "train"), datasets.load(path, "train"))


def test_preparing_twice_or_from_nothing_is_an_error(folder, tmp_path):
    builders.prepare("image_folder", folder, tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"output: .*image_folder.* exists, expected none"):
        builders.prepare("image_folder", folder, tmp_path / "out")
    with pytest.raises(
        ValueError, match="name: got 'cats', expected tiny20, image_folder, one of fgvc_aircraft/va"
    ):
        builders.prepare("cats", folder, tmp_path / "out")
    for name in ("fgvc_aircraft", "fgvc_aircraft/engine", "tiny20/x"):
        with pytest.raises(ValueError, match=f"name: got '{name}', expected tiny20, image_folder"):
            builders.prepare(name, folder, tmp_path / "out")
    with pytest.raises(
        ValueError, match="source: got None, expected the folder or zip that tiny20 is made of"
    ):
        builders.prepare("tiny20", None, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="expected a folder or zip of photos"):
        builders.prepare("tiny20", tmp_path / "nothing", tmp_path / "other")
    with pytest.raises(
        FileNotFoundError, match=(r"source: got .*, which holds no data/variants\.txt")
    ):
        builders.prepare("fgvc_aircraft/variant", folder, tmp_path / "other")
    with pytest.raises(SystemExit, match=r"jaxcam\.datasets: name: got 'cats'"):
        command.main(
            ["prepare", "cats", "--source", str(folder), "--output", str(tmp_path / "other")]
        )
    assert not (tmp_path / "other").exists()


def test_a_photo_that_is_none_leaves_nothing_behind(folder, tmp_path):
    (folder / "val" / "n1" / "1.png").write_bytes(b"text")
    with pytest.raises(Exception, match=r"image: got n1/1\.png, which is not an image"):
        builders.prepare("image_folder", folder, tmp_path / "out")
    with pytest.raises(
        FileNotFoundError, match=("expected a folder, a zip or a set that is prepared in")
    ):
        datasets.load("image_folder", "train", root=tmp_path / "out")


@pytest.fixture
def aircraft(tmp_path):
    """Laid out as fgvc-aircraft-2013b: one photo a split, a white banner under a smooth picture."""
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True)
    (data / "variants.txt").write_text("707-320\n737-700\nAn-12\n")
    (data / "families.txt").write_text("Boeing 707\nBoeing 737\nAn-12\n")
    (data / "manufacturers.txt").write_text("Boeing\nAntonov\n")
    labels = {
        "train": ("0034309", "737-700", "Boeing 737", "Boeing"),
        "val": ("0034958", "An-12", "An-12", "Antonov"),
        "test": ("0037511", "707-320", "Boeing 707", "Boeing"),
    }
    for split, (name, *texts) in labels.items():
        for level, text in zip(("variant", "family", "manufacturer"), texts, strict=True):
            (data / f"images_{level}_{split}.txt").write_text(f"{name} {text}\n")
        Image.fromarray(_picture()).save(data / "images" / f"{name}.jpg", quality=85)
    rows = [f"{name} 1 11 90 60" for name, *_ in labels.values()]
    (data / "images_box.txt").write_text("\n".join(rows))
    return data.parent


def _picture():
    y, x = np.mgrid[:100, :90]
    pixels = np.stack([2 * y, 2 * x, x + y], -1).astype(np.uint8)
    pixels[80:] = 255
    return pixels


@pytest.mark.parametrize(
    ("level", "classes", "labels"),
    [
        ("variant", ("707-320", "737-700", "An-12"), (1, 2, 0)),
        ("family", ("Boeing 707", "Boeing 737", "An-12"), (1, 2, 0)),
        ("manufacturer", ("Boeing", "Antonov"), (0, 1, 0)),
    ],
)
def test_aircraft_by_three_levels(aircraft, tmp_path, level, classes, labels):
    builders.prepare(f"fgvc_aircraft/{level}", aircraft, tmp_path / "out")
    for split, label in zip(("train", "validation", "test"), labels, strict=True):
        photos = datasets.load(f"fgvc_aircraft/{level}", split, root=tmp_path / "out")
        assert photos.classes == classes
        assert len(photos) == 1
        assert photos[0].label == label
        # counted from 1 in the archive
        np.testing.assert_array_equal(photos[0].boxes, [[0, 10, 89, 59]])


def test_aircraft_lose_their_banner_and_nothing_else(aircraft, tmp_path):
    path = builders.prepare("fgvc_aircraft/variant", aircraft, tmp_path / "out")
    photo = datasets.load(path, "train")[0]
    assert photo.id == "0034309"
    original = np.asarray(Image.open(aircraft / "data/images/0034309.jpg").convert("RGB")).astype(
        int
    )
    pixels = datasets.decode(photo).astype(int)
    assert pixels.shape == (80, 90, 3)
    assert np.abs(pixels - original[:80]).mean() < 0.5
    kept, cut = (
        Image.open(aircraft / "data/images/0034309.jpg"),
        Image.open(io.BytesIO(photo.image)),
    )
    assert kept.quantization == cut.quantization


def test_a_set_of_tfds_needs_tensorflow_to_be_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(builders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r'tensorflow: voc/2012 is prepared with it; pip install "jaxcam-xai\[pre',
    ):
        builders.prepare("voc/2012", None, tmp_path)
