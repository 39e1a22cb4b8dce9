"""How metrics are shown: titles, directions, decimals, shades, what is best."""

import json

import pytest

from eval import programs
from eval.reporting import cells, records, report
from eval.reporting.cells import Scale
from eval.reporting.pages import Cell
from tests.eval.test_report import number, record, settings, stored

# -1: lower is better, 1: higher is better, 0: neither.
WAYS = {
    "faithfulness": {"drop_half": -1, "increase_half": 1, "drop_soft": -1, "increase_soft": 1}
    | {"drop_in_deletion": 1},
    "localization": dict.fromkeys(
        (
            *("mask_iou", "pointing_game", "energy_in_box", "rank_accuracy", "loc_0.25"),
            *("box_iou", "box_hit", "mass_accuracy"),
        ),
        1,
    ),
    "games": {"deletion": -1, "insertion": 1, "deletion_curve": -1, "insertion_curve": 1},
    "perturbation": {
        "road": 1,
        "road_morf": -1,
        "road_lerf": 1,
        "aopc": 1,
        "infidelity": -1,
        "infidelity_share": -1,
        "faithfulness_correlation": 1,
        "gain_soft": 1,
        "drop_in_deletion": 1,
        "aopc_curve": -1,
    },
    "interpretability": dict.fromkeys(
        ("entropy", "area", "dispersion", "relative_difference", "empty"), 0
    ),
    "adcc": {"adcc": 1, "coherency": 1, "complexity": -1, "drop": -1, "arcc": 1},
    "class_sensitivity": {
        "correlation": -1,
        "own": 1,
        "other": -1,
        "own_share": 1,
        "energy_first": 0,
        "energy_second": 0,
    },
    "sanity": dict.fromkeys(("spearman_abs", "ssim", "spearman", "hog"), 0),
    "sensitivity": {"max_sensitivity": -1},
    "explain": {},
}


@pytest.mark.parametrize("name", WAYS)
def test_every_metric_says_which_way_is_better(name):
    found = {metric: about.better for metric, about in programs.metrics(name).items()}
    assert found == WAYS[name]


def test_every_protocol_is_looked_at():
    assert set(programs.protocols()) == set(WAYS)


def test_every_drop_is_in_percent():
    for name in WAYS:
        for metric, about in programs.metrics(name).items():
            if "drop" in metric:
                assert "%" in about.title, metric


def test_a_metric_without_a_name_goes_by_its_own():
    assert records.named(record("games"), "own_thing").title == "own thing"
    assert records.named(record("none of ours"), "deletion").title == "deletion"
    assert records.named(record("agreement"), "sim_7").title == "Sim 7"


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([20.0, 1.0], ".1f"),
        ([19.9, None], ".2f"),
        ([2.0], ".2f"),
        ([1.99, -0.5], ".3f"),
        ([0.01], ".3f"),
        ([0.0099], ".2g"),
        ([-20.0], ".1f"),
        ([None], ".2g"),
    ],
)
def test_decimals_are_those_of_the_largest(values, form):
    assert Scale(values).form == form


def test_the_best_is_one_of_several():
    assert Scale([1.0, 2.0, None]).is_best(2.0, 1)
    assert Scale([1.0, 2.0]).is_best(1.0, -1)
    assert not Scale([1.0, 2.0]).is_best(1.0, 1)
    assert not Scale([1.0, None]).is_best(1.0, 1)
    assert not Scale([1.0, 2.0]).is_best(2.0, 0)


def test_shades_go_from_the_worst_to_the_best():
    scale = Scale([1.0, 2.0, 5.0])
    assert [scale.shade(value, 1) for value in scale.known] == [0, 0.25, 1]
    assert [scale.shade(value, -1) for value in scale.known] == [1, 0.75, 0]
    assert scale.shade(2.0, 0) is None
    assert Scale([3.0, 3.0]).shade(3.0, 1) is None


def test_a_cell_has_its_interval_and_what_is_undefined():
    scale = Scale([0.5, 0.25])
    assert cells.cell(number(0.5), scale, scale, 1) == Cell("0.500", "[0.000, 0.750]", True, 1.0)
    found = cells.cell(number(0.25, undefined=3), scale)
    assert found == Cell("0.250", "[-0.250, 0.500], 3 undefined", False, None)
    assert cells.cell(None, scale) == cells.cell({"mean": None}, scale) == "-"


def test_maps_alone_are_no_section(tmp_path):
    """A run of explain becomes a gallery, not a section of numbers."""
    made = record("explain", {"cam": {"top": {"maps": {"shape": [2, 2], "n": 4, "undefined": 0}}}})
    made["settings"] |= {"root": None}
    folders = stored(tmp_path, made, record("games", {"cam": {"top": {"deletion": number(0.5)}}}))
    (folders[0] / "explain.json").write_text(json.dumps({**made, "skipped": {}}))
    from eval.run.record import save_npz

    save_npz(folders[0] / "values.npz", [])
    page = report.report(settings(folders, tmp_path))
    text = page.with_name("report.md").read_text()
    assert "## games" in text and "## explain" not in text
