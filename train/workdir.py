"""The folder of a run: whose it is, found out and held before anything in it is touched."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from configs import Classification
from jaxcam import datasets
from jaxcam._ground import locks
from jaxcam._ground.devices import by_writer
from jaxcam._ground.errors import ArgumentError, ArgumentFileError


def folder(workdir: str) -> Path:
    """Where a run's checkpoints are."""
    return (Path(workdir) / "checkpoints").absolute()


def steps(workdir: str) -> list[int]:
    """The steps of which there are checkpoints, in order; looks and changes nothing."""
    found = []
    for path in folder(workdir).glob("*"):
        if path.name.isdecimal() and path.is_dir():
            found.append(int(path.name))
    return sorted(found)


@contextlib.contextmanager
def claimed(config: Classification, resume: bool) -> Iterator[None]:
    """The workdir is this run's until the block ends. Of several processes the first one holds it.

    What is refused has changed nothing.

    Args:
        config: its workdir.
        resume: whether the run goes on from a checkpoint, or starts anew.

    Raises:
        ValueError: a living run is at work there.
        FileExistsError: the workdir holds checkpoints and `resume` is not set.
        FileNotFoundError: no checkpoint to resume from.
        OSError: it cannot be written.
    """
    with contextlib.ExitStack() as stack:

        def claim() -> None:
            locks.check(config.workdir, "workdir")
            check(config, resume)
            stack.enter_context(locks.held(config.workdir, "workdir"))
            check(config, resume)  # another may have come and gone meanwhile

        by_writer(claim)
        yield


def check(config: Classification, resume: bool) -> None:
    """Whether the workdir holds a checkpoint if there must be one, and none if there must not.

    Raises:
        FileExistsError: the workdir holds checkpoints and `resume` is not set.
        FileNotFoundError: no checkpoint to resume from.
        ValueError: what it writes would lie among the photos that it trains with, or replace the
            network that it begins with or its teacher.
    """
    if config.data != "synthetic":
        for name in ("workdir", "export", "answers"):
            if written := getattr(config, name, ""):
                datasets.check_apart(name, written, config.data)
    _check_export(config)
    some = bool(steps(config.workdir))
    if some and not resume:
        raise FileExistsError(
            f"workdir: {config.workdir} holds checkpoints; --resume, or name another"
        )
    if resume and not some:
        got = f"no checkpoint in {folder(config.workdir)}"
        raise ArgumentFileError("--resume", got, "one to go on from")


def _check_export(config: Classification) -> None:
    """No input is ever an output, and what cannot be written is known before the training."""
    export = Path(config.export)
    if export.is_dir():
        raise ArgumentError("export", f"{export}, a folder", "a file")
    for name in ("init_from", "teacher"):
        source = Path(getattr(config, name, None) or "").expanduser()
        if export.is_file() and source.is_file() and export.samefile(source):
            raise ArgumentError("export", f"{export}, which is read: {name}", "another file")
