"""Photos that cannot be read, or have no label: nothing is reported that was not so."""

import dataclasses
import json
import pathlib
import re
import zipfile

import jax
import numpy as np
import pytest

from configs.smoke import config as smoke
from jaxcam.datasets import NO_BOXES, UNKNOWN, Dataset, Record
from tests.train.test_pipeline import CONFIG, photos
from train import loop, pipeline, unreadable

ONE = jax.devices()[:1]


def _broken(dataset, *indices):
    """The same set with some photos cut off."""
    records = list(dataset.records)
    for index in indices:
        records[index] = dataclasses.replace(records[index], image=records[index].image[:60])
    return Dataset(records, dataset.classes)


def _joined(batches):
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)


def test_the_next_photo_takes_the_place_of_a_broken_one():
    whole, broken = photos(16), _broken(photos(16), 3, 4)
    left_out = unreadable.Unreadable(2)
    found = _joined(pipeline.batches(broken, CONFIG, left_out=left_out))
    expected = _joined(pipeline.batches(whole, CONFIG))
    index = found["key"][:, 2]
    np.testing.assert_array_equal(index, np.where(np.isin(expected["key"][:, 2], (3, 4)), 5, index))
    assert not np.isin(index, (3, 4)).any()
    np.testing.assert_array_equal(found["image"][:, 0, 0, 2], index)  # blue is the photo's index
    np.testing.assert_array_equal(found["label"], index % 5)
    assert sorted(each.split(",")[0] for each in left_out.found) == ["3", "4"]  # named once each


def test_more_broken_photos_than_may_be_end_the_run():
    broken = _broken(photos(16), 3, 4)
    with pytest.raises(
        ValueError, match=r"unreadable: got 1, and more .*: [34], which .*; [34], wh"
    ):
        list(pipeline.batches(broken, CONFIG, left_out=unreadable.Unreadable(1)))
    for left_out in (None, unreadable.Unreadable(0)):
        with pytest.raises(ValueError, match=r"image: got [34], which .*, expected a picture"):
            list(pipeline.batches(broken, CONFIG, left_out=left_out))


def test_what_is_no_fault_of_a_photo_is_none_to_leave_out():
    wide = photos(8, lambda index: (16 + (index == 3), 16))
    with pytest.raises(ValueError, match="image_size: got a photo of"):
        list(pipeline.batches(wide, CONFIG, left_out=unreadable.Unreadable(9)))


def _labelled(dataset, *labels):
    records = []
    for record, label in zip(dataset.records, labels, strict=True):
        records.append(dataclasses.replace(record, label=label))
    return Dataset(records, dataset.classes)


NONE, SECOND = np.zeros(5, np.float32), np.eye(5, dtype=np.float32)[1]


@pytest.mark.parametrize("labels", [(UNKNOWN, 2, 0, UNKNOWN), (NONE, SECOND, SECOND, NONE)])
def test_validation_counts_photos_with_a_label_that_can_be_read(labels):
    dataset = _broken(_labelled(photos(4), *labels), 2)
    left_out = unreadable.Unreadable(1)
    found = _joined(pipeline.validation_batches(dataset, CONFIG, 8, left_out=left_out))
    np.testing.assert_array_equal(found["mask"], [False, True, *[False] * 6])
    assert len(left_out.found) == 1
    np.testing.assert_array_equal(found["label"][1], labels[1])


def test_a_row_of_zeros_is_no_label_to_train_on():
    dataset = _labelled(photos(8), *[NONE] * 8)
    with pytest.raises(ValueError, match=r"label: got . of unknown class"):
        list(pipeline.batches(dataset, dataclasses.replace(CONFIG, loss="sigmoid")))


def _config(folder, **changes):
    fields = {"epochs": 1, "crop_sizes": ((0, 16),), "workers": 2, **changes}
    folders = {"workdir": f"{folder}/run", "export": f"{folder}/net.safetensors"}
    return dataclasses.replace(smoke, **folders, **fields)


def _with_data(monkeypatch, change):
    """The synthetic photos, those to validate on changed."""
    load = loop.synthetic.load

    def changed(config, split):
        found = load(config, split)
        if split != "val":
            return found
        records = [change(index, record) for index, record in enumerate(found.records)]
        return Dataset(records, found.classes)

    monkeypatch.setattr(loop.synthetic, "load", changed)


def test_accuracy_is_of_the_photos_with_a_label(tmp_path, monkeypatch, capsys):
    """Of 32 photos 8 have a label, all class 3, and the last of them is broken."""
    config = _config(tmp_path)

    def change(index, record):
        if index == 31:
            return Record(b"broken", 3, NO_BOXES, "val 31")
        return dataclasses.replace(record, label=3 if record.label == 3 else UNKNOWN)

    loop.fit(config, devices=ONE)
    plain = loop.data(config, "val")
    run = loop.Run(config, devices=ONE)
    _, variables = loop.checkpoint.models.load(config.export)
    images = np.stack([record.image for record in plain.records]) / 255.0
    logits = run.model.apply(variables, (images - 0.5) / 0.25)
    expected = (np.asarray(logits).argmax(1)[3:31:4] == 3).mean()
    capsys.readouterr()
    _with_data(monkeypatch, change)
    assert loop.evaluate(config, loop.data(config, "val"), ONE) == pytest.approx(expected)
    said = f"top-1 {100 * expected:.1f} % of 7 validation photos; the others of 32 have no label"
    assert said in capsys.readouterr().out


def test_photos_without_any_label_are_refused(tmp_path, monkeypatch):
    _with_data(monkeypatch, lambda _, record: dataclasses.replace(record, label=UNKNOWN))
    config = _config(tmp_path)
    expected = "val_split: got 'val', where of 32 photos of 32 none has a label"
    with pytest.raises(ValueError, match=expected):
        loop.fit(config, devices=ONE)
    assert not pathlib.Path(config.workdir).exists() or not list(tmp_path.rglob("checkpoints"))


def test_broken_photos_are_in_log_and_report(tmp_path, capsys):
    """A run on a zip, in which a photo to train on is cut off and one to validate on no picture."""
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for split, count in (("train", 16), ("val", 8)):
            for index, record in enumerate(photos(count).records):
                image = record.image
                if (split, index) == ("train", 6):
                    image = image[:-40]
                if (split, index) == ("val", 2):
                    image = b"GIF89a"
                file.writestr(f"{split}/{'ab'[index % 2]}/{index}.png", image)
    config = _config(tmp_path, data=str(archive), batch_size=4)
    loop.fit(config, devices=ONE)
    report = json.loads(pathlib.Path(f"{config.workdir}/report.json").read_text())
    found = report["unreadable_photos"]
    assert [re.split(",? ", each)[0] for each in found] == ["a/2.png", "a/6.png"]
    out = capsys.readouterr().out
    assert "left out: a/6.png, which " in out and "of at most 10)" in out
    assert "of 7 validation photos; the others of 8" in out
    loop.fit(dataclasses.replace(config, epochs=2), resume=True, devices=ONE)
    report = json.loads(pathlib.Path(f"{config.workdir}/report.json").read_text())
    assert report["unreadable_photos"] == found
