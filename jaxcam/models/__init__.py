"""Classifiers in Flax Linen whose layers carry torchvision's names, and their weights."""

from jaxcam.models.convert import from_torchvision, to_torchvision
from jaxcam.models.pretrained import Preprocess, Pretrained, available, describe, load, save
from jaxcam.models.registry import create

__all__ = [
    "Preprocess",
    "Pretrained",
    "available",
    "create",
    "describe",
    "from_torchvision",
    "load",
    "save",
    "to_torchvision",
]
