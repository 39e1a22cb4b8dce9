import dataclasses
import io

import jax
import numpy as np
import pytest
from PIL import Image

from configs.smoke import config as smoke
from jaxcam.datasets import NO_BOXES, UNKNOWN, Dataset, Record
from train import crops, pipeline

CONFIG = dataclasses.replace(
    smoke, batch_size=8, epochs=3, seed=7, workers=2, crop_on="device", image_size=16
)
HOST = dataclasses.replace(CONFIG, crop_on="host", crop_area=(0.2, 1.0))


def photos(count, size=lambda index: (16, 16), multilabel=False, format="PNG"):
    """Photos (width, height) as files: red is the row, green the column, blue the photo's index."""
    records = []
    for index in range(count):
        width, height = size(index)
        row, column = np.mgrid[:height, :width]
        pixels = np.stack([row, column, np.full_like(row, index)], -1).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format)
        label = np.eye(5, dtype=np.float32)[index % 5] if multilabel else index % 5
        records.append(Record(file.getvalue(), label, NO_BOXES, str(index)))
    return Dataset(records, tuple("abcde"))


ANY_SIZE = lambda index: (20 + 3 * index % 50, 40 + 7 * index % 30)


def collect(dataset, config, **where):
    return list(pipeline.batches(dataset, config, **where))


def equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_order_is_that_of_seed_and_epoch():
    """Written out for the first two epochs of 21 photos: two full batches each."""
    found = collect(photos(21), CONFIG)
    assert len(found) == 6
    for epoch in range(2):
        order = np.random.default_rng((7, epoch)).permutation(21)
        for step in range(2):
            batch, index = found[2 * epoch + step], order[8 * step : 8 * step + 8]
            np.testing.assert_array_equal(batch["key"], [(7, epoch, i) for i in index])
            np.testing.assert_array_equal(batch["label"], index % 5)
            np.testing.assert_array_equal(batch["image"][:, 3, 2], [(3, 2, i) for i in index])
    assert {key: (value.shape, value.dtype.name) for key, value in found[0].items()} == {
        "image": ((8, 16, 16, 3), "uint8"),
        "label": ((8,), "int32"),
        "key": ((8, 3), "uint32"),
    }


@pytest.mark.parametrize("config", [CONFIG, HOST], ids=["device", "host"])
def test_any_number_of_processes_and_threads_makes_the_same_batches(config):
    dataset = photos(21, (lambda index: (16, 16)) if config is CONFIG else ANY_SIZE)
    whole = collect(dataset, config)
    equal(whole, collect(dataset, dataclasses.replace(config, workers=1)))
    for count in (2, 4):
        shares = [
            collect(dataset, config, process_index=index, process_count=count)
            for index in range(count)
        ]
        assert shares[0][0]["label"].shape == (8 // count,)
        equal(
            whole,
            [
                jax.tree.map(lambda *parts: np.concatenate(parts), *parts)
                for parts in zip(*shares, strict=True)
            ],
        )


@pytest.mark.parametrize("config", [CONFIG, HOST], ids=["device", "host"])
def test_a_resume_goes_on_where_it_stopped(config):
    dataset = photos(21)
    whole = collect(dataset, config)
    for step in (1, 2, 5):
        equal(whole[step:], collect(dataset, config, first_step=step))
        equal(
            [jax.tree.map(lambda a: a[4:], batch) for batch in whole[step:]],
            collect(dataset, config, first_step=step, process_index=1, process_count=2),
        )
    assert collect(dataset, config, first_step=6) == []


def test_labels_of_several_classes():
    batch = next(iter(pipeline.batches(photos(8, multilabel=True), CONFIG)))
    assert batch["label"].dtype == np.float32
    np.testing.assert_array_equal(batch["label"], np.eye(5)[batch["key"][:, 2] % 5])


def test_crops_hang_on_seed_epoch_and_index_alone():
    record = photos(1, lambda _: (60, 40))[0]
    crop = lambda *key: crops.random_crop(record, HOST, key)
    np.testing.assert_array_equal(crop(0, 1, 2), crop(0, 1, 2))
    assert crop(0, 1, 2).shape == (16, 16, 3)
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not np.array_equal(crop(0, 1, 2), crop(*other))


def test_a_config_may_repeat_its_views():
    """The epochs' orders stay their own; the third epoch draws what the first drew."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class TwoViews(type(HOST)):
        def view(self, epoch):
            return epoch % 2

    found = collect(photos(8, ANY_SIZE), TwoViews(**vars(HOST)))
    assert [batch["key"][0, 1] for batch in found] == [0, 1, 0]
    by_index = [batch["image"][np.argsort(batch["key"][:, 2])] for batch in found]
    np.testing.assert_array_equal(by_index[0], by_index[2])
    assert not np.array_equal(by_index[0], by_index[1])
    assert not np.array_equal(found[0]["key"], found[2]["key"])


def test_a_crop_shows_the_pixels_of_its_box_resized_and_sometimes_flipped():
    """Red and green tell a pixel's place: linear over the crop from first to last row, column."""
    record, flips = photos(1, lambda _: (120, 90))[0], 0
    for index in range(20):
        crop = crops.random_crop(record, HOST, (0, 0, index)).astype(float)
        random = np.random.default_rng((0, 0, index))
        left, top, width, height = crops.crop_box(
            random, (120, 90), HOST.crop_area, HOST.crop_ratio
        )
        centres = lambda start, length: start + (np.arange(16) + 0.5) * length / 16 - 0.5
        columns = centres(left, width)
        if crop[0, 0, 1] > crop[0, -1, 1]:
            columns, flips = columns[::-1], flips + 1
        # away from the border, where the filter is cut off
        np.testing.assert_allclose(crop[8, 1:-1, 1], columns[1:-1], atol=0.51)
        np.testing.assert_allclose(crop[1:-1, 8, 0], centres(top, height)[1:-1], atol=0.51)
    assert 4 < flips < 16


def test_crops_are_resized_with_antialiasing():
    """Stripes of a pixel become grey, in training and in validation."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None].repeat(3, -1)
    record = Record(stripes, 0, NO_BOXES, "")
    config = dataclasses.replace(HOST, crop_area=(1.0, 1.0), crop_ratio=1.0)
    for crop in (
        crops.random_crop(record, config, (0, 0, 0)),
        crops.centre_crop(record, config),
    ):
        assert crop.shape == (16, 16, 3)
        np.testing.assert_allclose(crop[:, 1:-1], 127.5, atol=3)


@pytest.mark.parametrize("size", [(100, 80), (31, 400), (400, 31), (1, 1), (7, 3)])
def test_crop_boxes_lie_within_the_photo(size):
    random = np.random.default_rng(0)
    for _ in range(300):
        left, top, width, height = crops.crop_box(random, size, (0.08, 1.0), 4 / 3)
        assert left >= 0 and top >= 0 and width >= 1 and height >= 1
        assert left + width <= size[0] and top + height <= size[1]


def test_crop_boxes_have_the_areas_and_ratios_asked_for():
    random = np.random.default_rng(0)
    boxes = np.array([crops.crop_box(random, (400, 300), (0.1, 0.3), 1.5) for _ in range(4000)])
    area, ratio = boxes[:, 2] * boxes[:, 3] / 120_000, boxes[:, 2] / boxes[:, 3]
    assert 0.095 < area.min() < 0.105 and 0.295 < area.max() < 0.305
    np.testing.assert_allclose(area.mean(), 0.2, atol=0.005)
    assert 0.65 < ratio.min() < 0.69 and 1.45 < ratio.max() < 1.54
    np.testing.assert_allclose(np.log(ratio).mean(), 0, atol=0.02)
    place = boxes[:, :2] / ((400, 300) - boxes[:, 2:])
    np.testing.assert_allclose(place.mean(0), 0.5, atol=0.02)


def test_ten_crops_are_tried_before_the_middle_one():
    """As many draws as are asked for of a photo that none fits."""

    class Counting:
        def __init__(self):
            self.random, self.draws = np.random.default_rng(0), 0

        def uniform(self, low, high):
            self.draws += 1
            return self.random.uniform(low, high)

    random = Counting()
    crops.crop_box(random, (400, 100), (1.0, 1.0), 4 / 3)
    assert random.draws == 2 * 10  # an area and a ratio each


@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_threads_read_as_the_config_says(monkeypatch, workers):
    import grain

    asked = []
    options = grain.ReadOptions
    monkeypatch.setattr(
        grain, "ReadOptions", lambda **said: (asked.append(said), options(**said))[1]
    )
    config = dataclasses.replace(CONFIG, workers=workers)
    next(pipeline.batches(photos(8), config))
    next(pipeline.validation_batches(photos(8), config, 8))
    assert asked == [{"num_threads": workers, "prefetch_buffer_size": workers + 1}] * 2


def test_a_photo_that_no_crop_fits_gives_its_middle():
    """The whole area at a ratio of 4/3 or less is more than a photo of 4:1 has."""
    box = crops.crop_box(np.random.default_rng(0), (400, 100), (1.0, 1.0), 4 / 3)
    assert box == (133, 0, 133, 100)
    box = crops.crop_box(np.random.default_rng(0), (100, 400), (1.0, 1.0), 4 / 3)
    assert box == (0, 133, 100, 133)


def test_a_jpeg_decoded_at_a_part_of_its_size_gives_the_same_crop():
    """Of a smooth photo, up to what the coarser decoding rounds."""
    row, column = np.mgrid[:480, :640]
    pixels = np.stack([row // 2, column // 3, 128 + 60 * np.sin(row / 40)], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    for index in range(8):
        coarse = crops.random_crop(Record(file.getvalue(), 0, NO_BOXES, ""), HOST, (0, 0, index))
        full = crops.random_crop(Record(pixels, 0, NO_BOXES, ""), HOST, (0, 0, index))
        assert np.abs(coarse.astype(float) - full)[1:-1, 1:-1].mean() < 2


def test_validation_shows_each_photo_once_with_the_rest_masked():
    dataset = photos(21)
    for count in (1, 2, 4):
        shares = [
            list(pipeline.validation_batches(dataset, CONFIG, 8, index, count))
            for index in range(count)
        ]
        assert {len(share) for share in shares} == {3}
        joined = [
            jax.tree.map(lambda *p: np.concatenate(p), *parts)
            for parts in zip(*shares, strict=True)
        ]
        mask = np.concatenate([batch["mask"] for batch in joined])
        np.testing.assert_array_equal(mask, np.arange(24) < 21)
        assert mask.dtype == bool
        images = np.concatenate([batch["image"] for batch in joined])
        np.testing.assert_array_equal(images[:21, 5, 6], [(5, 6, index) for index in range(21)])
        assert not images[21:].any()
        np.testing.assert_array_equal(
            np.concatenate([batch["label"] for batch in joined])[:21], np.arange(21) % 5
        )


def test_validation_cuts_the_middle_of_the_resized_photo():
    """40 x 80 pixels at a fraction of 1/2: the shorter side becomes 32, the middle 16 stay."""
    config = dataclasses.replace(CONFIG, crop_fraction=0.5)
    for width, height in ((80, 40), (40, 80)):
        crop = crops.centre_crop(photos(1, lambda _: (width, height))[0], config).astype(float)
        assert crop.shape == (16, 16, 3)
        places = lambda length: (np.arange(16) - 7.5) / 0.8 + length / 2 - 0.5
        np.testing.assert_allclose(crop[8, :, 1], places(width), atol=0.51)
        np.testing.assert_allclose(crop[:, 8, 0], places(height), atol=0.51)


def test_stretched_photos_are_cut_as_squares_of_them():
    """40 x 80 pixels at 1/2: a square of 32, the middle 16 of it; or 16 anywhere, some mirrored."""
    config = dataclasses.replace(HOST, crop_fraction=0.5, image_size=16, stretch=True)
    record = photos(1, lambda _: (80, 40))[0]
    middle = crops.centre_crop(record, config).astype(float)
    places = lambda length: (np.arange(16) - 7.5) * length / 32 + length / 2 - 0.5
    np.testing.assert_allclose(middle[8, :, 1], places(80), atol=0.51)
    np.testing.assert_allclose(middle[:, 8, 0], places(40), atol=0.51)
    lefts = []
    for index in range(40):
        crop = crops.random_crop(record, config, (0, 0, index)).astype(float)
        across = np.sort(crop[8, :, 1])
        assert crop.shape == (16, 16, 3)
        np.testing.assert_allclose(np.ptp(across), 15 * 80 / 32, atol=1.1)
        np.testing.assert_allclose(np.ptp(crop[:, 8, 0]), 15 * 40 / 32, atol=1.1)
        lefts.append(across[0])
    assert min(lefts) < 6
    assert max(lefts) > 36
    whole = dataclasses.replace(config, crop_fraction=1.0)
    one, other = (crops.random_crop(record, whole, (0, 0, index)) for index in (0, 1))
    np.testing.assert_array_equal(np.sort(one, 1), np.sort(other, 1))
    with pytest.raises(ValueError, match="stretch: got True, expected crop_on 'host'"):
        dataclasses.replace(CONFIG, stretch=True)


def test_a_photo_of_the_validation_size_is_left_alone():
    record = photos(1)[0]
    np.testing.assert_array_equal(crops.centre_crop(record, CONFIG)[..., 0], np.mgrid[:16, :16][0])


def test_what_does_not_fit_is_named():
    def fails(message, dataset, config=CONFIG, **where):
        with pytest.raises(ValueError, match=message):
            pipeline.batches(dataset, config, **where)

    fails("batch_size: got 8, expected at most the 7 photos", photos(7))
    fails("batch_size: got 8, expected a multiple of the 3 processes", photos(8), process_count=3)
    fails("process_index: got 2, expected 0 to 1", photos(8), process_index=2, process_count=2)
    wide = photos(8, lambda _: (20, 16))
    fails(
        r"image_size: got a photo of \(20, 16\) pixels, expected \(16, 16\) with crop_on='device'",
        wide,
    )
    with pytest.raises(
        ValueError, match="batch_size: got 9, expected a multiple of the 2 processes"
    ):
        pipeline.validation_batches(photos(8), CONFIG, 9, 0, 2)
    one_wide = photos(8, lambda index: (16 + (index == 3), 16))
    # also from a thread
    with pytest.raises(ValueError, match=r"image_size: got a photo of \(17, 16\) pixels"):
        list(pipeline.batches(one_wide, CONFIG))


def test_photos_of_unknown_class_are_no_training_photos():
    unknown = Dataset(
        [Record(record.image, UNKNOWN, NO_BOXES, "x") for record in photos(8).records], ()
    )
    with pytest.raises(ValueError, match="label: got x of unknown class, expected a photo of one"):
        list(pipeline.batches(unknown, CONFIG))


def test_prefetch_keeps_the_order_and_places_ahead():
    placed, source = [], iter(range(6))
    place = lambda item: (placed.append(item), item)[1]
    feed = pipeline.prefetch(source, place, ahead=2)
    seen = []
    for item in feed:
        seen.append(item)
        assert placed == list(range(min(item + 3, 6)))
    assert seen == list(range(6))
    batch = next(pipeline.prefetch(iter([{"image": np.ones(3)}])))
    assert isinstance(batch["image"], jax.Array)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_prefetch_ends_with_its_batches(count):
    assert list(pipeline.prefetch(range(count), lambda item: item, ahead=2)) == list(range(count))


def test_the_command_prints_a_rate_for_each_mode(tmp_path, capsys):
    for split in ("train", "val"):
        for index, record in enumerate(photos(10).records):
            path = tmp_path / "set" / split / f"{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record.image)
    pipeline.main(
        ["--config", "configs/smoke.py", "--set", f"data={tmp_path / 'set'}", "--seconds", "0.05"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == ["smoke crop_on=device", "smoke crop_on=host"]
    assert all(int(line.split()[-2]) > 0 for line in lines)
    with pytest.raises(SystemExit, match=r"train\.pipeline: name: got '/nowhere/x', expected"):
        pipeline.main(["--config", "configs/smoke.py", "--set", "data=/nowhere/x"])
