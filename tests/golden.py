"""Numbers of this code's own, kept: what a change must not move without saying so.

    python -m tests.golden            # compares, and says what moved
    python -m tests.golden --write    # writes tests/golden.npz anew

The outputs of the originals lie beside a checkout and are no part of it. These stand in
where they are missing: every method of the table, LRP under every composite, the metrics and the
fostering terms, on two crops of scikit-image's photos and small networks with random weights.
Images and weights are in the file too, with their digest: no decoder and no generator moves them.
"""

import hashlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam._explainers.mask import MASK_VARIANTS
from jaxcam.methods import METHODS

FILE = pathlib.Path(__file__).with_suffix(".npz")
SIDE = 24
LAYERS = ("layer1", "layer3")
# Of random numbers and of steps as few as show a change.
OPTIONS: dict[str, dict[str, Any]] = {
    "rise": {"num_masks": 12, "grid": 4},
    "lime": {"num_samples": 24},
    "mask": {"variant": MASK_VARIANTS["official"]._replace(steps=10)},
    "ss_cam": {"samples": 2},
    "is_cam": {"samples": 2},
    "smooth_grad_cam_plus_plus": {"samples": 2},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 8, "stride": 4},
}
TRANSFORMERS = ("attention_rollout", "legrad")
COMPOSITES = ("z_plus", "epsilon", "epsilon_plus_flat", "epsilon_alpha2_beta1", "mobile")
_SHAPES = {
    "conv1": (3, 3, 3, 6),
    "conv2": (3, 3, 6, 8),
    "conv3": (3, 3, 8, 8),
    "gate": (1, 1, 8, 1),
    "head": (8, 5),
    "embed": (4, 4, 3, 8),
    "class": (1, 1, 8),
    "query": (8, 8),
    "key": (8, 8),
    "value": (8, 8),
    "last": (8, 5),
}


def inputs() -> dict[str, np.ndarray]:
    """Images and weights, for a file to be written."""
    import skimage

    rng = np.random.default_rng(0)
    crops = np.stack([skimage.data.cat()[:, 75:375], skimage.data.coffee()[:300, 150:450]])
    cells = 300 // SIDE
    crops = crops[:, : cells * SIDE, : cells * SIDE]
    means = crops.reshape(2, SIDE, cells, SIDE, cells, 3).mean((2, 4))
    found = {"images": (means / 127.5 - 1).astype(np.float32)}
    for name, shape in _SHAPES.items():
        scale = (2 / np.prod(shape[:-1])) ** 0.5
        found[name] = (scale * rng.normal(size=shape)).astype(np.float32)
    return found


def digest(given: dict[str, np.ndarray]) -> str:
    """Of images and weights."""
    total = hashlib.sha256()
    for name in ("images", *_SHAPES):
        total.update(np.ascontiguousarray(given[name]).tobytes())
    return total.hexdigest()


def convolutional(weights: dict[str, np.ndarray]) -> Callable:
    """Three layers, the last one residual and gated (a block of attention), and a linear head."""
    w = {name: jnp.asarray(weights[name]) for name in _SHAPES}

    def convolved(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=axes
        )

    def forward(images: jax.Array) -> jax.Array:
        x = jaxcam.tag(jax.nn.relu(convolved(images, w["conv1"], 1)), "layer1")
        x = jaxcam.tag(jax.nn.relu(convolved(x, w["conv2"], 2)), "layer2")
        gated = x * jax.nn.sigmoid(convolved(x, w["gate"], 1))
        jaxcam.tag(gated - x, "block.att")
        x = jaxcam.tag(jax.nn.relu(convolved(gated, w["conv3"], 1) + x), "layer3")
        return x.mean((1, 2)) @ w["head"]

    return forward


def transformer(weights: dict[str, np.ndarray]) -> Callable:
    """Patches of 4 x 4, a class token, one block of attention."""
    w = {name: jnp.asarray(weights[name]) for name in _SHAPES}

    def forward(images: jax.Array) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            images, w["embed"], (4, 4), "VALID", dimension_numbers=axes
        )
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = jnp.broadcast_to(w["class"], (x.shape[0], 1, x.shape[-1]))
        x = jaxcam.tag(jnp.concatenate([first, x], 1), "embedded")
        scores = jnp.einsum("btc,bsc->bts", x @ w["query"], x @ w["key"])
        x = jaxcam.tag(x + jax.nn.softmax(scores) @ (x @ w["value"]), "block")
        return x[:, 0] @ w["last"]

    return forward


def numbers(given: dict[str, np.ndarray]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is kept, by name, each to be computed when it is asked for."""
    images = jnp.asarray(given["images"])
    forward = convolutional(given)
    yield "logits", lambda: forward(images)
    yield "logits of the transformer", lambda: transformer(given)(images)
    for name, method in METHODS.items():
        yield f"map {name}", lambda name=name, method=method: _map(name, method, given)
    for name in COMPOSITES:
        yield (
            f"lrp {name}",
            lambda name=name: jaxcam.lrp.relevance(forward, images, composite=name).sum(-1),
        )
    yield from _measures(forward, images)


def _map(name: str, method: Any, given: dict[str, np.ndarray]) -> Any:
    images = jnp.asarray(given["images"])
    options = dict(OPTIONS.get(name, {}))
    forward = convolutional(given)
    if name in TRANSFORMERS:
        forward = transformer(given)
    if name == "lime":
        quarters = jnp.arange(SIDE) // (SIDE // 4)
        segments = 4 * quarters[:, None] + quarters
        options["segments"] = jnp.broadcast_to(segments, images.shape[:3])
    if not method.layered:
        return method.function(forward, images, **options)
    layers = LAYERS
    if name in ("cam", "kpca_cam"):  # which needs a linear head, or a matrix of all positions
        layers = LAYERS[-1:]
    found = [method.function(forward, images, layer=layer, **options) for layer in layers]
    return jnp.concatenate([each.reshape(2, -1) for each in found], 1)


def _measures(forward: Callable, images: jax.Array) -> Iterator[tuple[str, Callable]]:
    metrics = jaxcam.metrics
    heat = jnp.abs(images).sum(-1)
    small = heat[:, ::2, ::2]
    boxes = jnp.array([[4.0, 2, 15, 12], [0, 6, 20, 23]])
    objects = metrics.box_mask(boxes, images.shape[1:3])
    logit = jaxcam.targets.logit([0, 1])
    for name in ("average_drop", "drop_in_deletion"):
        yield name, lambda name=name: getattr(metrics, name)(forward, images, heat)
    for name in ("average_gain", "average_increase"):  # of the least likely class
        yield (
            name,
            lambda name=name: getattr(metrics, name)(
                forward, images, heat, forward(images).argmin(1)
            ),
        )
    for name in ("deletion", "insertion"):
        yield name, lambda name=name: getattr(metrics, name)(forward, images, heat, step=0.25)
    for name in ("entropy", "area", "dispersion", "complexity", "relative_difference"):
        yield name, lambda name=name: getattr(metrics, name)(small)
    for name in ("mask_iou", "loc", "energy_in_box", "pointing_game"):
        yield name, lambda name=name: getattr(metrics, name)(heat, boxes)
    for name in ("mass_accuracy", "rank_accuracy", "pointing_at"):
        yield name, lambda name=name: getattr(metrics, name)(heat, objects)
    yield "box_from_map", lambda: metrics.box_from_map(small)
    yield "spearman", lambda: metrics.spearman(heat, images[..., 0])
    yield "ssim", lambda: metrics.ssim(heat, images[..., 0])
    yield "road", lambda: metrics.road(forward, images, heat, percent=(30,)).combined
    yield (
        "infidelity",
        lambda: metrics.infidelity(forward, images, heat, logit, square=8, num_samples=4),
    )
    yield (
        "region_perturbation",
        lambda: metrics.region_perturbation(forward, images, heat, side=8, steps=3),
    )
    yield (
        "max_sensitivity",
        lambda: metrics.max_sensitivity(forward, images, jaxcam.grad_cam, num_samples=2),
    )
    yield "adcc", lambda: jnp.stack(metrics.adcc(forward, images, jaxcam.grad_cam))
    labels = jnp.array([0, 1])
    for term in ("entropy", "area", "dispersion"):
        yield (
            f"fostering {term}",
            lambda term=term: jaxcam.fostering.fostering_loss(
                forward, images, labels, layer="layer3", beta=0.1, term=term
            )[0],
        )


def far(found: Any, kept: np.ndarray) -> float:
    """The largest distance, in parts of the largest number kept; infinite for another shape."""
    found = np.asarray(found, np.float64)
    if found.shape != kept.shape or (np.isnan(found) != np.isnan(kept)).any():
        return float("inf")
    scale = np.nanmax(np.abs(kept), initial=1e-6)
    return float(np.nanmax(np.abs(found - kept), initial=0) / scale)


def write(file: pathlib.Path, theirs: Callable, about: str | None, arguments: list[str]) -> int:
    """What `--write` of a peer's file does: `theirs` of our golden network and photos."""
    if arguments != ["--write"]:
        print(about)
        return 1
    found = theirs(dict(np.load(FILE)))
    np.savez_compressed(file, **found)
    for name, value in found.items():
        print(name, value.shape, np.abs(value).max())
    print(f"wrote {file.name}: {file.stat().st_size} bytes")
    return 0


def main(arguments: list[str]) -> int:
    """Compares or writes; 1 if something moved."""
    if arguments == ["--write"]:
        given = inputs()
        made = {name: np.asarray(compute(), np.float32) for name, compute in numbers(given)}
        np.savez_compressed(FILE, digest=digest(given), **given, **made)
        print(f"wrote {FILE.name}: {len(made)} entries, {FILE.stat().st_size // 1024} kB")
        return 0
    kept = dict(np.load(FILE))
    moved = 0
    for name, compute in numbers(kept):
        distance = far(compute(), kept[name])
        moved += distance > 1e-4
        print(f"{name:40} {distance:.1e}")
    return int(moved > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
