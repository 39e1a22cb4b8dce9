"""From a data set to batches on devices, by Grain: `python -m train.pipeline --config FILE`.

FILE is for example `configs/tiny20.py`. The order is fixed by seed and epoch, a crop by seed, epoch
and index: a batch is the same on any number of processes and threads, and after a resume. The
command prints how many images a second this machine feeds.
"""

import argparse
import collections
import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

import configs
from configs import Classification
from jaxcam._ground.errors import ArgumentError, check_whole
from jaxcam._ground.text import counted
from jaxcam.datasets import Dataset, Record, decode, load
from train.crops import centre_crop, random_crop
from train.unreadable import Unreadable, unlabelled

Batch = dict[str, np.ndarray]


def steps_per_epoch(dataset: Dataset, config: Classification) -> int:
    """Complete batches in the photos.

    Raises:
        ValueError: there is none.
    """
    steps = len(dataset) // config.batch_size
    if not steps:
        raise ArgumentError(
            "batch_size", config.batch_size, f"at most the {counted(len(dataset), 'photo')}"
        )
    return steps


def batches(
    dataset: Dataset,
    config: Classification,
    *,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    left_out: Unreadable | None = None,
) -> Iterator[Batch]:
    """This process's share of the batches of all epochs, from a step on.

    Prefetched by `config.workers` threads.

    Args:
        dataset: the photos. With `config.crop_on` "device" all are of `config.image_size` and stay
            whole; with "host" they are of any size and come cropped at random, flipped and resized
            to it.
        config: its seed, batch_size (of all processes), epochs, image_size, crop_on, crop_area,
            crop_ratio, workers.
        first_step: steps that are left out, counted over all epochs.
        process_index: which contiguous part of each batch is this process's.
        process_count: how many processes there are.
        left_out: counts photos that cannot be read; the next one of the set that can be takes the
            place of each. None: an error.

    Returns:
        `image` uint8 `[b, H, W, 3]`; `label` int32 `[b]`, or float32 `[b, N]` of a multi-label set;
        and `key` uint32 `[b, 3]`: seed, view (`config.view` of the epoch: the epoch itself, unless
        the config says otherwise) and index of each photo, from which the augmentation on the
        device is drawn.

    Raises:
        ValueError: a batch that the photos do not fill or the processes cannot share, or photos of
            another size.
    """
    import grain

    steps = steps_per_epoch(dataset, config)
    share = _share(config.batch_size, process_index, process_count)
    example = partial(_example, dataset, config, share, steps, left_out)
    example(0)  # so that photos of a wrong size are an error here and not in a thread
    size = len(share)
    numbers = grain.MapDataset.range(first_step * size, config.epochs * steps * size)
    return iter(
        numbers.map(example).batch(size, drop_remainder=True).to_iter_dataset(_threads(config))
    )


def _threads(config: Classification) -> Any:
    """Each thread makes one batch at a time, and one more may be ready."""
    import grain

    return grain.ReadOptions(num_threads=config.workers, prefetch_buffer_size=config.workers + 1)


def _share(batch_size: int, process_index: int, process_count: int) -> range:
    """The places in a batch that are a process's."""
    if batch_size % process_count:
        raise ArgumentError(
            "batch_size", batch_size, f"a multiple of the {process_count} processes"
        )
    check_whole("process_index", process_index, 0, process_count - 1)
    size = batch_size // process_count
    return range(process_index * size, (process_index + 1) * size)


def _example(
    dataset: Dataset,
    config: Classification,
    share: range,
    steps: int,
    left_out: Unreadable | None,
    number: int,
) -> Batch:
    """The photo that is `number`-th in what a process sees of all epochs."""
    step, place = divmod(number, len(share))
    epoch, step = divmod(step, steps)
    index = int(_order(config.seed, epoch, len(dataset))[step * config.batch_size + share[place]])
    return photo(dataset, config, config.view(epoch), index, left_out)


def photo(
    dataset: Dataset,
    config: Classification,
    view: int,
    index: int,
    left_out: Unreadable | None = None,
) -> Batch:
    """One entry of a batch of `batches`: a photo, its label and its key.

    Where it cannot be read it is the next one that can be, with its own label and key, so that it
    does not matter who reads it when.

    Args:
        dataset: the photos.
        config: as of `batches`.
        view: the draw of the augmentation.
        index: of the photo.
        left_out: as of `batches`.

    Returns:
        `image`, `label` and `key`, without the leading axis.

    Raises:
        ValueError: a photo of another size or without a label; more that cannot be read than may
            be.
    """
    for offset in range(len(dataset)):
        try:
            return _photo(dataset, config, view, (index + offset) % len(dataset))
        except ArgumentError as error:
            if left_out is None:
                raise
            left_out.add(error)
    raise ArgumentError("data", "photos of which none can be read", "some that can be")


def _photo(dataset: Dataset, config: Classification, view: int, index: int) -> Batch:
    record = dataset[index]
    key = (config.seed, view, index)
    if config.crop_on == "device":
        image = _whole(record, config)
    else:
        image = random_crop(record, config, key)
    label = _label(record)
    if unlabelled(label):
        raise ArgumentError("label", f"{record.id} of unknown class", "a photo of one")
    return {"image": image, "label": label, "key": np.array(key, np.uint32)}


def _label(record: Record) -> np.ndarray:
    label = np.asarray(record.label)
    if label.ndim == 0:
        return label.astype(np.int32)
    return label.astype(np.float32)


@lru_cache(maxsize=2)  # threads work on two epochs at most at a time
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(length)


def _whole(record: Record, config: Classification) -> np.ndarray:
    image = decode(record)
    size = (config.image_size, config.image_size)
    if image.shape[:2] != size:
        raise ArgumentError(
            "image_size",
            f"a photo of {image.shape[1::-1]} pixels",
            f"{size} with crop_on='device'; crop_on='host' takes any size",
        )
    return image


def validation_batches(
    dataset: Dataset,
    config: Classification,
    batch: int,
    process_index: int = 0,
    process_count: int = 1,
    left_out: Unreadable | None = None,
) -> Iterator[Batch]:
    """This process's share of all photos once, in their order; every process gets as many batches.

    The shorter side is resized to image_size / crop_fraction, and the middle is cut out.

    Args:
        dataset: photos of any size.
        config: its image_size, crop_fraction and workers.
        batch: photos in a batch of all processes.
        process_index: which contiguous part of each batch is this process's.
        process_count: how many processes there are.
        left_out: counts photos that cannot be read. None: an error.

    Returns:
        `image` uint8 `[b, image_size, image_size, 3]`, `label` as in `batches`, and `mask` bool
        `[b]`: False where the last batch is filled up with zeros, for photos that cannot be read,
        and for those without a label.

    Raises:
        ValueError: a batch that the processes cannot share.
    """
    import grain

    share = _share(batch, process_index, process_count)
    count = math.ceil(len(dataset) / batch) * len(share)
    blank = _blank(dataset, config)

    def example(number: int) -> Batch:
        step, place = divmod(number, len(share))
        index = step * batch + share[place]
        if index >= len(dataset):
            return blank
        try:
            return _centred(dataset, config, index)
        except ArgumentError as error:
            if left_out is None:
                raise
            left_out.add(error)
            return blank

    return iter(
        grain.MapDataset.range(count)
        .map(example)
        .batch(len(share))
        .to_iter_dataset(_threads(config))
    )


def _centred(dataset: Dataset, config: Classification, index: int) -> Batch:
    record = dataset[index]
    label = _label(record)
    mask = np.array(not unlabelled(label))
    return {"image": centre_crop(record, config), "label": label, "mask": mask}


def _blank(dataset: Dataset, config: Classification) -> Batch:
    """An entry that does not count."""
    try:
        label = np.zeros_like(_label(dataset[0]))
    except ArgumentError:  # it cannot be read, and will be said to
        label = np.zeros((), np.int32)
        if config.loss == "sigmoid":
            label = np.zeros(len(dataset.classes), np.float32)
    image = np.zeros((config.image_size, config.image_size, 3), np.uint8)
    return {"image": image, "label": label, "mask": np.array(False)}


def prefetch(
    batches: Iterator[Any], place: Callable[[Any], Any] = jax.device_put, ahead: int = 2
) -> Iterator[Any]:
    """Batches on the devices, `ahead` of them on their way while a step runs.

    Args:
        batches: of `batches` or `validation_batches`.
        place: puts one on the devices without waiting.
        ahead: how many are placed before they are asked for.

    Returns:
        What `place` returned, in the order of the batches.
    """
    source = iter(batches)
    placed = collections.deque(map(place, itertools.islice(source, ahead)))
    for batch in source:
        placed.append(place(batch))
        yield placed.popleft()
    yield from placed


def images_per_second(dataset: Dataset, config: Classification, seconds: float) -> float:
    """Images a second that `batches` gives if nothing else is done; the first batch does not count.

    Args:
        dataset: the photos.
        config: of the run.
        seconds: how long to count.

    Returns:
        Images a second.

    Raises:
        ValueError: as of `batches`.
    """
    feed = batches(dataset, dataclasses.replace(config, epochs=10**6))
    next(feed)
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < seconds:
        count += len(next(feed)["label"])
    return count / (time.perf_counter() - began)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m train.pipeline", description="Images a second of the input pipeline."
    )
    parser.add_argument(
        "--config", required=True, help="a Python file that defines `config`: configs/NAME.py"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="replace fields"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="for each mode")
    chosen = parser.parse_args(arguments)
    try:
        config = configs.override(configs.load(chosen.config), chosen.set)
        dataset = load(config.data, config.train_split)
        for mode, what in (("device", "whole photos"), ("host", "random crops")):
            rate = images_per_second(
                dataset, dataclasses.replace(config, crop_on=mode), chosen.seconds
            )
            print(
                f"{config.name} crop_on={mode} ({what}, {config.workers} threads): {rate:.0f} "
                "images/s",
                flush=True,
            )
    except (ValueError, OSError) as error:
        sys.exit(f"train.pipeline: {error}")


if __name__ == "__main__":
    main()
