"""Every experiment loads, owns what it must, and builds its network."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

import configs
from train import initial, optimizer

FOLDER = pathlib.Path(configs.__file__).parent
EXPERIMENTS = sorted(
    set(FOLDER.glob("*.py")) - {FOLDER / f"{name}.py" for name in ("__init__", "schema", "common")}
)
KINDS = {"foster": configs.Fostering, "distill": configs.Distillation, "vit": configs.Distillation}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_says_what_it_is_and_builds_its_network(path):
    config = configs.load(str(path))
    about = path.read_text().split('"""')[1]
    assert (
        "Command:" in about and "Cost:" in about and ("Expected:" in about or "Reached:" in about)
    )
    assert f"--config configs/{path.name}" in about
    assert config.name == path.stem
    assert type(config) is next(
        (kind for word, kind in KINDS.items() if word in path.stem), configs.Classification
    )
    model = initial.network(config, 7, "device")
    images = jax.ShapeDtypeStruct((2, config.image_size, config.image_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 7)
    assert float(optimizer.schedule(config, 10)(10 * config.epochs - 1)) < config.learning_rate or (
        config.schedule == "constant"
    )


def test_no_experiment_writes_where_another_does():
    loaded = [configs.load(str(path)) for path in EXPERIMENTS]
    assert (
        len({config.workdir for config in loaded})
        == len({config.export for config in loaded})
        == len(loaded)
    )
