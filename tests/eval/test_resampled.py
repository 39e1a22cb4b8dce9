"""Numbers of all photos together and their intervals: by hand, and against other resamples."""

import json

import numpy as np
import pytest

from eval.studies import paper, resampled


def test_the_interval_is_that_of_photos_drawn_again(rng):
    values = {"a": rng.normal(5, 1, 400), "a before": rng.normal(2, 1, 400)}
    found = resampled.resampled(values, resampled.ratio("a"), 0)
    assert found["mean"] == pytest.approx(values["a"].mean() / values["a before"].mean())
    # the ratio's deviation, to first order
    spread = values["a"] / values["a"].mean() - values["a before"] / values["a before"].mean()
    half = 1.96 * found["mean"] * spread.std() / np.sqrt(400)
    assert found["low"] == pytest.approx(found["mean"] - half, abs=0.2 * half)
    assert found["high"] == pytest.approx(found["mean"] + half, abs=0.2 * half)
    assert found == resampled.resampled(values, resampled.ratio("a"), 0)


def test_of_few_photos_and_of_what_is_infinite_there_is_no_interval():
    few = resampled.resampled({"a": np.arange(9.0)}, lambda values: values["a"].mean(), 0)
    assert (few["mean"], few["low"], few["high"], few["n"]) == (4, None, None, 9)
    endless = {"d": resampled.to_inactive(np.full(20, 200.0))}
    found = resampled.resampled(endless, lambda values: np.median(values["d"]), 0)
    assert np.isinf(found["mean"]) and found["low"] is None


def test_differences_to_the_mean_and_to_the_inactive_are_of_the_same_cells():
    a, i = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.5])
    np.testing.assert_allclose(
        resampled.to_inactive(200 * (a - i) / (a + i)), 100 * (a - i) / i, atol=1e-12
    )


def test_numbers_of_fostering_have_intervals_over_photos(rng, tmp_path):
    """Of the same photos twice: a ratio is 2 in every draw, if draws are of pairs."""
    area = rng.uniform(1, 3, 20)
    area[4] = np.nan  # no map
    nets = []
    for name, factor in (("a", 1.0), ("b", 2.0)):
        folder = tmp_path / name / "interpretability"
        folder.mkdir(parents=True)
        values = {
            "area": factor * area,
            "dispersion": factor * area,
            "relative_difference": np.where(np.isnan(area), np.nan, 50 * factor),
        }
        found = {f"grad_cam/layer4/{key}": each for key, each in values.items()}
        np.savez(folder / "values.npz", ids=np.arange(20), **found)
        nets.append({"path": f"somewhere/{name}.safetensors", "seconds an epoch": 7.0})
    (tmp_path / "effect.json").write_text(json.dumps(nets))
    plain, fostered = paper._of_betas(tmp_path).values()
    for name in ("area_ratio", "dispersion_ratio"):
        shown = [fostered[name][key] for key in ("mean", "low", "high")]
        np.testing.assert_allclose(shown, 2)
    assert plain["area_ratio"]["mean"] == 1
    assert plain["relative_difference"]["mean"] == 50
    assert plain["relative_difference_to_inactive"]["low"] == pytest.approx(200 / 3)
    assert fostered["relative_difference_to_inactive"]["mean"] == pytest.approx(200)
    assert fostered["epoch_seconds"] == {"mean": 7.0}
