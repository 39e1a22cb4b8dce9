"""Labelled photo sets by random access: folders, zips and TFDS-prepared sets, without TensorFlow.

`load(name, split)` gives a `Dataset` of `Record`s; `decode` gives a record's pixels, as
`jaxcam.photos.read` does those of a file.
`python -m jaxcam.datasets prepare` writes a folder, a zip or FGVC-Aircraft as a TFDS set.
Not imported by `import jaxcam`; TFDS sets need `pip install "jaxcam-xai[train]"`.
"""

import os
from pathlib import Path

from jaxcam._ground.errors import check_flag
from jaxcam.datasets.records import NO_BOXES, UNKNOWN, Dataset, Record, decode, photo_size

__all__ = [
    "NO_BOXES",
    "ROOT",
    "UNKNOWN",
    "Dataset",
    "Record",
    "check_apart",
    "decode",
    "load",
    "photo_size",
]

ROOT = "JAXCAM_DATA"  # the variable that says in which folder data is looked for too


def load(
    name: str | Path, split: str, *, root: str | Path | None = None, multilabel: bool = False
) -> Dataset:
    """The records of one split of a set; nothing is decoded before it is asked for.

    Args:
        name: what is there is read from there: a zip or folder with `SPLIT/CLASS/*` (splits train,
            val, validation, test, in any case; training, valid, testing likewise) or `CLASS/*` (all
            in the split train), photos at any depth below, and optionally `classes.csv` (wnid, name
            and index of each class folder; else the folders in sorted order) and `boxes.csv`
            (split, wnid, file, xmin, ymin, xmax, ymax); or a folder that TFDS prepared. What is
            not there as it is written is looked for in the folder that the variable JAXCAM_DATA
            names. Else the name of a TFDS set: "voc/2012".
        split: "train", a part such as "train[:50%]" or "train[100:200]", or a sum,
            "train+validation"; "all" sums all.
        root: folder of the TFDS sets that go by name; None: TFDS_DATA_DIR, or
            ~/tensorflow_datasets.
        multilabel: labels are multi-hot float32 `[N]` of all classes in the photo. Otherwise they
            are ints; where a set labels objects (VOC), the class of the largest box.

    Returns:
        The set: its length, its records by index (from any thread) and the names of its classes.

    Raises:
        FileNotFoundError: nothing there, no photos, or a TFDS set that is not prepared; the message
            says how to.
        ValueError: no such split; folders of which it is not clear what they are: splits beside
            classes, a class without a photo, one that the split train lacks, links in a circle;
            classes.csv or boxes.csv that do not fit; a zip with paths that climb or links; or a set
            in a format without random access.
    """
    from jaxcam.datasets import files, prepared

    check_flag("multilabel", multilabel)
    path = _found(name)
    if path is None:
        return prepared.by_name(str(name), split, root, multilabel)
    directory = prepared.find(path)
    if directory is None:
        return files.load(path, split, multilabel)
    return prepared.load(directory, split, multilabel)


def check_apart(argument: str, written: str | Path, name: str | Path) -> None:
    """Whether what a run writes lies apart from the photos that it reads.

    Args:
        argument: whose value `written` is.
        written: a folder or file that need not be there.
        name: as of `load`.

    Raises:
        ValueError: it would be read as photos or classes the next time.

    Example:
        >>> check_apart("output", "runs", "photos")
    """
    from jaxcam.datasets import files

    path = _found(name)
    if path is not None:
        files.check_apart(argument, Path(written), path)


def _found(name: str | Path) -> Path | None:
    """What is there by a name, as it is written or in the folder of data; None if nothing is."""
    path = Path(name).expanduser()
    folder = os.environ.get(ROOT)
    if not path.exists() and folder:
        path = Path(folder).expanduser() / path
    if path.exists():
        return path
    return None
