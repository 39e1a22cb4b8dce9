import dataclasses

import numpy as np
import pytest

from configs.smoke import config
from train import synthetic


def test_brightness_tells_the_class():
    photos = synthetic.load(config, "train")
    assert (len(photos), len(synthetic.load(config, "val")), len(photos.classes)) == (64, 32, 4)
    assert all(photos[i].image.mean() // 60 == photos[i].label == i % 4 for i in range(8))
    assert not np.array_equal(photos[0].image, synthetic.load(config, "val")[0].image)


def test_the_noise_is_that_of_the_seed():
    one, again, other = (
        synthetic.load(dataclasses.replace(config, seed=seed), "train")[0].image
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_with_several_classes_the_darker_ones_are_there_too():
    photos = synthetic.load(dataclasses.replace(config, loss="sigmoid"), "train")
    np.testing.assert_array_equal([photos[i].label for i in range(4)], np.tri(4))


def test_another_split_is_named():
    with pytest.raises(ValueError, match="split: got 'test', expected one of 'train', 'val'"):
        synthetic.load(config, "test")
