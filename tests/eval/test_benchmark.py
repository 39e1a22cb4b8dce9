"""One command makes the maps, measures them by every protocol and writes the report; again, it does what is missing."""

import json
import subprocess
import sys

import pytest

from eval import benchmark
from eval.benchmark import PLANS, PROTOCOLS, Plan, Settings


@pytest.fixture
def small(monkeypatch, photos):
    """tiny20's bundled network on six synthetic photos with boxes."""
    monkeypatch.setitem(PLANS, "tiny20", Plan("tiny20", 4, 2, 2, 2, boxes=True))
    return photos[1]


def settings(root, tmp_path, **fields):
    return Settings(**{"output": tmp_path / "b", "networks": ("tiny20",), "root": root, "methods": ("noise",)} | fields)


def test_maps_are_made_first_and_measured_by_every_protocol(small, tmp_path):
    found = list(benchmark.runs(settings(small, tmp_path, methods=())))
    assert [run.protocol for run in found] == ["explain", *PROTOCOLS]
    words = {run.protocol: run.command for run in found}
    for name in ("faithfulness", "localization", "interpretability", "games"):
        assert f"--maps {tmp_path}/b/tiny20/explain" in words[name]
    for name in ("explain", "adcc", "class_sensitivity", "sanity"):
        assert "--maps" not in words[name]
    assert " rise lime mask " in words["explain"]
    assert " rise " not in words["adcc"]
    assert "attention_grad_cam" not in words["explain"]  # the bundled network has no attention
    assert "-n 2 " in words["games"]
    assert "-n 4 " in words["faithfulness"]


def test_sets_without_boxes_and_costly_methods_are_left_out(small, tmp_path):
    found = list(benchmark.runs(settings(small, tmp_path, networks=("squeezenet",), methods=())))
    assert [run.protocol for run in found] == ["explain", "faithfulness", "interpretability", "games", *PROTOCOLS[4:6]]
    assert "score_cam" not in found[0].command


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"networks": ("tiny",)}, "networks: got tiny, expected any of tiny20"),
        ({"methods": ("cam", "camm")}, "methods: got camm, expected any of grad_cam"),
        ({"protocols": ("game",)}, "protocols: got game, expected any of faithfulness"),
    ],
)
def test_unknown_names_are_refused_before_anything_runs(small, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(settings(small, tmp_path, **fields))
    assert not (tmp_path / "b").exists()


def test_it_runs_reports_and_skips_what_is_finished(small, tmp_path, monkeypatch, capfd):
    chosen = settings(small, tmp_path, protocols=("interpretability",), methods=("noise", "centre"))
    (report,) = benchmark.benchmark(chosen)
    assert "| centre (control) |" in report.read_text()
    record = json.loads((tmp_path / "b/tiny20/interpretability/interpretability.json").read_text())
    assert record["photos"] == 4
    assert record["command"] in capfd.readouterr().out
    done = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: done.append(command))
    benchmark.benchmark(chosen)
    assert [command[1:3] for command in done] == [["-m", "eval.report"]]
    assert done[0][0] == sys.executable


def test_a_run_that_fails_ends_it_and_is_named(small, tmp_path, capfd):
    with pytest.raises(ChildProcessError, match=r"failed with status 1: python -m eval\.explain --output .*--root"):
        benchmark.benchmark(settings(tmp_path / "nowhere", tmp_path))
    assert "eval.explain: data: got" in capfd.readouterr().err
    assert not (tmp_path / "b/tiny20/report").exists()


def test_a_dry_run_carries_nothing_out(small, tmp_path, capsys):
    assert benchmark.benchmark(settings(small, tmp_path, dry_run=True)) == []
    assert capsys.readouterr().out.count("python -m eval.") == len(PROTOCOLS) + 2
    assert not (tmp_path / "b").exists()
