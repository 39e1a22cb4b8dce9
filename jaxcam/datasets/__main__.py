"""`python -m jaxcam.datasets prepare NAME [--source PATH] --output DIR` writes a set.

`... boxes --annotations DIR --photos DIR` writes the boxes of XML files beside photos as boxes.csv.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxcam._ground.text import counted


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m jaxcam.datasets", description=(__doc__ or "").replace("`", "")
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("prepare", help="write a set as array_record files")
    command.add_argument(
        "name",
        help="tiny20, image_folder, fgvc_aircraft/variant (family, manufacturer); or voc/2012...",
    )
    command.add_argument(
        "--source",
        help="folder or zip of the photos; of a TFDS set, folder of archives got by hand",
    )
    command.add_argument(
        "--output", required=True, help="folder of TFDS sets, such as ~/tensorflow_datasets"
    )
    command.set_defaults(carry_out=_prepare)
    command = commands.add_parser("boxes", help="write XML files' boxes as boxes.csv")
    command.add_argument(
        "--annotations",
        required=True,
        type=Path,
        help="folder of XML files, as ImageNet's or VOC's",
    )
    command.add_argument(
        "--photos", required=True, type=Path, help="folder with SPLIT/WNID/*: boxes.csv lies in it"
    )
    command.add_argument("--split", default="val", help="the photos' split")
    command.add_argument(
        "--first", type=int, default=0, choices=(0, 1), help="number of the first pixel: VOC's is 1"
    )
    command.set_defaults(carry_out=_boxes)
    chosen = parser.parse_args(arguments)
    try:
        chosen.carry_out(chosen)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"jaxcam.datasets: {error}")


def _prepare(chosen: argparse.Namespace) -> None:
    from jaxcam.datasets import builders

    print(f"prepared: {builders.prepare(chosen.name, chosen.source, chosen.output)}")


def _boxes(chosen: argparse.Namespace) -> None:
    from jaxcam.datasets import voc_boxes

    table, count = voc_boxes.convert(chosen.annotations, chosen.photos, chosen.split, chosen.first)
    print(f"{table}: {counted(count, 'box')} of the split {chosen.split}")


if __name__ == "__main__":
    main()
