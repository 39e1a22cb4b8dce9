"""Reports hold the runs' numbers and nothing else, and the page needs no other file."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from eval.reporting import cells, papers, plots, records, report, tables
from eval.run import record as kept
from eval.run.protocol import Metric
from eval.subjects.methods import METHODS, is_control, title
from jaxcam.methods import WHOLE


def number(mean, **more):
    return {"mean": mean, "low": mean - 0.5, "high": mean + 0.25, "n": 4, "undefined": 0} | more


def record(protocol="faithfulness", results=None, **more):
    settings = {"model": "tiny", "data": "photos <1>", "target": "predicted"}
    about = {
        "versions": {"jax": "1.2"},
        "devices": "1 x cpu",
        "finished": "today",
        "seconds": 2.0,
        "photos": 4,
    }
    about |= {
        "seed": 7,
        "accuracy": 0.5,
        "command": f"python -m eval {protocol} <x>",
        "skipped": {},
    }
    return {"protocol": protocol, "settings": settings, "results": results or {}} | about | more


def stored(tmp_path, *records):
    folders = []
    for i, each in enumerate(records):
        folder = tmp_path / f"run{i}"
        folder.mkdir()
        (folder / f"{each['protocol']}.json").write_text(json.dumps(each))
        (folder / "settings.json").write_text(json.dumps({"protocol": "x", "results": 1}))
        folders.append(folder)
    return folders


def settings(runs, tmp_path, **more):
    return report.Settings(
        tuple(runs), tmp_path / "out", **{"gallery": tmp_path / "gallery"} | more
    )


FAITHFULNESS = {
    "cam": {"layer4": {"drop_half": number(9.0)}},
    "grad_cam": {
        "layer2": {"drop_half": number(70.0)},
        "layer4": {"drop_half": number(20.0, undefined=1)},
    },
    "lrp": {WHOLE: {"drop_half": number(31.0)}},
}


def test_tables_show_means_with_intervals_beside_the_papers_numbers(tmp_path):
    skipped, wins = (
        {"cam/layer2": "because\nof it", "cam/layer1": "so"},
        {"layer4": {"cam": {"grad_cam": 75.0}, "grad_cam": {"cam": 25.0}}},
    )
    folders = stored(tmp_path, record(results=FAITHFULNESS, skipped=skipped, win_rate=wins))
    report.report(settings(folders, tmp_path))
    text = (tmp_path / "out/report.md").read_text()
    head = "**Average drop, %, most salient half kept** (drop_half, lower is better)\n\n"
    assert head + "| method | layer2 | layer4 | whole network |\n|---|---|---|---|\n" in text
    assert "| CAM | - | **9.0** [8.5, 9.2] | - |" in text
    assert "| Grad-CAM | 70.0 [69.5, 70.2] | 20.0 [19.5, 20.2], 1 undefined | - |" in text
    assert "| LRP | - | - | 31.0 [30.5, 31.2] |" in text
    assert "| paper | method | its layer | our layer | drop_half, paper | drop_half, ours |" in text
    assert (
        "| Relevance-CAM, Table 1 | Grad-CAM | layer2 | layer2 | 74.91 | 70.0 [69.5, 70.2] |"
        in text
    )
    assert (
        "| Score-CAM | Grad-CAM | last | layer4 | 47.8 | 20.0 [19.5, 20.2], 1 undefined |" in text
    )
    assert "Ours: tiny on 4 photos of photos &lt;1>." in text
    assert "| CAM |  | 75.0 |" in text
    assert "Not applicable: CAM at layer2, layer1 (because of it)." in text
    assert "4 photos, seed 7, top-1 accuracy 50.0%; target: predicted; jax 1.2" in text
    assert "```\npython -m eval faithfulness <x>\n```" in text


def test_the_page_holds_its_pictures_and_escapes_text(tmp_path):
    curves = {
        name: {"mean": [1.0, 0.5, 0.0], "n": 4, "undefined": 0}
        for name in ("deletion_curve", "insertion_curve")
    }
    games = {"grad_cam": {"top": {"deletion": number(0.5), "insertion": number(0.7), **curves}}}
    folders = stored(tmp_path, record(results=FAITHFULNESS), record("games", games))
    page = report.report(settings(folders, tmp_path)).read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    files = sorted((tmp_path / "out").glob("*.png"))
    assert [f.name for f in files] == ["01_faithfulness_tiny_depth.png", "02_games_tiny_curves.png"]
    assert [base64.b64decode(p) for p in pictures] == [f.read_bytes() for f in files]
    names = [*(f.name for f in files), "report.html", "report.md"]
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == names
    assert Image.open(io.BytesIO(files[0].read_bytes())).width > 300
    assert len(re.findall("src=", page)) == len(pictures)
    assert re.findall('href="([^"]*)"', page) == ["#s0", "#s1"]  # nothing but its own sections
    assert "photos &lt;1&gt;" in page
    assert "<1>" not in page


def test_depth_is_the_networks_whatever_the_first_method_has():
    made = record(results=FAITHFULNESS)
    assert records.depth(made) == ["layer2", "layer4"]
    made["settings"]["layers"] = ["stem", "layer4", "layer2"]
    assert records.depth(made) == ["layer4", "layer2"]


def drawn(axes, label):
    """Points and whiskers of a label: `[N, 2]`, `[N, 2]`."""
    bars = [container for container in axes.containers if container.get_label() == label]
    points = np.concatenate([each.lines[0].get_xydata() for each in bars])
    ends = np.concatenate(
        [[segment[:, 0] for segment in each.lines[2][0].get_segments()] for each in bars]
    )
    return points, ends


def test_depth_plots_draw_the_means_and_their_intervals():
    axes = plots.plot_depth(record(results=FAITHFULNESS)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["CAM", "Grad-CAM", "LRP"]
    points, ends = drawn(axes, "layer4")
    np.testing.assert_allclose(points[:, 0], [9, 20])
    np.testing.assert_array_equal(np.round(points[:, 1]), [0, 1])
    np.testing.assert_allclose(ends, [[8.5, 9.25], [19.5, 20.25]])
    points, _ = drawn(axes, "layer2")
    np.testing.assert_allclose(points[:, 0], [70])
    points, _ = drawn(axes, WHOLE)
    np.testing.assert_allclose(points, [[31, 2]])


def test_controls_come_last_and_leave_a_line():
    found = {
        "noise": {"layer2": {"drop_half": number(1.0)}, "layer4": {"drop_half": number(50.0)}},
        **FAITHFULNESS,
    }
    made = record(results=found)
    assert records.rows(made) == ["cam", "grad_cam", "lrp", "noise"]
    lines = [
        line.get_xdata()
        for line in plots.plot_depth(made).axes[0].lines
        if line.get_linestyle() == ":"
    ]
    np.testing.assert_allclose(lines, [[50, 50]])


def test_curves_have_their_areas_in_the_legend():
    found = {
        "deletion": number(0.5),
        "deletion_curve": {"mean": [1.0, 0.5, 0.0], "n": 4, "undefined": 0},
    }
    figure = plots.plot_curves(record("games", {"grad_cam": {"top": found}, "lrp": {WHOLE: found}}))
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 1], [0.5, 0.5], [1, 0]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "0.500  Grad-CAM",
        "0.500  LRP",
    ]


def test_of_many_curves_the_best_and_the_controls_are_named():
    """Of deletion the smallest areas, of insertion the largest; the rest are thin and unnamed."""
    methods = [name for name in METHODS if not is_control(name)][:14]
    results = {"noise": {"top": played(0.99)}}
    for place, name in enumerate(methods):
        results[name] = {"top": played(place / 20)}
    figure = plots.plot_curves(record("games", results))
    for axes, ranked in zip(figure.axes, (methods, methods[::-1]), strict=True):
        expected = [*map(title, ranked[:6]), title("noise")]
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [text.split("  ")[1] for text in texts] == expected
        widths = [line.get_linewidth() for line in axes.lines]
        assert sum(width < 1 for width in widths) == 14 - 6
        assert len(widths) == 15
    assert "best 6 of each panel" in figure.get_suptitle()


def played(area):
    """The summaries of both games of one method."""
    found = {}
    for game in ("deletion", "insertion"):
        found[game] = number(area)
        found[f"{game}_curve"] = {"mean": [area, area], "n": 4, "undefined": 0}
    return found


def test_a_matrix_has_the_best_of_each_column_in_bold():
    found = {
        "cam": {"a": number(1.0), "b": None, "c": number(3.0)},
        "lrp": {"a": number(2.0), "b": number(5.0), "c": number(3.0)},
    }
    made = tables.matrix(found, ("a", "b", "c"), Metric("x", 1))
    cells = [[not isinstance(cell, str) and cell.best for cell in row[1:]] for row in made.rows]
    assert cells == [[False, False, True], [True, False, True]]
    assert not any(
        cell.best for row in tables.matrix(found, ("a", "c"), Metric("x")).rows for cell in row[1:]
    )
    shades = [row[1].shade for row in made.rows]
    np.testing.assert_allclose(shades, [0, 0.25])


def test_one_layer_makes_one_table(tmp_path):
    made = record("agreement", {"other": {"logits": {"sim_1": number(0.8), "sim_2": number(0.6)}}})
    report.report(settings(stored(tmp_path, made), tmp_path))
    text = (tmp_path / "out/report.md").read_text()
    assert (
        "| method | Sim 1 | Sim 2 |\n|---|---|---|\n| other | 0.800 [0.300, 1.050] | 0.600 [0.100, "
        "0.850] |" in text
    )


def test_stages_have_columns_and_a_plot(tmp_path):
    found = {"head/ssim": number(0.9), "stem/ssim": number(0.1), "head/spearman": number(0.8)}
    made = record("sanity", {"grad_cam": {"top": found}})
    assert records.changes(made) == {"ssim": ["head", "stem"], "spearman": ["head"]}
    report.report(settings(stored(tmp_path, made), tmp_path))
    text = (tmp_path / "out/report.md").read_text()
    assert "**SSIM of the maps, at top** (by replaced group)\n\n| method | head | stem |" in text
    assert "| Grad-CAM | 0.900 [0.400, 1.150] | 0.100 [-0.400, 0.350] |" in text
    image = plots.plot_changes(made).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), [[0.9, 0.1]])


@pytest.mark.parametrize(
    ("data", "expected"), [("cars196", ["0.1253", "0.0796"]), ("photos", ["0.1253"])]
)
def test_numbers_of_another_set_stand_beside_that_set_only(tmp_path, data, expected):
    made = record("games", {"grad_cam": {"layer4": {"deletion": number(0.5)}}})
    made["settings"]["data"] = data
    report.report(settings(stored(tmp_path, made), tmp_path))
    text = (tmp_path / "out/report.md").read_text()
    for value in ("0.1253", "0.0796", "0.0805"):
        assert (f"| {value} |" in text) == (value in expected)


def test_every_published_number_has_a_source():
    assert {row.source for row in papers.PUBLISHED} == set(papers.SOURCES)
    keys = [(*row[:4], row.source) for row in papers.PUBLISHED]
    assert len(set(keys)) == len(keys)


def test_a_folder_named_twice_is_one_section(tmp_path):
    (folder,) = stored(tmp_path, record())
    page = report.report(settings([folder, folder / ".", folder], tmp_path))
    assert page.with_name("report.md").read_text().count("## faithfulness") == 1


def test_a_run_whose_methods_do_not_apply_has_its_section(tmp_path):
    empty = record(results={}, skipped={"attention_grad_cam/whole network": "no CBAM blocks"})
    page = report.report(settings(stored(tmp_path, empty), tmp_path))
    assert (
        "MAL Grad-CAM at whole network (no CBAM blocks)" in page.with_name("report.md").read_text()
    )


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"runs: got none, expected the folders"):
        report.report(settings([], tmp_path))
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"runs: got .*, which holds no finished run, expected the JSON"
    ):
        report.report(settings([tmp_path], tmp_path))


def test_few_photos_have_no_interval():
    few = cells.cell(number(1.5, low=None, high=None, n=3), cells.Scale([1.5]))
    assert (few.mean, few.rest) == ("1.500", "(of 3)")
    of_few = kept.table(
        {"results": {"cam": {"top": {"x": number(1.5, low=None, high=None)}}}}, ["x"]
    )
    assert "| 1.5 (of 4) |" in of_few
