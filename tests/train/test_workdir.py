"""A command that is refused, or only reads, harms no run."""

import dataclasses
import hashlib

import jax
import pytest

from configs.smoke import config as smoke
from jaxcam._ground import locks
from train import classify, loop, workdir

ONE = jax.devices()[:1]


def _config(folder):
    return dataclasses.replace(
        smoke,
        workdir=f"{folder}/run",
        export=f"{folder}/net.safetensors",
        epochs=1,
        crop_sizes=((0, 12),),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, and beside it what a run that now writes its checkpoint 9 would have."""
    config = _config(tmp_path_factory.mktemp("workdir"))
    loop.fit(config, devices=ONE)
    writing = workdir.folder(config.workdir) / "9.orbax-checkpoint-tmp"
    writing.mkdir()
    (writing / "part").write_text("half")
    return config


def _content(config):
    """All files of a run by name; the lock that the test itself holds is not the run's."""
    folder = workdir.folder(config.workdir).parents[1]
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != locks.FILE:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("words", [[], ["--resume"], ["--export-only"]])
def test_a_living_run_is_left_alone(finished, words):
    before = _content(finished)
    sets = [f"workdir={finished.workdir}", f"export={finished.export}", "epochs=1"]
    command = ["--config", "configs/smoke.py", "--set", *sets, *words]
    with (
        locks.held(finished.workdir, "workdir"),
        pytest.raises(SystemExit, match=r"classify: workdir: got .*, in which process .* at work"),
    ):
        classify.main(command)
    assert _content(finished) == before


def test_a_second_start_is_refused_before_anything_is_touched(finished):
    before = _content(finished)
    with pytest.raises(FileExistsError, match="holds checkpoints; --resume, or name another"):
        loop.fit(finished, devices=ONE)
    assert _content(finished) == before


def test_nothing_to_resume_leaves_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        loop.fit(_config(tmp_path), resume=True, devices=ONE)
    assert not list(tmp_path.iterdir())


def test_what_only_reads_changes_nothing(finished):
    before = _content(finished)
    assert loop.evaluate(finished, loop.data(finished, "val"), ONE) > 0.25
    assert _content(finished) == before


def test_a_run_has_no_checkpoints_before_it_begins(tmp_path):
    run = loop.Run(_config(tmp_path), devices=ONE)
    with pytest.raises(RuntimeError, match="checkpoints: the run has not begun"):
        run.checkpoints.latest_step()
    run.close()
    assert not list(tmp_path.iterdir())


def test_no_network_that_is_read_is_written_over(tmp_path):
    """It was, at the end of the training; a folder in place of the file was found out then, too."""
    (tmp_path / "net.safetensors").write_bytes(b"a network")
    (tmp_path / "link.safetensors").symlink_to("net.safetensors")
    source = str(tmp_path / "link.safetensors")
    config = dataclasses.replace(_config(tmp_path), init_from=source)
    with pytest.raises(ValueError, match=r"^export: got .*, which is read: init_from, expected an"):
        workdir.check(config, resume=False)
    (tmp_path / "folder.safetensors").mkdir()
    config = dataclasses.replace(_config(tmp_path), export=f"{tmp_path}/folder.safetensors")
    with pytest.raises(ValueError, match=r"^export: got .*, a folder, expected a file"):
        workdir.check(config, resume=False)
    for name, wrong in (("export", "cat.png"), ("workdir", "")):
        with pytest.raises(ValueError, match=f"^{name}: got '{wrong}', expected a f"):
            dataclasses.replace(smoke, **{name: wrong})
