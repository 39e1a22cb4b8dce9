"""What explainers, metrics and training steps cost on TPUs, from their compiler alone.

libtpu compiles on any x86-64 Linux machine for chips that are not there. Operations, bytes, memory
and collectives are then facts; times are the roofline's, max(operations / peak, bytes / bandwidth),
which no program is faster than.
"""

import dataclasses
import importlib.util
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import eval
import jaxcam
from eval.costs import chips
from jaxcam._ground import files
from jaxcam._ground.errors import ArgumentError

# What libtpu asks a TPU machine for; nothing of it decides what a topology is.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "",  # of this machine's XLA: libtpu aborts at flags for CPUs, and has its own
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
_PACKAGES = ("jax", "jaxlib", "libtpu", "flax")
WHICH = ("one", "all")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is compiled, and for what.

    Args:
        topology: chips and how they stand: v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2, v5e:16x16.
        model: of `jaxcam.models`, or "small".
        image_size: height and width, pixels.
        batch: images a chip.
        dtype: of the network's computation and of the images.
        methods: rows; none: all.
        chips: "one", "all" of the topology's, or both.
    """

    topology: str
    model: str = "small"
    image_size: int = 48
    batch: int = 8
    dtype: str = "bfloat16"
    methods: tuple[str, ...] = ()
    chips: tuple[str, ...] = WHICH


def installed() -> bool:
    """Whether libtpu is there; it is not imported, since JAX would look for its devices."""
    return importlib.util.find_spec("libtpu") is not None


def compiled(request: Request, kept: Sequence[Mapping] = ()) -> Iterator[dict[str, Any]]:
    """A record of each row, as soon as it is compiled, with the roofline's seconds.

    What cannot be compiled has an `error` instead, and so has at first each row that will be.

    Args:
        request: what to compile.
        kept: records of an earlier run, which take the place of compiling where the program is
            the same.

    Raises:
        ModuleNotFoundError: libtpu is not installed.
        ValueError: an unknown choice of chips.
        ChildProcessError: the compiling process failed.
    """
    if not installed():
        raise ModuleNotFoundError(
            "--compile-for: libtpu is not installed: pip install libtpu, in an environment of its "
            "own (x86-64 Linux), since JAX takes it for a TPU that is there"
        )
    for which in request.chips:
        if which not in WHICH:
            raise ArgumentError("chips", repr(which), f"any of {', '.join(WHICH)}")
    words = [sys.executable, "-m", "eval.costs.topology", json.dumps(dataclasses.asdict(request))]
    top = str(Path(eval.__file__).parent.parent)  # for the child to find eval
    path = os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": path}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process: Any = subprocess.Popen(words, env=environment, **pipes)
    with process:
        with process.stdin as handed:  # all is read before anything is written
            json.dump(list(kept), handed)
        for line in process.stdout:
            yield _timed(json.loads(line))
    if process.returncode:
        raise ChildProcessError(f"--compile-for {request.topology}: the compiler failed, see above")


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    if "error" in row:
        return row
    chip = chips.of(row["device"])
    operations = max(row["passes"], row["flops"])
    seconds = chips.seconds(chip, operations, row["traffic"])
    memory = row["arguments"] + row["results"] + row["temporaries"]
    bound = "memory"
    if operations / chip.flops >= row["traffic"] / chip.bandwidth:
        bound = "products"
    return {**row, "seconds": seconds, "bound": bound, "fits": memory <= chip.memory}


def record(request: Request, found: list[dict[str, Any]]) -> dict[str, Any]:
    """What the JSON holds."""
    # by itself: the distribution has another name
    versions = {"python": platform.python_version(), "jaxcam": jaxcam.__version__, **_versions()}
    peaks = {row["device"]: chips.of(row["device"])._asdict() for row in found}
    return {
        "command": shlex.join(["python", "-m", "eval", "speed", *sys.argv[1:]]),
        "request": dataclasses.asdict(request),
        "versions": versions,
        "chips": peaks,
        "rows": found,
    }


def table(found: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table; times also as multiples of the forward pass's."""
    lines = [
        "| | chips | GFLOP | with precision | MB | temporaries, MB | roofline, us | x forward | "
        "compiler's cycles, x forward | bound by | collectives | remarks |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = _forward(found)
    for row in found:
        if "error" in row:
            lines.append(f"| {row['name']} | {row['chips']} |{9 * ' |'} {row['error']} |")
            continue
        cells = [
            row["name"],
            str(row["chips"]),
            f"{row['flops'] / 1e9:.3g}",
            f"{row['passes'] / 1e9:.3g}",
            f"{row['traffic'] / 1e6:.3g}",
            f"{row['temporaries'] / 1e6:.3g}",
            f"{row['seconds'] * 1e6:.3g}",
            _ratio(row, base, "seconds"),
            _ratio(row, base, "cycles"),
            row["bound"],
            _collectives(row["collectives"]),
            "; ".join(remarks(row)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def remarks(row: Mapping[str, Any]) -> list[str]:
    """What is dear in a program, or wrong."""
    found = []
    operations = row["operations"]
    if "while" in operations:
        found.append(f"{operations['while']} loops, a round of each counted")
    for name in ("transpose", "copy", "gather", "scatter", "sort"):
        if operations.get(name, 0) > 2:
            found.append(f"{operations[name]} {name}")
    if row["padding"] > 2:
        found.append(f"padded x{row['padding']:.1f}")
    if "f64" in row["types"]:
        found.append("float64")
    for name in row["calls"]:
        if "callback" in name:
            found.append(name)
    if not row["fits"]:
        found.append("does not fit")
    return found


def _forward(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The forward pass, of as many images a chip."""
    for base in found:
        if base["name"] in ("forward", "forward, jit", "forward, shard_map"):
            return base
    return None


def _ratio(row: Mapping[str, Any], base: Mapping[str, Any] | None, key: str) -> str:
    if base is None or not base[key]:
        return ""
    return f"{row[key] / base[key]:.2f}"


def _collectives(found: Mapping[str, int]) -> str:
    shown = []
    for name, size in found.items():
        shown.append(f"{name} {size / 1e6:.3g} MB")
    return ", ".join(shown) or "none"


def report(request: Request, output: Path | None) -> None:
    """Compiles, prints rows as they come and the table, and writes `NAME.json` and `NAME.md`.

    They are written anew with each row: what ends the command loses the row under way, and rows
    that it did not come to say so. What is there of such a run already, of the same versions of the
    compiler, is not compiled again; rows that are not named stay.

    Args:
        request: what to compile.
        output: the JSON file; the table stands beside it. None writes nothing.
    """
    known = kept(request, output)
    found: dict[Any, dict[str, Any]] = {}
    for row in compiled(request, list(known.values())):
        key = _key(row)
        if key not in found:  # what is to be compiled, in order
            found[key] = known.pop(key, row)
            continue
        found[key] = row
        said = row.get("error") or f"{row['compile_seconds']:.0f} s"
        print(f"{row['name']}: {said}", file=sys.stderr, flush=True)
        if output is not None:
            others = list(known.values()) if request.methods else []
            _write(request, [*found.values(), *others], output)
    print(table(list(found.values())))


def kept(request: Request, output: Path | None) -> dict[Any, dict[str, Any]]:
    """Rows of an earlier run by name and chips; none of another request or other versions."""
    if output is None or not output.exists():
        return {}
    before = json.loads(output.read_text())
    same = {**before["request"], "methods": list(request.methods), "chips": list(request.chips)}
    if same != json.loads(json.dumps(dataclasses.asdict(request))):
        return {}
    if any(before["versions"][name] != version for name, version in _versions().items()):
        return {}
    return {_key(row): row for row in before["rows"] if "program" in row}


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["name"], row["chips"]


def _versions() -> dict[str, str]:
    """Of what compiles."""
    return {package: metadata.version(package) for package in _PACKAGES}


def _write(request: Request, found: list[dict[str, Any]], output: Path) -> None:
    held = record(request, found)
    shown = table(found)
    output.parent.mkdir(parents=True, exist_ok=True)
    versions = ", ".join(f"{name} {version}" for name, version in held["versions"].items())
    with files.replacing(output, "w") as file:
        json.dump(held, file, indent=1)
        file.write("\n")
    with files.replacing(output.with_suffix(".md"), "w") as file:
        file.write(f"`{held['command']}`\n\n{versions}\n\n{shown}\n")
