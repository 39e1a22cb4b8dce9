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


def command_of(found, name):
    return {run.folder.name: run.command for run in found}[name]


def test_dear_methods_have_fewer_photos_and_maps_of_their_own(small, tmp_path):
    usual = {"networks": ("squeezenet",), "photos": ("dear=3", "dear_again=2", "photos=8")}
    found = list(benchmark.runs(settings(small, tmp_path, methods=(), **usual)))
    for run in found:
        words = run.command.split()
        dear = run.folder.name.endswith("_dear")
        assert ("ss_cam" in words) == ("is_cam" in words) == dear
        if dear:
            count = 2 if PROTOCOLS[run.protocol].again else 3
            methods = "grad_cam relevance_cam noise centre ss_cam is_cam"
            assert f"-n {count} --batch {count} --methods {methods}" in run.command
    assert "explain_dear" in command_of(found, "games_dear")
    assert "explain_dear" not in command_of(found, "games")
    names = [run.folder.name for run in found]
    assert names[:2] == ["explain", "explain_dear"]
    assert "class_sensitivity_dear" in names
    assert "sanity_dear" not in names and "sensitivity_dear" not in names
    once = {**usual, "photos": ("dear=3",)}
    for run in benchmark.runs(settings(small, tmp_path, methods=(), **once)):
        if run.folder.name.endswith("_dear"):
            assert PROTOCOLS[run.protocol].again is None


def test_methods_are_those_without_variants_or_all_or_those_named(small, tmp_path):
    def explained(**fields):
        return command_of(benchmark.runs(settings(small, tmp_path, **fields)), "explain").split()

    for name in ("ss_cam", "smooth_grad", "random_weights", "attention_grad_cam"):
        assert name not in explained(methods=())
        assert name in explained(methods=("all",))
        assert name in explained(methods=(name,))


def test_photos_are_as_many_as_asked(small, tmp_path):
    asked = ("photos=7", "played=6", "perturbed=5", "checked=4", "costly=3", "costly_checked=0")
    found = list(benchmark.runs(settings(small, tmp_path, methods=("cam", "rise"), photos=asked)))
    counts = {"explain": 7, "faithfulness": 7, "games": 6, "perturbation": 5, "sanity": 4}
    for name, count in {**counts, "adcc_costly": 3}.items():
        assert f"-n {count} " in command_of(found, name)
    assert "sanity_costly" not in [run.folder.name for run in found]


def test_settings_of_protocols_are_handed_on_to_these(small, tmp_path):
    asked = ("games.variant=rise_coarse", "games.chunk=2", "sensitivity.samples=3")
    made = settings(small, tmp_path, settings=asked, methods=("noise", "rise"))
    for run in benchmark.runs(made):
        games = run.protocol == "games"
        assert ("--variant rise_coarse --chunk 2" in run.command) == games
        assert ("--samples 3" in run.command) == (run.protocol == "sensitivity")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"networks": ("tiny",)}, "networks: got tiny, expected any of tiny20"),
        ({"methods": ("cam", "camm")}, "methods: got camm, expected any of grad_cam"),
        ({"protocols": ("game",)}, "protocols: got game, expected any of faithfulness"),
        ({"methods": ("all", "cam")}, "methods: got all, expected any of grad_cam"),
        ({"photos": ("dearest=2",)}, "photos: got 'dearest=2', expected KIND=NUMBER, a kind of"),
        ({"photos": ("dear=-1",)}, "photos: got 'dear=-1', expected KIND=NUMBER"),
        ({"photos": ("data=1",)}, "photos: got 'data=1', expected KIND=NUMBER, a kind of photos"),
        ({"settings": ("game.chunk=2",)}, "settings: got 'game.chunk=2', expected PROTOCOL.NAME"),
        ({"settings": ("games.n=2",)}, "got 'games.n=2', expected .*; games has variant, chunk"),
        ({"settings": ("games.chunk",)}, "settings: got 'games.chunk', expected PROTOCOL.NAME"),
        ({"settings": ("class_sensitivity.pairs=False",)}, "class_sensitivity has none"),
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
