"""LIME's and MASK's lengths on small images."""

import numpy as np
import pytest

import jaxcam
from jaxcam import photos, scaling
from jaxcam._explainers.mask import MASK_VARIANTS


@pytest.mark.parametrize(
    ("size", "fit"), [((30, 44), "stretch"), ((90, 30), "aspect"), ((300, 200), "pad")]
)
def test_segments_of_small_inputs_come_from_a_larger_copy(rng, size, fit):
    photo = np.kron(
        rng.integers(0, 256, (4, 4, 3)), np.ones((-(-size[0] // 4), -(-size[1] // 4), 1))
    )
    photo = photo[: size[0], : size[1]].astype(np.uint8)
    wanted = photos.input_size(size, (32, 32), fit)
    found = scaling.segments(photo, wanted, "stretch" if fit == "aspect" else fit)
    assert found.shape == (1, *wanted) and found.dtype == np.int32
    small = jaxcam.quickshift(photos.prepare(photo, wanted, "stretch")[None])
    assert len(np.unique(found)) > 2 * len(np.unique(small))


def test_mask_of_large_images_is_the_published_one():
    official = MASK_VARIANTS["official"]
    assert scaling.mask_variant((224, 224), 300) == official
    small = scaling.mask_variant((64, 64), 300)
    assert (small.cell, small.jitter, small.l1) == (2, 2, 1e-3)
    assert small.blur == pytest.approx(official.blur * 64 / 224)


def test_few_programs_serve_all_photos():
    """A multiple of 64 that holds the highest number."""
    assert [scaling.num_segments(np.array([n])) for n in (0, 63, 64, 200)] == [64, 64, 128, 256]
