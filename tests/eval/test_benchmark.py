"""One command makes maps, measures them and writes the report; again, it does what is missing."""

import json
import subprocess
import sys

import pytest

from eval.studies import benchmark
from eval.studies.benchmark import PLANS, PROTOCOLS, Plan, Settings


@pytest.fixture
def small(monkeypatch, photos):
    """tiny20's bundled network on six synthetic photos with boxes."""
    monkeypatch.setitem(PLANS, "tiny20", Plan("tiny20", 4, 2, 2, 2, 3, 2, boxes=True))
    return photos[1]


def settings(root, tmp_path, **fields):
    return Settings(
        **{"output": tmp_path / "b", "networks": ("tiny20",), "root": root, "methods": ("noise",)}
        | fields
    )


def test_layers_and_options_are_handed_on(tmp_path):
    asked = {"layers": ("layer4",), "options": ("rise.num_masks=9", "finer_cam.alpha=0.5")}
    made = settings(None, tmp_path, methods=("rise", "lime"), protocols=("games",), **asked)
    explain, games = benchmark.runs(made)
    for run in (explain, games):
        assert "--options rise.num_masks=9 lime.num_samples=128 --layers layer4" in run.command
        assert "finer_cam" not in run.command


def test_maps_are_made_first_and_measured_by_every_protocol(small, tmp_path):
    words = {
        run.folder.name: run.command
        for run in benchmark.runs(settings(small, tmp_path, methods=()))
    }
    again = ("adcc", "class_sensitivity", "sanity", "sensitivity")
    costly = [name for protocol in again for name in (protocol, f"{protocol}_costly")]
    assert list(words) == [
        "explain",
        "faithfulness",
        "games",
        "interpretability",
        "localization",
        "perturbation",
        "adcc",
        "adcc_arcc",
        *costly[1:],
    ]
    assert [name for name in words if "--arcc" in words[name]] == ["adcc_arcc"]
    for name in words:
        twice = ("class_sensitivity", "sanity", "sensitivity")
        stored = name != "explain" and name.removesuffix("_costly") not in twice
        assert (f"--maps {tmp_path}/b/tiny20/explain" in words[name]) == stored
        assert (" rise lime mask " in words[name]) == (name not in again)  # adcc_arcc has all
        assert " grad_cam " in words[name]
        assert "attention_grad_cam" not in words[name]  # the bundled network has no attention
    counts = {
        "faithfulness": 4,
        "games": 2,
        "sanity": 2,
        "adcc": 4,
        "adcc_costly": 3,
        "adcc_arcc": 2,
        "sanity_costly": 2,
        "sensitivity": 2,
    }
    for name, count in counts.items():
        assert f"-n {count} " in words[name]
    assert " hires_cam " in words["adcc"]
    assert " hires_cam " not in words["adcc_costly"]


def test_what_the_data_or_the_machine_do_not_allow_is_left_out(small, tmp_path):
    found = benchmark.runs(settings(small, tmp_path, networks=("squeezenet",), methods=()))
    names = [run.folder.name for run in found]
    assert "localization" not in names
    assert "sanity_costly" not in names and "sensitivity_costly" not in names
    assert "adcc_costly" in names
    found = benchmark.runs(
        settings(small, tmp_path, networks=("squeezenet",), methods=("rise",), protocols=("adcc",))
    )
    assert [run.folder.name for run in found] == ["explain", "adcc_arcc", "adcc_costly"]


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
    assert [command[1:3] for command in done] == [["-m", "eval"]]
    assert done[0][0] == sys.executable


def test_a_run_that_fails_ends_it_and_is_named(small, tmp_path, capfd):
    with pytest.raises(
        ChildProcessError, match=r"failed with status 1: python -m eval explain --output .*--root"
    ):
        benchmark.benchmark(settings(tmp_path / "nowhere", tmp_path))
    assert "eval explain: data: got" in capfd.readouterr().err
    assert not (tmp_path / "b/tiny20/report").exists()


def test_a_dry_run_carries_nothing_out(small, tmp_path, capsys):
    assert benchmark.benchmark(settings(small, tmp_path, dry_run=True)) == []
    assert capsys.readouterr().out.count("python -m eval ") == len(PROTOCOLS) + 2
    assert not (tmp_path / "b").exists()


def test_the_benchmark_asks_for_what_two_cores_can_do(tmp_path):
    """Photos by network and protocol, and two photos side by side for class sensitivity."""
    counts = {}
    for run in benchmark.runs(Settings(tmp_path, root=tmp_path, methods=("cam", "rise"))):
        words = run.command.split()
        counts[run.network, run.folder.name] = int(words[words.index("-n") + 1])
        assert ("--pairs" in words) == (run.protocol == "class_sensitivity")
        assert "rise.num_masks=256" in words or "rise" not in words
    expected = {"tiny20": (200, 100, 20, 100, 20), "cifar10_resnet56": (200, 100, 20, 100, 20)}
    expected["squeezenet"] = (50, 20, 10, 10, None)
    for network, (usual, games, sanity, costly, costly_sanity) in expected.items():
        assert counts[network, "faithfulness"] == counts[network, "explain"] == usual
        assert counts[network, "games"] == games
        assert counts[network, "sanity"] == sanity
        assert counts[network, "adcc_costly"] == costly
        assert counts.get((network, "sanity_costly")) == costly_sanity


def test_a_run_that_an_older_version_finished_is_finished(tmp_path):
    (run, *_) = benchmark.runs(Settings(tmp_path, root=tmp_path, methods=("cam",)))
    assert not run.finished()
    run.folder.mkdir(parents=True)
    older = run.command.replace("-m eval explain", "-m eval.explain")
    (run.folder / "explain.json").write_text(json.dumps({"command": older}))
    assert run.finished()
    (run.folder / "explain.json").write_text(json.dumps({"command": f"{older} --seed 1"}))
    assert not run.finished()
