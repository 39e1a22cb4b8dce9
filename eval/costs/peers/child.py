"""A framework in a process of its own: requests on stdin, answers on stdout, a JSON object a line.

    python -m eval.costs.peers.child MODULE NAME THREADS

`MODULE.opened(NAME)` gives the framework, a `Framework`; what is not installed raises ImportError.
Neither JAX nor jaxcam is imported here: PyTorch's processes may run in an environment without them.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple, Protocol

import numpy as np


class LeftOut(Exception):
    """What a framework cannot do, and why: a row says it."""


class Call(NamedTuple):
    """What is timed.

    Args:
        run: of what `before` gave -> a result, which is there when it returns.
        shown: of a result -> the array that is compared with the others', or None.
        before: what each call starts from, and is not timed.
    """

    run: Callable[[Any], Any]
    shown: Callable[[Any], np.ndarray | None]
    before: Callable[[], Any] = lambda: None


class Framework(Protocol):
    """What a process drives."""

    def versions(self) -> dict[str, str]:
        """Of the packages, by name."""
        ...

    def make(self, setup: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the weights and images that all frameworks read; of the first one only."""
        ...

    def load(self, setup: Mapping[str, Any]) -> None:
        """Reads them."""
        ...

    def call(self, case: Mapping[str, Any]) -> Call:
        """What a case is here."""
        ...


class Worker:
    """Answers requests about one framework."""

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        self.calls: dict[str, Call] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a request is answered; what goes wrong is its `error`."""
        try:
            return getattr(self, request["do"])(request)
        except LeftOut as error:
            return {"left_out": str(error)}
        except Exception as error:
            return _failed(error)

    def versions(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Of the framework's packages."""
        del request
        return {"versions": self.framework.versions()}

    def make(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The files that all frameworks read."""
        return self.framework.make(request["setup"])

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Reads them."""
        self.framework.load(request["setup"])
        return {}

    def prepare(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The first call, with all that is compiled or built for it, and one to warm up."""
        start = time.perf_counter()
        call = self.framework.call(request["case"])
        result = call.run(call.before())
        first = time.perf_counter() - start
        shown = call.shown(result)
        if shown is not None:
            np.save(request["save"], np.asarray(shown, np.float64))
        call.run(call.before())
        self.calls[request["entry"]] = call
        return {"first": first, "shown": shown is not None}

    def turn(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One timed call: seconds of the clock and of the processor, and the peak of memory."""
        call = self.calls[request["entry"]]
        given = call.before()
        counted = forget_peak()
        processor = time.process_time()
        start = time.perf_counter()
        call.run(given)
        seconds = time.perf_counter() - start
        processor = time.process_time() - processor
        found: dict[str, Any] = {"seconds": seconds, "processor": processor}
        if counted:
            found["memory"] = peak()
        return found

    def drop(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Forgets a call."""
        self.calls.pop(request["entry"], None)
        return {}


def peak() -> int:
    """Bytes of memory that the process has held at once."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> bool:
    """Whether the peak counts from now on: Linux can, where it lets us."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def hold_to(threads: int) -> None:
    """Keeps the process, and so both frameworks' pools, to as many cores; before their import."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])


def own_output() -> IO[str]:
    """The stream for answers; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def main(module: str, name: str, threads: str) -> None:
    """Answers until stdin ends."""
    answers = own_output()
    hold_to(int(threads))
    try:
        worker = Worker(importlib.import_module(module).opened(name))
    except ImportError as error:
        _say(answers, {"missing": error.name or str(error)})
        return
    except Exception as error:  # packages that do not fit each other
        _say(answers, _failed(error))
        return
    _say(answers, worker.answer({"do": "versions"}))
    for line in sys.stdin:
        _say(answers, worker.answer(json.loads(line)))


def _failed(error: Exception) -> dict[str, Any]:
    said = " ".join(str(error).split())[:300]
    return {"error": f"{type(error).__name__}: {said}"}


def _say(answers: IO[str], found: Mapping[str, Any]) -> None:
    answers.write(json.dumps(found) + "\n")
    answers.flush()


if __name__ == "__main__":
    # Under its own name: frameworks raise this module's `LeftOut`.
    importlib.import_module("eval.costs.peers.child").main(*sys.argv[1:])
