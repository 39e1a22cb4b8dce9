"""What every protocol does: explain photo after photo on all devices, measure, record, and go on after a stop.

A run's folder holds `settings.json`, one `parts/METHOD.npz` of per-example values for each finished method, and at the
end `values.npz` (all of them, `METHOD/LAYER/METRIC`) and `NAME.json`: command, versions, settings, seed, means and 95 %
bootstrap intervals. Started again with the same settings, a run takes up after the last finished method.
"""

import dataclasses
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

import jaxcam
from eval import data as datasets
from eval import methods, models
from eval.parallel import in_batches, over_devices, replicate
from eval.record import save_npz, summary, write_json
from jaxcam import maps

SKIPPED = "skipped/"  # in a part: why a layer has no values
Values = dict[str, np.ndarray]
# (forward, batch, maps [B, h, w]) -> values [B, ...] by metric
Measure = Callable[[Callable, Mapping[str, jax.Array], jax.Array], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run explains.

    Args:
        output: folder of the run.
        model: squeezenet, cifar10_resnet20, cifar10_resnet56, tiny20 (bundled), or another that jaxcam.models loads.
        data: tiny20, imagenet100, cifar10_test1000, or a folder or zip of photos.
        methods: names of the table in eval/methods.py.
        layers: layers to explain; none means the ends of the model's stages.
        n: photos, drawn by seed.
        seed: of the draw and of the bootstrap.
        batch: photos a device at a time.
        target: the explained class: the predicted one or the photo's own.
        root: folder of the named data sets and nets.
    """

    output: Path
    model: str = "tiny20"
    data: str = "tiny20"
    methods: tuple[str, ...] = ("grad_cam", "grad_cam_plus_plus", "relevance_cam", "noise", "centre")
    layers: tuple[str, ...] = ()
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    seed: int = 0
    batch: int = 16
    target: Literal["predicted", "label"] = "predicted"
    root: Path = datasets.SHARED


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
    measure: Measure
    raw: bool = False
    boxes: bool = False
    correct_only: bool = False
    finish: Callable[[Values], Mapping[str, Any]] | None = None


def run(settings: Settings, protocol: Protocol) -> dict[str, Any]:
    """Carries a protocol out.

    Returns:
        The record, as written to `settings.output / f"{protocol.name}.json"`.

    Raises:
        FileNotFoundError: no such data or model.
        ValueError: an unknown method or layer; data without the boxes or labels that are needed; a folder that holds
            another run.
    """
    start = time.time()
    chosen, network = methods.find(settings.methods), models.load(settings.model, settings.root)
    _claim(settings, protocol)
    photos = datasets.load(settings.data, network.size, settings.n, settings.seed, settings.root)
    _check(photos, settings, protocol)
    params = replicate(network.params)
    batch, info = _explained(network, params, photos, settings, protocol)
    measure = _measure(network, protocol)
    for name, method in (bar := tqdm(chosen.items(), unit="method", disable=None)):
        bar.set_description(name)
        if not (part := _part(settings, name)).exists():
            found = _method_values(method, network, params, batch, measure, settings, protocol)
            save_npz(part, found)
    values, skipped = _gather(settings, chosen)
    save_npz(settings.output / "values.npz", info | values)
    record = _record(settings, protocol, values, skipped, time.time() - start, info)
    write_json(settings.output / f"{protocol.name}.json", record)
    return record


def _part(settings: Settings, method: str) -> Path:
    return settings.output / "parts" / f"{method}.npz"


def _gather(settings: Settings, names: Iterable[str]) -> tuple[Values, dict[str, str]]:
    """The finished methods: values by `METHOD/LAYER/METRIC`, and why layers were skipped by `METHOD/LAYER`."""
    values, skipped = {}, {}
    for name in names:
        with np.load(_part(settings, name)) as stored:
            for key in stored:
                if key.startswith(SKIPPED):
                    skipped[f"{name}/{key.removeprefix(SKIPPED)}"] = str(stored[key])
                else:
                    values[f"{name}/{key}"] = stored[key]
    return values, skipped


def _method_values(
    method: methods.Method,
    network: models.Network,
    params: Any,
    batch: Values,
    measure: Callable,
    settings: Settings,
    protocol: Protocol,
) -> Values:
    """Per-example values of one method, `LAYER/METRIC`: maps of all layers first, then layer by layer the metrics."""
    usable, skipped = _usable(method, network, settings.layers or network.layers)
    values: Values = {f"{SKIPPED}{layer}": np.array(reason) for layer, reason in skipped.items()}
    if not usable:
        return values
    explain = _explain(method, usable, network, protocol)
    for layer, each in in_batches(explain, params, batch, settings.batch, "explain").items():
        found = in_batches(measure, params, {**batch, "maps": each}, settings.batch, f"measure {layer}")
        values |= {f"{layer}/{metric}": value for metric, value in found.items()}
    return values


# Explaining and measuring ---------------------------------------------


def _explained(
    network: models.Network, params: Any, photos: datasets.Photos, settings: Settings, protocol: Protocol
) -> tuple[Values, Values]:
    """What each method gets of each photo, and what the record says of it."""
    predict = lambda p, part: network.apply(p, network.prepare(part["image"]))
    logits = in_batches(over_devices(predict), params, {"image": photos.images}, settings.batch, "predict")
    predicted = logits.argmax(1)
    accuracy = (predicted == photos.labels).mean()
    keep = np.flatnonzero((predicted == photos.labels) | (not protocol.correct_only))
    if not len(keep):
        raise ValueError(f"data: the network classifies none of the {len(photos.labels)} photos correctly")
    photos, predicted = photos.take(keep), predicted[keep]
    target = predicted if settings.target == "predicted" else photos.labels
    batch = {"image": photos.images, "target": target.astype(np.int32)}
    if photos.boxes is not None:
        batch["boxes"] = photos.boxes
    info = {"ids": np.array(photos.ids), "labels": photos.labels, "predicted": predicted, "targets": target}
    info["accuracy"] = np.array(accuracy)
    return batch, info


def _usable(
    method: methods.Method, network: models.Network, layers: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The layers that a method can explain, and for each other one why not; by abstract evaluation only."""
    images = jax.ShapeDtypeStruct((1, network.size, network.size, 3), jnp.float32)
    shapes = jaxcam.layers(partial(network.apply, network.params), images)
    for layer in layers:
        if layer not in shapes:
            raise ValueError(f"layers: got {layer!r}, expected any of {', '.join(shapes)}")
    if not (method.layered and method.jit):
        return (tuple(layers) if method.layered else (methods.WHOLE,)), {}
    targets, why = jax.ShapeDtypeStruct((1,), jnp.int32), {}
    for layer in layers:
        explain = lambda p, x, t, layer=layer: methods.explain(method, partial(network.apply, p), x, t, [layer])
        try:
            jax.eval_shape(explain, network.params, images, targets)
        except ValueError as error:
            why[layer] = " ".join(str(error).split())
    return tuple(layer for layer in layers if layer not in why), why


def _explain(method: methods.Method, layers: Sequence[str], network: models.Network, protocol: Protocol) -> Callable:
    """`(params, batch) -> {layer: maps}`, at the photos' size unless the protocol takes raw ones."""

    def explain(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        images = network.prepare(batch["image"])
        found = methods.explain(method, partial(network.apply, params), images, batch["target"], layers)
        size = images.shape[1:3]
        return found if protocol.raw else {name: maps.resize(each, size) for name, each in found.items()}

    return over_devices(explain) if method.jit else explain


def _measure(network: models.Network, protocol: Protocol) -> Callable:
    """`(params, batch with maps) -> {metric: values}`: one program for all methods and layers."""

    def measure(params: Any, batch: Mapping[str, jax.Array]) -> Mapping[str, jax.Array]:
        batch = {**batch, "image": network.prepare(batch["image"])}
        return protocol.measure(partial(network.apply, params), batch, batch["maps"])

    return over_devices(measure)


def _settings(settings: Settings, protocol: Protocol) -> dict[str, Any]:
    plain = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    return {"protocol": protocol.name, **plain}


def _claim(settings: Settings, protocol: Protocol) -> None:
    """Takes an empty folder, or one of a run with the same settings (methods may be added)."""
    path, ours = settings.output / "settings.json", _settings(settings, protocol)
    settings.output.mkdir(parents=True, exist_ok=True)
    if path.exists():
        theirs = json.loads(path.read_text())
        free = {"output", "root", "methods", "batch", "chunk"}  # what does not change a method's values
        different = [k for k in ours if k not in free and ours[k] != theirs.get(k)]
        if different:
            described = ", ".join(f"{k} {theirs.get(k)!r} there, {ours[k]!r} here" for k in different)
            raise ValueError(f"output: {settings.output} holds another run: {described}")
    write_json(path, ours)


def _check(photos: datasets.Photos, settings: Settings, protocol: Protocol) -> None:
    if protocol.boxes and photos.boxes is None:
        raise ValueError(f"data: {settings.data} has no boxes, which {protocol.name} needs; tiny20 has")
    if (settings.target == "label" or protocol.correct_only) and (photos.labels == datasets.UNKNOWN).any():
        raise ValueError(f"data: {settings.data} has photos without a class; put them in a subfolder for each class")


def _record(
    settings: Settings, protocol: Protocol, values: Values, skipped: Mapping, seconds: float, info: Values
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for key, value in values.items():
        method, layer, metric = key.split("/", 2)
        results.setdefault(method, {}).setdefault(layer, {})[metric] = summary(value, settings.seed)
    packages = ("jaxcam", "jax", "jaxlib", "flax", "numpy")
    device = jax.local_devices()[0]
    return {
        "protocol": protocol.name,
        "command": shlex.join(["python", "-m", f"eval.{protocol.name}", *sys.argv[1:]]),
        "settings": _settings(settings, protocol),
        "seed": settings.seed,
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in packages}},
        "devices": f"{jax.local_device_count()} x {device.device_kind}",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "photos": len(info["ids"]),
        "accuracy": float(info["accuracy"]),
        "skipped": dict(skipped),
        "results": results,
        **(protocol.finish(values) if protocol.finish else {}),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return __import__(package).__version__
