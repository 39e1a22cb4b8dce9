"""SqueezeNet as the tests use it: trained, a plain JAX function with tags and no adapter."""

import pathlib
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from eval.subjects.nets import load_squeezenet, squeezenet, squeezenet_preprocess


def load(shared: pathlib.Path) -> Callable:
    """The trained net's forward: BGR minus the mean `[B, 224, 224, 3]` -> logits `[B, 1000]`."""
    return partial(squeezenet, load_squeezenet(shared / "data/squeezenet_imagenet.npz"))


def prepared(photos: np.ndarray) -> jax.Array:
    """uint8 RGB photos -> what the net takes."""
    return squeezenet_preprocess(jax.numpy.asarray(photos, jax.numpy.float32) / 255)
