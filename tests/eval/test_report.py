"""Reports hold the runs' numbers and nothing else, and the page needs no other file."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from eval import papers, plots, report
from jaxcam.methods import WHOLE


def number(mean, **more):
    return {"mean": mean, "low": mean - 0.5, "high": mean + 0.25, "n": 4, "undefined": 0} | more


def record(protocol="faithfulness", results=None, **more):
    settings = {"model": "tiny", "data": "photos <1>", "target": "predicted"}
    about = {"versions": {"jax": "1.2"}, "devices": "1 x cpu", "finished": "today", "seconds": 2.0, "photos": 4}
    about |= {"seed": 7, "accuracy": 0.5, "command": f"python -m eval.{protocol} <x>", "skipped": {}}
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


FAITHFULNESS = {
    "cam": {"layer4": {"drop_half": number(9.0)}},
    "grad_cam": {"layer2": {"drop_half": number(70.0)}, "layer4": {"drop_half": number(20.0, undefined=1)}},
    "lrp": {WHOLE: {"drop_half": number(31.0)}},
}


def test_tables_show_means_with_intervals_beside_the_papers_numbers(tmp_path):
    skipped, wins = (
        {"cam/layer2": "because\nof it", "cam/layer1": "so"},
        {"layer4": {"cam": {"grad_cam": 75.0}, "grad_cam": {"cam": 25.0}}},
    )
    folders = stored(tmp_path, record(results=FAITHFULNESS, skipped=skipped, win_rate=wins))
    report.report(folders, tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert "| method | layer | drop_half |\n|---|---|---|\n| cam | layer4 | 9 [8.5, 9.25] |" in text
    assert "| grad_cam | layer4 | 20 [19.5, 20.25], 1 undefined |" in text
    assert "| Relevance-CAM, Table 1 | grad_cam | drop_half | layer2 | 74.91 | layer2 | 70 [69.5, 70.25] |" in text
    assert "| Score-CAM | grad_cam | drop_half | last | 47.8 | layer4 | 20 [19.5, 20.25], 1 undefined |" in text
    assert "Ours: tiny on 4 photos of photos <1>." in text
    assert "| cam |  | 75.0 |" in text
    assert "cam at layer2, layer1 (because of it)." in text
    assert "4 photos, seed 7, top-1 accuracy 50.0%; target: predicted; jax 1.2" in text
    assert "```\npython -m eval.faithfulness <x>\n```" in text


def test_the_page_holds_its_pictures_and_escapes_text(tmp_path):
    curves = {name: {"mean": [1.0, 0.5, 0.0], "n": 4, "undefined": 0} for name in plots.CURVES}
    games = {"grad_cam": {"top": {"deletion": number(0.5), "insertion": number(0.7), **curves}}}
    folders = stored(tmp_path, record(results=FAITHFULNESS), record("games", games))
    page = report.report(folders, tmp_path / "out").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    files = sorted((tmp_path / "out").glob("*.png"))
    assert [f.name for f in files] == ["01_faithfulness_tiny_depth.png", "02_games_tiny_curves_top.png"]
    assert [base64.b64decode(p) for p in pictures] == [f.read_bytes() for f in files]
    assert Image.open(io.BytesIO(files[0].read_bytes())).width > 300
    assert len(re.findall("(?:src|href)=", page)) == len(pictures)
    assert "photos &lt;1&gt;" in page
    assert "<1>" not in page


def test_depth_is_the_networks_whatever_the_first_method_has():
    assert plots.depth(record(results=FAITHFULNESS)) == ["layer2", "layer4"]


def test_plots_draw_the_means_and_their_intervals():
    axes = plots.plot_depth(record(results=FAITHFULNESS)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["layer2", "layer4"]
    drawn = {bars.get_label(): bars for bars in axes.containers}
    np.testing.assert_allclose(drawn["grad_cam"].lines[0].get_xydata(), [[0, 70], [1, 20]])
    np.testing.assert_allclose(drawn["grad_cam"].lines[2][0].get_segments()[0], [[0, 69.5], [0, 70.25]])
    np.testing.assert_allclose(drawn["cam"].lines[0].get_xydata(), [[1, 9]])
    horizontal = next(line for line in axes.lines if line.get_label() == "lrp")
    assert list(horizontal.get_ydata()) == [31, 31]


def test_stages_have_rows_and_a_plot(tmp_path):
    found = {"head/ssim": number(0.9), "stem/ssim": number(0.1), "head/spearman": number(0.8)}
    made = record("sanity", {"grad_cam": {"top": found}})
    assert plots.stages(made) == {"ssim": ["head", "stem"], "spearman": ["head"]}
    report.report(stored(tmp_path, made), tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert "| grad_cam | top | head | 0.9 [0.4, 1.15] | 0.8 [0.3, 1.05] |" in text
    assert "| grad_cam | top | stem | 0.1 [-0.4, 0.35] | - |" in text
    lines = plots.plot_stages(made).axes[0].containers[0].lines[0]
    np.testing.assert_allclose(lines.get_xydata(), [[0, 0.9], [1, 0.1]])


def test_every_published_number_has_a_source():
    assert {row.source for row in papers.PUBLISHED} == set(papers.SOURCES)
    keys = [(*row[:4], row.source) for row in papers.PUBLISHED]
    assert len(set(keys)) == len(keys)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="runs: got none, expected the folders"):
        report.report([], tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        report.report([tmp_path], tmp_path / "out")
