"""`python -m jaxcam.datasets prepare NAME [--source PATH] --output DIR` writes a set."""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m jaxcam.datasets", description=(__doc__ or "").replace("`", "")
    )
    command = parser.add_subparsers(required=True).add_parser(
        "prepare", help="write a set as array_record files"
    )
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
    chosen = parser.parse_args(arguments)
    try:
        from jaxcam.datasets import builders

        print(f"prepared: {builders.prepare(chosen.name, chosen.source, chosen.output)}")
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"jaxcam.datasets: {error}")


if __name__ == "__main__":
    main()
