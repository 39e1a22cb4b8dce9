"""Runs to a report: Markdown tables, PNG plots, and one HTML page that needs no other file.

python -m eval report runs/faithfulness runs/games --output reports

Writes `report.md` with its plots, and `report.html` with the plots inside. Every number comes from
the runs' JSONs, or from `papers.py` where it is a paper's; means over photos, with 95 %
bootstrap intervals. Runs of explain become galleries: in the report for the photos that come
with scikit-image, else as `gallery.html` in a folder of their own, so that a report shows no photo
that may not be published.
"""

import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure
from PIL import Image

from eval.reporting import gallery, plots
from eval.reporting.pages import Block, Heading, Picture, Text, markdown, page_of
from eval.reporting.records import Record
from eval.reporting.tables import tables
from jaxcam._ground import style
from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from jaxcam._ground.files import read_json, write_bytes
from jaxcam._ground.text import counted

# settings that a reader needs
_SHOWN = ("target", "student", "variant", "pairs", "independent", "untrained")
_PLOTS = {
    "depth": (
        plots.plot_depth,
        "Metrics by layer, shallow above deep; grey lines: the controls",
    ),
    "curves": (plots.plot_curves, "Mean curves by layer, with areas under the curves"),
    "stages": (
        plots.plot_changes,
        "Metrics by replaced group of parameters, from the logits down",
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to report.

    Args:
        runs: folders of runs, each taken once.
        output: folder of the report.
        gallery: folder of galleries that do not belong to the report.
        photos: at most, of a gallery.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    output: Path
    gallery: Path = Path("runs/gallery")
    photos: int = 8


def report(settings: Settings) -> Path:
    """Writes the report of runs.

    Returns:
        The path of the HTML page.

    Raises:
        FileNotFoundError: a folder without a finished run.
        ValueError: no runs.
    """
    if not settings.runs:
        raise ArgumentError("runs", "none", "the folders of one or more runs")
    runs = list({folder.resolve(): folder for folder in settings.runs}.values())
    output = settings.output
    output.mkdir(parents=True, exist_ok=True)
    blocks: list[Block] = []
    number = 0
    for folder in runs:
        for record in read(folder):
            if record["protocol"] != "explain":
                number += 1
                blocks += _section(record, number, output)
    apart: list[Block] = []
    taken: set[str] = set()
    for shown in gallery.find(runs):
        heading = Heading(f"gallery: {shown.name}")
        if shown.free:
            blocks += [heading, *_gallery(shown, output, settings.photos, taken)]
        else:
            apart += [heading, *_gallery(shown, settings.gallery, settings.photos, taken)]
    if apart:
        write_bytes(settings.gallery / "gallery.html", page_of(apart, settings.gallery).encode())
    write_bytes(output / "report.md", markdown(blocks).encode())
    page = output / "report.html"
    write_bytes(page, page_of(blocks, output).encode())
    return page


def _gallery(shown: gallery.Shown, folder: Path, count: int, taken: set[str]) -> Iterator[Block]:
    for path in gallery.draw(shown, folder, count, taken):
        yield Picture(path.name, f"{path.stem}: every method at every layer")


def read(folder: Path) -> list[Record]:
    """The records of a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        found = read_json(path)
        is_record = isinstance(found, dict) and {"protocol", "results"} <= set(found)
        if is_record and path.name != "settings.json":
            records.append(found)
    if not records:
        got = f"{folder}, which holds no finished run"
        raise ArgumentFileError("runs", got, "the JSON that python -m eval NAME writes")
    return records


def _section(record: Record, number: int, output: Path) -> Iterator[Block]:
    settings = record["settings"]
    yield Heading(_title(record))
    yield Text(_described(record))
    yield Text(record["command"], code=True)
    name = f"{number:02d}_{record['protocol']}_{Path(settings.get('model', 'model')).stem}"
    yield from _pictures(record, name, output)
    yield from tables(record)


def _title(record: Record) -> str:
    settings = record["settings"]
    title = record["protocol"]
    if settings.get("variant"):
        title += f", {settings['variant']}"
    title += f": {settings.get('model', '?')}"
    if settings.get("explainer"):
        title += f" explained by {Path(settings['explainer']).stem}"
    return f"{title} on {counted(record['photos'], 'photo')} of {settings.get('data', '?')}"


def _described(record: Record) -> str:
    """How a run was made, in a sentence."""
    settings = record["settings"]
    seed = record["seed"]
    accuracy = "no labels"
    if record["accuracy"] is not None:
        accuracy = f"top-1 accuracy {record['accuracy']:.1%}"
    facts = [f"{counted(record['photos'], 'photo')}, seed {seed}, {accuracy}"]
    for name in _SHOWN:
        if settings.get(name):
            facts.append(f"{name.replace('_', ' ')}: {settings[name]}")
    cost = f"jax {record['versions']['jax']} on {record['devices']}, {record['seconds']:.0f} s"
    if record.get("earlier"):
        cost += f" ({counted(len(record['earlier']), 'method')} done before)"
    facts += [
        cost,
        f"finished {record['finished']}",
        "means over photos with 95 % bootstrap intervals, the best of each column in bold",
    ]
    return "; ".join(facts) + "."


def _pictures(record: Record, name: str, output: Path) -> Iterator[Picture]:
    for kind, (plot, title) in _PLOTS.items():
        with style.own():
            figure = plot(record)
        if figure is not None:
            file = re.sub(r"[^\w.-]", "_", f"{name}_{kind}.png")
            save_picture(figure, output / file)
            yield Picture(file, title)


def save_picture(figure: Figure, path: Path) -> None:
    """A PNG of few colours, which plots need no more of: a third of the size."""
    buffer = io.BytesIO()
    with style.own():
        figure.savefig(buffer, dpi=130, format="png")
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, "png", optimize=True
    )
    write_bytes(path, small.getvalue())


def main(settings: Settings) -> None:
    """A report of runs."""
    print(report(settings))
