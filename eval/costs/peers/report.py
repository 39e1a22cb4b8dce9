"""What a run of turns found: JSON, a table and a plot, the command and the machine beside them."""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from eval.costs.peers import cases, reasons, turns
from jaxcam import pictures
from jaxcam._ground import files

Found = Mapping[str, Any]
_COLORS = {
    cases.OURS: "#5e35b1",
    cases.FASTER: "#b39ddb",
    cases.TORCH: "#8a8a8a",
    "pytorch-grad-cam": "#e8710a",
    "torchcam": "#1e8e3e",
    "captum": "#1a73e8",
    "zennit": "#d01884",
}
_OTHER = "#222222"
_HEAD = (
    "| call | by | ms (quartiles) | x own forward | x jaxcam | first call, s | compiling has paid "
    "off after | peak, MB | largest difference |\n|---|---|---|---|---|---|---|---|---|"
)


def report(request: turns.Request, output: Path | None, modules: Any = None) -> None:
    """Measures, prints rows as they come and the table, and writes `NAME.json`, `.md` and `.png`.

    JSON and table are written anew with each row: what ends the command loses the row under way.

    Args:
        request: what to compare.
        output: the JSON file; the others stand beside it. None writes nothing.
        modules: those of the frameworks' processes, if others.

    Raises:
        SystemExit: results differ for no known reason, once everything is printed and written.
    """
    run = turns.Turns(request, modules)
    rows: list[dict[str, Any]] = []
    for row in run.rows():
        rows.append(row)
        print(row["name"], file=sys.stderr, flush=True)
        if output is not None:
            _write({"command": command(), **run.record(rows)}, output)
    found = {"command": command(), **run.record(rows)}
    print(text(found))
    if output is not None:
        pictures.write(plot(found), output.with_suffix(".png"), dpi=110)
    if names := unexplained(found):
        listed = "\n".join(names)
        raise SystemExit(f"{reasons.UNEXPLAINED} differences from {cases.OURS}:\n{listed}")


def command() -> str:
    """Of this run; the interpreter of the other side is a machine's own."""
    words = list(sys.argv[1:])
    if "--python" in words:
        words[words.index("--python") + 1] = "PYTHON"
    return shlex.join(["python", "-m", "eval", "speed", *words])


def _write(found: Found, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(output, "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")
    files.write_text(output.with_suffix(".md"), text(found) + "\n")


# Table ----------------------------------------------------------------


def text(found: Found) -> str:
    """The command, the machine, what was left out, and the table."""
    request = found["request"]
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    before, after = machine["load"]
    parts = [
        f"`{found['command']}`",
        f"{request['model']}, {request['image_size']} x {request['image_size']} pixels, batch "
        f"{request['batch']}, {request['dtype']}, {request['threads']} of {machine['cores']} cores "
        f"for each process; {machine['processor']}, {machine['device']}. Load of the machine "
        f"{before:.1f} before and {after:.1f} after: above {request['threads']} it was shared.",
        versions,
    ]
    for name, reason in found["left_out"].items():
        parts.append(f"{name} is left out: {reason}")
    units = " and ".join(f"`{name}`" for name in found["units"].values())
    parts.append(f"Units are the forward passes {units}.")
    lines = [_HEAD]
    for row in found["rows"]:
        lines += _lines(row, request["batch"])
    parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _lines(row: Found, batch: int) -> Iterator[str]:
    ours = None
    for name, entry in row["entries"].items():
        if ours is None and "error" not in entry:
            ours = entry
        yield f"| {row['name']} | {' | '.join(_cells(row['call'], name, entry, ours, batch))} |"


def _cells(call: str, name: str, entry: Found, ours: Found | None, batch: int) -> list[str]:
    if "error" in entry:
        return [name, *[""] * 6, entry["error"].replace("|", "/")]
    cells = [name, _range(entry["seconds"], 1e3), ""]
    if "forwards" in entry:
        cells[-1] = f"{entry['forwards']['median']:.2f}"
    memory = ""
    if "memory" in entry:
        memory = f"{entry['memory'] / 1e6:.0f}"
    first = f"{entry['first_seconds']:.1f}"
    if ours is None or ours is entry:
        return [*cells, "", first, "", memory, ""]
    if entry.get("agrees") is False:
        return [*cells, "not the same", first, "", memory, _difference(call, name, entry)]
    ratio = f"{entry['seconds']['median'] / ours['seconds']['median']:.2f}"
    if ours["seconds"]["median"] <= 0:
        ratio = ""
    return [
        *cells,
        ratio,
        first,
        paid_off(ours, entry, batch),
        memory,
        _difference(call, name, entry),
    ]


def _range(found: Found, factor: float) -> str:
    low, middle, high = (factor * found[name] for name in ("low", "median", "high"))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _difference(call: str, name: str, entry: Found) -> str:
    if "difference" not in entry:
        return "not compared"
    if not entry["agrees"]:
        return reasons.text(call, name, entry["difference"])
    return f"{entry['difference']:.0e}"


def unexplained(found: Found) -> list[str]:
    """The entries whose results differ from ours for no known reason, as `ROW, NAME: SIZE`."""
    names = []
    for row in found["rows"]:
        for name, entry in row["entries"].items():
            if entry.get("agrees") is not False:
                continue
            size = entry["difference"]
            if not reasons.explained(row["call"], name, size):
                names.append(f"{row['name']}, {name}: {size:.0e}")
    return names


def paid_off(ours: Found, theirs: Found, batch: int) -> str:
    """After how many images our longer first call has been made up for by quicker ones.

    Args:
        ours: seconds of the first call and of later ones.
        theirs: likewise.
        batch: images a call.
    """
    later = theirs["seconds"]["median"] - ours["seconds"]["median"]
    first = ours["first_seconds"] - theirs["first_seconds"]
    if first <= 0 and later >= 0:
        return "at once"
    if later <= 0:
        return "never"
    return f"{batch * first / later:.0f} images"


# Plot -----------------------------------------------------------------


def plot(found: Found) -> Figure:
    """Milliseconds of every call by framework, with quartiles; hollow where results differ."""
    rows = found["rows"]
    figure = Figure(figsize=(8.5, 0.3 * len(rows) + 1.6), layout="constrained")
    axes = figure.subplots()
    seen: dict[str, Any] = {}
    for height, row in enumerate(rows):
        if height % 2 == 0:
            axes.axhspan(height - 0.5, height + 0.5, color="#00000010", linewidth=0)
        for name, entry in row["entries"].items():
            if "seconds" not in entry or entry["seconds"]["median"] <= 0:
                continue
            framework = name.partition(",")[0]
            seen[framework] = _point(axes, framework, entry, height)
    axes.set_xscale("log")
    axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)))
    axes.set_yticklabels([row["name"] for row in rows], fontsize=8)
    axes.set_xlabel("milliseconds a call, median and quartiles; hollow: not the same result")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#00000020")
    request = found["request"]
    title = "{model}, {image_size} pixels, batch {batch}, {dtype}, {threads} thread(s)"
    axes.set_title(title.format(**request), fontsize=9, loc="left")
    figure.legend(seen.values(), seen, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _point(axes: Any, framework: str, entry: Found, height: float) -> Any:
    color = _COLORS.get(framework, _OTHER)
    middle, low, high = (1e3 * entry["seconds"][name] for name in ("median", "low", "high"))
    face = color
    if entry.get("agrees") is False:
        face = "none"
    order = list(_COLORS)
    offset = 0.0
    if framework in order:
        offset = 0.1 * (order.index(framework) - 3)
    return axes.errorbar(
        [middle],
        [height + offset],
        xerr=[[middle - low], [high - middle]],
        fmt="o",
        markersize=4.5,
        color=color,
        markerfacecolor=face,
        linewidth=1,
    )
