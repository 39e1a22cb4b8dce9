"""The table of families: what works, found by running it.

python -m tests.zoo            # prints docs/models.md's table
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

import jaxcam
from jaxcam import lrp
from tests.zoo.networks import FAMILIES, Family


def row(family: Family) -> str:
    """A family's line: its default layer, whether CAMs and LRP work there, what LRP keeps."""
    try:
        forward, images = family.make()
    except ImportError as error:
        return f"| {family.title} | {family.library} | not installed: {error} | | | |"
    found = jaxcam.layers(forward, images)
    grid = " x ".join(map(str, found.grids[found.default]))
    cam = jax.jit(lambda x: jaxcam.grad_cam(forward, x, 1))(images)
    sums = jax.jit(lambda x: lrp.conservation(forward, x, 1))(images)
    kept = np.asarray(sums.layers[found.default] / sums.entered)
    pixels = np.asarray(sums.pixels / sums.entered)
    works = "yes" if np.isfinite(cam).all() else "no"
    return (
        f"| {family.title} | {family.library} | `{found.default}`, {grid} | {works} "
        f"| {kept.mean():.3f} | {pixels.mean():.3f} |"
    )


def table() -> str:
    """All families."""
    head = (
        "| network | from | default layer | CAMs | relevance kept there | at the pixels |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    return "\n".join([head, *map(row, FAMILIES.values())])


if __name__ == "__main__":
    print(table())
