"""A run goes on with what it was trained with, or says what has changed; nothing untrue is told."""

import dataclasses
import json
import pathlib

import jax
import pytest
from safetensors.numpy import load_file

from configs import Fostering
from configs.common import as_kind
from configs.smoke import config as smoke
from train import foster, history, loop, workdir

ONE = jax.devices()[:1]


def _config(folder, **changes):
    fields = {"epochs": 1, "crop_sizes": ((0, 12),), "schedule": "constant", **changes}
    folders = {"workdir": f"{folder}/run", "export": f"{folder}/net.safetensors"}
    return as_kind(Fostering, smoke, beta=0.0, **folders, **fields)


def _report(config):
    return json.loads(pathlib.Path(f"{config.workdir}/report.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = _config(tmp_path_factory.mktemp("history"))
    loop.fit(config, foster.fostering, devices=ONE)
    return config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 16),
        ("seed", 1),
        ("learning_rate", 0.1),
        ("compute_dtype", "bfloat16"),
        ("train_split", "val"),
        ("beta", 9.0),
        ("options", {**smoke.options, "widths": (4,)}),
    ],
)
def test_another_config_is_refused_by_what_differs(finished, field, value):
    before = pathlib.Path(f"{finished.workdir}/report.json").read_bytes()
    other = dataclasses.replace(finished, epochs=2, **{field: value})
    expected = rf"--resume: got {field} .* there, .* here, expected .*--allow-changes"
    with pytest.raises(ValueError, match=expected):
        loop.fit(other, foster.fostering, resume=True, devices=ONE)
    assert pathlib.Path(f"{finished.workdir}/report.json").read_bytes() == before


def test_a_finished_run_is_not_told_to_be_another(finished):
    """Nothing is left to be trained with beta 9, whatever is allowed."""
    before = pathlib.Path(f"{finished.workdir}/report.json").read_bytes()
    other = dataclasses.replace(finished, beta=9.0)
    expected = "beta 0.0 there, 9.0 here; all 8 steps are done, expected .*nothing is left to train"
    with pytest.raises(ValueError, match=expected):
        loop.fit(other, foster.fostering, resume=True, devices=ONE, allow_changes=True)
    with pytest.raises(ValueError, match=r"beta 0\.0 there, 9\.0 here"):
        loop.export(other, foster.fostering)
    assert pathlib.Path(f"{finished.workdir}/report.json").read_bytes() == before


def test_what_is_changed_all_the_same_is_in_the_report(tmp_path, capsys):
    first = _config(tmp_path)
    loop.fit(first, foster.fostering, devices=ONE)
    longer = dataclasses.replace(first, epochs=2, learning_rate=0.01, workers=2)
    loop.fit(longer, foster.fostering, resume=True, devices=ONE, allow_changes=True)
    expected = [
        "after step 8: learning_rate 0.05 there, 0.01 here",
        "after step 8: epochs 1 there, 2 here",
    ]
    assert _report(longer)["changes"] == expected
    assert f"changed {expected[0]}\n" in capsys.readouterr().out
    loop.fit(longer, foster.fostering, resume=True, devices=ONE)
    assert _report(longer)["changes"] == expected  # told again, not twice


def _history(**changes):
    fields = {"config": smoke, "photos": 64, "classes": ("a", "b"), **changes}
    return history.History(**fields)


@pytest.mark.parametrize(
    ("changes", "said", "allowed"),
    [
        ({"photos": 63}, "64 training photos there, 63 here", True),
        ({"classes": ("a", "c")}, "classes of other names", False),
        ({"classes": ("a",)}, "2 classes there, 1 here", False),
    ],
)
def test_other_photos_are_said_and_other_classes_never_allowed(changes, said, allowed):
    about = _history().about()
    with pytest.raises(ValueError, match=said):
        _history(**changes).check(about, allowed=False)
    if allowed:
        _history(**changes).check(about, allowed=True)
    else:
        with pytest.raises(ValueError, match=said):
            _history(**changes).check(about, allowed=True)


def test_what_changes_no_bit_is_free():
    about = _history().about()
    free = {"workdir": "x", "workers": 3, "epochs": 9, "parallel": "jit", "log_every": 7}
    assert not _history(config=dataclasses.replace(smoke, **free)).differences(about)
    assert not _history().differences({})  # of a run of before it was kept


def test_a_damaged_checkpoint_is_in_log_and_report_and_the_end_is_the_same(tmp_path, capsys):
    config = _config(tmp_path, checkpoint_every=3)
    loop.fit(config, foster.fostering, devices=ONE)
    exported = load_file(config.export)
    folder = workdir.folder(config.workdir)
    assert workdir.steps(config.workdir) == [6, 8]
    # One bit of each file that may hold arrays: which of them do is the storage's affair.
    for path in (folder / "8/state").rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    loop.fit(config, foster.fostering, resume=True, devices=ONE)
    said = capsys.readouterr().out
    assert "the checkpoint after step 8 is damaged (" in said and "resumed after step 6" in said
    assert list(_report(config)["damaged_checkpoints"]) == ["8"]
    assert (tmp_path / "run/damaged/8").is_dir() and workdir.steps(config.workdir) == [6, 8]
    again = load_file(config.export)
    assert all((again[key] == value).all() for key, value in exported.items())
