"""SIGKILL at random moments: whatever is killed goes on, and ends with the bits of what is not.

    python -m tests.soak [--seconds 900] [--kills 50] [--only training distillation games ...]

Training, distillation with a cached teacher, and every protocol. Of each one run is undisturbed.
Others are killed up to `--at-once` times each and started again, until so many kills or seconds
have passed; what they end with is compared bit for bit. A table says what was killed how often, and
what was lost. Status 1 if anything was.

Processes are forked from one that has imported everything and started nothing.
"""

import argparse
import contextlib
import csv
import dataclasses
import functools
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

import jaxcam
from configs import Distillation
from configs.common import as_kind
from configs.smoke import config as smoke
from eval import programs
from eval.run import parts
from eval.run.runner import run
from eval.subjects import networks
from jaxcam.classifier import Classifier
from train import distill, loop, workdir

_POLL = 0.01
_COMPILED = 0.7  # of a first run's time, what others take, which find its programs
# What runs import when they come to need it: here it is there before they are forked.
_LATER = (
    "grain",
    "jaxcam.datasets.files",
    "jaxcam.datasets.prepared",
    "jaxcam.datasets.sources",
    "jaxlib.mlir.dialects.builtin",
    "jaxlib.mlir.dialects.mhlo",
    "tensorboardX",
)
_TIMES = ("waiting", "seconds", "images_per_s")  # columns of the logs


def teacher(images: np.ndarray) -> np.ndarray:
    """Logits of four classes by brightness; it takes its time, so that it is killed, too."""
    time.sleep(0.02)
    brightness = images.mean((1, 2, 3))[:, None]
    return -np.abs(brightness - np.linspace(0.2, 0.8, 4))


# Two epochs of four steps, three checkpoints.
_SHORT = {
    "epochs": 2,
    "batch_size": 16,
    "checkpoint_every": 3,
    "log_every": 2,
    "crop_sizes": ((0, 12),),
}


def _train(folder: Path) -> None:
    _fit(dataclasses.replace(smoke, **_places(folder), **_SHORT))


def _distil(folder: Path) -> None:
    asked = {"teacher": "tests.soak:teacher", "teacher_kind": "python", "views": 2}
    places = {**_places(folder), "answers": f"{folder}/answers"}
    config = as_kind(Distillation, smoke, **asked, **places, **_SHORT)
    _fit(config, distill.distillation)


def _places(folder: Path) -> dict[str, str]:
    return {"workdir": f"{folder}/run", "export": f"{folder}/net.safetensors"}


def _fit(config, *factory) -> None:
    loop.fit(config, *factory, resume=bool(workdir.steps(config.workdir)))


# What a protocol is asked beside what all of them are: little, so that it is killed everywhere.
ASKED: dict[str, dict[str, object]] = {
    "adcc": {"arcc": True},
    "class_sensitivity": {"pairs": True},
    "localization": {"count": "correct", "n": 2},
    "perturbation": {"samples": 4, "side": 4, "steps": 3},
    "sanity": {"methods": ("grad_cam",)},
    "sensitivity": {"samples": 2},
}


def little() -> Classifier:
    """A network of layers stem and top, four classes, in plain JAX: traced in no time."""
    draw = np.random.default_rng(4).normal
    shapes = {"first": (3, 3, 3, 4), "second": (3, 3, 4, 6), "head": (6, 4)}
    params = {name: np.float32(0.4 * draw(size=shape)) for name, shape in shapes.items()}

    def conv(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
        strides = (stride, stride)
        found = jax.lax.conv_general_dilated(
            images, kernel, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(found)

    def apply(params: dict, images: jax.Array) -> jax.Array:
        stem = jaxcam.tag(conv(images, params["first"], 1), "stem")
        top = jaxcam.tag(conv(stem, params["second"], 2), "top")
        return top.mean((1, 2)) @ params["head"]

    return Classifier(params, apply, lambda images: (images - 0.5) * 4, 16, ("stem", "top"))


def _measure(name: str, folder: Path) -> None:
    networks.OURS["little"] = lambda root: little()
    parts.GROUP = 2
    protocol = PROTOCOLS[name]
    usual = {
        "output": folder / "run",
        "model": "little",
        "data": str(folder.parent / "photos"),
        "methods": ("grad_cam", "noise"),
        "layers": ("top",),
        "batch": 2,
    }
    run(protocol.settings(**usual | ASKED.get(name, {})), protocol)


def _photos(folder: Path) -> None:
    """12 photos of four classes, each with a box."""
    draws = np.random.default_rng(3)
    rows = ["split,wnid,file,xmin,ymin,xmax,ymax"]
    for index in range(12):
        name = "abcd"[index % 4]
        path = folder / "photos" / name / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (20, 24, 3), np.uint8)).save(path)
        rows.append(f"train,{name},{path.name},{index % 8},0,{index % 8 + 11},9")
    (folder / "photos" / "boxes.csv").write_text("\n".join(rows))


def _exported(folder: Path) -> dict[str, np.ndarray]:
    """The network, and the rows of its logs but for what is time."""
    found = load_file(folder / "net.safetensors")
    for name in ("steps", "epochs"):
        with (folder / f"run/{name}.csv").open(newline="") as file:
            rows = [_timeless(row) for row in csv.DictReader(file)]
        found[name] = np.array(json.dumps(rows))
    return found


def _timeless(row: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in row.items() if key not in _TIMES}


def _values(name: str, folder: Path) -> dict[str, np.ndarray]:
    """All that a protocol has measured, and what its record says of it."""
    record = json.loads((folder / f"run/{name}.json").read_text())
    said = {key: record[key] for key in ("results", "photos", "accuracy", "skipped", "unreadable")}
    return {**parts.load(folder / "run/values.npz"), "record": np.array(json.dumps(said))}


PROTOCOLS = programs.protocols()
# What does the work, and what it ends with.
KINDS: dict[str, tuple[Callable, Callable]] = {
    "training": (_train, _exported),
    "distillation": (_distil, _exported),
}
for _name in PROTOCOLS:
    KINDS[_name] = (functools.partial(_measure, _name), functools.partial(_values, _name))


def carried_out(work: Callable, folder: Path, seconds: float | None) -> int:
    """The status of a process that does the work and is killed after so many seconds."""
    pid = os.fork()
    if not pid:
        _be_the_process(work, folder)
    began = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if seconds is not None and time.monotonic() - began > seconds:
            os.kill(pid, signal.SIGKILL)
            seconds = None
        time.sleep(_POLL)


def _be_the_process(work: Callable, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        work(folder)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(status)


@dataclasses.dataclass
class Found:
    """Of one kind: how long an undisturbed run takes, and what came of the others."""

    seconds: float
    kills: int = 0
    runs: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)


def soak(name: str, folder: Path, kills: int, at_once: int, until: float, seed: int) -> Found:
    """Kills runs of a kind until there are so many kills, or it is so late."""
    work, result = KINDS[name]
    draws = np.random.default_rng(seed)
    _photos(folder)
    began = time.monotonic()
    status = carried_out(work, folder / "whole", None)
    found = Found(time.monotonic() - began)
    if status:
        found.lost.append(f"undisturbed: {_end(folder / 'whole')}")
        return found
    expected = result(folder / "whole")
    usual = _COMPILED * found.seconds
    while found.kills < kills and time.monotonic() < until:
        torn = folder / "torn"
        shutil.rmtree(torn, ignore_errors=True)
        most = min(found.kills + at_once, kills)
        status = -signal.SIGKILL
        while status == -signal.SIGKILL:
            seconds = None
            if found.kills < most and time.monotonic() < until:
                seconds = float(draws.uniform(0, usual))
            anew = not torn.exists()
            began = time.monotonic()
            status = carried_out(work, torn, seconds)
            found.kills += status == -signal.SIGKILL
            if anew and not status:  # the machine is less busy than it was
                usual = min(usual, time.monotonic() - began)
        found.runs += 1
        if status:
            found.lost.append(_end(torn))
        else:
            found.lost += _differences(result(torn), expected)
    return found


def _end(folder: Path) -> str:
    return (folder / "log.txt").read_text(errors="replace").rstrip().rpartition("\n")[2]


def _differences(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    if found.keys() != expected.keys():
        return ["other arrays"]
    different = []
    for key, value in expected.items():
        if found[key].dtype != value.dtype or found[key].tobytes() != value.tobytes():
            different.append(f"{key} differs")
    return different


def main(words: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each kind")
    parser.add_argument("--at-once", type=int, default=5, help="kills of one run, at most")
    parser.add_argument("--seconds", type=float, default=900.0, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    chosen = parser.parse_args(words)
    began = time.monotonic()
    print(f"{'what':17} {'undisturbed':>11} {'kills':>6} {'runs':>5}  lost", flush=True)
    lost = 0
    for number, name in enumerate(chosen.only, 1):
        until = began + chosen.seconds * number / len(chosen.only)
        with tempfile.TemporaryDirectory() as folder:
            found = soak(
                name, Path(folder), chosen.kills, chosen.at_once, until, chosen.seed + number
            )
        lost += len(found.lost)
        said = "; ".join(found.lost[:3]) or "none"
        print(
            f"{name:17} {found.seconds:9.1f} s {found.kills:6} {found.runs:5}  {said}", flush=True
        )
    sys.exit(lost > 0)


def _import_all() -> None:
    """Imports what runs would each import, and keeps the collector from copying it for each."""
    for name in _LATER:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    Image.init()
    gc.set_threshold(50_000, 20, 20)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
    _import_all()
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        main()
