"""Boxes of PASCAL's XML files, as ImageNet's lie beside its photos, as the table `boxes.csv`."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image

from jaxcam._ground import files
from jaxcam._ground.errors import ArgumentError, ArgumentFileError

__all__ = ["Box", "boxes_of", "convert"]

COLUMNS = ("split", "wnid", "file", "xmin", "ymin", "xmax", "ymax")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_LIMIT = 2**20  # bytes of an XML file: annotations have a few hundred


class Box(NamedTuple):
    """An object of a photo, its pixels counted from 0, ends included."""

    wnid: str
    xmin: int
    ymin: int
    xmax: int
    ymax: int


def boxes_of(path: Path, size: tuple[int, int], first: int = 0) -> list[Box]:
    """The objects of an annotation.

    Args:
        path: of the XML file.
        size: (height, width) of the photo; where the annotation was made of another size, its boxes
            are scaled. What lies outside is cut off.
        first: the number of the first pixel, 0 as in ImageNet or 1 as in PASCAL VOC.

    Raises:
        ValueError: no such XML, or an object without its four sides.
    """
    root = _read(path)
    height, width = size
    scale = []
    for side, pixels in (("width", width), ("height", height)):
        scale.append(pixels / max(_number(path, root, f"size/{side}", pixels), 1))
    found = []
    for thing in root.iter("object"):
        sides = []
        for side, factor, last in zip(_SIDES, 2 * scale, 2 * (width - 1, height - 1), strict=True):
            number = _number(path, thing, f"bndbox/{side}") - first
            sides.append(min(max(round(factor * number), 0), last))
        found.append(Box(thing.findtext("name", "").strip(), *sides))
    return found


def _read(path: Path) -> ElementTree.Element:
    if path.stat().st_size > _LIMIT:
        raise ArgumentError("annotations", f"{path}, of more than {_LIMIT} bytes", "an annotation")
    text = path.read_text()
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ArgumentError("annotations", f"{path}, which declares entities", "an annotation")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ArgumentError("annotations", f"{path}, which is no XML ({error})", "some") from error


def _number(path: Path, node: ElementTree.Element, place: str, usual: float | None = None) -> float:
    text = node.findtext(place)
    if text is None and usual is not None:
        return usual
    try:
        return float(text or "")
    except ValueError:
        got = f"{path}, where {place} is {text!r}"
        raise ArgumentError("annotations", got, "a number of pixels") from None


def convert(annotations: Path, photos: Path, split: str, first: int = 0) -> tuple[Path, int]:
    """Writes `photos/boxes.csv` of the annotations of photos `photos/split/WNID/*`.

    Args:
        annotations: folder of XML files, at any depth.
        photos: folder of the set; its other splits' rows are kept.
        split: the folder of photos that they belong to, "train" or "val".
        first: as in `boxes_of`.

    Returns:
        The table, and how many boxes of the split are in it: of the photo's own class.

    Raises:
        FileNotFoundError: no annotations, or none of the photos.
        ValueError: an annotation that cannot be read.
    """
    known = {path.stem: path for path in (photos / split).glob("*/*") if path.is_file()}
    if not known:
        raise ArgumentFileError("photos", f"{photos / split}, which has none", "CLASS/* in it")
    table = photos / "boxes.csv"
    rows = list(_kept(table, split))
    others = len(rows)
    for path in sorted(annotations.rglob("*.xml")):
        if path.stem not in known:
            continue
        photo = known[path.stem]
        with Image.open(photo) as image:
            size = (image.height, image.width)
        for box in boxes_of(path, size, first):
            if box.wnid in ("", photo.parent.name):
                rows.append((split, photo.parent.name, photo.name, *map(str, box[1:])))
    if len(rows) == others:
        got = f"{annotations}, which has no box of a photo in {photos / split}"
        raise ArgumentFileError("annotations", got, "XML files with the photos' names")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    files.write_text(table, text.getvalue())
    return table, len(rows) - others


def _kept(table: Path, split: str) -> Iterator[tuple[str, ...]]:
    """The rows of a table that are of other splits."""
    if not table.exists():
        return
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] != split:
                yield tuple(row[name] for name in COLUMNS)
