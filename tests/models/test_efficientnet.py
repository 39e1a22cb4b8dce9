"""EfficientNet-Lite: published sizes, and the trained network by its port's own keys."""

import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcam import models
from jaxcam.models.efficientnet import scaled


def test_parameters_of_the_published_sizes():
    """4.7, 5.4, 6.1, 8.2 and 13.0 million (github.com/tensorflow/tpu, efficientnet/lite)."""
    for number, millions in enumerate((4.7, 5.4, 6.1, 8.2, 13.0)):
        model = models.create(f"efficientnet_lite{number}")
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
        count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        assert round(count / 1e6, 1) == pytest.approx(millions, abs=0.11)


def test_the_first_and_the_last_stage_keep_their_blocks():
    stages = scaled(1.4, 1.8)
    assert [stage.repeats for stage in stages] == [1, 4, 4, 6, 6, 8, 1]
    assert [stage.channels for stage in stages] == [24, 32, 56, 112, 160, 272, 448]


def test_the_trained_network_names_photos(shared):
    """The first twelve of its 100 photos; the file holds the keys of a port to PyTorch."""
    path = shared / "data/efficientnet_lite0.safetensors"
    model, variables = models.load(path, architecture="efficientnet_lite0")
    images, labels = [], []
    with zipfile.ZipFile(shared / "data/imagenet100.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".JPEG"))[:12]
        for name in names:
            photo = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            side = 0.875 * min(photo.size)
            left = (photo.width - side) / 2
            top = (photo.height - side) / 2
            crop = photo.crop((left, top, left + side, top + side)).resize((224, 224), 3)
            images.append((np.asarray(crop, np.float32) - 127) / 128)
            labels.append(int(name.rpartition("/")[2][:3]))
    logits = jax.jit(model.apply)(variables, jnp.asarray(np.stack(images)))
    assert (np.argmax(np.asarray(logits), 1) == np.array(labels)).sum() >= 9
