"""The papers' protocols: `python -m eval` lists them, `python -m eval NAME --options` runs one."""

from pathlib import Path

# `python -m eval.NAME`, as programs were called once: a file of one line each.
__path__.append(str(Path(__file__).parent / "older"))
