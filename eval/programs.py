"""What `python -m eval NAME` runs, found by its file: a protocol, a study, a cost, a report.

A program is a module with a `PROTOCOL`, or with a `main` and the kind of settings that it takes.
"""

import ast
import functools
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import tyro

from eval.run.protocol import Metric, Protocol
from eval.run.record import table
from eval.run.runner import run
from eval.run.settings import check_numbers
from jaxcam._ground import watch
from jaxcam._ground.errors import ArgumentError
from jaxcam._ground.files import homed
from jaxcam._ground.stops import CODE, INTERRUPTED, Stopped

HERE = Path(__file__).parent
ROOMS = ("protocols", "studies", "costs", "reporting", "subjects")
_MARKS = {"PROTOCOL", "main"}


@functools.cache
def names(rooms: tuple[str, ...] = ROOMS) -> Mapping[str, str]:
    """The programs of some rooms: the module of each, by its name."""
    found = {}
    for room in rooms:
        for path in sorted((HERE / room).glob("*.py")):
            if _MARKS & _defined(path):
                found[path.stem] = f"eval.{room}.{path.stem}"
    return found


def _defined(path: Path) -> set[str]:
    """The names that a module defines, from its text: nothing is imported to list programs."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.add(ast.unparse(node.targets[0]))
    return found


def find(name: str) -> ModuleType:
    """A program's module.

    Raises:
        ValueError: there is no such program.
    """
    known = names()
    if name not in known:
        raise ArgumentError("NAME", repr(name), f"any of {', '.join(known)}")
    return importlib.import_module(known[name])


def protocols() -> dict[str, Protocol]:
    """The protocols of eval/protocols by name, those that explain once first."""
    found = []
    for name in names(("protocols",)):
        found.append(find(name).PROTOCOL)
    found.sort(key=lambda protocol: protocol.again is not None)
    return {protocol.name: protocol for protocol in found}


def metrics(name: str) -> Mapping[str, Metric]:
    """How the metrics of a program's records are shown; nothing of one that is not known."""
    if name not in names():
        return {}
    module = find(name)
    if hasattr(module, "PROTOCOL"):
        return module.PROTOCOL.metrics
    return getattr(module, "METRICS", {})


def columns(record: Mapping[str, Any]) -> list[str]:
    """The metrics of a record that tables show, in the protocol's order.

    Those named `CHANGE/METRIC` by their last part; all that are numbers where nothing is said.
    """
    numbers: dict[str, None] = {}
    for by_layer in record["results"].values():
        for found in by_layer.values():
            for metric, summary in found.items():
                if "low" in summary:
                    numbers[metric] = None
    known = metrics(record["protocol"])
    if not known:
        return list(numbers)
    order = [name for name, metric in known.items() if metric.shown]
    shown = [metric for metric in numbers if metric.rpartition("/")[2] in order]
    if any("/" in metric for metric in shown):
        return shown
    return sorted(shown, key=order.index)


def carry_out(name: str, words: list[str]) -> None:
    """Runs a program as a command. What is wrong with its words or files is one line, status 1.

    A protocol that is sent SIGTERM ends after the group of photos under way, status 143 (a second
    SIGTERM ends it at once); Ctrl-C is status 130. The same command then goes on.

    Args:
        name: of the program.
        words: what follows it on the command line.
    """
    try:
        module = find(name)
        sys.argv = [f"eval {name}", *words]  # as a record holds the command
        about = {"prog": f"python -m eval {name}", "description": module.__doc__}
        main(module, tyro.cli(_kind(module), args=homed(words), **about))
    except (ValueError, OSError, ImportError) as error:
        watch.failed(error)
        watch.fail(f"eval {name}: {' '.join(str(error).split()) or type(error).__name__}")
    except RuntimeError as error:
        watch.failed(error)
        raise
    except Stopped as error:
        print(f"eval {name}: {error}", file=sys.stderr, flush=True)
        sys.exit(CODE)
    except KeyboardInterrupt:
        print(f"eval {name}: interrupted; the same command goes on", file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


def _kind(module: ModuleType) -> Any:
    """The settings that a program takes, a dataclass."""
    if hasattr(module, "PROTOCOL"):
        return module.PROTOCOL.settings
    return get_type_hints(module.main)["settings"]


def main(module: ModuleType, settings: Any) -> None:
    """What a program does; a protocol that says nothing else prints its table."""
    check_numbers(settings)
    if hasattr(module, "main"):
        module.main(settings)
        return
    record = run(settings, module.PROTOCOL)
    print(table(record, columns(record)))


def older(module: str, name: str) -> None:
    """Runs a program under the name that it had once: `python -m eval.NAME`.

    Args:
        module: `__name__` of the file of that name: nothing happens when it is imported.
        name: of the program.
    """
    if module == "__main__":
        carry_out(name, sys.argv[1:])
