"""The page of what PyTorch's libraries call the maps of jaxcam, with what was measured of them.

python -m eval.costs.peers.migrating > docs/migrating.md
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.costs.peers import cases, reasons, turns

RESULTS = Path(__file__).parents[3] / "results" / "speed" / "peers"
LIBRARIES = ("pytorch-grad-cam", "torchcam", "captum", "zennit")

HEAD = """# Coming from PyTorch

Made by `python -m eval.costs.peers.migrating > docs/migrating.md`; a test holds it.

The calls that give the same map, each run side by side by `python -m eval speed --peers ...` on the
same random weights and images: {runs}. The last
column is the largest difference of any pixel over these runs, the maps being scaled to a largest
value of 1; up to 1e-4 is the rounding of float32.

* `f` is `jaxcam.linen(model, variables, train=False)`, or any function; `t` are the classes `[B]`.
* Images are `[B, H, W, C]`, and no tensors: `x = jnp.moveaxis(images.numpy(), 1, -1)`.
* A network of torchvision: `model = jaxcam.models.create("resnet18", num_classes=N)` and
  `variables = jaxcam.models.from_torchvision("resnet18", state_dict)`. Another is written in JAX,
  or is explained as a [black box](black_boxes.md).
* Maps are raw, at the layer's size: `jaxcam.maps.resize` and `jaxcam.maps.normalize` make what
  pytorch-grad-cam returns at once.
* Hooks, `zero_grad`, `eval()` and `requires_grad` have no counterpart: nothing has to be undone.
* `jax.jit` what you call more than once. Options of these libraries that change no map, such as
  batch sizes, are left out; [all methods](methods.md) says what else has a name there.
* From xplique: `f = jaxcam.keras(model)` (Keras on JAX), images and classes as they are; the calls
  that give its maps and metrics are on the page of [all methods](methods.md#agreement).
"""


def page(results: Path = RESULTS) -> str:
    """The page of the documentation.

    Args:
        results: the folder of the committed runs.
    """
    runs = []
    for path in sorted(results.glob("*.json")):
        runs.append(json.loads(path.read_text()))
    about = "; ".join(map(_about, runs)) or "none yet"
    parts = [HEAD.format(runs=about)]
    for library in LIBRARIES:
        parts.append(f"\n## {library}\n")
        parts.append("| there | here | largest difference |\n|---|---|---|")
        parts += _rows(library, runs)
    return "\n".join(parts) + "\n"


def _about(run: dict[str, Any]) -> str:
    return "{model}, {image_size} pixels, batch {batch}".format(**run["request"])


def _rows(library: str, runs: list[dict[str, Any]]) -> Iterator[str]:
    for name, call in cases.CALLS.items():
        if library not in call.there or name.startswith(cases.LESS_FORWARD):
            continue
        here = f"`jaxcam.{call.here}`"
        if call.here.startswith("lrp."):
            here = f"`{call.here}`"
        yield f"| `{call.there[library]}` | {here} | {_seen(name, library, runs)} |"


def _seen(name: str, library: str, runs: list[dict[str, Any]]) -> str:
    """The largest difference over the runs, with the reason where it is one."""
    largest = None
    for run in runs:
        for row in run["rows"]:
            entry = row["entries"].get(library, {})
            if row["call"] == name and "difference" in entry:
                largest = max(largest or 0.0, entry["difference"])
    if largest is None:
        return "not run yet"
    if largest > turns.TOLERANCE["float32"]:
        return reasons.text(name, library, largest)
    return f"{largest:.0e}"


if __name__ == "__main__":
    print(page(), end="")
