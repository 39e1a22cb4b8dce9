"""SIGTERM ends a run after the step under way, which is saved; the run goes on to the same bits."""

import csv
import dataclasses
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from configs.smoke import config as smoke
from jaxcam._ground import stops
from tests.train import test_parallel
from train import classify, loop, window, workdir

ONE = jax.devices()[:1]


def _config(folder, **changes):
    fields = {"epochs": 2, "crop_sizes": ((0, 12),), "log_every": 3, **changes}
    folders = {"workdir": f"{folder}/run", "export": f"{folder}/net.safetensors"}
    return dataclasses.replace(smoke, **folders, **fields)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    config = _config(tmp_path_factory.mktemp("whole"))
    loop.fit(config, devices=ONE)
    return config


def _stop_at(monkeypatch, at):
    """SIGTERM comes in the middle of a step."""
    add = window.Window.add

    def add_and_stop(self, metrics):
        add(self, metrics)
        if self.last == at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(window.Window, "add", add_and_stop)


def _epochs(config):
    with open(f"{config.workdir}/epochs.csv") as file:
        return [(row["step"], row["val_accuracy"], row["val_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("at", [5, 8])  # 8: at an epoch's end, whose validation is made up for
def test_a_stopped_run_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch, capfd, at):
    config = _config(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        _stop_at(patch, at)
        with pytest.raises(stops.Stopped, match=f"SIGTERM: saved after step {at} in .*--resume"):
            loop.fit(config, devices=ONE)
    assert signal.getsignal(signal.SIGTERM) == before
    assert "SIGTERM: saving after this step; a second one ends at once" in capfd.readouterr().err
    assert workdir.steps(config.workdir)[-1] == at
    loop.fit(config, resume=True, devices=ONE)
    mine, theirs = load_file(config.export), load_file(whole.export)
    for key, value in theirs.items():
        np.testing.assert_array_equal(mine[key], value)
    assert _epochs(config) == _epochs(whole)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_line_and_the_run_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    """The second checkpoint finds no room; the first is whole, and nothing half-written counts."""
    config = _config(tmp_path, checkpoint_every=3)
    save = loop.checkpoint.save

    def save_on_a_full_disk(checkpoints, state, step, *words):
        if step == 6:
            checkpoints.wait_until_finished()
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        save(checkpoints, state, step, *words)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(loop.checkpoint, "save", save_on_a_full_disk)
    try:
        with pytest.raises(OSError, match=r"^workdir: .* cannot be written: ") as ended:
            loop.fit(config, devices=ONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert config.workdir in str(ended.value) and "\n" not in str(ended.value)
    assert workdir.steps(config.workdir) == [3]
    assert not pathlib.Path(config.export).exists()
    monkeypatch.undo()
    loop.fit(config, resume=True, devices=ONE)
    mine, theirs = load_file(config.export), load_file(whole.export)
    for key, value in theirs.items():
        np.testing.assert_array_equal(mine[key], value)
    assert _epochs(config) == _epochs(whole)


def test_validation_is_left_when_a_notice_comes(tmp_path, monkeypatch):
    config = _config(tmp_path, epochs=1)
    validate = loop.pipeline.validation_batches

    def stopped(*words, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*words, **options)

    monkeypatch.setattr(loop.pipeline, "validation_batches", stopped)
    with pytest.raises(stops.Stopped, match="saved after step 8"):
        loop.fit(config, devices=ONE)
    assert not pathlib.Path(f"{config.workdir}/epochs.csv").exists()


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (stops.Stopped("SIGTERM: saved"), 143, "train.classify: SIGTERM: saved\n"),
        (KeyboardInterrupt(), 130, "train.classify: interrupted; --resume goes on after the"),
    ],
)
def test_what_ended_a_command_is_its_status_and_one_line(monkeypatch, capsys, raised, code, said):
    def fit(*words, **options):
        raise raised

    monkeypatch.setattr(loop, "fit", fit)
    with pytest.raises(SystemExit) as ended:
        classify.main(["--config", "configs/smoke.py"])
    assert ended.value.code == code
    error = capsys.readouterr().err
    assert error.startswith(said) and error.count("\n") == 1


def test_a_second_signal_ends_at_once():
    program = (
        "import os, signal, time\nfrom jaxcam._ground import stops\n"
        "with stops.noticed('soon') as notice:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    assert notice.asked\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGTERM, ended.stderr


def test_one_of_two_processes_is_asked_and_both_save_and_end(tmp_path):
    """All agree on a step: what is saved is whole, and one process alone goes on with it."""
    config = test_parallel._config(tmp_path, epochs=500)
    processes = test_parallel.started(config)
    try:
        steps = pathlib.Path(config.workdir) / "steps.csv"
        deadline = time.monotonic() + 120
        while not steps.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        processes[1].send_signal(signal.SIGTERM)
        ended = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [143, 143], ended
    (last, *_) = workdir.steps(config.workdir)[::-1]
    for _, error in ended:
        assert f"SIGTERM: saved after step {last} in" in error
    run = loop.Run(dataclasses.replace(config, parallel="pmap"), devices=ONE)
    state, step = run.begin(resume=True)
    run.close()
    assert step == int(state.step) == last
