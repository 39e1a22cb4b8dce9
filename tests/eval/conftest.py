"""A tiny network and a handful of synthetic photos in place of trained nets and real ones."""

import zipfile
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from eval.run.protocol import Explained
from eval.subjects import networks
from jaxcam.classifier import Classifier
from tests import nets

SIZE, PHOTOS = 16, 6


def tiny() -> Classifier:
    """A network of layers stem [16, 16] and top [8, 8], five classes."""
    model, variables, _ = nets.tiny(size=SIZE)
    apply = lambda params, images: jaxcam.linen(model, params)(images)
    return Classifier(variables, apply, lambda images: (images - 0.5) * 4, SIZE, ("stem", "top"))


@pytest.fixture
def network(monkeypatch):
    """The network "tiny"."""
    made = tiny()
    monkeypatch.setitem(networks.OURS, "tiny", lambda root: made)
    return made


@pytest.fixture
def photos(tmp_path):
    """`PHOTOS` photos of 20 x 24 in two classes, and a root of them as tiny20.zip, with boxes."""
    rng, root = np.random.default_rng(3), tmp_path / "shared"
    root.mkdir()
    rows = ["split,wnid,file,xmin,ymin,xmax,ymax"]
    with zipfile.ZipFile(root / "tiny20.zip", "w") as archive:
        for i in range(PHOTOS):
            wnid = ("n1", "n2")[i % 2]
            path = tmp_path / "photos" / wnid / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
            archive.write(path, f"tiny20/val/{wnid}/{i}.png")
            rows.append(f"val,{wnid},{i}.png,{i},0,{i + 11},9")
        archive.writestr("tiny20/boxes.csv", "\n".join(rows))
        classes = ["index,wnid,name", "0,a,a", "1,b,b", "2,n1,one", "3,c,c", "4,n2,two"]
        archive.writestr("tiny20/classes.csv", "\n".join(classes))
    return tmp_path / "photos", root


def forward(network):
    """The network as a function of uint8 photos, without devices."""
    return partial(network.apply, network.params), lambda images: network.prepare(
        jnp.asarray(images)
    )


def explained(maps, **fields):
    """What a protocol measures: maps `[B, H, W]` of no photos in particular."""
    maps = jnp.asarray(maps, jnp.float32)
    usual = {
        "forward": None,
        "images": jnp.zeros((*maps.shape, 3)),
        "targets": jnp.zeros(len(maps), int),
        "again": maps,
        "boxes": jnp.zeros((len(maps), 0, 4)),
        "extra": {},
        "settings": None,
    }
    return Explained(maps=maps, **usual | fields)
