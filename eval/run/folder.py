"""The folder that a run claims: `settings.json`, its parts, and at the end what it found.

A folder belongs to a run as soon as there is a value of it; until then another may take it.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from eval.run.parts import wait
from eval.run.record import write_json
from eval.run.settings import BEFORE, options_of, plain
from jaxcam._ground import files, locks
from jaxcam._ground.devices import by_writer
from jaxcam._ground.errors import ArgumentError

PHOTOS = "photos"
PREDICTIONS = "predictions"
_OURS = (PHOTOS, PREDICTIONS)  # the parts that are no method's
_FILE = "settings.json"
_PARTS = "parts"
# What does not change a method's values.
_FREE = frozenset(
    {"output", "root", "methods", "batch", "chunk", "maps", "distributed", "unreadable"}
)
_VERSION = {"version": 1}  # of a protocol that does not say it


@dataclasses.dataclass(frozen=True)
class Folder:
    """A run's folder, of a run with these settings.

    Args:
        path: of the folder.
        settings: of the run, as JSON holds them.
        usual: what a setting was before there was that setting.
    """

    path: Path
    settings: Mapping[str, Any]
    usual: Mapping[str, Any]

    def check(self) -> None:
        """Whether it is a folder without a run, or one of a run with the same settings.

        Methods may differ, and options of methods that only one of the two names. Another run that
        has no value yet, because it was refused or stopped early, does not count. Changes nothing.

        Raises:
            ValueError: the folder holds another run.
        """
        if self._has_values() and (different := self._different()):
            got = f"{self.path}, which holds another run: {different}"
            raise ArgumentError("output", got, "another folder, or the same settings")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No other run gets into the folder until the block ends; process 0 sees to it for all.

        Raises:
            ValueError: another run is at work there.
            OSError: it cannot be written.
        """
        with contextlib.ExitStack() as stack:
            by_writer(lambda: stack.enter_context(locks.held(self.path, "output")))
            yield

    def claim(self) -> None:
        """Takes the folder, and removes what a run without values has left there.

        Process 0 does it for all; the others return when it is done.

        Raises:
            ValueError: the folder holds another run.
        """
        self.check()
        path = self.path / _FILE
        if jax.process_index() == 0:
            held = dict(self.settings)
            if self._different():
                shutil.rmtree(self.path / _PARTS, ignore_errors=True)
            elif path.exists():
                held = self._with_earlier()
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(path, held)
        wait(lambda: path.exists() and not self._different())

    def confirm(self) -> None:
        """Whether the folder is still this run's, as one without values can be taken.

        Raises:
            ValueError: another run has taken it.
        """
        if different := self._different():
            got = f"{self.path}, which another run has taken meanwhile: {different}"
            raise ArgumentError("output", got, "a folder for each run")

    def part(self, name: str) -> Path:
        """The file that holds a method's values, or those of `PHOTOS` or `PREDICTIONS`."""
        return self.path / _PARTS / f"{name}.npz"

    def _different(self) -> str:
        """What distinguishes the run in the folder from this one; nothing if there is none."""
        path = self.path / _FILE
        if not path.exists():
            return ""
        theirs = {**_VERSION, **self.usual, **files.read_json(path)}
        ours = {**_VERSION, **self.settings}
        both = set(ours.get("methods", ())) & set(theirs.get("methods", ()))
        theirs["options"] = options_of(theirs, both)
        ours["options"] = options_of(ours, both)
        different = []
        for key, value in ours.items():
            # A run of before there were digests is taken at its word.
            if key not in _FREE and value != theirs.get(key, value):
                different.append(f"{key} {theirs[key]!r} there, {value!r} here")
        return ", ".join(different)

    def _with_earlier(self) -> dict[str, Any]:
        """The settings with the methods, and options, of which there are values from before."""
        ours = dict(self.settings)
        if "methods" not in ours:
            return ours
        theirs = files.read_json(self.path / _FILE)
        # NAME.npz, or NAME/ under way
        begun = {each.stem for each in (self.path / _PARTS).glob("*")}
        more = []
        for name in theirs["methods"]:
            if name in begun and name not in ours["methods"]:
                more.append(name)
        ours["methods"] = ours["methods"] + more
        ours["options"] = ours["options"] + options_of(theirs, more)
        return ours

    def _has_values(self) -> bool:
        """Whether a run has a value: of a group of photos by a method, or all it was to make."""
        parts = self.path / _PARTS
        for file in parts.rglob("*.npz"):
            name, _, _ = Path(file.relative_to(parts).parts[0]).stem.partition("-")
            if name not in _OURS:
                return True
        return any(file.name != _FILE for file in self.path.glob("*.json"))


def of(settings: Any, protocol: str, version: int = 1) -> Folder:
    """The folder of a run.

    Args:
        settings: a dataclass with `output`. A setting that an older run does not know had the value
            that is its default now, unless its field says otherwise.
        protocol: its name.
        version: of what its values mean.
    """
    usual = {}
    for field in dataclasses.fields(settings):
        usual[field.name] = field.metadata.get(BEFORE, field.default)
    return Folder(settings.output, plain(settings, protocol, version), usual)
