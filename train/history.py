"""What a run has been trained with: kept with every checkpoint, compared when it goes on."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from configs import Classification
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.text import counted

Differences = dict[str, str]
# What changes no bit of the steps to come; and the number of epochs, that a run can be made longer.
_FREE = {
    "name",
    "workdir",
    "export",
    "export_dtype",
    "answers",
    "workers",
    "log_every",
    "checkpoint_every",
    "parallel",
    "unreadable",
    "epochs",
}
OPTION = "--allow-changes"


@dataclasses.dataclass
class History:
    """What a run has been trained with.

    Args:
        config: the run's now.
        photos: how many there are to train on.
        classes: their classes.
        changes: what was changed when the run went on, in words with the step.
        damaged: checkpoints that could not be used, by step.
    """

    config: Classification
    photos: int
    classes: tuple[str, ...]
    changes: list[str] = dataclasses.field(default_factory=list)
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """What is kept with a checkpoint, as JSON holds it."""
        return {
            "config": plain(self.config),
            "photos": self.photos,
            "classes": list(self.classes),
            "changes": self.changes,
            "damaged": self.damaged,
        }

    def differences(self, about: Mapping[str, Any]) -> Differences:
        """Where the config, photos or classes are not those of a checkpoint, and how.

        Nothing of a checkpoint that does not say: of a run of before that was kept.
        """
        found: Differences = {}
        theirs = about.get("config", {})
        for name, ours in plain(self.config).items():
            # a field that there was not yet was what it is by default
            if name not in _FREE and name in theirs and theirs[name] != ours:
                found[name] = f"{name} {theirs[name]!r} there, {ours!r} here"
        if about.get("photos", self.photos) != self.photos:
            found["photos"] = (
                f"{counted(about['photos'], 'training photo')} there, {self.photos} here"
            )
        if tuple(about.get("classes", self.classes)) != self.classes:
            found["classes"] = (
                f"{counted(len(about['classes']), 'class')} there, {len(self.classes)} here"
            )
            if len(about["classes"]) == len(self.classes):
                found["classes"] = "classes of other names"
        return found

    def check(self, about: Mapping[str, Any], allowed: bool) -> None:
        """Whether the run can go on from a checkpoint with this config.

        Args:
            about: what is kept with it.
            allowed: whether it may differ in what the network's form does not hang on.

        Raises:
            ValueError: it differs, and how.
        """
        found = self.differences(about)
        if found and not (allowed and "classes" not in found):
            said = ", ".join(found.values())
            expected = "what the run was trained with"
            if "classes" not in found:
                expected = f"{expected}, or {OPTION} to go on all the same"
            raise ArgumentError("--resume", said, expected)

    def go_on(self, about: Mapping[str, Any], step: int, total: int) -> None:
        """Takes over what a checkpoint says, and notes what changes from here.

        Args:
            about: what is kept with it.
            step: after which it was saved.
            total: steps in all.

        Raises:
            ValueError: something would change of which no step is left to make use.
        """
        found = self.differences(about)
        if found and step >= total:
            said = f"{', '.join(found.values())}; all {total} steps are done"
            raise ArgumentError(
                "--resume", said, "what the run was trained with: nothing is left to train"
            )
        self.changes = list(about.get("changes", []))
        self.damaged = dict(about.get("damaged", {}))
        theirs = about.get("config", {}).get("epochs", self.config.epochs)
        if theirs != self.config.epochs:
            found["epochs"] = f"epochs {theirs!r} there, {self.config.epochs!r} here"
        for said in found.values():
            self.changes.append(f"after step {step}: {said}")


def plain(config: Classification) -> dict[str, Any]:
    """A config as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
