"""Small sets that are written for the tests: no photos of others."""

import io
import zipfile

import pytest
from PIL import Image

COLORS = {"n1": (200, 20, 20), "n2": (20, 20, 200)}


def encoded(size=(16, 16), color=(128, 128, 128), format="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, format)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """`set/`: three photos of each of two classes in two splits; classes not in sorted order."""
    top = tmp_path / "set"
    boxes = ["split,wnid,file,xmin,ymin,xmax,ymax"]
    for split in ("train", "val"):
        for wnid, color in COLORS.items():
            (top / split / wnid).mkdir(parents=True)
            for index in range(3):
                picture = encoded((16 + index, 12), (*color[:2], color[2] + index))
                (top / split / wnid / f"{index}.png").write_bytes(picture)
                boxes.append(f"{split},{wnid},{index}.png,{index},2,{10 + index},11")
    (top / "classes.csv").write_text("index,wnid,name\n0,n2,cat\n1,n1,dog\n")
    (top / "boxes.csv").write_text("\n".join(boxes))
    return top


@pytest.fixture
def zipped(folder):
    """The folder's files in a zip, in reversed order."""
    path = folder.parent / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(folder.rglob("*"), reverse=True):
            file.write(name, name.relative_to(folder.parent))
    return path


def prepare_fake(root, name, features, splits, config=None):
    """Writes examples as TFDS would write the set of this name, in array_record."""
    import tensorflow_datasets as tfds

    class Fake(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("5.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []
        code_path = None

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {split: enumerate(examples) for split, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Fake.name = name
    options = {"config": config} if config else {}
    Fake(data_dir=root, file_format="array_record", **options).download_and_prepare()
    return root
