"""The frameworks in turn: a process each, the same weights and images, agreement before time.

In each round of a row every framework makes one call, and so do the two forward passes that are the
units, jaxcam's and PyTorch's: what else the machine does slows all of them alike.
"""

import dataclasses
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.costs.peers import cases
from eval.costs.peers.measures import difference, failure, summary
from eval.costs.peers.process import Process, processor
from jaxcam._ground.errors import check_choice, check_whole

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
# Settings of `eval speed` that a request takes as they are.
SHARED = (
    "methods",
    "rounds",
    "threads",
    "channels_last",
    "compile_torch",
    "tf32",
    "limit",
    "python",
)
LEAST = 3  # rounds, however long they take


@dataclasses.dataclass(frozen=True)
class Request:
    """What is compared.

    Args:
        frameworks: names of `cases.FRAMEWORKS`; jaxcam always is among them.
        methods: names of cases, or of calls for all their layers; none: all.
        model: of torchvision's names.
        image_size: height and width, pixels.
        batch: images a call.
        dtype: of weights and images.
        threads: cores of each process.
        rounds: timed calls of each.
        limit: seconds after which a row has no further round, once it has three.
        channels_last: whether PyTorch's models and images have this layout.
        compile_torch: whether a forward pass by `torch.compile` is among those measured.
        tf32: whether products of float32 numbers may have 10 bits, on GPUs that can.
        python: the interpreter of PyTorch's processes, if of another environment.
        seed: of weights and images.
    """

    frameworks: tuple[str, ...] = cases.FRAMEWORKS
    methods: tuple[str, ...] = ()
    model: str = "resnet18"
    image_size: int = 96
    batch: int = 1
    dtype: str = "float32"
    threads: int = 1
    rounds: int = 9
    limit: float = 60.0
    channels_last: bool = False
    compile_torch: bool = False
    tf32: bool = False
    python: str = sys.executable
    seed: int = 0


class Entry(NamedTuple):
    """A framework's part in a row."""

    framework: str
    form: str = ""

    @property
    def name(self) -> str:
        """Of a column."""
        if self.form:
            return f"{self.framework}, {self.form}"
        return self.framework


def chosen(request: Request) -> list[cases.Case]:
    """The cases of a request.

    Raises:
        ValueError: an unknown framework, model or method; the message has the nearest.
    """
    for name in request.frameworks:
        check_choice("peers", name, cases.FRAMEWORKS)
    check_choice("model", request.model, cases.STAGES)
    check_choice("dtype", request.dtype, TOLERANCE)
    for name in ("image_size", "batch", "threads", "rounds"):
        check_whole(name, getattr(request, name), 1)
    known = cases.cases(request.model)
    if not request.methods:
        return known
    names: dict[str, None] = {}
    for case in known:
        names[case.name] = None
        names[case.call] = None
    for name in request.methods:
        check_choice("methods", name, [*names, cases.FORWARD], kind="methods")
    return [case for case in known if {case.name, case.call} & set(request.methods)]


class Turns:
    """A run: `rows` gives a record of each row, as soon as it is measured."""

    def __init__(self, request: Request, modules: Mapping[str, str] | None = None) -> None:
        self.request = request
        self.cases = chosen(request)
        self.modules = modules or {
            name: cases.MODULES.get(name, cases.MODULES[cases.SIDE]) for name in cases.FRAMEWORKS
        }
        self.processes: dict[str, Process] = {}
        self.left_out: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.device = ""
        self.load = os.getloadavg()[0]
        self.units: dict[str, Entry] = {}  # the fastest forward pass of each side

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows, the forward passes first.

        Raises:
            ChildProcessError: jaxcam's own process failed, or all others did.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            try:
                self._start()
                yield self._forward()
                for case in self.cases:
                    yield self._row(case)
            finally:
                for process in self.processes.values():
                    process.close()

    # Processes ------------------------------------------------------------

    def _start(self) -> None:
        request = self.request
        names = [cases.OURS, *(name for name in request.frameworks if name != cases.OURS)]
        setup = {
            **dataclasses.asdict(request),
            "weights": str(self.folder / "weights.npz"),
            "images": str(self.folder / "images.npz"),
        }
        for name in names:
            self._open(name, setup)
        if cases.OURS not in self.processes:
            raise ChildProcessError(f"peers: {cases.OURS}: {self.left_out[cases.OURS]}")
        if names[1:] and len(self.processes) == 1:
            reasons = "; ".join(f"{name}: {self.left_out[name]}" for name in names[1:])
            raise ChildProcessError(f"peers: none can run: {reasons}")

    def _open(self, name: str, setup: Mapping[str, Any]) -> None:
        python = self.request.python
        if name.startswith(cases.OURS):
            python = sys.executable
        process = Process(name, self.modules[name], python, self.request.threads, cases.FLAGS)
        answers = [process.about]
        if name == cases.OURS and "versions" in process.about:
            answers.append(process.ask("make", setup=setup))
            self.device = answers[-1].get("device", "")
        if "versions" in process.about:
            answers.append(process.ask("load", setup=setup))
        for answer in answers:
            if reason := failure(answer):
                self.left_out[name] = reason
                process.close()
                return
        self.versions |= process.about["versions"]
        self.processes[name] = process

    def record(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the JSON holds beside the command."""
        return {
            "request": dataclasses.asdict(self.request) | {"python": Path(sys.executable).name},
            "versions": {"python": platform.python_version(), **self.versions},
            "machine": {
                "processor": processor(),
                "cores": os.cpu_count(),
                "device": self.device,
                "load": [self.load, os.getloadavg()[0]],
            },
            "left_out": self.left_out,
            "units": {side: entry.name for side, entry in self.units.items()},
            "rows": list(rows),
        }

    # Rows -----------------------------------------------------------------

    def _forward(self) -> dict[str, Any]:
        """All forms of a forward pass; the fastest of each side becomes its unit."""
        entries = []
        for name, forms in cases.FORMS.items():
            if name in self.processes:
                entries += [Entry(name, form) for form in forms]
        if self.request.compile_torch and cases.TORCH in self.processes:
            entries.append(Entry(cases.TORCH, "compile"))
        call = cases.Call("f(x)", {cases.TORCH: "model(images)"}, sign="values")
        row = self._measured(cases.Case(cases.FORWARD), call, entries, [])
        for entry in entries:
            found = row["entries"][entry.name]
            best = self.units.get(entry.framework)
            if "error" in found:
                continue
            if best is None or _median(found) < _median(row["entries"][best.name]):
                self.units[entry.framework] = entry
        for entry in self.units.values():
            self._prepare(cases.Case(cases.FORWARD), entry, _unit(entry))
        return row

    def _row(self, case: cases.Case) -> dict[str, Any]:
        call = cases.CALLS[case.call]
        names = [cases.OURS]
        for name in (cases.FASTER, *call.there):
            if name in self.processes:
                names.append(name)
        return self._measured(case, call, list(map(Entry, names)), list(self.units.values()))

    def _measured(
        self,
        case: cases.Case,
        call: cases.Call,
        entries: Sequence[Entry],
        units: Sequence[Entry],
    ) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        for entry in entries:
            found[entry.name] = self._prepare(case, entry, entry.name)
        self._compare(call, entries, found)
        self._time(case, entries, found, units)
        for entry in entries:
            self.processes[entry.framework].ask("drop", entry=entry.name)
        return {"name": case.name, "call": case.call, "layer": case.layer, "entries": found}

    def _prepare(self, case: cases.Case, entry: Entry, name: str) -> dict[str, Any]:
        asked = {"call": case.call, "layer": case.layer, "form": entry.form}
        answer = self.processes[entry.framework].ask(
            "prepare", entry=name, case=asked, save=str(self._map(entry))
        )
        if reason := failure(answer):
            return {"error": reason}
        return {"first_seconds": answer["first"], "shown": answer["shown"]}

    def _map(self, entry: Entry) -> Path:
        return self.folder / f"{entry.name.replace('/', '_')}.npy"

    def _compare(
        self,
        call: cases.Call,
        entries: Sequence[Entry],
        found: Mapping[str, dict[str, Any]],
    ) -> None:
        """Each map against the first one, ours."""
        first = found[entries[0].name]
        for entry in entries[1:]:
            each = found[entry.name]
            if not call.sign or not each.get("shown") or not first.get("shown"):
                continue
            ours = np.load(self._map(entries[0]))
            each["difference"] = difference(ours, np.load(self._map(entry)), call.sign)
            each["agrees"] = each["difference"] <= TOLERANCE[self.request.dtype]
        for each in found.values():
            each.pop("shown", None)

    def _time(
        self,
        case: cases.Case,
        entries: Sequence[Entry],
        found: Mapping[str, dict[str, Any]],
        units: Sequence[Entry],
    ) -> None:
        """Rounds, the order turned by one from each to the next."""
        calls = {}
        for entry in units:
            calls[_unit(entry)] = entry
        for entry in entries:
            if "error" not in found[entry.name]:
                calls[entry.name] = entry
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
        started = time.monotonic()
        order = list(calls)
        for number in range(self.request.rounds):
            if number >= LEAST and time.monotonic() - started > self.request.limit:
                break
            order = [*order[1:], *order[:1]]
            for name in order:
                answer = self.processes[calls[name].framework].ask("turn", entry=name)
                turns[name].append(answer)
        for entry in entries:
            if entry.name in turns:
                unit = self.units.get(_side(entry.framework))
                passes = turns.get(_unit(unit)) if unit else None
                less = case.call.startswith(cases.LESS_FORWARD) and unit == self.units.get(
                    entry.framework
                )
                found[entry.name].update(summary(turns[entry.name], passes, less))


def _median(found: Mapping[str, Any]) -> float:
    return found["seconds"]["median"]


def _side(framework: str) -> str:
    """Whose forward pass is a framework's unit."""
    if framework.startswith(cases.OURS):
        return framework
    return cases.TORCH


def _unit(entry: Entry) -> str:
    return f"forward of {entry.framework}"
