"""TFDS builders of ours without TensorFlow, and the preparation of sets as array_record files."""

import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import JpegImagePlugin

from jaxcam._ground.errors import ArgumentError, ArgumentFileError
from jaxcam.datasets import files, sources
from jaxcam.datasets.records import NO_BOXES, Record, photo_size

__all__ = [
    "BANNER",
    "BUILDERS",
    "LEVELS",
    "FgvcAircraft",
    "ImageFolder",
    "Tiny20",
    "prepare",
    "without_banner",
]

BANNER = 20  # rows at the bottom of each FGVC-Aircraft photo, which name the photographer
LEVELS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Encoded photos with a label, boxes and an id, in the order of their source."""

    VERSION = tfds.core.Version("1.0.0")
    # Where TFDS looks for checksums of downloads: there are none, and for a class in a package TFDS
    # 4.9.10 imports importlib_resources, which it does not require.
    code_path = None

    def __init__(self, *, source: str | Path, **options: Any) -> None:
        self.source = sources.open_files(Path(source))
        super().__init__(file_format="array_record", **options)

    def _features(
        self, classes: tuple[str, ...], description: str, homepage: str = ""
    ) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=classes),
            "boxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
            "id": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=description,
            features=tfds.features.FeaturesDict(features),
            homepage=homepage,
            disable_shuffling=True,
        )


class ImageFolder(_Builder):
    """Any folder or zip that `jaxcam.datasets.load` reads."""

    name = "image_folder"
    DESCRIPTION = "Photos of a folder or zip, with classes and boxes where it has them."

    def _info(self) -> tfds.core.DatasetInfo:
        self._listing = files.listed(self.source)
        return self._features(self._listing.classes, self.DESCRIPTION)

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Iterator]:
        splits = self._listing.splits.items()
        return {split: self._generate_examples(entries) for split, entries in splits}

    def _generate_examples(self, entries: Sequence[files.Entry]) -> Iterator[tuple[str, dict]]:
        for entry in entries:
            encoded = self.source.read(entry.file)
            yield entry.id, _example(encoded, entry.label, entry.boxes, entry.id)


class Tiny20(ImageFolder):
    """20 classes of Tiny ImageNet, 64 x 64, with one box a photo."""

    name = "tiny20"
    DESCRIPTION = "20 classes of Tiny ImageNet, 64 x 64 pixels, with one object box a photo."


class FgvcAircraft(_Builder):
    """FGVC-Aircraft 2013b (Maji et al. 2013).

    Aircraft by variant, family or manufacturer, with one box a photo. The source is the unpacked
    archive. The banner at the bottom of each photo is cut off, as its authors ask: the rest is
    encoded again with the photo's own tables, on the same grid of blocks, so that nothing else
    visibly changes.
    """

    name = "fgvc_aircraft"
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=level) for level in LEVELS]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        suffix = f"data/{LEVELS[self._level]}"
        names = [name for name in self.source.names() if f"/{name}".endswith(f"/{suffix}")]
        if not names:
            got = f"{self.source.path}, which holds no {suffix}"
            raise ArgumentFileError("source", got, "fgvc-aircraft-2013b")
        self._data = str(PurePosixPath(names[0]).parent)
        self._classes = tuple(self._lines(LEVELS[self._level]))
        text = f"FGVC-Aircraft 2013b, by {self._level}, without the photos' banners."
        return self._features(
            self._classes, text, "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"
        )

    @property
    def _level(self) -> str:
        config = self.builder_config
        assert config is not None  # there are only builders with one
        return config.name

    def _lines(self, file: str) -> list[str]:
        lines = self.source.read(f"{self._data}/{file}").decode().splitlines()
        return list(filter(None, map(str.strip, lines)))

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Iterator]:
        splits = {"train": "train", "validation": "val", "test": "test"}
        return {split: self._generate_examples(name) for split, name in splits.items()}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        # Lines of "1234567 xmin ymin xmax ymax", the first pixel being 1.
        rows = (line.split() for line in self._lines("images_box.txt"))
        boxes = {row[0]: np.array([row[1:5]], float) - 1 for row in rows}
        for line in self._lines(f"images_{self._level}_{split}.txt"):
            name, _, label = line.partition(" ")
            photo = without_banner(self.source.read(f"{self._data}/images/{name}.jpg"))
            yield name, _example(photo, self._classes.index(label), boxes[name], name)


def without_banner(encoded: bytes) -> bytes:
    """A JPEG without its last `BANNER` rows."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(encoded))
    out = io.BytesIO()
    tables = {"qtables": image.quantization, "subsampling": JpegImagePlugin.get_sampling(image)}
    image.crop((0, 0, image.width, image.height - BANNER)).save(out, "JPEG", **tables)
    return out.getvalue()


def _example(encoded: bytes, label: int, boxes: np.ndarray, name: str) -> dict[str, Any]:
    """What TFDS stores; inclusive pixel boxes become parts of the photo, far edges included."""
    height, width = photo_size(Record(encoded, label, NO_BOXES, name))
    edges = (np.reshape(boxes, (-1, 4)) + np.array([0, 0, 1, 1])) / (width, height, width, height)
    parts = [tfds.features.BBox(*np.clip(edge[[1, 0, 3, 2]], 0, 1)) for edge in edges]
    return {"image": io.BytesIO(encoded), "label": label, "boxes": parts, "id": name}


BUILDERS = {builder.name: builder for builder in (Tiny20, ImageFolder, FgvcAircraft)}


def prepare(name: str, source: str | Path | None, output: str | Path) -> Path:
    """Writes a set as array_record files and returns the folder that `jaxcam.datasets.load` takes.

    Args:
        name: "tiny20", "image_folder", "fgvc_aircraft/LEVEL" with the level variant, family or
            manufacturer; or the TFDS name of a set of its own, which TFDS downloads and which needs
            `pip install "jaxcam-xai[prepare]"`.
        source: folder or zip; of a TFDS set the folder of what cannot be downloaded (ImageNet's two
            archives), or None.
        output: folder of TFDS sets; the set is written to NAME/VERSION in it, whole or not at all.

    Raises:
        ValueError: no such set or level, or a set of ours without a source.
        FileNotFoundError: the source is not there, or not the set's.
        FileExistsError: the set has been prepared in this folder.
        ModuleNotFoundError: a TFDS set, and TensorFlow is not installed.
    """
    base, _, level = name.partition("/")
    if base not in BUILDERS:
        builder = _theirs(name, output)
    elif level not in (LEVELS if base == FgvcAircraft.name else ("",)):
        raise _unknown(name)
    elif source is None:
        raise ArgumentError("source", None, f"the folder or zip that {name} is made of")
    else:
        builder = BUILDERS[base](source=source, data_dir=output, config=level or None)
    if Path(builder.data_path).exists():  # TFDS would keep it in silence, of whatever source it is
        raise FileExistsError(
            f"output: {builder.data_path} exists, expected none; delete it or name another folder"
        )
    manual = source and Path(source)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    return Path(builder.data_path)


def _theirs(name: str, output: str | Path) -> tfds.core.DatasetBuilder:
    """A builder of TFDS; not through its command, which also needs Apache Beam."""
    try:
        builder = tfds.builder(name, data_dir=output, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name) from error
    if importlib.util.find_spec("tensorflow") is None:
        raise ModuleNotFoundError(
            f'tensorflow: {name} is prepared with it; pip install "jaxcam-xai[prepare]"'
        )
    return builder


def _unknown(name: str) -> ArgumentError:
    levels = ", ".join(f"{FgvcAircraft.name}/{level}" for level in LEVELS)
    expected = f"tiny20, image_folder, one of {levels}, or a TFDS name such as voc/2012"
    return ArgumentError("name", repr(name), expected)
