"""Trains a classifier: `python -m train.classify --config FILE [--set key=value ...] [--resume]`.

FILE is for example `configs/tiny20.py`. `--evaluate` prints the accuracy of the exported network
instead; `--export-only` exports the latest checkpoint. `--distributed` joins several processes, one
on each host of a TPU pod slice or GPU box, started with the same command.
"""

from collections.abc import Sequence

from configs import Classification
from train import objectives, program


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    program.main("train.classify", __doc__, objectives.classification, Classification, arguments)


if __name__ == "__main__":
    main()
