"""A tiny random network in a local file, photos, and commands run with them in an empty folder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcam import cli, models
from jaxcam.cli import commands
from jaxcam.cli.network import Network

CLASSES = ["tabby, tabby cat", "golden retriever", "espresso", "crane", "crane", "cost $5"]
OPTIONS = {
    "num_classes": len(CLASSES),
    "stage_sizes": (1, 1, 1),
    "widths": (4, 6, 8),
    "strides": (1, 2, 2),
    "stem": "small_stride2",
}


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A random network, a `.safetensors` file: 32 x 32 pixels, stages of 16, 8, 4 cells a side."""
    model = models.create("resnet_compact", **OPTIONS)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    models.save(
        path, "resnet_compact", OPTIONS, variables, classes=CLASSES, preprocess={"size": 32}
    )
    return str(path)


@pytest.fixture(scope="session")
def network(weights):
    return Network(weights)


@pytest.fixture
def run(network, monkeypatch, tmp_path, capsys):
    """Runs a command in an empty folder with that network, compiled once for all tests."""
    monkeypatch.setattr(commands, "Network", lambda *args, **kwargs: network)
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def photo(tmp_path, rng):
    """Writes a random photo and returns its path."""

    def write(name="cat.png", size=(30, 44)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
        return path

    return write


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
