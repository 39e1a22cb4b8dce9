"""What a run says of itself: its banner, the help's fields, areas and empty maps."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import configs
from configs.smoke import config as smoke
from train import banner, fields, foster


def test_the_banner_says_network_photos_devices_and_folders():
    variables = {"params": {"conv": np.zeros((3, 3, 3, 8)), "bias": np.zeros(1000)}}
    photos = type("Photos", (), {"classes": ("cat", "dog"), "__len__": lambda _: 4000})()
    config = dataclasses.replace(smoke, epochs=3, batch_size=20, frozen=("conv",))
    lines = banner.banner(config, SimpleNamespace(variables=variables), photos, [0] * 7, 200)
    assert lines[0].startswith(f"{config.name}: {config.architecture}, 1,216 parameters, 2 classes")
    assert lines[0].endswith("frozen: conv")
    assert lines[1] == (
        "photos: 4,000 to train with, 7 to validate; 3 epochs of 200 steps of 20, 600 steps in all"
    )
    assert "pmap, float32" in lines[2]
    assert config.workdir in lines[3] and config.export in lines[3]


@pytest.mark.parametrize(
    ("steps", "seconds", "left", "expected"), [(10, 5.0, 100, "0:00:50"), (1, 3.0, 0, "0:00:00")]
)
def test_the_time_that_is_left_is_at_the_windows_pace(steps, seconds, left, expected):
    assert banner.remaining(steps, seconds, left) == expected


@pytest.mark.parametrize("kind", [configs.Classification, configs.Fostering, configs.Distillation])
def test_the_help_tells_of_every_field(kind):
    listed = fields.listing(kind)
    for field in dataclasses.fields(kind):
        (line,) = [
            x
            for x in listed.splitlines()
            if x.startswith((f"  {field.name}:", f"  {field.name} ("))
        ]
        assert len(line) > len(field.name) + 10, line  # it says something


def test_a_kinds_own_fields_come_first_with_their_defaults():
    lines = fields.listing(configs.Fostering).splitlines()
    assert lines[0].startswith("  beta: weight of the penalty")
    assert "  term ('entropy'): " in "\n".join(lines)


def test_empty_maps_are_counted_and_those_of_absent_classes_are_not():
    maps = jnp.zeros((4, 5, 5)).at[0, 1:3, 1:3].set(1.0).at[1, 0, 0].set(2.0).at[2].set(-1.0)
    found = foster._of_maps(maps, None, None)
    np.testing.assert_allclose(found["map_area"], 0.25 / 4)  # a square of four cells
    np.testing.assert_allclose(found["empty"], 0.5)
    present = jnp.array([[True, False], [False, True]])
    found = foster._of_maps(maps.reshape(2, 2, 5, 5), present, None)
    np.testing.assert_allclose(found["map_area"], 0.25 / 2)
    np.testing.assert_allclose(found["empty"], 0.5)
    nothing = foster._of_maps(maps.reshape(2, 2, 5, 5), jnp.zeros((2, 2), bool), None)
    assert nothing["empty"] == 0 and nothing["map_area"] == 0
