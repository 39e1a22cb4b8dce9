"""The effect of fostering: the protocols' numbers, averaged seeds, other networks refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from eval.studies import foster_effect
from jaxcam import models

OPTIONS = {"stage_sizes": (1,), "widths": (4,), "strides": (2,), "stem": "small_stride2"}


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Three untrained networks that say beta 0 (seeds 0 and 1) and beta 1."""
    folder, files = tmp_path_factory.mktemp("nets"), []
    for beta, seed in ((0.0, 0), (0.0, 1), (1.0, 0)):
        model = models.create("resnet_compact", num_classes=5, **OPTIONS)
        variables = jax.jit(model.init)(
            jax.random.key(seed + int(10 * beta)), np.zeros((1, 16, 16, 3))
        )
        files.append(folder / f"beta{beta}_seed{seed}.safetensors")
        extra = {"config": {"beta": beta, "seed": seed, "term": "entropy"}}
        about = {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}
        classes = ["one", "tabby", "two", "espresso", "three"]
        models.save(
            files[-1],
            "resnet_compact",
            OPTIONS,
            variables,
            classes=classes,
            preprocess=about,
            extra_metadata=extra,
        )
    return tuple(files)


def test_table_numbers_and_pictures(nets, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(
        foster_effect.localization, "PROTOCOL", _any_photo(foster_effect.localization.PROTOCOL)
    )
    settings = foster_effect.EffectSettings(
        nets, tmp_path / "out", n=6, n_games=4, batch=1, root=photos[1]
    )
    foster_effect.main(settings)
    found = json.loads((tmp_path / "out/effect.json").read_text())
    assert [(row["beta"], row["seed"]) for row in found] == [(0.0, 0), (0.0, 1), (1.0, 0)]
    folder = tmp_path / "out/beta0.0_seed1"
    sharp = json.loads((folder / "interpretability/interpretability.json").read_text())
    (stage,) = sharp["results"]["grad_cam"].values()
    assert found[1]["entropy"] == stage["entropy"]["mean"]
    assert found[1]["top-1, %"] == 100 * sharp["accuracy"]
    assert sharp["settings"]["target"] == "label"
    played = json.loads((folder / "games/games.json").read_text())
    assert (sharp["photos"], played["photos"]) == (6, 4)
    assert (
        found[1]["insertion"]
        == next(iter(played["results"]["grad_cam"].values()))["insertion"]["mean"]
    )
    lines = (tmp_path / "out/table.md").read_text().splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        ["| entropy", "0", "2"],
        ["| entropy", "1", "1"],
    ]
    assert (tmp_path / "out/pictures.png").stat().st_size > 1000


def _any_photo(protocol):
    """Untrained networks classify hardly a photo correctly."""
    import dataclasses

    return dataclasses.replace(protocol, correct_only=False)


def test_means_and_extremes_over_seeds():
    nets = [foster_effect.Net(None, "entropy", 1.0, seed) for seed in range(3)]
    columns = [*foster_effect.COLUMNS, "seconds an epoch"]
    rows = [dict.fromkeys(columns, value) for value in (1.0, 2.0, np.nan)]
    assert "| entropy | 1 | 3 | 1.5 [1, 2] |" in foster_effect.table(nets, rows)


def test_a_network_of_another_training_is_refused():
    with pytest.raises(ValueError, match="models: got tiny20, which does not say its beta"):
        foster_effect.read("tiny20")
    with pytest.raises(ValueError, match="models: got none, expected files"):
        foster_effect.main(foster_effect.EffectSettings((), Path("none")))


def test_an_unknown_picture_is_refused_before_anything_is_measured(nets, tmp_path):
    chosen = foster_effect.EffectSettings(nets, tmp_path / "out", pictured=("entropy_1", "area_1"))
    with pytest.raises(
        ValueError, match=r"pictured: got area_1, expected any of \['entropy_0', 'entropy_1'\]"
    ):
        foster_effect.main(chosen)
    assert not (tmp_path / "out").exists()
