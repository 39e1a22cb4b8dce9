"""Time to the first picture: what `jaxcam explain PHOTO` takes, by phase, the first time and later.

Each run is the command itself in a process of its own, with a stopwatch around its parts. The first
finds an empty cache folder, the second what the first has kept there. Seconds are those of the
processor, which other work does not lengthen much; what the disk takes to read Python's files for
the first time is in none of them.
"""

import contextlib
import functools
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import eval

PHASES = ("interpreter", "imports", "weights", "trace", "compile", "run", "drawing")
RUNS = ("first", "second")
_IMPORTED = ("jaxcam.cli", "jaxcam.models", "matplotlib.figure", "matplotlib.backends.backend_agg")
# What belongs to a phase; all else of the command is "run".
_PARTS = (
    ("weights", "jaxcam.classifier", "load"),
    ("trace", "jaxcam.cli.network", "Network._program"),
    ("compile", "jax.stages", "Lowered.compile"),
    ("drawing", "jaxcam.pictures", "save"),
)
_EVENTS = {
    "/jax/core/compile/backend_compile_duration": "asked",
    "/jax/compilation_cache/cache_retrieval_time_sec": "found",
}


class Seconds(NamedTuple):
    """Of a phase: the processor's in the program and in the system, and the clock's."""

    user: float = 0.0
    system: float = 0.0
    wall: float = 0.0


class Run(NamedTuple):
    """A command's seconds by phase, how many programs it asked for, and how many were kept."""

    phases: Mapping[str, Seconds]
    asked: int
    found: int

    @property
    def total(self) -> Seconds:
        """Of all phases."""
        return Seconds(*map(sum, zip(*self.phases.values(), strict=True)))


class Stopwatch:
    """Seconds by phase; a phase within another is not the other's."""

    def __init__(self) -> None:
        self.seconds: dict[str, Seconds] = dict.fromkeys(PHASES, Seconds())
        self._last = Seconds(0.0, 0.0, time.perf_counter())

    def tick(self, phase: str) -> None:
        """All since the last tick was that phase."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        now = Seconds(used.ru_utime, used.ru_stime, time.perf_counter())
        before = self.seconds[phase]
        parts = zip(before, now, self._last, strict=True)
        self.seconds[phase] = Seconds(*(total + new - old for total, new, old in parts))
        self._last = now

    @contextlib.contextmanager
    def within(self, phase: str, outer: list[str]) -> Iterator[None]:
        """The block is a phase; `outer` are those it is within."""
        self.tick(outer[-1])
        outer.append(phase)
        try:
            yield
        finally:
            self.tick(outer.pop())


def measure(
    words: tuple[str, ...] = (), rounds: int = 3, python: str = sys.executable
) -> dict[str, Run]:
    """Medians of rounds of a first and a second run.

    Args:
        words: of `jaxcam explain`, after the photo.
        rounds: each with a cache folder of its own.
        python: the interpreter.

    Raises:
        ChildProcessError: the command failed, and has said why.
    """
    found: dict[str, list[Run]] = {name: [] for name in RUNS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name in RUNS:
                found[name].append(_run(words, Path(folder), python))
    return {name: _median(runs) for name, runs in found.items()}


def _median(runs: list[Run]) -> Run:
    """The run in the middle, by the processor's seconds."""
    ordered = sorted(runs, key=lambda run: run.total.user + run.total.system)
    return ordered[len(ordered) // 2]


def _run(words: tuple[str, ...], folder: Path, python: str) -> Run:
    call = f"from eval.costs import first; first.child({time.time()}, {words!r}, {str(folder)!r})"
    top = str(Path(eval.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(folder)}
    ended = subprocess.run([python, "-c", call], env=env, capture_output=True, text=True)
    if ended.returncode:
        raise ChildProcessError(f"failed: jaxcam explain {' '.join(words)}\n{ended.stderr}")
    told = json.loads(ended.stdout.splitlines()[-1])
    phases = {name: Seconds(*seconds) for name, seconds in told.pop("phases").items()}
    return Run(phases, **told)


def child(started: float, words: tuple[str, ...], folder: str) -> None:
    """The command in this process; its last line is a JSON object of what it took."""
    watch = Stopwatch()
    watch.tick("interpreter")
    took = watch.seconds["interpreter"]
    watch.seconds["interpreter"] = took._replace(wall=time.time() - started)
    for name in _IMPORTED:
        importlib.import_module(name)
    watch.tick("imports")
    counted = _counted()
    outer = ["run"]
    for phase, module, name in _PARTS:
        _time(watch, phase, outer, importlib.import_module(module), name)
    watch.tick("imports")
    sys.argv = ["jaxcam", "explain", str(_photo()), "-o", folder, *words]
    code = importlib.import_module("jaxcam.cli").main()
    watch.tick("run")
    print(json.dumps({"phases": watch.seconds, **counted}))
    sys.exit(code)


def _photo() -> Path:
    """scikit-image's cat; the package itself is not imported."""
    found = importlib.util.find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data" / "chelsea.png"


def _time(watch: Stopwatch, phase: str, outer: list[str], module: Any, name: str) -> None:
    """Puts the stopwatch around a function or method."""
    *owners, last = name.split(".")
    owner = functools.reduce(getattr, owners, module)
    inner: Callable = getattr(owner, last)

    @functools.wraps(inner)
    def timed(*args: Any, **options: Any) -> Any:
        with watch.within(phase, outer):
            return inner(*args, **options)

    setattr(owner, last, timed)


def _counted() -> dict[str, int]:
    """How many programs are asked for, and found in the cache, from now on."""
    counted = dict.fromkeys(_EVENTS.values(), 0)

    def note(event: str, *_: Any, **__: Any) -> None:
        if event in _EVENTS:
            counted[_EVENTS[event]] += 1

    importlib.import_module("jax").monitoring.register_event_duration_secs_listener(note)
    return counted


def table(runs: Mapping[str, Run]) -> str:
    """The runs as a Markdown table: user and system seconds of each phase, then the totals."""
    lines = [f"| | {' | '.join(runs)} |", "|---" * (len(runs) + 1) + "|"]
    for phase in PHASES:
        cells = []
        for run in runs.values():
            seconds = run.phases[phase]
            cells.append(f"{seconds.user:.2f} + {seconds.system:.2f}")
        lines.append(f"| {phase} | {' | '.join(cells)} |")
    totals = [run.total for run in runs.values()]
    used = " | ".join(f"{total.user:.2f} + {total.system:.2f}" for total in totals)
    wall = " | ".join(f"{total.wall:.2f}" for total in totals)
    compiled = " | ".join(str(run.asked - run.found) for run in runs.values())
    lines.append(f"| all, user + system s | {used} |")
    lines.append(f"| wall s | {wall} |")
    lines.append(f"| programs compiled | {compiled} |")
    return "\n".join(lines)
