"""The cat and the coffee under six maps of the small vision transformer, `cat_and_coffee.jpg`.

    python results/vit/cat_and_coffee.py results/vit/tiny20_vit.safetensors cat_and_coffee.jpg

The network was trained by `python -m train.distill --config configs/tiny20_vit.py --set epochs=7`;
one that is trained anew is about as good, and not the same.
"""

import sys

import jax
import numpy as np
import skimage.data

import jaxcam
from jaxcam import classifier, maps, photos, pictures

_SIDE = 336  # of the photos as they are shown
_LAYERED = {"Grad-CAM": jaxcam.grad_cam, "Relevance-CAM": jaxcam.relevance_cam}
_SUMMED = {"LRP, attention as a gate": "z_plus", "LRP, attnlrp": "attnlrp"}
_OF_ATTENTION = {"attention rollout": jaxcam.attention_rollout, "LeGrad": jaxcam.legrad}


def main(model: str, out: str) -> None:
    """Draws the picture."""
    network = classifier.load(model)
    both = [skimage.data.cat(), skimage.data.coffee()]
    images = network.prepare(np.stack([photos.prepare(each, network.input_size) for each in both]))
    forward = network.forward()
    shares = network.probabilities(forward(images))
    titles = []
    for row in shares:
        titles.append(f"{network.classes[row.argmax()]}, {100 * row.max():.0f} %")
    layer = network.layers.default
    raw = {}
    for name, method in _LAYERED.items():
        raw[f"{name}, {layer}"] = method(forward, images, layer=layer)
    cells = network.layers.grids[layer]
    for name, composite in _SUMMED.items():
        raw[name] = _by_patch(jaxcam.lrp_map(forward, images, composite=composite), cells)
    for name, method in _OF_ATTENTION.items():
        raw[name] = method(forward, images)
    shown = [photos.prepare(each, (_SIDE, _SIDE)) for each in both]
    heats = {name: np.asarray(maps.normalize(each, "positive")) for name, each in raw.items()}
    figure = maps.figure(np.stack(shown) / np.float32(255), heats, titles, panel=1.7)
    pictures.write(figure, out, dpi=80, format="jpeg", pil_kwargs={"quality": 92})


def _by_patch(relevance: jax.Array, cells: tuple[int, ...]) -> jax.Array:
    """Sums of relevance `[B, H, W]` over patches, `[B, h, w]`."""
    high, wide = cells
    batch, height, width = relevance.shape
    parts = relevance.reshape(batch, high, height // high, wide, width // wide)
    return parts.sum((2, 4))


if __name__ == "__main__":
    main(*sys.argv[1:])
