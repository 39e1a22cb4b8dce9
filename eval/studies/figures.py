"""Relevance-CAM's figures, on any network and photos: what the numbers do not show.

    python -m eval figures --figure 4 --output runs/figures

4: the weights of the channels at a layer and the three strongest of these, by Grad-CAM and by
Relevance-CAM; 5: the map above mean + 1 std as a mask, and the photo through it; 6 and 7: two
classes of one photo by layer, as maps and as what the masks leave of the photo; 8: the maps as the
parameters are replaced, from the logits down. Photos other than scikit-image's may not be published
with their pictures: keep those in an ignored folder, as `runs/` is.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jaxcam
from eval.protocols import sanity
from eval.subjects import applies, data, methods, networks
from jaxcam import maps, pictures
from jaxcam._ground import style
from jaxcam.classifier import Classifier

_METHODS = {"Grad-CAM": jaxcam.grad_cam, "Relevance-CAM": jaxcam.relevance_cam}
_TOP = 3
_SIDE = 1.7  # inches of a panel


@dataclasses.dataclass(frozen=True)
class FigureSettings:
    """What is drawn.

    Args:
        output: folder of the pictures, `figure_N.png`.
        figure: which one, by the paper's number, or all of them.
        model: as of every protocol.
        data: as of every protocol.
        split: of the data.
        n: photos; 6 and 7 put the first two side by side.
        layers: of the network; none means the ends of its stages. 4, 5 and 8 show one: the second.
        crop: of the photos, as of every protocol; here the middle.
        seed: of the draw, and of what parameters are replaced by.
        root: folder of the named data sets and nets; none means that of the variable JAXCAM_DATA.
    """

    output: Path = Path("runs/figures")
    figure: Literal["all", "4", "5", "6", "7", "8"] = "all"
    model: str = "tiny20"
    data: str = "skimage"
    split: str = ""
    n: int = 2
    layers: tuple[str, ...] = ()
    crop: float = 1.0
    seed: int = 0
    root: Path | None = None


class Panel(NamedTuple):
    """A picture `[H, W, 3]` in [0, 1], or what draws one, and what stands above it."""

    title: str
    shown: np.ndarray | Callable[[Axes], None]


Rows = list[list[Panel]]


@dataclasses.dataclass(frozen=True)
class Scene:
    """A network, and the photos that it is shown."""

    settings: FigureSettings
    network: Classifier
    photos: np.ndarray  # [N, H, W, 3] uint8

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Those of the figures by layer."""
        rows = methods.find(("grad_cam", "relevance_cam"))
        return applies.find_layers(self.settings.layers, rows, self.network)

    @property
    def layer(self) -> str:
        """The one of the others: the second, as the paper shows ResNet-50's layer2."""
        return self.layers[min(1, len(self.layers) - 1)]

    def forward(self, images: jax.Array) -> jax.Array:
        """The network."""
        return self.network.apply(self.network.params, images)

    def predicted(self, photos: np.ndarray) -> np.ndarray:
        """The class that the network sees in each photo."""
        logits = self.forward(self.network.prepare(jnp.asarray(photos)))
        return np.asarray(logits).argmax(1)

    def name(self, target: int) -> str:
        """A class's."""
        if self.network.classes:
            return self.network.classes[target]
        return f"class {target}"

    def explain(
        self, method: Callable, photos: np.ndarray, targets: np.ndarray, params: Any = None
    ) -> Mapping[str, np.ndarray]:
        """Maps by layer, of the network or of it with other parameters."""
        chosen = self.network.params if params is None else params
        forward = lambda images: self.network.apply(chosen, images)
        images = self.network.prepare(jnp.asarray(photos))
        found = method(forward, images, targets, layer=list(self.layers))
        return {layer: np.asarray(each) for layer, each in found.items()}


def heat(raw: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """A map over its photo."""
    scaled = maps.normalize(maps.resize(raw[None], photo.shape[:2]))
    return maps.overlay(photo[None] / 255, np.asarray(scaled))[0]


def masked(raw: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The photo where the map is above its mean by one standard deviation, black elsewhere."""
    mask = np.asarray(maps.segmentation_mask(raw[None], photo.shape[:2]))[0]
    return photo / 255 * mask[..., None]


# The figures -------------------------------------------------------------------------------


def channels(scene: Scene) -> Rows:
    """4: each method's weights by channel, as parts of the largest, and its strongest channels."""
    images = scene.network.prepare(jnp.asarray(scene.photos))
    targets = scene.predicted(scene.photos)
    call = (scene.forward, images, targets)
    _, acts, grads = jaxcam.activations_and_gradients(*call, layer=scene.layer)
    weights = {
        "Grad-CAM": np.asarray(grads.mean((1, 2))),
        "Relevance-CAM": np.asarray(jaxcam.channel_weights(*call, layer=scene.layer)),
    }
    rows: Rows = []
    for number, photo in enumerate(scene.photos):
        for name, found in weights.items():
            whole = np.asarray(_METHODS[name](*call, layer=scene.layer))[number]
            row = [Panel(f"{name}, {scene.layer}", heat(whole, photo))]
            row.append(Panel("weights", _bars(found[number])))
            for channel in np.argsort(-found[number], kind="stable")[:_TOP]:
                shown = heat(np.asarray(acts)[number, ..., channel], photo)
                row.append(Panel(f"channel {channel}", shown))
            rows.append(row)
    return rows


def _bars(weights: np.ndarray) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        axes.bar(np.arange(len(weights)), weights / np.abs(weights).max(), width=1.0)
        axes.set_ylim(-1.05, 1.05)
        axes.set_xlabel("channel", fontsize=6)
        axes.tick_params(labelsize=6)

    return draw


def masks(scene: Scene) -> Rows:
    """5: the photo, the map, the mask, the photo through it."""
    targets = scene.predicted(scene.photos)
    rows: Rows = []
    for name, method in _METHODS.items():
        found = scene.explain(method, scene.photos, targets)[scene.layer]
        for photo, raw, target in zip(scene.photos, found, targets, strict=True):
            white = np.full_like(photo, 255)
            rows.append(
                [
                    Panel(scene.name(target), photo / 255),
                    Panel(f"{name}, {scene.layer}", heat(raw, photo)),
                    Panel("mean + 1 std", masked(raw, white)),
                    Panel("masked", masked(raw, photo)),
                ]
            )
    return rows


def two_classes(scene: Scene, draw: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rows:
    """6 and 7: the first two photos side by side, explained for the class of either, by layer."""
    targets = scene.predicted(scene.photos[:2])
    halves = [(photo[:, ::2].astype(float) + photo[:, 1::2]) / 2 for photo in scene.photos[:2]]
    both = np.concatenate(halves, 1).round().astype(np.uint8)
    rows: Rows = []
    for name, method in _METHODS.items():
        found = scene.explain(method, np.stack([both, both]), targets)
        for number, target in enumerate(targets):
            row = [Panel(f"{name}: {scene.name(target)}", both / 255)]
            for layer in scene.layers:
                row.append(Panel(layer, draw(found[layer][number], both)))
            rows.append(row)
    return rows


def cascade(scene: Scene) -> Rows:
    """8: the trained network's map, then with more and more of its parameters replaced."""
    chosen = sanity.SanitySettings(scene.settings.output, seed=scene.settings.seed)
    chosen = sanity.settle(chosen, scene.network)
    fresh = sanity.untrained(scene.network, chosen)
    photo = scene.photos[:1]
    targets = scene.predicted(photo)
    steps = [("trained", scene.network.params), *sanity.steps(scene.network, fresh, chosen)]
    rows: Rows = []
    for name, method in _METHODS.items():
        row = [Panel(f"{name}, {scene.layer}", photo[0] / 255)]
        for group, params in steps:
            raw = scene.explain(method, photo, targets, params)[scene.layer]
            row.append(Panel(group, heat(raw[0], photo[0])))
        rows.append(row)
    return rows


FIGURES: dict[str, Callable[[Scene], Rows]] = {
    "4": channels,
    "5": masks,
    "6": lambda scene: two_classes(scene, heat),
    "7": lambda scene: two_classes(scene, masked),
    "8": cascade,
}


# Drawing -----------------------------------------------------------------------------------


def drawn(rows: Rows) -> Figure:
    """The panels as a grid."""
    columns = max(map(len, rows))
    figure = Figure((_SIDE * columns, (_SIDE + 0.2) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, line in zip(rows, grid, strict=True):
        for panel, axes in zip(row, line, strict=False):
            axes.set_title(panel.title, fontsize=7)
            if callable(panel.shown):
                axes.set_axis_on()
                panel.shown(axes)
            else:
                axes.imshow(np.clip(panel.shown, 0, 1), interpolation="nearest")
    return figure


def figures(settings: FigureSettings) -> Iterator[Path]:
    """Writes the pictures that are asked for.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: no such layer; a network without layers.
    """
    network = networks.load(settings.model, settings.root)
    photos = data.load(
        settings.data,
        network.input_size,
        max(2, settings.n),
        settings.seed,
        settings.root,
        settings.split,
        settings.crop,
    )
    scene = Scene(settings, network, photos.images)
    settings.output.mkdir(parents=True, exist_ok=True)
    for number, draw in FIGURES.items():
        if settings.figure in ("all", number):
            path = settings.output / f"figure_{number}.png"
            with style.own():
                figure = drawn(draw(scene))
            pictures.write(figure, path, dpi=130)
            yield path


def main(settings: FigureSettings) -> None:
    """The pictures."""
    for path in figures(settings):
        print(path, flush=True)
