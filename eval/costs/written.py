"""What a run of `eval speed` leaves: a JSON file, and beside it the table as it was printed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import jaxcam
from eval.costs.peers.process import processor
from eval.costs.peers.report import command
from jaxcam._ground import files


def write(output: Path, shown: str, **records: Any) -> None:
    """Writes `NAME.json` and `NAME.md`, with the command, the machine and the versions.

    Args:
        output: the JSON file.
        shown: the table.
        **records: what the table shows: numbers, text, dicts, lists and named tuples of them.
    """
    load = f"load {os.getloadavg()[0]:.1f} at the end"
    held: Mapping[str, Any] = {
        "command": command(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {load}",
        "versions": {"jaxcam": jaxcam.__version__, "jax": jax.__version__},
        **_plain(records),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(output, json.dumps(held, indent=1) + "\n")
    versions = ", ".join(f"{name} {version}" for name, version in held["versions"].items())
    about = f"`{held['command']}`\n\n{held['machine']}; {versions}"
    files.write_text(output.with_suffix(".md"), f"{about}\n\n{shown}\n")


def _plain(record: Any) -> Any:
    """Named tuples as dicts of their fields."""
    if hasattr(record, "_asdict"):
        record = record._asdict()
    if isinstance(record, list):
        return list(map(_plain, record))
    if not isinstance(record, Mapping):
        return record
    found = {}
    for name, each in record.items():
        found[name] = _plain(each)
    return found
