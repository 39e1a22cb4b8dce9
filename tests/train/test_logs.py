import dataclasses
import json
import shutil
import struct

import pytest
from tensorboardX.proto import event_pb2

from configs.smoke import config as smoke
from train import logs


def _rows(path):
    return [line.split(",") for line in path.read_text().splitlines()]


def test_a_table_grows_and_is_cut_back_to_a_step(tmp_path):
    path = tmp_path / "steps.csv"
    table = logs.Table(path, 0)
    for step in (2, 4, 6):
        table.add({"step": step, "loss": 1 / (step + 1)})
    with path.open("a") as file:
        file.write("8,")  # what a killed process left
    again = logs.Table(path, 4)
    assert again.rows == [{"step": 2, "loss": 1 / 3}, {"step": 4, "loss": 1 / 5}]  # the same bits
    again.add({"step": 6, "loss": 0.5})
    assert _rows(path) == [["step", "loss"], ["2", str(1 / 3)], ["4", "0.2"], ["6", "0.5"]]
    again.add({"step": 8, "loss": 0.25, "empty": 0.5})  # resumed by a version that says more
    again.add({"step": 9, "loss": 0.25, "empty": 1.0})
    header, first, *_, last = _rows(path)
    assert (header[2], first[2], last) == ("empty", "nan", ["9", "0.25", "1.0"])


@pytest.fixture
def run(tmp_path, capsys):
    """Logs of an epoch of two windows, the second of one step; and what they printed."""
    config = dataclasses.replace(smoke, workdir=str(tmp_path), batch_size=10)
    log = logs.Logs(config, 0, 1000)
    log.window({"step": 3, "epoch": 1, "steps": 3, "crop": 12, "loss": 1.0, "seconds": 2.0})
    log.window({"step": 4, "epoch": 1, "steps": 1, "crop": 12, "loss": 5.0, "seconds": 3.0})
    log.epoch({"step": 4, "epoch": 1, "val_accuracy": 0.75})
    log.report({"exported_accuracy": 0.5})
    log.close()
    return tmp_path, capsys.readouterr().out


def test_an_epoch_is_the_mean_over_its_steps(run):
    folder, _ = run
    header, row = _rows(folder / "epochs.csv")
    found = dict(zip(header, map(float, row), strict=True))
    assert found == {
        "step": 4, "epoch": 1, "val_accuracy": 0.75, "loss": 2.0, "seconds": 5.0,
        "images_per_s": 8.0,
    }  # fmt: skip
    assert [row[-1] for row in _rows(folder / "steps.csv")] == [
        "images_per_s",
        "15.0",
        str(10 / 3.0),
    ]


def test_each_window_and_epoch_is_one_line(run):
    """Values of one window stand below those of the one before, with the time that is left."""
    assert run[1].splitlines() == [
        "step 3       epoch 1    steps 3    crop 12   loss 1         seconds 2         "
        "images_per_s 15        remaining 0:11:05",
        "step 4       epoch 1    steps 1    crop 12   loss 5         seconds 3         "
        "images_per_s 3.333     remaining 0:49:48",
        "step 4       epoch 1    val_accuracy 0.75      loss 2         seconds 5         "
        "images_per_s 8",
    ]


def test_the_report_says_how_it_was_made(run):
    report = json.loads((run[0] / "report.json").read_text())
    assert report["config"]["batch_size"] == 10 and report["results"] == {"exported_accuracy": 0.5}
    assert report["training_seconds"] == 5.0 and report["last_epoch"]["loss"] == 2.0
    assert {"jax", "flax", "optax"} <= set(report["versions"]) and report["devices"][0].startswith(
        "cpu"
    )
    assert not list(run[0].glob(".*.part"))


def test_times_and_processes_are_this_sittings(run, tmp_path, monkeypatch):
    report = json.loads((run[0] / "report.json").read_text())
    assert 0 < report["wall_seconds"] < 600
    assert report["processes"] == 1
    log = logs.Logs(dataclasses.replace(smoke, workdir=str(tmp_path / "other")), 0)
    monkeypatch.setattr(logs.jax, "process_count", lambda: 3)
    log.report({})
    log.close()
    report = json.loads((tmp_path / "other/report.json").read_text())
    assert (report["processes"], report["last_epoch"], report["training_seconds"]) == (3, {}, 0)


def test_only_the_writing_process_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logs, "is_writer", lambda: False)
    log = logs.Logs(dataclasses.replace(smoke, workdir=str(tmp_path / "run")), 0)
    log.line("a")
    log.window({"step": 1, "epoch": 1, "steps": 1, "seconds": 1.0})
    log.epoch({"step": 1, "epoch": 1})
    log.report({})
    log.close()
    assert not (tmp_path / "run").exists() and not capsys.readouterr().out


def test_tensorboard_holds_the_curves(run):
    events = _events(run[0])
    curves = {
        (value.tag, event.step): value.simple_value
        for event in events
        for value in event.summary.value
    }
    assert curves["train/loss", 3] == 1.0 and curves["train/loss", 4] == 5.0
    assert curves["epoch/val_accuracy", 4] == 0.75
    assert {tag.split("/")[1] for tag, _ in curves} == {
        "loss", "seconds", "crop", "images_per_s", "val_accuracy"
    }  # fmt: skip


def test_a_resumed_curve_replaces_what_came_after_its_step(tmp_path):
    """TensorBoard leaves out points from the first step on that the resumed run makes again."""
    logs.Logs(dataclasses.replace(smoke, workdir=str(tmp_path)), 7).close()
    starts = [event.step for event in _events(tmp_path) if event.HasField("session_log")]
    assert starts == [8]


def _events(folder):
    """Of the one file: records of a length in 8 bytes, 4 of checksum, the event, 4 of checksum."""
    (file,) = (folder / "tensorboard").iterdir()
    content, events = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(event_pb2.Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_a_resumed_epoch_counts_the_windows_before(run, tmp_path):
    config = dataclasses.replace(smoke, workdir=str(tmp_path), batch_size=10)
    shutil.rmtree(tmp_path / "tensorboard")
    log = logs.Logs(config, 3)
    log.window({"step": 4, "epoch": 1, "steps": 1, "crop": 12, "loss": 9.0, "seconds": 1.0})
    log.epoch({"step": 4, "epoch": 1, "val_accuracy": 0.5})
    log.close()
    rows = _rows(tmp_path / "epochs.csv")
    assert len(rows) == 2 and rows[1][:4] == ["4", "1", "0.5", "3.0"]
