"""A framework's process, as its driver sees it, and the machine it runs on."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import eval


class Process:
    """A framework's process.

    Args:
        name: of the framework.
        module: that opens it.
        python: its interpreter.
        threads: cores it is held to.
        flags: of XLA, by framework.
    """

    def __init__(
        self, name: str, module: str, python: str, threads: int, flags: Mapping[str, str]
    ) -> None:
        self.name = name
        words = [python, "-m", "eval.costs.peers.child", module, name, str(threads)]
        self._process = subprocess.Popen(
            words,
            env=_environment(flags.get(name, "")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._read()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """An answer; a process that is gone has an error."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"the process of {self.name} ended, see above"}
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


def _environment(flags: str) -> dict[str, str]:
    top = str(Path(eval.__file__).parent.parent)  # for the child to find eval
    path = os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))
    found = {**os.environ, "PYTHONPATH": path}
    found["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # they share a GPU
    found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} {flags}".strip()
    return found


def processor() -> str:
    """The processor's name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
