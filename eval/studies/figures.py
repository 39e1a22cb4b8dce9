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
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.axes import Axes

import jaxcam
from eval.protocols import sanity
from eval.reporting.panels import DPI, Panel, Rows, Scale, Sheet, drawn
from eval.subjects import applies, data, methods, networks
from jaxcam import _canvas as canvas
from jaxcam import maps, pictures
from jaxcam._ground import style
from jaxcam.classifier import Classifier

_METHODS = {"Grad-CAM": jaxcam.grad_cam, "Relevance-CAM": jaxcam.relevance_cam}
_TOP = 3
_FINE = 224  # pixels of a photo's shorter side that are drawn, at least
_HEAT = Scale("inferno", ("each map: least", "most"))
_BLACK = "black: where the map is not above its mean + 1 standard deviation"


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


@dataclasses.dataclass(frozen=True)
class Scene:
    """A network, and the photos that it is shown: as it sees them, and finer, as they are drawn."""

    settings: FigureSettings
    network: Classifier
    photos: np.ndarray  # [N, H, W, 3] uint8
    fine: np.ndarray  # [N, k H, k W, 3] uint8
    programs: dict[str, Callable] = dataclasses.field(default_factory=dict, repr=False)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Those of the figures by layer."""
        rows = methods.find(("grad_cam", "relevance_cam"))
        return applies.find_layers(self.settings.layers, rows, self.network)

    @property
    def layer(self) -> str:
        """The one of the others: the second, as the paper shows ResNet-50's layer2."""
        return self.layers[min(1, len(self.layers) - 1)]

    def predicted(self, photos: np.ndarray) -> np.ndarray:
        """The class that the network sees in each photo."""
        return self.computed("logits", lambda forward, x, _: forward(x), photos).argmax(1)

    def name(self, target: int) -> str:
        """A class's."""
        if self.network.classes:
            return self.network.classes[target]
        return f"class {target}"

    def explain(
        self, method: Callable, photos: np.ndarray, targets: np.ndarray, params: Any = None
    ) -> Mapping[str, np.ndarray]:
        """Maps by layer, of the network or of it with other parameters."""
        layers = list(self.layers)
        call = lambda *call: method(*call, layer=layers)
        return self.computed(method.__name__, call, photos, targets, params)

    def computed(
        self, name: str, call: Callable, photos: np.ndarray, targets: Any = None, params: Any = None
    ) -> Any:
        """Arrays that `call` makes of (forward, images, targets), by one program of that name."""
        if name not in self.programs:

            def program(params: Any, photos: jax.Array, targets: jax.Array | None) -> Any:
                forward = lambda images: self.network.apply(params, images)
                return call(forward, self.network.prepare(photos), targets)

            self.programs[name] = jax.jit(program)
        chosen = self.network.params if params is None else params
        return jax.tree.map(np.asarray, self.programs[name](chosen, photos, targets))


def heat(raw: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """A map over its photo."""
    scaled = maps.normalize(maps.resize(raw[None], photo.shape[:2]))
    return maps.overlay(photo[None] / 255, np.asarray(scaled))[0]


def masked(raw: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The photo where the map is above its mean by one standard deviation, black elsewhere."""
    mask = np.asarray(maps.segmentation_mask(raw[None], photo.shape[:2]))[0]
    return photo / 255 * mask[..., None]


def mapped(
    title: str, raw: np.ndarray, photo: np.ndarray, draw: Callable[..., np.ndarray] = heat
) -> Panel:
    """A map, or why there is none over the faded photo."""
    why = pictures.verdict(raw, pictures.Style("min_max"))
    if why:
        return Panel(title, 0.75 + 0.2 * photo / 255, why)
    return Panel(title, draw(raw, photo))


# The figures -------------------------------------------------------------------------------


def channels(scene: Scene) -> Rows:
    """4: each method's weights by channel, as parts of the largest, and its strongest channels."""
    targets = scene.predicted(scene.photos)
    acts, *found = scene.computed("weights", _weighed(scene.layer), scene.photos, targets)
    weights = dict(zip(_METHODS, found, strict=True))
    maps_of = {
        name: scene.explain(method, scene.photos, targets)[scene.layer]
        for name, method in _METHODS.items()
    }
    rows: Rows = []
    for number, photo in enumerate(scene.fine):
        for name, found in weights.items():
            row = [mapped(f"{name}, {scene.layer}", maps_of[name][number], photo)]
            top = np.argsort(-found[number], kind="stable")[:_TOP]
            row.append(
                Panel(f"weights for {scene.name(targets[number])}", _bars(found[number], top))
            )
            for channel in top:
                row.append(mapped(f"channel {channel}", acts[number, ..., channel], photo))
            rows.append(row)
    return rows


def _weighed(layer: str) -> Callable:
    """A and the weights of both methods at a layer."""

    def call(*call: Any) -> tuple:
        _, acts, grads = jaxcam.activations_and_gradients(*call, layer=layer)
        return acts, grads.mean((1, 2)), jaxcam.channel_weights(*call, layer=layer)

    return call


def _bars(weights: np.ndarray, top: np.ndarray) -> Callable[[Axes], None]:
    """The weights as parts of the largest, the `top` ones marked."""
    marked = np.isin(np.arange(len(weights)), top)
    parts = weights / (np.abs(weights).max() or 1)

    def draw(axes: Axes) -> None:
        for chosen, colour in ((~marked, canvas.FAINT), (marked, canvas.ACCENT)):
            # a bar is a pixel wide at least
            axes.vlines(np.flatnonzero(chosen), 0, parts[chosen], colors=colour, linewidth=0.8)
        axes.axhline(0, color=canvas.INK, linewidth=0.5)
        axes.set(ylim=(-1.05, 1.05), yticks=[-1, 0, 1], xlim=(-1, len(weights)))
        axes.set_xlabel("channel", fontsize=6, labelpad=1)
        axes.tick_params(labelsize=6, length=2, pad=1)
        axes.spines[["top", "right"]].set_visible(False)

    return draw


def masks(scene: Scene) -> Rows:
    """5: the photo, the map, the mask, the photo through it."""
    targets = scene.predicted(scene.photos)
    rows: Rows = []
    for name, method in _METHODS.items():
        found = scene.explain(method, scene.photos, targets)[scene.layer]
        for photo, raw, target in zip(scene.fine, found, targets, strict=True):
            white = np.full_like(photo, 255)
            rows.append(
                [
                    Panel(scene.name(target), photo / 255),
                    mapped(f"{name}, {scene.layer}", raw, photo),
                    Panel("mean + 1 std", masked(raw, white)),
                    Panel("masked", masked(raw, photo)),
                ]
            )
    return rows


def two_classes(scene: Scene, draw: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rows:
    """6 and 7: the first two photos side by side, explained for the class of either, by layer."""
    targets = scene.predicted(scene.photos[:2])
    both = side_by_side(scene.photos)
    fine = side_by_side(scene.fine)
    rows: Rows = []
    for name, method in _METHODS.items():
        found = scene.explain(method, np.stack([both, both]), targets)
        for number, target in enumerate(targets):
            row = [Panel(f"{name}: {scene.name(target)}", fine / 255)]
            for layer in scene.layers:
                row.append(mapped(layer, found[layer][number], fine, draw))
            rows.append(row)
    return rows


def side_by_side(photos: np.ndarray) -> np.ndarray:
    """The first two photos, each at half its width, as one."""
    halves = [(photo[:, ::2].astype(float) + photo[:, 1::2]) / 2 for photo in photos[:2]]
    return np.concatenate(halves, 1).round().astype(np.uint8)


def cascade(scene: Scene) -> Rows:
    """8: the trained network's map, then with more and more of its parameters replaced."""
    chosen = sanity.SanitySettings(scene.settings.output, seed=scene.settings.seed)
    chosen = sanity.settle(chosen, scene.network)
    fresh = sanity.untrained(scene.network, chosen)
    photo = scene.photos[:1]
    fine = scene.fine[0]
    targets = scene.predicted(photo)
    steps = [("trained", scene.network.params), *sanity.steps(scene.network, fresh, chosen)]
    rows: Rows = []
    for name, method in _METHODS.items():
        row = [Panel(f"{name}, {scene.layer}", fine / 255)]
        for group, params in steps:
            raw = scene.explain(method, photo, targets, params)[scene.layer]
            row.append(mapped(group, raw[0], fine))
        rows.append(row)
    return rows


FIGURES: dict[str, Callable[[Scene], Sheet]] = {
    "4": lambda scene: Sheet(
        channels(scene),
        [
            _HEAT,
            "bars: a channel's weight as a part of the largest, for the class above 0 and against "
            "it below; coloured: the three that are shown",
        ],
    ),
    "5": lambda scene: Sheet(masks(scene), [_HEAT, _BLACK]),
    "6": lambda scene: Sheet(two_classes(scene, heat), [_HEAT]),
    "7": lambda scene: Sheet(two_classes(scene, masked), [_BLACK]),
    "8": lambda scene: Sheet(
        cascade(scene),
        [
            _HEAT,
            "above each map: the last part to become untrained; so are all parts between it and "
            "the logits",
        ],
    ),
}


# Files -------------------------------------------------------------------------------------


def figures(settings: FigureSettings) -> Iterator[Path]:
    """Writes the pictures that are asked for.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: no such layer; a network without layers.
    """
    network = networks.load(settings.model, settings.root)
    height, width = network.input_size
    times = -(-_FINE // min(height, width))
    sizes = ((height, width), (times * height, times * width))
    photos, fine = (_photos(settings, size) for size in sizes)
    scene = Scene(settings, network, photos, fine)
    settings.output.mkdir(parents=True, exist_ok=True)
    for number, draw in FIGURES.items():
        if settings.figure in ("all", number):
            path = settings.output / f"figure_{number}.png"
            with style.own():
                figure = drawn(draw(scene))
            pictures.write(figure, path, dpi=DPI)
            yield path


def _photos(settings: FigureSettings, size: tuple[int, int]) -> np.ndarray:
    drawn_from = (settings.seed, settings.root, settings.split, settings.crop)
    return data.load(settings.data, size, max(2, settings.n), *drawn_from).images


def main(settings: FigureSettings) -> None:
    """The pictures."""
    for path in figures(settings):
        print(path, flush=True)
