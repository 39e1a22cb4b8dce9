"""What every protocol does: explain photos on all devices, measure, record, go on after a stop.

A run's folder holds `settings.json`, one `parts/METHOD.npz` of per-example values for each finished
method (groups of photos in `parts/METHOD/` for one under way), and at the end `values.npz` (all of
them, `METHOD/LAYER/METRIC`) and `NAME.json`: command, versions, settings, seed, means and 95 %
bootstrap intervals. Started again with the same settings, a run takes up after the last finished
group. Several processes share one folder and the photos.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from eval import data as datasets
from eval import methods, models, parts, stored
from eval.applies import check_layers, check_options, image, layers_of, usable
from eval.parallel import in_batches, join, over_devices, replicate
from eval.parts import Values
from eval.record import record, save
from eval.settings import PREDICTIONS, Settings, check_folder, claim, confirm, part, plain
from jaxcam import maps
from jaxcam.metrics import mask_images

SKIPPED = "skipped/"  # in a part: why a layer has no values
# (forward, batch, maps [B, h, w]) -> values [B, ...] by metric
Measure = Callable[[Callable, Mapping[str, jax.Array], jax.Array], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What distinguishes one protocol from another.

    Args:
        name: of the protocol, and of its JSON.
        measure: the metrics of one batch of maps.
        raw: whether `measure` takes maps at the layer's resolution, else resized to the photos.
        boxes: whether it needs boxes.
        correct_only: whether only photos that the network classifies correctly count.
        finish: from all values and the layers to further entries of the JSON.
    """

    name: str
    measure: Measure = lambda *_: {}
    raw: bool = False
    boxes: bool = False
    correct_only: bool = False
    finish: Callable[[Values], Mapping[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a method is carried out with.

    Args:
        network: the trained network.
        params: its parameters on every device.
        explainer: the network that is explained: the same one, unless a student stands in for it.
        explainer_params: its parameters on every device.
        batch: photos a device at a time.
        protocol: what is measured.
    """

    network: models.Network
    params: Any
    explainer: models.Network
    explainer_params: Any
    batch: int
    protocol: Protocol

    def explain(self, method: methods.Method, layers: Sequence[str]) -> Callable:
        """`(params, batch) -> {layer: maps}`, at the photos' size or, for a protocol of such, raw.

        Photos are masked by `batch["shown"]`, maps [B, H, W], if there are any.
        """

        def explain(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
            images = self.explainer.prepare(batch["image"])
            if "shown" in batch:
                images = mask_images(images, batch["shown"])
            found = methods.explain(
                method, self.explainer.forward(params), images, batch["target"], layers
            )
            size = images.shape[1:3]
            return (
                found
                if self.protocol.raw
                else {name: maps.resize(each, size) for name, each in found.items()}
            )

        return over_devices(explain) if method.jit else explain

    def measure(self) -> Callable:
        """`(params, batch with maps) -> {metric: values}`: one program for all methods, layers."""

        def measure(params: Any, batch: Mapping[str, jax.Array]) -> Mapping[str, jax.Array]:
            batch = {**batch, "image": self.network.prepare(batch["image"])}
            return self.protocol.measure(self.network.forward(params), batch, batch["maps"])

        return over_devices(measure)


# From a method to its values: (method, its explanation function, photos) -> values [N, ...] by
# LAYER/METRIC
Work = Callable[[methods.Method, Callable, Values], Values]


def begin(settings: Settings) -> models.Network:
    """Joins the other processes, and loads the network.

    Raises:
        FileNotFoundError: no such model.
        ValueError: an unknown method or layer. (A student's are looked at when the work begins.)
    """
    if settings.distributed:
        join()
    methods.find(settings.methods, settings.options)
    network = models.load(settings.model, settings.root)
    if not settings.explainer:
        check_layers(settings, network, settings.model)
    return network


def _explainer(settings: Settings, network: models.Network) -> models.Network:
    """The network whose maps are measured.

    Raises:
        FileNotFoundError: no such model.
        ValueError: one of another input size, or without the layers.
    """
    if not settings.explainer:
        return network
    explainer = models.load(settings.explainer, settings.root)
    check_layers(settings, explainer, settings.explainer)
    if explainer.size != network.size:
        got = f"explainer: {settings.explainer} takes images of {explainer.size} pixels"
        raise ValueError(f"{got}, expected {network.size}, as {settings.model}")
    return explainer


def _bench(settings: Settings, protocol: Protocol, network: models.Network) -> Bench:
    explainer, params = _explainer(settings, network), replicate(network.params)
    theirs = params if explainer is network else replicate(explainer.params)
    return Bench(network, params, explainer, theirs, settings.batch, protocol)


def load_photos(settings: Settings, protocol: Protocol, network: models.Network) -> datasets.Photos:
    """The photos of a run, at the network's size.

    Raises:
        FileNotFoundError: no such data.
        ValueError: a folder that holds another run.
    """
    check_folder(settings, protocol.name)
    return datasets.load(
        settings.data, network.size, settings.n, settings.seed, settings.root, settings.split
    )


def run(settings: Settings, protocol: Protocol) -> dict[str, Any]:
    """Carries a protocol out.

    Returns:
        The record, as written to `settings.output / f"{protocol.name}.json"`.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: an unknown method or layer; data without the boxes or labels that are needed; a
            folder that holds another run.
    """
    network = begin(settings)
    photos = load_photos(settings, protocol, network)

    def work_of(bench: Bench) -> Work:
        return partial(_measured, bench, bench.measure())

    return carry_out(settings, protocol, network, photos, work_of)


def carry_out(
    settings: Settings,
    protocol: Protocol,
    network: models.Network,
    photos: datasets.Photos,
    work_of: Callable[[Bench], Work],
    extra: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Explains photos by every method, does the work on each group of them, and records it.

    Args:
        settings: of a run that has begun.
        protocol: what is measured.
        network: what is explained.
        photos: all of them, in every process.
        work_of: what is done with a method.
        extra: further arrays `[N, ...]` that the work needs of each photo.

    Returns:
        The record.

    Raises:
        ValueError: data without the boxes or labels that are needed.
    """
    start = time.time()
    _check(photos, settings, protocol, network)
    bench, made = _bench(settings, protocol, network), stored.load(settings)
    if not made:
        check_options(settings, bench.explainer)
    claim(settings, protocol.name)
    batch, info = _explained(bench, photos, settings, dict(extra or {}))
    if made:
        batch["row"] = made.rows_of(info["ids"])
    work = work_of(bench)
    chosen = methods.find(settings.methods, settings.options)
    earlier = [name for name in chosen if part(settings.output, name).exists()]
    for name, method in (bar := tqdm(chosen.items(), unit="method", disable=None)):
        bar.set_description(name)
        if not part(settings.output, name).exists():
            _store(settings, name, method, bench, batch, work, made)
    values, skipped = gather(settings, chosen)
    recorded = record(plain(settings, protocol.name), values, info, start)
    recorded |= {
        "skipped": skipped,
        "earlier": earlier,
        **(protocol.finish(values) if protocol.finish else {}),
    }
    save(settings.output, recorded, info | values)
    return recorded


def gather(settings: Settings, names: Sequence[str] | Mapping) -> tuple[Values, dict[str, str]]:
    """The finished methods: values by `METHOD/LAYER/METRIC`, skips' reasons by `METHOD/LAYER`."""
    values, skipped = {}, {}
    for name in names:
        for key, value in parts.load(part(settings.output, name)).items():
            if key.startswith(SKIPPED):
                skipped[f"{name}/{key.removeprefix(SKIPPED)}"] = str(value)
            else:
                values[f"{name}/{key}"] = value
    return values, skipped


def _store(
    settings: Settings,
    name: str,
    method: methods.Method,
    bench: Bench,
    batch: Values,
    work: Work,
    made: stored.Maps | None,
) -> None:
    """A method's part of the folder."""
    layers = layers_of(settings, bench.explainer)
    if made:
        found, skipped = made.of(name, layers)
        explain = stored.explain(found, None if bench.protocol.raw else (bench.network.size,) * 2)
    else:
        found, skipped = usable(method, bench.explainer, layers)
        explain = bench.explain(method, found)
    compute = lambda group: work(
        method, explain, {key: value[group] for key, value in batch.items()}
    )
    why = {f"{SKIPPED}{layer}": np.array(reason) for layer, reason in skipped.items()}
    _keep(settings, bench, name, len(batch["target"]), compute if found else None, why)


def _keep(
    settings: Settings,
    bench: Bench,
    name: str,
    count: int,
    compute: Callable[[slice], Values] | None,
    extra: Mapping[str, np.ndarray],
) -> None:
    """`parts.store`, unless the folder has become another run's while a group was computed."""

    def ours(group: slice) -> Values:
        values = compute(group)
        confirm(settings, bench.protocol.name)
        return values

    step = settings.batch * jax.local_device_count()
    parts.store(part(settings.output, name), count, step, ours if compute else None, extra)


def _measured(
    bench: Bench, measure: Callable, method: methods.Method, explain: Callable, batch: Values
) -> Values:
    """Values `LAYER/METRIC` of some photos: all layers' maps first, then metrics by layer."""
    del method
    values: Values = {}
    for layer, each in in_batches(explain, bench.explainer_params, batch, bench.batch).items():
        found = in_batches(measure, bench.params, {**batch, "maps": each}, bench.batch)
        values |= {f"{layer}/{metric}": value for metric, value in found.items()}
    return values


# What is explained ----------------------------------------------------


def _explained(
    bench: Bench, photos: datasets.Photos, settings: Settings, extra: Values
) -> tuple[Values, Values]:
    """What each method gets of each photo, and what the record says of it."""
    predicted, runner_up = _predictions(bench, photos, settings)
    correct = predicted == photos.labels
    keep = np.flatnonzero(correct | (not bench.protocol.correct_only))
    if not len(keep):
        raise ValueError(
            f"data: the network classifies none of the {len(photos.labels)} photos correctly"
        )
    photos, predicted, runner_up = photos.take(keep), predicted[keep], runner_up[keep]
    target = predicted if settings.target == "predicted" else photos.labels
    if num_logits(bench.network) == 1:
        target = np.zeros_like(target)  # the only logit
    batch = {
        "image": photos.images,
        "target": target.astype(np.int32),
        "runner_up": runner_up.astype(np.int32),
    }
    if photos.boxes is not None:
        batch["boxes"] = photos.boxes
    info = {
        "ids": np.array(photos.ids),
        "labels": photos.labels,
        "predicted": predicted,
        "targets": target,
    }
    info["accuracy"] = np.array(correct.mean())
    return batch | {key: value[keep] for key, value in extra.items()}, info


def num_logits(network: models.Network) -> int:
    """N of the logits `[B, N]`."""
    return jax.eval_shape(network.apply, network.params, image(network)).shape[1]


def _predictions(
    bench: Bench, photos: datasets.Photos, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """The classes of the two highest logits, `[N]` each; a part of the folder like a method's."""
    network = bench.network
    predict = over_devices(
        lambda params, part: network.apply(params, network.prepare(part["image"]))
    )

    def compute(group: slice) -> Values:
        logits = in_batches(predict, bench.params, {"image": photos.images[group]}, bench.batch)
        if (
            logits.shape[1] == 1
        ):  # a yes or no: classes 1 and 0, of which the one logit speaks for the former
            yes = logits[:, 0] > 0
            return {"predicted": yes.astype(int), "runner_up": 1 - yes}
        order = np.argsort(-logits, axis=1, kind="stable")
        return {"predicted": order[:, 0], "runner_up": order[:, min(1, order.shape[1] - 1)]}

    _keep(settings, bench, PREDICTIONS, len(photos.labels), compute, {})
    found = parts.load(part(settings.output, PREDICTIONS))
    return found["predicted"], found["runner_up"]


def _check(
    photos: datasets.Photos, settings: Settings, protocol: Protocol, network: models.Network
) -> None:
    if protocol.boxes and photos.boxes is None:
        raise ValueError(
            f"data: {settings.data} has no boxes, which {protocol.name} needs; tiny20 has"
        )
    if (settings.target == "label" or protocol.correct_only) and (
        photos.labels == datasets.UNKNOWN
    ).any():
        raise ValueError(
            f"data: {settings.data} has photos without a class; "
            "put them in a subfolder for each class"
        )
    classes = max(num_logits(network), 2)  # one logit tells two classes apart
    if (most := photos.labels.max()) >= classes:
        raise ValueError(
            f"data: {settings.data} has class {most}, expected 0 to {classes - 1}, as "
            f"{settings.model}"
        )
